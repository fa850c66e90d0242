"""Keeps to the schedule: one worker asks a target that is due, and none polls."""

import asyncio
import contextlib
import logging

from freehold.kernel.errors import FreeholdError, NotFound, Unavailable, ValidationFailed
from freehold.ports.resources import Resource, Resources
from freehold.services.gateway.documents import has_static_tools, kind_of, member
from freehold.services.gateway.model import (
    REFRESH_SECONDS_DEFAULT,
    TAG_REFRESH,
    TARGET,
    TARGET_OPTIONS,
    TARGET_PENDING_AUTH,
)
from freehold.services.gateway.schedule import Due, RefreshSchedule
from freehold.services.gateway.sync import TargetSync

log = logging.getLogger("freehold.gateway")

_AT_ONCE_MAX = 4
_DUE_SECONDS_MIN = 0.05
_RETRY_SECONDS = 1.0
_SETTLED = frozenset(
    {"READY", "FAILED", "UPDATE_UNSUCCESSFUL", "SYNCHRONIZE_UNSUCCESSFUL"}
)  # fmt: skip
_EVERYTHING = ""


class Refreshing:
    """`heard_gateway`, `heard_resource` and `heard_consent` are told of the channels of the
    gateways' store, of the resources and of OAuth grants."""

    def __init__(
        self, *, resources: Resources, schedule: RefreshSchedule, sync: TargetSync
    ) -> None:
        self._resources, self._schedule, self._sync = resources, schedule, sync
        self._wake = asyncio.Event()
        self._tagged = {_EVERYTHING}
        self._consented = True
        self._task: asyncio.Task[None] | None = None
        self._asking: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._task = asyncio.create_task(self._serve())

    async def close(self) -> None:
        for task in [*self._asking, *filter(None, [self._task])]:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def heard_gateway(self, payload: str) -> None:
        self._wake.set()

    def heard_resource(self, payload: str) -> None:
        if not payload or payload.split("/")[1] == TARGET.name:
            self._tagged.add(payload)
            self._wake.set()

    def heard_consent(self, payload: str) -> None:
        self._consented = True
        self._wake.set()

    async def _serve(self) -> None:
        while True:
            self._wake.clear()
            try:
                seconds = await self._step()
            except Unavailable:
                seconds = _RETRY_SECONDS
            timeout = None if seconds is None else max(seconds, _DUE_SECONDS_MIN)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._wake.wait()

    async def _step(self) -> float | None:
        """Begins what is due; the seconds until more may be."""
        if self._consented:
            self._consented = False
            try:
                await self._schedule.consented()
            except Unavailable:
                self._consented = True
                raise
        await self._read_tags()
        room = _AT_ONCE_MAX - len(self._asking)
        if room <= 0:
            return None  # whoever ends wakes us
        due, seconds = await self._schedule.claim(room)
        for each in due:
            task = asyncio.create_task(self._refresh(each), name=f"refresh {each.target_id}")
            self._asking.add(task)
            task.add_done_callback(self._ended)
        return 0.0 if len(due) == room else seconds

    async def _refresh(self, due: Due) -> None:
        try:
            await self._sync.refresh(due)
        except FreeholdError:
            log.warning("gateway target %s was not refreshed", due.target_id, exc_info=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        self._wake.set()
        if not task.cancelled() and task.exception() is not None:
            log.error("a refresh ended: %s", task.get_name(), exc_info=task.exception())

    # -- how often, by their tags

    async def _read_tags(self) -> None:
        tagged, self._tagged = self._tagged, set()
        try:
            if _EVERYTHING in tagged:
                known = await self._schedule.all()
                statuses = _SETTLED | TARGET_PENDING_AUTH
                for target in await self._resources.in_status(TARGET, statuses):
                    place = (target.tenant, target.parent, target.id)
                    if (seconds := _seconds(target)) != known.get(place, 0):
                        await self._schedule.every(target, seconds)
                return
            for payload in tagged:
                tenant, _, gateway_id, target_id = payload.split("/")
                with contextlib.suppress(NotFound):
                    target = await self._resources.get(tenant, TARGET, target_id, parent=gateway_id)
                    await self._schedule.every(target, _seconds(target))
        except Unavailable:
            self._tagged |= tagged
            raise


def _seconds(target: Resource) -> int:
    try:
        said = TARGET_OPTIONS.read(target.tags).get(TAG_REFRESH.partition(":")[2])
    except ValidationFailed:
        return 0
    return _unsaid(target) if said is None else int(said)


def _unsaid(target: Resource) -> int:
    """Servers change without a word to us. Documents do not; lists that are asked for each caller
    are fresh; and a person's consent is not used while they sleep."""
    configuration = target.document["targetConfiguration"]
    if kind_of(configuration) != "mcp.mcpServer" or has_static_tools(configuration):
        return 0
    given = target.document.get("credentialProviderConfigurations") or [{}]
    oauth = (given[0].get("credentialProvider") or {}).get("oauthCredentialProvider") or {}
    asks_people = oauth.get("grantType") == "AUTHORIZATION_CODE"
    dynamic = member(configuration).get("listingMode") == "DYNAMIC"
    return 0 if asks_people or dynamic else REFRESH_SECONDS_DEFAULT
