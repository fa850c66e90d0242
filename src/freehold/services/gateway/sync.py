"""Targets asked what they offer: after they are made or changed, when told to, and on schedule."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from freehold.kernel import ids
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.clock import now
from freehold.kernel.errors import FreeholdError, NotFound, Unavailable, ValidationFailed
from freehold.ports.database import Connection
from freehold.ports.jobs import Jobs, JobState
from freehold.ports.resources import Document, Resource, Resources
from freehold.ports.targets import (
    Credential,
    Definition,
    Described,
    Errand,
    Json,
    Place,
    Problem,
    RpcRefused,
    TargetClient,
    TargetFailed,
)
from freehold.services.gateway import pins
from freehold.services.gateway.documents import has_static_tools, kind_of, member, resolved
from freehold.services.gateway.model import (
    GATEWAY,
    TAG_NEW_TOOLS,
    TARGET,
    TARGET_PENDING_AUTH,
    TARGET_WAITING,
    TOOLS_PER_TARGET_MAX,
)
from freehold.services.gateway.ports import ConsentNeeded, Documents, Outbound
from freehold.services.gateway.schedule import Due, RefreshSchedule
from freehold.services.gateway.store import GatewayStore

log = logging.getLogger("freehold.gateway")

SYNC_JOB = "gateway-sync"
SYNC_ATTEMPTS_MAX = 5
_SECONDS_MAX = 60.0
_OWN_FAULT = "an error of the platform's own; its log has more"
_REASONS_SHOWN = 10
_UNSUCCESSFUL = {
    "create": "FAILED",
    "update": "UPDATE_UNSUCCESSFUL",
    "synchronize": "SYNCHRONIZE_UNSUCCESSFUL",
}
_OWN = ("_sync", "_reasons", "_authorization", "_approved_by")
"""Members of a target's document that last until it is READY: why it is asked and by whom what it
says is approved; what went wrong, and whose approval still waits for an answer."""


Prepare = Callable[[Resource, Resource, Sequence[Definition]], Awaitable[None]]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What asking a target came to: one of these."""

    described: Described | None = None
    consent: str = ""
    reasons: tuple[str, ...] = ()


class TargetSync:
    """`clients` by the kind of target. The jobs port runs `work`; a schedule runs `refresh`."""

    def __init__(
        self,
        *,
        resources: Resources,
        store: GatewayStore,
        schedule: RefreshSchedule,
        jobs: Jobs,
        clients: Mapping[str, TargetClient],
        outbound: Outbound,
        documents: Documents,
        prepare: Prepare | None = None,
        seconds_max: float = _SECONDS_MAX,
    ) -> None:
        """`prepare` hears first what a target offers, where its gateway has a search."""
        self._prepare = prepare
        self._resources, self._store, self._schedule = resources, store, schedule
        self._jobs, self._clients = jobs, clients
        self._outbound, self._documents = outbound, documents
        self._seconds_max = seconds_max

    async def enqueue(self, target: Resource) -> None:
        payload = {
            "tenant": target.tenant, "gateway_id": target.parent, "target_id": target.id,
            "version": target.version,
        }  # fmt: skip
        await self._jobs.enqueue(SYNC_JOB, payload, id=_job_id(target))

    async def work(self, payload: dict[str, Any]) -> None:
        """Idempotent: a target that was changed since, or is done, is left alone."""
        try:
            gateway, target = await self._found(
                payload["tenant"], payload["gateway_id"], payload["target_id"]
            )
        except NotFound:
            return
        if target.version != payload["version"] or target.status not in TARGET_WAITING:
            return
        try:
            await self._settle(gateway, target)
        except Unavailable:
            raise  # the job is tried again
        except Exception:  # the boundary: no target stays in CREATING, whatever happened
            log.exception("taking over gateway target %s broke", target.id)
            await self._fail(target, (_OWN_FAULT,))

    async def refresh(self, due: Due) -> None:
        """What is READY stays so, and keeps what it had, where it cannot be asked."""
        try:
            gateway, target = await self._found(due.tenant, due.gateway_id, due.target_id)
        except NotFound:
            return
        if target.status in TARGET_PENDING_AUTH:
            await self._settle(gateway, target, expired=due.expired)
        elif target.status not in TARGET_WAITING:
            await self._look_again(gateway, target)

    async def take_up(self) -> None:
        """What a crash left between a target and its job, or a job that gave up."""
        for target in await self._resources.in_status(TARGET, TARGET_WAITING):
            job = await self._jobs.get(_job_id(target))
            if job is None:
                await self.enqueue(target)
            elif job.state is JobState.FAILED:
                reason = f"the target could not be asked ({job.error}); update it to try again"
                await self._fail(target, (reason,))

    async def _found(
        self, tenant: str, gateway_id: str, target_id: str
    ) -> tuple[Resource, Resource]:
        gateway = await self._resources.get(tenant, GATEWAY, gateway_id)
        return gateway, await self._resources.get(tenant, TARGET, target_id, parent=gateway_id)

    async def _settle(self, gateway: Resource, target: Resource, *, expired: bool = False) -> None:
        outcome = await self._ask(gateway, target)
        if outcome.described is not None:
            await self._prepared(gateway, target, outcome.described)
            await self._take_over(target, outcome.described)
        elif outcome.consent and not expired:
            await self._pend(target, outcome.consent)
        elif outcome.consent:
            await self._fail(target, ("nobody agreed at the provider in time; try again",))
        elif _dynamic(target):
            # It is asked for each caller anyway, with what that caller has.
            why = f"it could not be asked just now: {'; '.join(outcome.reasons)}"
            problem = Problem(where=target.name, why=why, skipped=False)
            await self._take_over(target, Described(problems=(problem,)))
        else:
            await self._fail(target, outcome.reasons)

    async def _look_again(self, gateway: Resource, target: Resource) -> None:
        outcome = await self._ask(gateway, target)
        if outcome.described is not None:
            refused = _refused(outcome.described)
            if not refused:
                await self._prepared(gateway, target, outcome.described)
                await self._take_over(target, outcome.described, quiet=True)
                return
            outcome = Outcome(reasons=refused)
        reasons = outcome.reasons or ("a person's consent is needed; synchronize it to be asked",)
        log.info("gateway target %s could not be asked: %s", target.id, reasons[0])
        async with self._store.changing(target.tenant, target.parent, tell=False) as connection:
            await self._schedule.over(connection, target, "; ".join(reasons))

    # -- asking

    async def _ask(self, gateway: Resource, target: Resource) -> Outcome:
        document = await self._store.target_document(target)
        try:
            async with asyncio.timeout(self._seconds_max):
                return Outcome(described=await self._described(gateway, target, document))
        except ConsentNeeded as needed:
            return Outcome(consent=needed.url)
        except Exception as error:  # noqa: BLE001 - the boundary: no target stays in CREATING
            return Outcome(reasons=(self._why(error, target),))

    def _why(self, error: Exception, target: Resource) -> str:
        if isinstance(error, TimeoutError):
            return f"it did not answer within {self._seconds_max:g} seconds"
        if isinstance(error, RpcRefused):
            return f"it answered with an error: {error}"
        if isinstance(error, TargetFailed | FreeholdError):
            return error.message
        log.error("asking gateway target %s broke", target.id, exc_info=error)
        return _OWN_FAULT

    async def _described(
        self, gateway: Resource, target: Resource, document: Any | None
    ) -> Described:
        configuration: Json = target.document["targetConfiguration"]
        kind = kind_of(configuration)
        client = self._clients.get(kind)
        if client is None:
            raise ValidationFailed(f"targets of the kind {kind} are not available here")
        place = Place(
            tenant=target.tenant, gateway_id=gateway.id, gateway_arn=gateway.arn,
            target_id=target.id, name=target.name, kind=kind,
            configuration=await resolved(
                configuration, document, tenant=target.tenant, documents=self._documents
            ),
            role_arn=gateway.document.get("roleArn", ""),
        )  # fmt: skip
        request_id = ids.request_id()
        credential = Credential()
        if kind == "mcp.mcpServer" and not has_static_tools(configuration):
            given: list[Json] = target.document.get("credentialProviderConfigurations") or [{}]
            credential = await self._outbound.credential(
                place, given[0], caller=_asker(gateway, target, given[0]), request_id=request_id
            )
        errand = Errand(
            request_id=request_id, owner=f"{target.tenant}|{gateway.arn}", credential=credential,
            seconds_max=self._seconds_max,
        )  # fmt: skip
        return await client.describe(place, errand)

    async def _prepared(self, gateway: Resource, target: Resource, described: Described) -> None:
        mcp = (gateway.document.get("protocolConfiguration") or {}).get("mcp") or {}
        if self._prepare is not None and mcp.get("searchType") == "SEMANTIC":
            await self._prepare(gateway, target, described.definitions)

    # -- what came of it

    async def _take_over(
        self, target: Resource, described: Described, *, quiet: bool = False
    ) -> None:
        """`quiet`: on schedule, where nobody asked for it."""
        if reasons := _refused(described):
            await self._fail(target, reasons)
            return
        definitions, problems = pins.checked(described.definitions)
        problems = [*described.problems, *problems]
        tenant, gateway_id = target.tenant, target.parent
        async with self._store.changing(tenant, gateway_id, tell=not quiet) as connection:
            if not await self._unchanged(connection, target):
                return
            pinned = await self._store.pinned(connection, target)
            seen = pins.Seen()
            if not _dynamic(target):
                seen = pins.compare(
                    pinned, definitions, now=now(), new_tools=_new_tools(target),
                    approved_by=approving(target),
                )  # fmt: skip
                await self._store.write(connection, target, seen)
            other = await self._store.synchronized(connection, target, described.server, problems)
            if not quiet or target.status != "READY":
                await self._resources.set_status(
                    tenant, TARGET, target.id, "READY", parent=gateway_id,
                    version=target.version, document=settled(target.document),
                    connection=connection,
                )  # fmt: skip
            elif seen.anything or other:
                await self._store.tell(connection, tenant, gateway_id)

    async def _pend(self, target: Resource, url: str) -> None:
        why = target.document["_sync"]["why"]
        # Where it waits already, the person may be under way at the address that it was told.
        authorization = target.document.get("_authorization") or {
            "oauth2": {"authorizationUrl": url, "userId": asking_user(target)}
        }
        await self._leave(
            target, f"{why.upper()}_PENDING_AUTH", {"_authorization": authorization}, pending=True
        )

    async def _fail(self, target: Resource, reasons: tuple[str, ...]) -> None:
        why = target.document.get("_sync", {}).get("why", "synchronize")
        shown = [reason[:2000] for reason in reasons[:_REASONS_SHOWN]]
        log.info("gateway target %s: %s: %s", target.id, _UNSUCCESSFUL[why], shown[:1])
        members: Document = {"_reasons": shown}
        if by := approving(target):
            members["_approved_by"] = by
        await self._leave(target, _UNSUCCESSFUL[why], members)

    async def _leave(
        self, target: Resource, status: str, members: Document, *, pending: bool = False
    ) -> None:
        async with self._store.changing(target.tenant, target.parent) as connection:
            if not await self._unchanged(connection, target):
                return
            kept = {k: v for k, v in target.document.items() if pending or k not in _OWN}
            await self._resources.set_status(
                target.tenant, TARGET, target.id, status, parent=target.parent,
                version=target.version, document={**kept, **members}, connection=connection,
            )  # fmt: skip
            if pending:
                await self._schedule.pend(connection, target)
            else:
                await self._schedule.over(connection, target, "")

    async def _unchanged(self, connection: Connection, target: Resource) -> bool:
        """All that changes a target holds the gateway's lock, as we do now."""
        try:
            current = await self._resources.get(
                target.tenant, TARGET, target.id, parent=target.parent, connection=connection
            )
        except NotFound:
            return False
        return (current.version, current.status) == (target.version, target.status)


def settled(document: Document) -> Document:
    return {k: v for k, v in document.items() if k not in _OWN}


def approving(target: Resource) -> str | None:
    """Who changed its configuration, since it last answered: what it answers then is approved."""
    sync = target.document.get("_sync") or {}
    by: str | None = sync.get("by") or target.document.get("_approved_by")
    return by


def asking_user(target: Resource) -> str:
    """For whom a person agrees so that the platform may look at the target: nobody who calls."""
    return f"gateway-target-{target.id}"


def _asker(gateway: Resource, target: Resource, given: Json) -> Caller | None:
    provider = given.get("credentialProvider") or {}
    grant = (provider.get("oauthCredentialProvider") or {}).get("grantType")
    if grant != "AUTHORIZATION_CODE":
        return None
    return Caller(
        tenant=target.tenant, principal=gateway.arn, kind=CallerKind.ADMIN,
        user=asking_user(target),
    )  # fmt: skip


def _dynamic(target: Resource) -> bool:
    configuration = target.document["targetConfiguration"]
    return (
        kind_of(configuration) == "mcp.mcpServer"
        and member(configuration).get("listingMode") == "DYNAMIC"
    )


def _new_tools(target: Resource) -> pins.NewTools:
    """What cannot be read waits for approval."""
    return "trust" if target.tags.get(TAG_NEW_TOOLS, "trust") == "trust" else "approve"


def _refused(described: Described) -> tuple[str, ...]:
    """Why nothing of this is taken over; empty where all is well."""
    tools = sum(definition.kind == "tool" for definition in described.definitions)
    if tools > TOOLS_PER_TARGET_MAX:
        return (f"it has {tools} tools; a target has {TOOLS_PER_TARGET_MAX} at most",)
    skipped = [problem for problem in described.problems if problem.skipped]
    if described.definitions or not skipped:
        return ()
    return (
        "nothing of it can be a tool",
        *(f"{problem.where}: {problem.why}" for problem in skipped[: _REASONS_SHOWN - 1]),
    )


def _job_id(target: Resource) -> str:
    return f"{SYNC_JOB}-{target.tenant}-{target.parent}-{target.id}-{target.version}"
