"""A person is erased from a memory: all that they said, all that was learned from it, and all that
tells of either; then what is left is counted, and the proof kept.

A job does it, as often as it takes: see `erasure_steps`. While it runs, what the person says is
refused (Conflict), and not erased with the rest: an event that was acknowledged is never lost
without a word, and the count at the end is of something that holds still.
"""

import logging
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from freehold.kernel import clock, ids
from freehold.kernel.errors import FreeholdError, NotFound, Unavailable, ValidationFailed
from freehold.kernel.pages import Page, decode_token, encode_token
from freehold.ports.audit import Audit, AuditEvent
from freehold.ports.database import Connection, Database
from freehold.ports.jobs import Jobs, JobState
from freehold.ports.secrets import SealBroken, Sealer
from freehold.services.memory import erasure_store as store
from freehold.services.memory.erasure_steps import Person, Steps, job_part
from freehold.services.memory.erasure_store import KINDS, Begun, Erasure
from freehold.services.memory.event_store import actor_digest
from freehold.services.memory.extraction_schedule import EXTRACTION_JOB
from freehold.services.memory.model import Memory
from freehold.services.memory.ports import JobTraces, Memories

log = logging.getLogger("freehold.memory")

ERASURE_JOB = "memory-erasure"
ERASURES_AT_ONCE = 2
ERASURE_ATTEMPTS_MAX = 10
ACTOR_CHARACTERS_MAX = 255
_ROUNDS_MAX = 5
_LIST = "memory-erasures"
_GONE = "GONE"
_OWN_FAULT = "an error of the platform's own; its log has more"


class Erasures:
    def __init__(
        self,
        database: Database,
        *,
        memories: Memories,
        steps: Steps,
        jobs: Jobs,
        traces: JobTraces,
        sealer: Sealer,
        audit: Audit,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._database, self._memories, self._steps = database, memories, steps
        self._jobs, self._traces, self._sealer = jobs, traces, sealer
        self._audit, self._now = audit, now

    # -- asked for

    async def begin(
        self, tenant: str, memory_id: str, actor_id: str, *, by: str, request_id: str,
        dry_run: bool,
    ) -> Erasure:  # fmt: skip
        """The one that runs already, where one does."""
        memory = await self._memories.get(tenant, memory_id)
        if not actor_id.strip("/") or len(actor_id) > ACTOR_CHARACTERS_MAX or "\0" in actor_id:
            raise ValidationFailed(f"actorId: 1 to {ACTOR_CHARACTERS_MAX} characters")
        erasure = Erasure(
            id=f"erasure-{uuid.uuid4()}", state="RUNNING", dry_run=dry_run,
            actor_digest=actor_digest(tenant, memory.id, actor_id), by=by, started_at=self._now(),
            ended_at=None, error="", erased={}, remaining={}, digests={}, digest="",
        )  # fmt: skip
        if dry_run:
            return await self._dry(memory, actor_id, erasure, request_id)
        sealed = self._sealer.seal(actor_id.encode(), context=_context(tenant, erasure.id))
        while True:
            async with self._database.transaction() as connection:
                if not await store.begin(
                    connection, tenant, memory.id, erasure, sealed_actor=sealed,
                    request_id=request_id,
                ):  # fmt: skip
                    running = await store.running(
                        connection, tenant, memory.id, erasure.actor_digest
                    )
                    if running is None:
                        continue  # it has just ended
                    erasure = running
            await self._enqueue(tenant, memory.id, erasure.id)
            return erasure

    async def _dry(
        self, memory: Memory, actor_id: str, erasure: Erasure, request_id: str
    ) -> Erasure:
        """Says what a run would say that nothing stands in the way of."""
        async with self._database.transaction() as connection:
            person = Person(memory=memory, actor_id=actor_id, erasure_id=erasure.id)
            erasure = msgspec.structs.replace(
                erasure, state="DONE", ended_at=self._now(), remaining=dict.fromkeys(KINDS, 0),
                erased=await self._counted(connection, person, names=False),
            )  # fmt: skip
            await store.put_dry(connection, memory.tenant, memory.id, erasure, request_id)
        return erasure

    async def get(self, tenant: str, memory_id: str, erasure_id: str) -> Erasure:
        """Also of a memory that is deleted: a proof stays."""
        async with self._database.connection() as connection:
            found = await store.get(connection, tenant, memory_id, erasure_id)
        if found is None:
            raise NotFound(f"erasure {erasure_id!r} of memory {memory_id!r} does not exist")
        return found

    async def page(
        self, tenant: str, memory_id: str, *, actor_id: str | None, limit: int, token: str | None
    ) -> Page[Erasure]:
        """Newest first. NotFound where there is neither the memory nor any erasure of it."""
        before = _position(token, memory_id)
        async with self._database.connection() as connection:
            found = await store.newest(
                connection, tenant, memory_id, before=before, limit=limit + 1,
                digest="" if actor_id is None else actor_digest(tenant, memory_id, actor_id),
            )  # fmt: skip
        if not found:
            await self._memories.get(tenant, memory_id)
        if len(found) <= limit:
            return Page(found)
        last = found[limit - 1]
        return Page(
            found[:limit], encode_token(_LIST, memory_id, last.started_at.isoformat(), last.id)
        )

    # -- done

    async def take_up(self) -> None:
        """At the start of a process: what runs, and no job was left of by a crash."""
        async with self._database.connection() as connection:
            running = await store.all_running(connection)
        for tenant, memory_id, id in running:
            await self._enqueue(tenant, memory_id, id)

    async def work(self, payload: dict[str, Any]) -> None:
        """The job. Idempotent: what is gone is gone, and noted."""
        tenant, memory_id, id = payload["tenant"], payload["memory"], payload["erasure"]
        async with self._database.connection() as connection:
            begun = await store.begun(connection, tenant, memory_id, id)
        if begun is None:
            return
        try:
            await self._run(tenant, memory_id, begun)
        except SealBroken:
            await self._give_up(
                tenant, memory_id, begun, "who it is about is sealed by a key that is gone"
            )
        except Exception as error:  # the boundary: whatever it is, the erasure ends some day
            said = error.message if isinstance(error, FreeholdError) else _OWN_FAULT
            async with self._database.connection() as connection:
                await store.failed_once(connection, tenant, memory_id, id, said)
            if begun.failures + 1 < ERASURE_ATTEMPTS_MAX:
                raise
            log.exception("memory erasure %s is given up", id)
            await self._give_up(tenant, memory_id, begun, said)

    async def _run(self, tenant: str, memory_id: str, begun: Begun) -> None:
        actor_id = self._sealer.open(
            begun.sealed_actor, context=_context(tenant, begun.id)
        ).decode()
        try:
            memory = await self._memories.get(tenant, memory_id)
        except NotFound:  # what it holds goes with it
            memory = _gone(tenant, memory_id)
        person = Person(memory=memory, actor_id=actor_id, erasure_id=begun.id)
        remaining: dict[str, int] = {}
        for _ in range(_ROUNDS_MAX):
            if memory.status != _GONE:
                await self._steps.all(person)
            async with self._database.connection() as connection:
                remaining = await self._counted(connection, person, names=True)
            if not any(remaining.values()):
                break
            if memory.status == _GONE:
                raise Unavailable("the memory is being deleted, and what it holds with it")
        left = ", ".join(f"{count} {kind}" for kind, count in remaining.items() if count)
        await self._end(
            tenant, memory_id, begun, arn=memory.arn or None, remaining=remaining,
            error=left and f"there is still something left: {left}",
        )  # fmt: skip

    async def _give_up(self, tenant: str, memory_id: str, begun: Begun, error: str) -> None:
        """What is left is not known."""
        await self._end(tenant, memory_id, begun, remaining={}, error=error)

    async def _end(
        self,
        tenant: str,
        memory_id: str,
        begun: Begun,
        *,
        remaining: Mapping[str, int],
        error: str,
        arn: str | None = None,
    ) -> None:
        async with self._database.transaction() as connection:
            erased, digests, digest = await store.taken(connection, tenant, memory_id, begun.id)
            # Before it is so: a crash in between tells it twice rather than never.
            await self._audit.write(
                AuditEvent(
                    tenant=tenant, call_id=begun.request_id, phase="outcome", at=self._now(),
                    operation="freehold:EraseMemoryActor", principal=begun.by, kind="platform",
                    resource=arn, outcome="failed" if error else "allowed",
                    detail={
                        "erasure": begun.id, "digest": digest, "error": error,
                        **{kind: str(count) for kind, count in erased.items() if count},
                    },
                )
            )  # fmt: skip
            await store.end(
                connection, tenant, memory_id, begun.id, error=error, at=self._now(),
                erased=erased, remaining=remaining, digests=digests, digest=digest,
            )  # fmt: skip

    async def _counted(
        self, connection: Connection, person: Person, *, names: bool
    ) -> dict[str, int]:
        found = await store.counts(connection, person.where, person.erasure_id, names=names)
        jobs = await self._traces.matching(connection, EXTRACTION_JOB, job_part(person))
        return found | {"jobs": len(jobs)}

    async def _enqueue(self, tenant: str, memory_id: str, erasure_id: str) -> None:
        id = f"{ERASURE_JOB}/{tenant}/{erasure_id}"
        job = await self._jobs.get(id)
        if job is not None and job.state not in (JobState.QUEUED, JobState.RUNNING):
            id = f"{id}/{ids.random_text(10)}"  # that one gave up before it could say so
        payload = {"tenant": tenant, "memory": memory_id, "erasure": erasure_id}
        await self._jobs.enqueue(ERASURE_JOB, payload, id=id)


def _gone(tenant: str, memory_id: str) -> Memory:
    return Memory(tenant=tenant, id=memory_id, arn="", name="", status=_GONE, expiry_days=0)


def _context(tenant: str, erasure_id: str) -> str:
    return f"{tenant}|memory-erasure|{erasure_id}"


def _position(token: str | None, memory_id: str) -> tuple[datetime, str] | None:
    match decode_token(token):
        case None:
            return None
        case [kind, of, str(at), str(id)] if (kind, of) == (_LIST, memory_id):
            try:
                return datetime.fromisoformat(at), id
            except ValueError:
                pass
    raise ValidationFailed("nextToken is not a token that this list returned")
