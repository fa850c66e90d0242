"""Whatever happened before, and wherever it crashes: who was erased left nothing, and everybody
else is known as if they had never been there."""

import hashlib
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from extraction_ground import key_of, semantic
from hypothesis import strategies as st
from person_ground import OfPerson, PersonGround
from test_memory_erasure import Make, MakeDsn, mentions, nothing

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.services.memory.model import Event

TEAM = "/team/"
KEYS = ("city", "dog")
VALUES = ("red", "green")


@pytest.fixture
async def grounds(fresh_dsn: MakeDsn, tmp_path: Path) -> AsyncIterator[Any]:
    """Makes grounds over one database."""
    dsn, numbers = await fresh_dsn(), itertools.count()
    async with AsyncExitStack() as stack:

        async def make(**how: Any) -> PersonGround:
            database = PostgresDatabase(dsn, pool_size_max=4, application_name="histories")
            state = tmp_path / str(next(numbers))
            state.mkdir()
            ground = PersonGround(database, state, executor=state.name, **how)
            await database.start()
            stack.push_async_callback(database.close)
            return await stack.enter_async_context(ground.open())

        yield make


# -- random histories

_who = st.sampled_from(("anna", "bob"))
_steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("say"), _who, st.integers(0, 1),
            st.lists(
                st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES)), min_size=1, max_size=2
            ),
        ),
        st.tuples(st.just("learn")),
        st.tuples(st.just("put"), _who, st.booleans()),
        st.tuples(st.just("search"), st.sampled_from(("/", TEAM, "/of/anna/", "/of/bob/"))),
        st.tuples(st.just("unsay"), st.integers(0, 20)),
        st.tuples(st.just("expire")),
        st.tuples(st.just("erase"), _who),
    ),
    min_size=3, max_size=14,
)  # fmt: skip


@pytest.mark.parametrize(
    ("shared", "many"),
    [
        pytest.param(True, 5, id="some in one namespace"),
        pytest.param(True, 25, id="many in one namespace", marks=pytest.mark.slow),
        pytest.param(False, 20, id="each in their own", marks=pytest.mark.slow),
    ],
)
async def test_who_was_erased_left_nothing(
    grounds: Make, tenant: str, shared: bool, many: int
) -> None:
    ground, numbers, examples = await grounds(), itertools.count(), []

    @hypothesis.settings(
        max_examples=many, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(steps=_steps)
    def histories(steps: list[Any]) -> None:
        examples.append(steps)

    histories()
    for steps in examples:
        number = next(numbers)
        namespace = TEAM if shared else "/of/{actorId}/"
        memory = ground.memory(tenant, strategies=(semantic(namespaces=[namespace]),))
        history = History(ground.of(memory), number)
        for minute, step in enumerate(steps):
            await history.happen(minute, step)
        await history.erase("anna")


class History:
    """Of one memory. Names and words are of this history alone, so that they are found anywhere."""

    def __init__(self, of: OfPerson, number: int) -> None:
        self.of, self.number = of, number
        self.said: list[Event] = []
        self.put: dict[str, list[str]] = {"anna": [], "bob": []}
        self.expired = False

    def name(self, who: str) -> str:
        return f"{who}{self.number}x"

    async def happen(self, minute: int, step: Any) -> None:
        of = self.of
        match step:
            case ("say", who, session, messages):
                texts = [f"{key} is {value} of {self.name(who)}" for key, value in messages]
                name = self.name(who)
                self.said.append(
                    await of.say(*texts, minute=minute, actor=name, session=f"{name}-{session}")
                )
            case ("learn",):
                await of.learn()
            case ("put", who, below):
                name = self.name(who)
                place = f"/of/{name}/notes/" if below else f"/{name}/"
                self.put[who].append(await of.put(f"note of {name}", place))
            case ("search", place):
                place = place.replace("anna", self.name("anna")).replace("bob", self.name("bob"))
                await of.find(f"city of {self.name('anna')}", namespacePath=place)
            case ("unsay", n) if self.said:
                event = self.said.pop(n % len(self.said))
                if not self.expired:
                    await of.ground.events.delete(
                        event.tenant, event.memory_id, event.actor_id, event.session_id, event.id
                    )
            case ("expire",):
                await of.learn()
                await self._expire()
            case ("erase", who):
                await self.erase(who)

    async def _expire(self) -> None:
        """All that was said so far; what was learned from it stays."""
        clock = self.of.ground.clock
        clock.ahead = timedelta(days=400)
        try:
            while await self.of.ground.expiry.sweep():
                pass
        finally:
            clock.ahead = timedelta()
        self.expired = self.expired or bool(self.said)
        self.said = []

    async def erase(self, who: str) -> None:
        of, name = self.of, self.name(who)
        await of.ground.log.written()
        dry = await of.begin(name, dryRun=True)
        proof = await of.erase(name)
        assert (proof["state"], proof["left"]) == ("DONE", nothing()), proof
        assert {**proof["erased"], "indexed": 0} == {**dry["erased"], "indexed": 0}
        assert await mentions(of, name) == {}
        self.said = [event for event in self.said if event.actor_id != name]
        self.put[who] = []
        await self._others_stay()

    async def _others_stay(self) -> None:
        await self.of.learn()
        records = {record.id: record for record in await self.of.all()}
        assert {id for ids in self.put.values() for id in ids} <= records.keys()
        for record in records.values():
            assert record.superseded_by in ("", *records)
        if self.expired:
            return  # what is known is more than what can be learned again
        current = {r.text for r in records.values() if r.valid_until is None and r.sources}
        assert current == self._expected()

    def _expected(self) -> set[str]:
        """What was said last of each key, in each namespace."""
        own = "{actorId}" in self.of.memory.strategies[0].namespaces[0]
        expected: dict[Any, str] = {}
        for event in sorted(self.said, key=lambda each: each.id):
            for message in event.messages:
                key = key_of(message.text), event.actor_id if own else ""
                expected[key] = message.text
        return set(expected.values())


# -- crashes


class Crash(BaseException):
    """The process is gone."""


class Crashing:
    """A database whose user is gone at the nth transaction: before it commits, or just after."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self.at, self.after, self.count = -1, False, 0

    def arm(self, at: int, *, after: bool) -> None:
        self.at, self.after, self.count = at, after, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        self.count += 1
        crashes = self.count == self.at
        async with self._database.transaction() as connection:
            yield connection
            if crashes and not self.after:
                raise Crash
        if crashes:
            raise Crash


@pytest.mark.parametrize(
    ("after", "stride"),
    [
        pytest.param(False, 6, id="here and there before it commits"),
        pytest.param(False, 1, id="before it commits", marks=pytest.mark.slow),
        pytest.param(True, 1, id="once it has", marks=pytest.mark.slow),
    ],
)
async def test_a_crash_at_any_step_changes_nothing_of_the_outcome(
    grounds: Make, tenant: str, after: bool, stride: int
) -> None:
    ground = await grounds(works=False)
    crashing = Crashing(ground.database)
    for part in (ground.steps, ground.erasures):
        part._database = crashing
    of, crashes, at = ground.of(ground.memory(tenant)), 0, 1
    while True:
        who = f"anna{at}q"
        lines = await lived(of, who)
        begun = await of.begin(who)
        payload = {"tenant": tenant, "memory": of.memory.id, "erasure": begun["erasureId"]}
        crashing.arm(at, after=after)
        try:
            await ground.erasures.work(payload)
        except Crash:
            crashes += 1
            crashing.arm(-1, after=False)
            await ground.erasures.work(payload)
        proof = await of.get(f"/erasures/{begun['erasureId']}")
        assert (proof["state"], proof["left"]) == ("DONE", nothing()), (at, proof)
        assert proof["digest"] == _digest(lines), at
        assert proof["erased"]["events"] == 2 and proof["erased"]["records"] == 2
        assert await mentions(of, who) == {}
        if crashing.at > 0 and crashing.count < at:
            break
        at += stride
    assert crashes > 12 // stride
    assert [text for text in await of.texts() if "bob" in text]


async def test_an_erasure_goes_on_in_another_process(grounds: Make, tenant: str) -> None:
    ground = await grounds(works=False)
    of = ground.of(ground.memory(tenant))
    lines = await lived(of, "anna")
    begun = await of.begin("anna")
    other = await grounds(memories=ground.memories)
    proof = await other.of(of.memory).ended(begun)
    assert (proof["state"], proof["digest"]) == ("DONE", _digest(lines))


async def test_one_that_no_job_was_left_of_is_taken_up(grounds: Make, tenant: str) -> None:
    ground = await grounds(works=False)
    of = ground.of(ground.memory(tenant))
    await lived(of, "anna")
    begun = await of.begin("anna")
    async with ground.database.connection() as connection:
        await connection.execute("DELETE FROM jobs")  # as if it had ended before it was enqueued
    other = await grounds(memories=ground.memories)
    await other.erasures.take_up()
    assert (await other.of(of.memory).ended(begun))["state"] == "DONE"


async def test_one_that_cannot_be_done_says_so_in_the_end(
    grounds: Make, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground = await grounds(works=False)
    of = ground.of(ground.memory(tenant))
    await lived(of, "anna")
    begun = await of.begin("anna")
    payload = {"tenant": tenant, "memory": of.memory.id, "erasure": begun["erasureId"]}

    async def broken(person: Any) -> None:
        raise OSError("the disk has a secret")

    monkeypatch.setattr(ground.steps, "payloads", broken)
    for _ in range(9):
        with pytest.raises(OSError, match="disk"):
            await ground.erasures.work(payload)
        assert (await of.get(f"/erasures/{begun['erasureId']}"))["state"] == "RUNNING"
    await ground.erasures.work(payload)
    proof = await of.get(f"/erasures/{begun['erasureId']}")
    assert proof["state"] == "FAILED" and "secret" not in proof["error"]
    assert proof["erased"]["events"] == 2
    await of.say("I may speak again", actor="anna")
    again = await of.begin("anna")
    assert again["erasureId"] != begun["erasureId"]


async def test_what_is_still_there_is_named(
    grounds: Make, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground = await grounds()
    of = ground.of(ground.memory(tenant))
    await lived(of, "anna")

    async def forgetful(person: Any) -> None:
        return

    monkeypatch.setattr(ground.steps, "placed", forgetful)
    proof = await of.erase("anna")
    assert (proof["state"], proof["left"]) == ("FAILED", nothing(records=1, indexed=1))
    assert "1 records" in proof["error"]
    [line] = ground.audit.of(tenant, "freehold:EraseMemoryActor")
    assert line["outcome"] == "failed"


async def test_it_ends_when_the_memory_is_gone(grounds: Make, tenant: str) -> None:
    ground = await grounds(works=False)
    of = ground.of(ground.memory(tenant))
    begun = await of.begin("anna")
    del ground.memories.by_id[tenant, of.memory.id]
    await ground.erasures.work(
        {"tenant": tenant, "memory": of.memory.id, "erasure": begun["erasureId"]}
    )
    assert (await of.get(f"/erasures/{begun['erasureId']}"))["state"] == "DONE"


async def lived(of: OfPerson, who: str) -> list[str]:
    events = [await of.say(f"city is {who}", actor=who, session=f"of-{who}", minute=1)]
    await of.say("pet is with bob", actor="bob", minute=2)
    await of.learn()
    events.append(await of.say(f"dog is {who}", actor=who, session=f"of-{who}", minute=3))
    put = await of.put(f"note of {who}", f"/of/{who}/")
    await of.find(f"city of {who}", namespacePath=f"/facts/{who}/")
    await of.ground.log.written()
    [record] = [each.id for each in await of.all() if each.text == f"city is {who}"]
    turns = [f"turn mem-turn-{event.id.replace('#', '-')}-000000" for event in events]
    lines = [f"event {event.id}" for event in events] + turns
    return [*lines, f"session of-{who}", f"record {record}", f"record {put}"]


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in sorted(lines)).encode()).hexdigest()
