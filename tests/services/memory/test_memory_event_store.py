"""Lists of events against a simple model of them, and how the store finds them."""

import asyncio
import contextlib
import os
import secrets
import signal
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_ground import FakeLearning, FakeMemories

import freehold
from freehold.adapters.postgres.embedded import EmbeddedPostgres
from freehold.adapters.postgres.migrations import components_under, migrate
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.errors import Unavailable, ValidationFailed
from freehold.services.memory import event_sql
from freehold.services.memory.event_expiry import EventExpiry
from freehold.services.memory.event_sql import Condition, EventFilter
from freehold.services.memory.event_store import EventStore, thread_of
from freehold.services.memory.events import EventLog, NewEvent
from freehold.services.memory.model import Memory

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
BRANCHES = ("main", "a", "b", "c")
KEYS, VALUES = ("k1", "k2"), ("", "x", "y")


class Told(msgspec.Struct, kw_only=True):
    """An event as the model has it: `place` is its place in the order."""

    id: str
    place: tuple[int, int]
    branch: str
    metadata: Mapping[str, str]


class Model:
    """One session. A branch is where it parted: the branch before it, and the place there."""

    def __init__(self) -> None:
        self.events: list[Told] = []
        self.parted: dict[str, tuple[str, tuple[int, int]]] = {}
        self.arrivals = 0

    def may_branch(self, branch: str, root: Told | None) -> bool:
        if branch == "main":
            return root is None
        if branch not in self.parted:
            return root is not None and root in self.events
        return root is None or self.parted[branch] == (root.branch, root.place)

    def add(self, id: str, second: int, branch: str, root: Told | None, metadata: Any) -> None:
        if branch not in self.parted and branch != "main":
            assert root is not None
            self.parted[branch] = (root.branch, root.place)
        self.arrivals += 1
        self.events.append(
            Told(id=id, place=(second, self.arrivals), branch=branch, metadata=metadata)
        )

    def listed(self, what: EventFilter) -> list[str]:
        shown = [e for e in self.events if self._on(e, what) and _meets(e.metadata, what)]
        return [e.id for e in sorted(shown, key=lambda e: e.place, reverse=True)]

    def _on(self, event: Told, what: EventFilter) -> bool:
        branch, until = what.branch, (10**9, 0)
        if not branch:
            return True
        while True:
            if event.branch == branch and event.place <= until:
                return True
            if not what.parents or branch not in self.parted:
                return False
            branch, until = self.parted[branch]


def _meets(metadata: Mapping[str, str], what: EventFilter) -> bool:
    for condition in what.metadata:
        if condition.operator == "EQUALS_TO":
            holds = metadata.get(condition.key) == condition.value
        else:
            holds = (condition.key in metadata) == (condition.operator == "EXISTS")
        if not holds:
            return False
    return True


additions = st.tuples(
    st.just("add"),
    st.integers(0, 3),
    st.sampled_from(BRANCHES),
    st.one_of(st.none(), st.integers(0, 40)),
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES)),
)
deletions = st.tuples(st.just("delete"), st.integers(0, 40))
conditions = st.builds(
    Condition, key=st.sampled_from(KEYS), value=st.sampled_from(VALUES),
    operator=st.sampled_from(("EQUALS_TO", "EXISTS", "NOT_EXISTS")),
)  # fmt: skip
filters = st.builds(
    EventFilter, branch=st.sampled_from(("", *BRANCHES, "unknown")), parents=st.booleans(),
    metadata=st.lists(conditions, max_size=2).map(tuple),
)  # fmt: skip


class Said:
    """A log of events, one session of which a model follows."""

    def __init__(self, database: PostgresDatabase) -> None:
        self.memories = FakeMemories()
        self.learning = FakeLearning()
        self.log = EventLog(database, memories=self.memories, learning=self.learning)
        self.tenant = str(secrets.randbelow(9 * 10**11) + 10**11)
        self.memory: Memory = self.memories.make(self.tenant)
        self.session = (self.memory.id, "ann", "s-1")
        self.model = Model()
        self.ever: list[Told] = []

    async def add(
        self, second: int, branch: str, root: int | None, metadata: Mapping[str, str]
    ) -> None:
        """`root` counts through all events that there ever were: some are gone."""
        told = None if root is None or not self.ever else self.ever[root % len(self.ever)]
        asked = NewEvent(
            memory_id=self.memory.id, actor_id="ann", session_id="s-1", payload=[{"blob": second}],
            at=NOON + timedelta(seconds=second), branch=branch, metadata=metadata,
            root_event_id="" if told is None else told.id,
        )  # fmt: skip
        if self.model.may_branch(branch, told):
            event = await self.log.create(self.tenant, asked)
            self.model.add(event.id, second, branch, told, metadata)
            self.ever.append(self.model.events[-1])
        else:
            with pytest.raises(ValidationFailed, match="branch"):
                await self.log.create(self.tenant, asked)

    async def delete(self, number: int) -> None:
        if self.model.events:
            told = self.model.events.pop(number % len(self.model.events))
            await self.log.delete(self.tenant, *self.session, told.id)

    async def listed(self, what: EventFilter, size: int) -> list[str]:
        """Through all pages. Each but the last is full."""
        found: list[str] = []
        token = None
        while True:
            page = await self.log.page(self.tenant, *self.session, what, limit=size, token=token)
            found += [event.id for event in page.items]
            token = page.next_token
            if token is None:
                return found
            assert len(page.items) == size


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    history=st.lists(st.one_of(additions, additions, additions, deletions), max_size=25),
    asked=st.lists(st.tuples(filters, st.integers(1, 7)), min_size=1, max_size=8),
)
async def test_lists_are_what_a_simple_model_says(
    database: PostgresDatabase, history: list[Any], asked: list[tuple[EventFilter, int]]
) -> None:
    said = Said(database)
    for act, *arguments in history:
        await getattr(said, act)(*arguments)
    for what, size in asked:
        assert await said.listed(what, size) == said.model.listed(what)
    everything = await said.log.of_session(said.tenant, *said.session, limit=1000)
    assert [event.id for event in everything] == said.model.listed(EventFilter())[::-1]
    assert len(said.learning.heard) == len(said.ever)
    gone = {told.id for told in said.ever} - {told.id for told in said.model.events}
    assert set(said.learning.unheard_ids) == gone


@settings(max_examples=25, deadline=None)
@given(seconds=st.lists(st.integers(0, 20), min_size=3, max_size=15), size=st.integers(1, 4))
async def test_pages_hold_what_was_there_in_order_while_more_is_said(
    database: PostgresDatabase, seconds: list[int], size: int
) -> None:
    said = Said(database)
    half = len(seconds) // 2
    for second in seconds[:half]:
        await said.add(second, "main", None, {})
    before = said.model.listed(EventFilter())
    rest, seen, token = list(seconds[half:]), [], None
    while True:
        page = await said.log.page(
            said.tenant, *said.session, EventFilter(), limit=size, token=token
        )
        seen += [event.id for event in page.items]
        token = page.next_token
        if token is None:
            break
        if rest:
            await said.add(rest.pop(), "main", None, {})
    everything = said.model.listed(EventFilter())
    assert [id for id in seen if id in before] == before
    assert seen == [id for id in everything if id in seen], "in order, each once"


async def test_what_is_said_later_never_comes_before_a_root_that_is_gone(
    database: PostgresDatabase,
) -> None:
    whole = EventFilter(branch="a", parents=True)
    for _ in range(8):
        said = Said(database)
        await said.add(0, "main", None, {})
        await said.add(0, "a", 0, {})
        await said.delete(0)
        await said.delete(0)
        await said.add(0, "main", None, {})
        assert await said.listed(whole, 5) == []


# -- how they are found


LARGE, SMALL_SESSIONS, EVENTS_EACH, CROWD = 10_000, 380, 100, 2_000


@pytest.fixture(scope="module")
async def filled(database: PostgresDatabase) -> AsyncIterator[str]:
    """A memory of 50,000 events: one large session, many of 100 events, of 40 actors, and
    one actor, "crowd", with 2,000 sessions of a single event."""
    tenant = str(secrets.randbelow(9 * 10**11) + 10**11)
    now = datetime.now(UTC)
    async with database.transaction() as connection:
        cursor = connection.cursor()
        async with cursor.copy(
            "COPY memory_events (tenant, memory_id, id, thread, actor_id, session_id, branch,"
            " root_event_id, at, created_at, expires_at, metadata, extract, variables, payload,"
            " payload_bytes, token, request) FROM STDIN"
        ) as copy:
            for session, actor, number in _places():
                branch = "main" if number % 50 else "side"
                await copy.write_row((
                    tenant, "full-0123456789", f"{number:015d}#{secrets.token_hex(4)}",
                    thread_of(tenant, "full-0123456789", actor, session), actor, session, branch,
                    "", now, now, now + timedelta(days=number + 1),
                    "{}" if number % 50 else '{"k": "v"}', True, "{}",
                    '[{"blob": "x"}]', 15, uuid.uuid4(), uuid.uuid4(),
                ))  # fmt: skip
        await connection.execute(
            "INSERT INTO memory_sessions (tenant, thread, memory_id, actor_id, session_id,"
            " created_at) SELECT DISTINCT tenant, thread, memory_id, actor_id, session_id,"
            " created_at FROM memory_events WHERE tenant = %s",
            (tenant,),
        )
    async with database.connection() as connection:
        await connection.execute("ANALYZE memory_events, memory_sessions")
        yield tenant
        for table in ("memory_events", "memory_sessions"):
            await connection.execute(f"DELETE FROM {table} WHERE tenant = %s", (tenant,))


def _places() -> Any:
    for number in range(LARGE):
        yield "large", "actor-0", number
    for session in range(SMALL_SESSIONS):
        for number in range(EVENTS_EACH):
            yield f"s-{session}", f"actor-{session % 40}", number
    for session in range(CROWD):
        yield f"short-{session}", "crowd", session % EVENTS_EACH


async def explained(
    database: PostgresDatabase, statement: str, values: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The nodes of the plan as it ran."""
    async with database.connection() as connection:
        rows = await connection.execute(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}".encode(), values
        )
        ((plans,),) = await rows.fetchall()

    def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
        return [plan, *(node for child in plan.get("Plans", ()) for node in nodes(child))]

    found: list[dict[str, Any]] = nodes(plans[0]["Plan"])
    return found


def rows_read(plan: list[dict[str, Any]]) -> int:
    scans = [node for node in plan if "Relation Name" in node]
    assert all(node["Node Type"] != "Seq Scan" for node in scans), plan
    return int(
        sum(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            for node in scans
        )
    )


@pytest.mark.parametrize("session", ["large", "s-40"])
@pytest.mark.parametrize(
    "what",
    [
        EventFilter(),
        EventFilter(branch="main"),
        EventFilter(branch="side"),
        EventFilter(metadata=(Condition(key="k", operator="EQUALS_TO", value="v"),)),
    ],
)
async def test_a_list_reads_little_more_than_it_shows(
    database: PostgresDatabase, filled: str, session: str, what: EventFilter
) -> None:
    thread = thread_of(filled, "full-0123456789", "actor-0", session)
    statement, values = event_sql.newest(filled, thread, what, None, payloads=True)
    values |= {"now": datetime.now(UTC), "before": "~", "limit": 21}
    plan = await explained(database, statement, values)
    names = {node["Index Name"] for node in plan if "Index Name" in node}
    assert "memory_events_pkey" not in names
    if session == "large":
        suits = "branch" if what.branch == "side" else "labelled" if what.metadata else "thread"
        assert f"memory_events_{suits}" in names
        assert rows_read(plan) <= 2 * 21 + 5


async def test_sessions_actors_and_tokens_are_found_by_their_indexes(
    database: PostgresDatabase, filled: str
) -> None:
    common = {
        "tenant": filled, "memory_id": "full-0123456789", "actor_id": "crowd", "limit": 5,
        "now": datetime.now(UTC), "after": "", "token": uuid.uuid4(),
    }  # fmt: skip
    plan = await explained(database, event_sql.sessions(later=False, with_events=True), common)
    assert rows_read(plan) <= 20
    assert rows_read(await explained(database, event_sql.ACTORS, common)) <= 30
    assert rows_read(await explained(database, event_sql.BY_TOKEN, common)) == 0
    thread = thread_of(filled, "full-0123456789", "actor-0", "large")
    entry = {
        **common, "actor_id": "actor-0", "session_id": "large", "lock": 1, "thread": thread,
        "actor_lock": 2, "moment": f"{99:015d}#", "next": f"{99:015d}~",
    }  # fmt: skip
    assert rows_read(await explained(database, event_sql.ENTER, entry)) == 1


async def test_what_expired_is_found_by_its_index(database: PostgresDatabase, filled: str) -> None:
    """What is to go, of the oldest hundred: not by a walk through the rest."""
    now = datetime.now(UTC) + timedelta(days=2)
    async with database.connection() as connection:
        rows = await connection.execute(
            f"EXPLAIN (FORMAT JSON) {event_sql.EXPIRE}".encode(), {"now": now, "limit": 100}
        )
        ((plans,),) = await rows.fetchall()
    text = msgspec.json.encode(plans).decode()
    assert "memory_events_expiry" in text
    assert "Seq Scan" not in text


async def test_a_batch_of_an_erasure_is_bounded_by_bytes_too(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_sql, "PAGE_BYTES_MAX", 25)
    said = Said(database)
    for second in range(5):
        await said.add(second, "main", None, {})  # [{"blob":0}]: 12 bytes
    thread = thread_of(said.tenant, *said.session)
    store = EventStore()
    sizes = []
    for _ in range(3):
        async with database.transaction() as connection:
            sizes.append(len(await store.take_batch(connection, said.tenant, thread, limit=100)))
    assert sizes == [3, 2, 0]


# -- at the same time, and after a crash


async def test_no_event_is_ever_left_without_its_session(database: PostgresDatabase) -> None:
    """Some say more to a session while others erase it and what is empty is swept away."""
    said = Said(database)
    ahead = EventExpiry(database, now=lambda: datetime.now(UTC) + timedelta(days=2))
    asked = NewEvent(
        memory_id=said.memory.id, actor_id="ann", session_id="s-1", at=NOON, payload=[]
    )

    async def say() -> None:
        for _ in range(25):
            await said.log.create(said.tenant, asked)

    async def erase() -> None:
        for _ in range(15):
            await said.log.erase(said.tenant, said.memory.id, "ann", "s-1")

    async def sweep() -> None:
        for _ in range(15):
            await ahead.sweep()

    async with asyncio.timeout(60):
        await asyncio.gather(say(), say(), say(), erase(), sweep())
        await said.log.create(said.tenant, asked)
    async with database.connection() as connection:
        rows = await connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE NOT EXISTS ("
            " SELECT FROM memory_sessions s WHERE s.tenant = e.tenant AND s.thread = e.thread))"
            " FROM memory_events e WHERE tenant = %s",
            (said.tenant,),
        )
        counted = await rows.fetchone()
    assert counted is not None
    there, lost = counted
    told = sum(len(batch) for batch in said.learning.unheard)
    assert (lost, there) == (0, len(said.learning.heard) - told)
    assert there > 0


async def test_two_who_take_the_last_events_leave_an_empty_session(
    database: PostgresDatabase,
) -> None:
    said = Said(database)
    for _ in range(10):
        for second in (1, 2):
            await said.add(second, "main", None, {})
        ids = [told.id for told in said.model.events]
        said.model.events.clear()
        await asyncio.gather(
            *(said.log.delete(said.tenant, *said.session, event_id) for event_id in ids)
        )
        async with database.connection() as connection:
            rows = await connection.execute(
                "UPDATE memory_sessions SET empty_since = NULL"
                " WHERE tenant = %s AND empty_since IS NOT NULL",
                (said.tenant,),
            )
            assert rows.rowcount == 1


@pytest.mark.slow
async def test_what_was_acknowledged_is_there_once_after_kill_9(open_directory: Path) -> None:
    """The server is killed while others write, and try again with their token until they are told:
    each event is there, once, in its session."""
    user = "nobody" if os.geteuid() == 0 else None
    server = EmbeddedPostgres(open_directory / "memory-killed", user=user)
    dsn = await server.start()
    components = components_under(Path(freehold.__file__).parent)
    await migrate(dsn, [each for each in components if each[0] in ("postgres", "memory")])
    database = PostgresDatabase(dsn, pool_size_max=6, wait_seconds_max=10)
    await database.start()
    said = Said(database)
    acknowledged: list[str] = []
    some, stop = asyncio.Event(), asyncio.Event()

    async def write(writer: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            asked = NewEvent(
                memory_id=said.memory.id, actor_id="ann", session_id=f"s-{writer}-{number % 3}",
                at=NOON, payload=[{"blob": [writer, number]}], client_token=f"{writer}-{number}",
            )  # fmt: skip
            while True:
                with contextlib.suppress(Unavailable):
                    acknowledged.append((await said.log.create(said.tenant, asked)).id)
                    break
            some.set()

    async def kill() -> None:
        for _ in range(2):
            some.clear()
            await some.wait()
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await server.wait()
            assert await server.start() == dsn
        some.clear()
        await some.wait()
        stop.set()

    async with asyncio.timeout(60):
        await asyncio.gather(kill(), *(write(writer) for writer in range(4)))
    stored = []
    sessions = await said.log.sessions(said.tenant, said.memory.id, "ann", limit=100)
    for session in sessions.items:
        stored += await said.log.of_session(
            said.tenant, said.memory.id, "ann", session.session_id, limit=10_000
        )
    await database.close()
    await server.stop()
    assert sorted(event.id for event in stored) == sorted(acknowledged)
    assert len({tuple(event.payload[0]["blob"]) for event in stored}) == len(stored) > 3
