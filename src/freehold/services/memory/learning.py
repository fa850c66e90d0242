"""Learning from what was said: queued with it, extracted by jobs, taken back with what is unsaid.

A job takes messages out of the queue in the transaction that writes what it learned from them, and
only if it still has their turn: so that each is learned once, whatever crashes and whoever else is
at it. See docs/decisions/0040-learning.md.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from freehold.kernel import clock, tracing
from freehold.kernel.errors import Conflict, NotFound, Unavailable
from freehold.ports.database import Connection, Database
from freehold.ports.jobs import Jobs
from freehold.ports.models import Models
from freehold.services.memory import strategies, traces
from freehold.services.memory.erasure_payloads import PayloadNotes
from freehold.services.memory.extraction import Learner, Outcome
from freehold.services.memory.extraction_batch import Batch, gathered, to_learn, tokens_of
from freehold.services.memory.extraction_model import Asking, ExtractionFailed
from freehold.services.memory.extraction_places import Place
from freehold.services.memory.extraction_schedule import EXTRACTION_JOB, ExtractionSchedule
from freehold.services.memory.extraction_store import Claim, ExtractionStore, Queued, Triggers
from freehold.services.memory.extraction_unsaid import Unsaying
from freehold.services.memory.model import Event, Memory, Record, Strategy
from freehold.services.memory.ports import Events, Memories, Records
from freehold.services.memory.self_managed import SelfManaged, triggers_of

log = logging.getLogger("freehold.memory")

TRIGGERS = Triggers(messages=12, tokens=2_000, idle_seconds=20.0)
"""When the built-in strategies look at a session: what comes first."""
PAUSES_SECONDS = (2.0, 15.0, 60.0)
"""Before another try, where the model cannot be had or its answer cannot be used."""
JOBS_AT_ONCE = 4
JOB_ATTEMPTS_MAX = 10
_CONFLICTS_MAX = 5
_SOON_SECONDS = 1.0
_OWN_FAULT = "an error of the platform's own; its log has more"


class _Changed(Exception):
    """What an outcome rests on is not so any more."""


class Extraction:
    """Implements `ports.Learning`. `models` is None where the platform has no model: then what
    needs one waits, and is taken up when it has. `self_managed` None: such strategies wait too.
    `recorder` takes the traces of its jobs."""

    def __init__(
        self,
        database: Database,
        *,
        memories: Memories,
        records: Records,
        jobs: Jobs,
        models: Models | None,
        self_managed: SelfManaged | None = None,
        triggers: Triggers = TRIGGERS,
        pauses_seconds: Sequence[float] = PAUSES_SECONDS,
        model_seconds_max: float = 120.0,
        now: Callable[[], datetime] = clock.now,
        recorder: tracing.Recorder | None = None,
    ) -> None:
        self._recorder = recorder
        self.store = ExtractionStore(database)
        self._database, self._memories, self._records = database, memories, records
        self._asking = None if models is None else Asking(models, seconds_max=model_seconds_max)
        self._self_managed, self._now = self_managed, now
        self._payloads = PayloadNotes(database)
        self._triggers, self._pauses = triggers, tuple(pauses_seconds)
        self._schedule = ExtractionSchedule(self.store, jobs)
        self._unsaying = Unsaying(self.store, records, self)
        self._events: Events | None = None
        jobs.register(
            EXTRACTION_JOB, self.work, concurrency=JOBS_AT_ONCE, attempts_max=JOB_ATTEMPTS_MAX
        )

    def reads(self, events: Events) -> None:
        """Whoever keeps events tells this of them: so these come later."""
        self._events = events

    async def start(self) -> None:
        """After the database. What waited for a model has its turn, where there is one."""
        assert self._events is not None, "it reads events"
        if self._asking is not None:
            await self.store.model_came()
        await self._schedule.start()

    async def close(self) -> None:
        await self._schedule.close()

    # -- ports.Learning

    async def said(self, connection: Connection, memory: Memory, event: Event) -> None:
        if not event.extract:
            return
        for strategy in sorted(memory.strategies, key=lambda each: each.id):
            messages = to_learn(event, strategies.learns_as(strategy))
            if messages and strategy.status == "ACTIVE":
                queued = Queued(
                    event.id, [each.index for each in messages],
                    sum(tokens_of(each.text) for each in messages),
                )  # fmt: skip
                place = Place(
                    memory.tenant, memory.id, strategy.id, event.actor_id, event.session_id
                )
                await self.queue(connection, strategy, place, [queued])

    async def unsaid(self, connection: Connection, memory: Memory, events: Sequence[Event]) -> None:
        await self._unsaying.unsaid(connection, memory, events)

    # -- what others ask

    async def waiting(self, memory: Memory) -> int:
        """Messages that wait for a model, once for each strategy."""
        return await self.store.waiting_for_model(memory.tenant, memory.id)

    async def clear(self, connection: Connection, tenant: str, memory_id: str) -> bool:
        """Of a memory that is deleted, a part: whether there may be more."""
        return await self.store.clear(connection, tenant, memory_id)

    async def changed(self, connection: Connection, before: Memory | None, after: Memory) -> None:
        """Implements `ports.Changes`: what a strategy that is gone was to learn, nobody learns."""
        there = {strategy.id for strategy in after.strategies}
        gone = [each.id for each in (before.strategies if before else ()) if each.id not in there]
        while gone and await self.store.clear(connection, after.tenant, after.id, gone):
            pass

    async def queue(
        self,
        connection: Connection,
        strategy: Strategy,
        place: Place,
        queued: Sequence[Queued],
        *,
        now: bool = False,
    ) -> None:
        by_itself = strategies.learns_as(strategy) == strategies.SELF_MANAGED
        able = self._asking is not None or by_itself
        await self.store.add(
            connection, place, queued, triggers=self.triggers(strategy), now=now,
            state="waiting" if able else "waiting_for_model",
        )  # fmt: skip

    def triggers(self, strategy: Strategy | None) -> Triggers:
        own = strategies.self_managed(strategy) if strategy is not None else None
        return self._triggers if own is None else triggers_of(own)

    # -- the job

    async def work(self, payload: dict[str, Any]) -> None:
        """Idempotent: what lost its turn does nothing."""
        claim = msgspec.convert(payload, Claim)
        attempts = await self.store.attempts(claim)
        if attempts is None:
            return
        place = claim.place
        try:
            memory = await self._memories.get(place.tenant, place.memory_id)
        except NotFound:
            await self._give_up(claim)
            return
        except Conflict:
            await self.store.pause(claim, _SOON_SECONDS, failed=False)
            return
        strategy = next((s for s in memory.strategies if s.id == place.strategy_id), None)
        if strategy is None or strategy.status != "ACTIVE":
            await self._give_up(claim)
            return
        await self._run(claim, memory, strategy, attempts)

    async def _run(self, claim: Claim, memory: Memory, strategy: Strategy, attempts: int) -> None:
        assert self._events is not None, "it reads events"
        batch = await gathered(self._events, claim.place, await self.store.queued(claim.place))
        try:
            if strategies.learns_as(strategy) == strategies.SELF_MANAGED:
                await self._delivered(claim, memory, strategy, batch)
            elif batch.numbers:
                await self._learned(claim, memory, strategy, batch)
            else:
                await self._settled(claim, memory, strategy, batch, None)
        except ExtractionFailed as failure:
            log.info("memory extraction %s: %s", claim.job_id, failure.reason)
            await self._failed(claim, strategy, batch, failure, attempts)
        except Unavailable:
            raise  # the job is tried again
        except Exception:  # the boundary: no answer of a model makes this go round for ever
            log.exception("memory extraction %s broke", claim.job_id)
            own = ExtractionFailed(_OWN_FAULT, again=True)
            await self._failed(claim, strategy, batch, own, attempts)

    async def _failed(
        self,
        claim: Claim,
        strategy: Strategy,
        batch: Batch,
        failure: ExtractionFailed,
        attempts: int,
    ) -> None:
        if failure.again and attempts < len(self._pauses):
            await self.store.pause(claim, self._pauses[attempts], failed=True)
        else:
            await self.store.fail(claim, batch.taken, failure.reason, self.triggers(strategy))

    async def _learned(
        self, claim: Claim, memory: Memory, strategy: Strategy, batch: Batch
    ) -> None:
        if self._asking is None or self._events is None:
            await self.store.await_model(claim)  # there was one, before a restart
            return
        learner = Learner(
            memory=memory, strategy=strategy, batch=batch, asking=self._asking,
            events=self._events, records=self._records, store=self.store, now=self._now,
        )  # fmt: skip
        with traces.extraction(self._recorder, claim, strategy):
            for _ in range(_CONFLICTS_MAX):
                outcome = await learner.outcome()
                try:
                    await self._settled(claim, memory, strategy, batch, outcome)
                except _Changed:
                    continue
                return
        await self.store.pause(claim, _SOON_SECONDS, failed=False)

    async def _delivered(
        self, claim: Claim, memory: Memory, strategy: Strategy, batch: Batch
    ) -> None:
        if self._self_managed is None or self._events is None:
            raise ExtractionFailed(
                "this platform does not deliver to self-managed strategies", again=False
            )
        if batch.numbers:
            await self._self_managed.deliver(
                self._events, memory, strategy, batch, job_id=claim.job_id,
                putting=lambda bucket, key: self._payloads.putting(claim, bucket, key),
            )  # fmt: skip
        await self._settled(claim, memory, strategy, batch, None)

    async def _settled(
        self,
        claim: Claim,
        memory: Memory,
        strategy: Strategy,
        batch: Batch,
        outcome: Outcome | None,
    ) -> None:
        """All of it or nothing. Nothing too where another has the turn, or an event was unsaid
        meanwhile; then what is left has its turn anew."""
        triggers = self.triggers(strategy)
        async with self._database.transaction() as connection:
            if outcome is not None:
                versions = await self.store.advance(connection, outcome.versions)
                if versions != outcome.versions:
                    raise _Changed
            if not await self.store.lock(connection, claim):
                return
            if not await self.store.take(connection, claim.place, batch.taken):
                await self.store.settle(connection, claim.place, triggers, now=True)
                return
            if outcome is not None:
                await self._write(connection, memory, outcome)
            await self.store.settle(connection, claim.place, triggers, now=batch.more)

    async def _write(self, connection: Connection, memory: Memory, outcome: Outcome) -> None:
        touched = _touched(outcome)
        held = await self._records.held(connection, memory, list(touched)) if touched else {}
        if any(held.get(id) != record for id, record in touched.items()):
            raise _Changed  # somebody changed or deleted it by the API
        await self._records.put(connection, memory, outcome.plan.puts)
        for each in outcome.plan.supersessions:
            await self._records.supersede(connection, memory, each.id, each.by, each.at)

    async def _give_up(self, claim: Claim) -> None:
        """Nobody wants to know any more."""
        async with self._database.transaction() as connection:
            if await self.store.lock(connection, claim):
                await self.store.drop(connection, claim.place)
                await self.store.settle(connection, claim.place, self._triggers)


def _touched(outcome: Outcome) -> dict[str, Record]:
    """Of the records that were there, those that the plan changes or leans on."""
    plan = outcome.plan
    ids = {record.id for record in plan.puts}
    ids |= {id for each in plan.supersessions for id in (each.id, each.by)}
    return {id: outcome.seen[id] for id in sorted(ids) if id in outcome.seen}
