"""What somebody finds who knows AgentCore well and looks for what is wrong."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from record_ground import NoEmbedder, OfMemory, RecordGround, draft

from freehold.adapters.jobs.postgres import PostgresJobs
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.ports.database import Connection
from freehold.services.memory.event_sql import PAGE_BYTES_MAX
from freehold.services.memory.event_store import EventStore
from freehold.services.memory.index.service import MemoryIndex
from freehold.services.memory.model import Memory, Source
from freehold.services.memory.ports import Unit
from freehold.services.memory.turns import BATCH, Turns, turn_id

OF_ANNA = {"actorId": "anna", "sessionId": "s1"}


@pytest.fixture(scope="module")
async def ground(
    database: PostgresDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RecordGround]:
    state = tmp_path_factory.mktemp("outsider")
    async with RecordGround(database, state, "outsider").open() as opened:
        yield opened


@pytest.fixture
def mine(ground: RecordGround, tenant: str) -> OfMemory:
    return ground.of(ground.memory(tenant))


async def code(asked: Any) -> str:
    with pytest.raises(ClientError) as caught:
        await asked
    return str(caught.value.response["Error"]["Code"])


# -- tokens of pages


async def test_a_token_is_good_for_its_own_list_alone(ground: RecordGround, mine: OfMemory) -> None:
    """Where it was taken for a place in another list, that began in the middle, and nobody knew."""
    for actor in ("anna", "ben"):
        for session in ("s1", "s2"):
            for n in range(2):
                await mine.say(str(n), actor=actor, session=session)
    other = ground.of(ground.memory(mine.memory.tenant))
    for n in range(2):
        await other.say(str(n))
    events = (await mine.list_events(**OF_ANNA, maxResults=1))["nextToken"]
    sessions = (await mine.list_sessions(actorId="anna", maxResults=1))["nextToken"]
    actors = (await mine.list_actors(maxResults=1))["nextToken"]
    for token in (events, sessions):
        assert await code(mine.list_actors(nextToken=token)) == "ValidationException"
        assert await code(other.list_actors(nextToken=actors)) == "ValidationException"
    for token in (events, actors):
        refused = mine.list_sessions(actorId="anna", nextToken=token)
        assert await code(refused) == "ValidationException"
    for token in (sessions, actors):
        assert await code(mine.list_events(**OF_ANNA, nextToken=token)) == "ValidationException"
    for elsewhere in ({"sessionId": "s2"}, {"actorId": "ben"}):
        refused = mine.list_events(**{**OF_ANNA, **elsewhere}, nextToken=events)
        assert await code(refused) == "ValidationException"
    assert await code(other.list_events(**OF_ANNA, nextToken=events)) == "ValidationException"
    refused = mine.list_sessions(actorId="ben", nextToken=sessions)
    assert await code(refused) == "ValidationException"
    # What does not change where a page begins may change from page to page.
    rest = await mine.list_events(**OF_ANNA, nextToken=events, includePayloads=False)
    assert len(rest["events"]) == 1


async def test_a_token_of_records_is_good_for_its_own_namespace_and_question(
    ground: RecordGround, mine: OfMemory
) -> None:
    other = ground.of(ground.memory(mine.memory.tenant))
    for memory in (mine, other):
        for place in ("/a/", "/b/"):
            await memory.create(*(draft(f"{n}", f"cat {n}", place) for n in range(3)))
    listed = (await mine.list_memory_records(namespace="/b/", maxResults=1))["nextToken"]
    assert len(await mine.listed(namespace="b", nextToken=listed)) == 2
    elsewhere: list[dict[str, Any]] = [
        {"namespace": "/a/"}, {"namespacePath": "/b/"}, {"namespacePath": "/"},
    ]  # fmt: skip
    for change in elsewhere:
        assert await code(mine.listed(**change, nextToken=listed)) == "ValidationException"
    assert await code(other.listed(namespace="/b/", nextToken=listed)) == "ValidationException"

    asked: dict[str, Any] = {
        "searchCriteria": {"searchQuery": "cat", "topK": 3}, "namespace": "/a/",
    }  # fmt: skip
    searched = (await mine.retrieve_memory_records(**asked, maxResults=1))["nextToken"]
    rest = await mine.retrieve_memory_records(**asked, nextToken=searched)
    assert len(rest["memoryRecordSummaries"]) == 2
    changes: list[dict[str, Any]] = [
        {"searchCriteria": {"searchQuery": "dog", "topK": 3}},
        {"searchCriteria": {"searchQuery": "cat", "topK": 2}},
        {"namespace": "/b/"},
    ]
    for change in changes:
        refused = mine.retrieve_memory_records(**{**asked, **change}, nextToken=searched)
        assert await code(refused) == "ValidationException"
    refused = other.retrieve_memory_records(**asked, nextToken=searched)
    assert await code(refused) == "ValidationException"
    assert await code(mine.listed(namespace="/a/", nextToken=searched)) == "ValidationException"


async def test_an_empty_token_begins_at_the_beginning_everywhere(mine: OfMemory) -> None:
    await mine.say("hello")
    await mine.create(draft("1", "a cat", "/a/"))
    assert len((await mine.list_events(**OF_ANNA, nextToken=""))["events"]) == 1
    assert await mine.listed(namespace="/a/", nextToken="") == ["a cat"]
    assert await mine.found("cat", namespace="/a/", nextToken="") == ["a cat"]


# -- said twice


async def test_what_is_told_again_later_is_the_same_event(mine: OfMemory) -> None:
    """AWS ignores the second one without an error; who tells it again often says "now" again."""
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    first = await mine.say("hello", clientToken="t-1", eventTimestamp=noon)
    again = noon + timedelta(seconds=30)
    assert await mine.say("hello", clientToken="t-1", eventTimestamp=again) == first
    [event] = (await mine.list_events(**OF_ANNA))["events"]
    assert event["eventTimestamp"] == noon
    refused = mine.say("good bye", clientToken="t-1", eventTimestamp=noon)
    assert await code(refused) == "ConflictException"


# -- filters


async def test_the_platforms_own_times_are_compared_with_dates_alone(mine: OfMemory) -> None:
    await mine.create(draft("1", "a cat", "/a/"))
    for key in ("x-amz-agentcore-memory-createdAt", "x-amz-agentcore-memory-updatedAt"):
        for value in ({"stringValue": "2026-01-01"}, {"numberValue": 1.0}):
            wanted = {
                "left": {"metadataKey": key}, "operator": "EQUALS_TO",
                "right": {"metadataValue": value},
            }  # fmt: skip
            refused = mine.listed(namespace="/a/", metadataFilters=[wanted])
            assert await code(refused) == "ValidationException"


# -- words alone


async def test_a_question_about_me_whose_words_nobody_said_finds_nothing(
    ground: RecordGround, tenant: str
) -> None:
    mine = ground.of(ground.memory(tenant, turns=True))
    await mine.say("My puppy is called Rex")
    assert await mine.found("Which vessel do I own?", namespacePath="/turns/") == []


# -- much at once


class CountedIndex(MemoryIndex):
    """Notes how much is put or taken away in one transaction."""

    def __init__(self, database: PostgresDatabase) -> None:
        super().__init__(database, NoEmbedder())
        self.put_together: list[int] = []
        self.removed: list[int] = []

    async def put(self, connection: Connection, memory: Memory, units: Sequence[Unit]) -> None:
        self.put_together.append(len(units))
        await super().put(connection, memory, units)

    async def remove(self, connection: Connection, memory: Memory, ids: Sequence[str]) -> None:
        self.removed.append(len(ids))
        await super().remove(connection, memory, ids)


async def test_turns_are_taken_away_in_batches_though_the_planner_expects_few(
    ground: RecordGround, tenant: str
) -> None:
    memory = ground.memory(tenant, turns=True)
    await _forget_statistics(ground.database, "memory_turns")
    for n in range(6):
        await ground.of(memory).say(*(f"turn {n} {m}" for m in range(BATCH // 2)))
    index = await switched_beside(ground, memory, on=False)
    assert index.removed == [BATCH] * 3


async def test_turns_of_large_events_are_filled_in_a_few_at_a_time(
    ground: RecordGround, tenant: str
) -> None:
    memory = ground.memory(tenant)
    for n in range(5):
        payload = [{"blob": "x" * (PAGE_BYTES_MAX // 4)}, said(f"turn {n}")]
        await ground.of(memory).create_event(
            **OF_ANNA, eventTimestamp=datetime(2026, 3, 2, n, tzinfo=UTC), payload=payload
        )
    index = await switched_beside(ground, memory, on=True)
    assert index.put_together == [4, 1]
    there = ground.of(ground.change(memory, turns=True))
    assert await there.listed(namespacePath="/turns/") == [f"turn {n}" for n in range(4, -1, -1)]


async def test_a_turn_is_read_without_what_stands_beside_it(
    ground: RecordGround, tenant: str
) -> None:
    mine = ground.of(ground.memory(tenant, turns=True))
    payload = [said("first"), {"blob": {"state": [1]}}, said("third"), {"json": {"content": {}}}]
    made = await mine.create_event(**OF_ANNA, eventTimestamp=datetime.now(UTC), payload=payload)
    id = made["event"]["eventId"]
    wanted = [Source(event_id=id, index=index) for index in (2, 0, 1, 7)]
    async with ground.database.connection() as connection:
        found = await EventStore().messages(
            connection, tenant, mine.memory.id, wanted, datetime.now(UTC)
        )
    read = {source.index: list(event.payload) for event, source in found}
    assert read == {0: [payload[0]], 1: [payload[1]], 2: [payload[2]]}
    assert await mine.listed(namespacePath="/turns/") == ["third", "first"]
    third = turn_id(id, 2)
    shown = (await mine.get_memory_record(memoryRecordId=third))["memoryRecord"]
    assert (shown["memoryRecordId"], shown["content"]["text"]) == (third, "third")


async def switched_beside(ground: RecordGround, memory: Memory, *, on: bool) -> CountedIndex:
    """The job of a switch, with an index that counts."""
    index = CountedIndex(ground.database)
    jobs = PostgresJobs(ground.database, executor="counted")
    turns = Turns(ground.database, index, memories=ground.memories, jobs=jobs)
    async with ground.database.connection() as connection:
        await connection.execute(
            "INSERT INTO memory_turn_switches (tenant, memory_id, turns, generation)"
            " VALUES (%s, %s, %s, 7)",
            (memory.tenant, memory.id, on),
        )
    await turns.work({"tenant": memory.tenant, "memory": memory.id, "generation": 7})
    return index


def said(text: str) -> dict[str, Any]:
    return {"conversational": {"role": "USER", "content": {"text": text}}}


async def test_records_are_deleted_without_reading_them_again_for_each(
    ground: RecordGround, mine: OfMemory
) -> None:
    """Where all were locked again for each, a batch took longer with every record there was."""
    await _forget_statistics(ground.database, "memory_records")
    ids = []
    for page in range(4):
        ids += await mine.create(*(draft(f"{page}-{n}", f"cat {n}", "/a/") for n in range(100)))
    async with ground.database.transaction() as connection:
        await ground.records.remove(connection, mine.memory, ids[:100])
        rows = await connection.execute(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables"
            " WHERE relname = 'memory_records'"
        )
        found = await rows.fetchone()
        assert found is not None
        # Of this database there may be records of others.
        rows = await connection.execute("SELECT count(*) FROM memory_records")
        [there] = await rows.fetchone() or [0]
    assert 0 < found[0] < 10 * (there + 100)
    assert len(await mine.listed(namespace="/a/", maxResults=100)) == 100


async def _forget_statistics(database: PostgresDatabase, table: str) -> None:
    """As of a table that nobody has looked at yet. Postgres 17 and older cannot, and often has
    none anyway."""
    async with database.connection() as connection:
        rows = await connection.execute("SELECT to_regproc('pg_clear_relation_stats') IS NULL")
        if await rows.fetchone() == (True,):
            return
        await connection.execute("SELECT pg_clear_relation_stats('public', %s)", (table,))
        await connection.execute(
            "SELECT pg_clear_attribute_stats('public', %(table)s, attname, false) FROM pg_attribute"
            " WHERE attrelid = %(table)s::regclass AND attnum > 0 AND NOT attisdropped",
            {"table": table},
        )
