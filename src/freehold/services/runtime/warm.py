"""Endpoints that want started sandboxes to wait for their sessions: the tag `freehold:warm`.

Every worker reads them all when it starts, then each that changes, and tells the placement.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from freehold.kernel.errors import FreeholdError, NotFound, Unavailable
from freehold.ports.placement import KeptWarm, Launch, Placement
from freehold.ports.resources import Resource, Resources
from freehold.services.runtime.model import ENDPOINT, RUNTIME, Deployment
from freehold.services.runtime.service import RuntimeService

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.1
_RETRY_SECONDS = 1.0
_EVERYTHING = ""
_Id = tuple[str, str, str]
"""Tenant, runtime, endpoint."""


class WarmEndpoints:
    """`launch_of(deployment, session id, user)` is what the placement starts."""

    def __init__(
        self,
        *,
        resources: Resources,
        runtimes: RuntimeService,
        placement: Placement,
        launch_of: Callable[[Deployment, str, str | None], Launch],
    ) -> None:
        self._resources, self._runtimes = resources, runtimes
        self._placement, self._launch_of = placement, launch_of
        self._wanted: dict[_Id, tuple[str, int]] = {}
        self._changed = {_EVERYTHING}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._news.set()
        self._task = asyncio.create_task(self._keep_told())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def heard_change(self, payload: str) -> None:
        """A resource changed ("{tenant}/{kind}/..."), or anything may have ("")."""
        kind = payload.split("/")[1] if payload else ""
        if kind in (_EVERYTHING, ENDPOINT.name, RUNTIME.name):
            self._changed.add(payload)
            self._news.set()

    async def _keep_told(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(_PAUSE_SECONDS)  # a deployment is several changes
            self._news.clear()
            changed, self._changed = self._changed, set()
            try:
                if await self._read(changed):
                    self._placement.keep_warm(await self._launches())
            except Unavailable:
                self._changed |= changed
                self._news.set()
                await asyncio.sleep(_RETRY_SECONDS)

    async def _read(self, changed: set[str]) -> bool:
        """Whether any of it matters."""
        if _EVERYTHING in changed:
            before, self._wanted = self._wanted, {}
            for endpoint in await self._resources.in_status(ENDPOINT, frozenset({"READY"})):
                self._note(endpoint)
            return bool(before or self._wanted)
        matters = False
        for payload in changed:
            tenant, kind, *rest = payload.split("/")
            if kind == RUNTIME.name:
                matters |= any(id[:2] == (tenant, rest[0]) for id in self._wanted)
                continue
            runtime_id, endpoint_id = rest
            matters |= self._wanted.pop((tenant, runtime_id, endpoint_id), None) is not None
            with contextlib.suppress(NotFound):
                endpoint = await self._resources.get(
                    tenant, ENDPOINT, endpoint_id, parent=runtime_id
                )
                matters |= self._note(endpoint)
        return matters

    def _note(self, endpoint: Resource) -> bool:
        count = self._runtimes.endpoint_options.read(endpoint.tags).get("warm", 0)
        if count:
            self._wanted[endpoint.tenant, endpoint.parent, endpoint.id] = endpoint.name, count
        return bool(count)

    async def _launches(self) -> list[KeptWarm]:
        found = []
        for (tenant, runtime_id, _), (name, count) in sorted(self._wanted.items()):
            try:
                deployment = await self._runtimes.resolve(tenant, runtime_id, name)
            except Unavailable:
                raise
            except FreeholdError as error:  # it is not built yet, or gone by now
                log.debug("nothing of %s/%s waits: %s", runtime_id, name, error.message)
                continue
            found.append(KeptWarm(launch=self._launch_of(deployment, "", None), count=count))
        return found
