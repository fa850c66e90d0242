"""Forks: made, listed, deleted. What runs them is `runner.py`."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from freehold.kernel import clock, ids
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied, NotFound, QuotaExceeded, ValidationFailed
from freehold.kernel.pages import Page, decode_token, encode_token
from freehold.ports.authorizer import Authorizer
from freehold.ports.database import Database
from freehold.ports.jobs import Jobs, JobState
from freehold.services.forks import store
from freehold.services.forks.checks import check_change, payload_of
from freehold.services.forks.keeping import (
    CannotFork,
    Kept,
    calls_before,
    kept,
    recorded_at,
    step_of,
)
from freehold.services.forks.model import (
    CHANGES,
    FORKS_MAX,
    MODE_OPERATION,
    UNDER_WAY,
    Creator,
    Fork,
    ForkChange,
    ForkStep,
    Until,
    new_fork_id,
)
from freehold.services.forks.ports import Engines
from freehold.services.forks.reading import Sessions
from freehold.services.forks.record import Record
from freehold.services.forks.runner import Runner, job_of
from freehold.services.forks.store import Filter

FORK_JOB = "fork"
FORKS_AT_ONCE = 4
FORK_ATTEMPTS_MAX = 5
"""Only the first one invokes anything; the others say that it was cut short."""
_LIST = "forks"
_FORGOTTEN_AFTER = timedelta(days=2)
"""Longer than any session lives: one that is left of a deleted fork still finds that it is over."""


class Given(msgspec.Struct, frozen=True, kw_only=True):
    trace_id: str
    span_id: str
    change: ForkChange = ForkChange()
    until: Until = "turn"
    endpoint: str = ""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What a fork at a span would be; `reason` says why there can be none."""

    reason: str
    step: ForkStep | None
    turns: int
    calls_before: int
    forks: int
    notes: list[str]

    @property
    def changes(self) -> tuple[str, ...]:
        return CHANGES[self.step.kind] if self.step is not None and not self.reason else ()


class Forks:
    def __init__(
        self,
        database: Database,
        *,
        sessions: Sessions,
        jobs: Jobs,
        engines: Engines,
        authorizer: Authorizer,
        runner: Runner,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._database, self._sessions, self._jobs = database, sessions, jobs
        self._engines, self._authorizer = engines, authorizer
        self._runner, self._now = runner, now

    async def create(self, caller: Caller, tenant: str, given: Given) -> Fork:
        """It runs as soon as a worker has room. Raises NotFound, CannotFork, ValidationFailed,
        AccessDenied."""
        if caller.kind not in (CallerKind.ACCESS_KEY, CallerKind.PERSON):
            raise AccessDenied("a fork is made with an access key, or by a person")
        record, span = await self._sessions.of_span(tenant, given.trace_id, given.span_id)
        step = step_of(record, span)
        check_change(given.change, step)
        engine_arn = await self._engine(caller, tenant, given.change.policy_engine_id)
        whole = _changed(await asyncio.to_thread(kept, record, step, given.until), given.change)
        fork = Fork(
            tenant=tenant, id=new_fork_id(), agent_id=span.agent_id,
            endpoint=given.endpoint or span.endpoint or "DEFAULT",
            recorded_version=span.agent_version, trace_id=span.trace_id, span_id=span.span_id,
            recorded_session_id=span.session_id, recorded_at=recorded_at(span), step=step,
            change=given.change, until=given.until, engine_arn=engine_arn, notes=whole.notes,
            creator=_creator(caller), created_by=caller.principal, created_at=self._now(),
        )  # fmt: skip
        async with self._database.transaction() as connection:
            if await store.count(connection, tenant) >= FORKS_MAX:
                raise QuotaExceeded(f"there are {FORKS_MAX} forks already: delete some of them")
            await store.insert(connection, fork, whole.turns, whole.calls)
        await self._enqueue(tenant, fork.id)
        return await self.get(tenant, fork.id)

    async def point(self, tenant: str, trace_id: str, span_id: str) -> Point:
        """Raises NotFound."""
        record: Record | None = None
        step: ForkStep | None = None
        reason, notes = "", list[str]()
        try:
            record, span = await self._sessions.of_span(tenant, trace_id, span_id)
            step = step_of(record, span)
            notes = (await asyncio.to_thread(kept, record, step, "turn")).notes
        except CannotFork as error:
            reason = error.message
        async with self._database.connection() as connection:
            forks = await store.count_of_span(connection, tenant, trace_id, span_id)
        return Point(
            reason=reason, step=step, turns=len(record.turns) if record is not None else 0,
            calls_before=calls_before(record, step) if record is not None and step else 0,
            forks=forks, notes=notes,
        )  # fmt: skip

    async def get(self, tenant: str, id: str) -> Fork:
        async with self._database.connection() as connection:
            found = await store.get(connection, tenant, id)
        if found is None:
            raise _absent(id)
        return found

    async def page(
        self, tenant: str, filter: Filter, *, limit: int, token: str | None
    ) -> Page[Fork]:
        """Newest first."""
        before = _position(token)
        async with self._database.connection() as connection:
            found = await store.newest(connection, tenant, filter, before=before, limit=limit + 1)
        if len(found) <= limit:
            return Page(found)
        last = found[limit - 1]
        return Page(found[:limit], encode_token(_LIST, last.created_at.isoformat(), last.id))

    async def delete(self, caller: Caller, tenant: str, id: str) -> None:
        """Its session is stopped as `caller`, whose right to that is asked for."""
        fork = await self.get(tenant, id)
        async with self._database.transaction() as connection:
            await store.empty(connection, tenant, id, self._now())
        if fork.status in UNDER_WAY:
            await self._runner.stop(caller, fork)

    async def take_up(self) -> None:
        """At the start of a process: what was to be run when one ended."""
        async with self._database.connection() as connection:
            found = await store.under_way(connection)
        for tenant, id in found:
            await self._enqueue(tenant, id)

    async def sweep(self) -> int:
        async with self._database.connection() as connection:
            return await store.forget_deleted(connection, self._now() - _FORGOTTEN_AFTER)

    async def _enqueue(self, tenant: str, id: str) -> None:
        job_id = f"{FORK_JOB}/{tenant}/{id}"
        job = await self._jobs.get(job_id)
        if job is not None and job.state not in (JobState.QUEUED, JobState.RUNNING):
            job_id = f"{job_id}/{ids.random_text(10)}"  # that one gave up before it could say so
        await self._jobs.enqueue(FORK_JOB, job_of(tenant, id), id=job_id)

    async def _engine(self, caller: Caller, tenant: str, engine_id: str | None) -> str:
        if engine_id is None:
            return ""
        arn = await self._engines.arn(tenant, engine_id)
        if arn is None:
            raise ValidationFailed(
                f"change.policyEngineId: this account has no policy engine {engine_id} that is "
                "ACTIVE. ListPolicyEngines names those that there are"
            )
        try:
            await self._authorizer.authorize(caller, MODE_OPERATION, arn)
        except AccessDenied as error:
            raise AccessDenied(
                "change.policyEngineId: an engine in the place of gateways' own may permit more "
                f"than they do, and is for who may change that: {error.message}. Leave it out, or "
                "have an admin fork"
            ) from error
        return arn


def _changed(whole: Kept, change: ForkChange) -> Kept:
    payload = payload_of(change)
    if payload is None:
        return whole
    turns = [
        msgspec.structs.replace(turn, payload=payload) if turn.number == whole.step.turn else turn
        for turn in whole.turns
    ]
    return msgspec.structs.replace(whole, turns=turns)


def _creator(caller: Caller) -> Creator:
    return Creator(
        kind=str(caller.kind), principal=caller.principal, access_key_id=caller.access_key_id,
        user=caller.user,
    )  # fmt: skip


def _absent(id: str) -> NotFound:
    return NotFound(f"fork {id!r} does not exist")


def _position(token: str | None) -> tuple[datetime, str] | None:
    match decode_token(token):
        case None:
            return None
        case [kind, str(at), str(id)] if kind == _LIST:
            try:
                return datetime.fromisoformat(at), id
            except ValueError:
                pass
    raise ValidationFailed("nextToken is not a token that this list returned")
