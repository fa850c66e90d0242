"""Raw turns: what was said is found as it was said, where a memory has it so."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from record_ground import OfMemory, RecordGround, draft

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.errors import Unavailable
from freehold.services.memory.events import NewEvent
from freehold.services.memory.model import Source
from freehold.services.memory.ports import Where
from freehold.services.memory.turns import BATCH, FILL_JOB, source_of, turn_id

OF_ANNA = "/turns/actors/anna/sessions/s1/"


@pytest.fixture(scope="module")
async def ground(
    database: PostgresDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RecordGround]:
    async with RecordGround(database, tmp_path_factory.mktemp("turns"), "turns").open() as opened:
        yield opened


@pytest.fixture
def mine(ground: RecordGround, tenant: str) -> OfMemory:
    return ground.of(ground.memory(tenant, turns=True))


@pytest.fixture
def silent(ground: RecordGround, tenant: str) -> OfMemory:
    """A memory without turns, yet."""
    return ground.of(ground.memory(tenant))


async def test_what_was_said_is_found_beside_records(mine: OfMemory) -> None:
    event = await mine.say("I adopted a cat", "His name is Milo")
    await mine.create(draft("1", "Anna has a cat"))
    everywhere = await mine.found("cat", namespacePath="/")
    assert set(everywhere[:2]) == {"I adopted a cat", "Anna has a cat"}
    turns = await mine.found("cat", {"memoryStrategyId": "turns"}, namespacePath="/")
    assert turns[0] == "I adopted a cat"
    assert "Anna has a cat" not in turns
    answer = await mine.retrieve_memory_records(
        namespace=OF_ANNA, searchCriteria={"searchQuery": "Milo", "topK": 1}
    )
    [found] = answer["memoryRecordSummaries"]
    assert found["content"]["text"] == "His name is Milo"
    assert found["memoryRecordId"] == turn_id(event, 1)
    assert found["memoryStrategyId"] == "turns"
    assert found["namespaces"] == [OF_ANNA]
    assert found["metadata"]["freehold:eventId"] == {"stringValue": event}
    assert found["metadata"]["freehold:role"] == {"stringValue": "USER"}
    assert 0 < found["score"] <= 1


async def test_a_turn_is_there_by_its_id_and_cannot_be_changed_or_deleted(mine: OfMemory) -> None:
    event = await mine.say("I adopted a cat")
    id = turn_id(event, 0)
    assert 40 <= len(id) <= 50
    found = (await mine.get_memory_record(memoryRecordId=id, namespace=OF_ANNA))["memoryRecord"]
    assert found["content"] == {"text": "I adopted a cat"}
    with pytest.raises(ClientError, match="DeleteEvent"):
        await mine.delete_memory_record(memoryRecordId=id)
    deleted = await mine.batch_delete_memory_records(records=[{"memoryRecordId": id}])
    assert "DeleteEvent" in deleted["failedRecords"][0]["errorMessage"]
    changed = await mine.batch_update_memory_records(
        records=[{"memoryRecordId": id, "timestamp": datetime.now(UTC)}]
    )
    assert "does not change" in changed["failedRecords"][0]["errorMessage"]
    for absent in (turn_id(event, 1), turn_id("000000000000001#00000001", 0)):
        with pytest.raises(ClientError) as caught:
            await mine.get_memory_record(memoryRecordId=absent)
        assert caught.value.response["Error"]["Code"] == "ResourceNotFoundException"


@given(
    moment=st.integers(0, 10**15 - 1),
    arrival=st.integers(0, 2**32 - 1),
    index=st.integers(0, 99),
)
def test_a_turns_id_says_which_message_it_is(moment: int, arrival: int, index: int) -> None:
    event = f"{moment:015d}#{arrival:08x}"
    assert source_of(turn_id(event, index)) == Source(event_id=event, index=index)


def test_a_records_id_is_no_turns() -> None:
    assert source_of("mem-9f2c55b8-13a5-5c67-8a11-0a2f1f1d7b1c") is None


async def test_turns_are_listed_page_by_page_with_records(mine: OfMemory) -> None:
    start = datetime.now(UTC) - timedelta(hours=1)
    for n in range(6):
        await mine.say(f"turn {n}", eventTimestamp=start + timedelta(minutes=n))
    await mine.say("elsewhere", session="s2")
    await mine.create(draft("1", "a record"))
    assert await mine.listed(namespace=OF_ANNA) == [f"turn {n}" for n in range(5, -1, -1)]
    assert len(await mine.listed(namespacePath="/turns/actors/anna/")) == 7
    seen: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = await mine.list_memory_records(namespacePath="/", maxResults=3, **token)
        seen += [item["content"]["text"] for item in page["memoryRecordSummaries"]]
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert sorted(seen) == sorted([f"turn {n}" for n in range(6)] + ["elsewhere", "a record"])
    chosen = {"namespacePath": "/", "memoryStrategyId": "turns"}
    assert len(await mine.listed(**chosen)) == 7


async def test_turns_are_chosen_by_the_metadata_of_their_events(mine: OfMemory) -> None:
    await mine.say("a cat here", metadata={"place": {"stringValue": "home"}})
    await mine.say("a cat there", role="ASSISTANT")
    at_home = {
        "metadataFilters": [
            {
                "left": {"metadataKey": "place"}, "operator": "EQUALS_TO",
                "right": {"metadataValue": {"stringValue": "home"}},
            }
        ]
    }  # fmt: skip
    assert await mine.found("cat", at_home, namespacePath="/") == ["a cat here"]
    assert await mine.listed(namespacePath="/", **at_home) == ["a cat here"]
    by_role = {
        "metadataFilters": [
            {
                "left": {"metadataKey": "freehold:role"}, "operator": "EQUALS_TO",
                "right": {"metadataValue": {"stringValue": "ASSISTANT"}},
            }
        ]
    }  # fmt: skip
    assert await mine.found("cat", by_role, namespacePath="/") == ["a cat there"]


async def test_a_long_turn_is_searched_whole_and_shown_as_long_as_the_api_has_it(
    mine: OfMemory,
) -> None:
    event = await mine.say("long " * 5000 + "submarine")
    [shown] = await mine.found("submarine", namespacePath="/")
    assert shown == ("long " * 5000)[:16_000]
    whole = await mine.get_event(actorId="anna", sessionId="s1", eventId=event)
    text = whole["event"]["payload"][0]["conversational"]["content"]["text"]
    assert text.endswith("submarine")


async def test_what_has_no_words_is_no_turn(mine: OfMemory) -> None:
    nothing = {"conversational": {"role": "USER", "content": {"text": " "}}}
    await mine.create_event(
        actorId="anna", sessionId="s1", eventTimestamp=datetime.now(UTC),
        payload=[{"blob": {"a": 1}}, nothing],
    )  # fmt: skip
    assert await mine.listed(namespacePath="/") == []


async def test_a_deleted_event_takes_its_turns_along(ground: RecordGround, mine: OfMemory) -> None:
    event = await mine.say("I adopted a cat", "His name is Milo")
    await mine.say("It rains")
    await mine.delete_event(actorId="anna", sessionId="s1", eventId=event)
    assert await mine.listed(namespacePath="/") == ["It rains"]
    assert await ground.index.search(mine.memory, Where(path="/"), "cat Milo", 10) == []


async def test_turns_expire_with_their_events_and_are_swept(
    ground: RecordGround, mine: OfMemory
) -> None:
    await mine.say("I adopted a cat")
    ground.clock.ahead = timedelta(days=31)
    try:
        assert await mine.listed(namespacePath="/") == []
        assert await mine.found("cat", namespacePath="/") == []
        await ground.expiry_of_records.sweep()
    finally:
        ground.clock.ahead = timedelta()
    assert await ground.index.search(mine.memory, Where(path="/"), "cat", 10) == []


async def test_turns_of_an_old_memory_are_filled_in_and_taken_out_again(
    ground: RecordGround, silent: OfMemory
) -> None:
    event = await silent.say("I adopted a cat")
    assert await silent.found("cat", namespacePath="/") == []
    silent.memory = await ground.switched(silent.memory, on=True)
    assert await silent.found("cat", namespacePath="/") == ["I adopted a cat"]
    silent.memory = await ground.switched(silent.memory, on=False)
    assert await silent.found("cat", namespacePath="/") == []
    assert await silent.listed(namespacePath="/") == []
    assert await ground.index.search(silent.memory, Where(path="/"), "cat", 10) == []
    with pytest.raises(ClientError):
        await silent.get_memory_record(memoryRecordId=turn_id(event, 0))
    silent.memory = await ground.switched(silent.memory, on=True)
    assert await silent.found("cat", namespacePath="/") == ["I adopted a cat"]


async def test_turns_that_were_never_on_need_no_job(ground: RecordGround, silent: OfMemory) -> None:
    await silent.say("I adopted a cat")
    await ground.switched(silent.memory, on=False)
    assert await ground.jobs.get(f"{FILL_JOB}:{silent.memory.tenant}:{silent.memory.id}:1") is None


async def test_turns_that_were_on_from_the_beginning_are_taken_out_too(
    ground: RecordGround, mine: OfMemory
) -> None:
    await mine.say("I adopted a cat")
    mine.memory = await ground.switched(mine.memory, on=False)
    assert await ground.index.search(mine.memory, Where(path="/"), "cat", 10) == []


async def test_filling_in_goes_on_where_many_events_are_and_repeated_does_no_more(
    ground: RecordGround, silent: OfMemory
) -> None:
    said = 2 * BATCH + 1
    texts = [f"turn {n}" for n in range(said)]
    for start in range(0, said, 100):
        await silent.say(*texts[start : start + 100])
    for n in range(said):
        await ground.events.create(silent.memory.tenant, spoken(silent, f"single {n}"))
    silent.memory = await ground.switched(silent.memory, on=True)
    assert await count(ground, silent) == 2 * said
    payload = {"tenant": silent.memory.tenant, "memory": silent.memory.id, "generation": 1}
    await ground.turns.work(payload)
    assert await count(ground, silent) == 2 * said
    assert len(await ground.index.search(silent.memory, Where(path="/"), "single", 500)) == said


async def test_filling_in_that_fails_in_the_middle_is_finished_by_the_next_run(
    ground: RecordGround, silent: OfMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = 2 * BATCH + 1
    for n in range(said):
        await ground.events.create(silent.memory.tenant, spoken(silent, f"single {n}"))
    put, puts = ground.index.put, list[int]()

    async def failing_once(connection: Any, memory: Any, units: Any) -> None:
        puts.append(len(units))
        await put(connection, memory, units)
        if len(puts) == 2:
            raise Unavailable("the server went away")

    monkeypatch.setattr(ground.index, "put", failing_once)
    silent.memory = await ground.switched(silent.memory, on=True)
    assert puts == [BATCH, BATCH, 0, BATCH, 1], "what is there is left as it is"
    assert await count(ground, silent) == said
    assert len(await ground.index.search(silent.memory, Where(path="/"), "single", 500)) == said


async def test_what_is_said_and_deleted_while_turns_are_filled_in_is_as_it_should_be(
    ground: RecordGround, silent: OfMemory
) -> None:
    events = [await silent.say(f"turn {n}") for n in range(20)]
    on = silent.memory = ground.change(silent.memory, turns=True)

    async def delete() -> None:
        for event in events[::2]:
            await silent.delete_event(actorId="anna", sessionId="s1", eventId=event)

    async def say() -> None:
        for n in range(5):
            await silent.say(f"more {n}")

    await asyncio.gather(ground.switched(on, on=True), delete(), say())
    expected = [f"turn {n}" for n in range(1, 20, 2)] + [f"more {n}" for n in range(5)]
    assert sorted(await silent.listed(namespacePath="/", maxResults=100)) == sorted(expected)
    hits = await ground.index.search(on, Where(path="/"), "turn more", 100)
    assert len(hits) == len(expected)


async def test_a_switch_whose_job_was_lost_is_taken_up_and_an_older_job_does_nothing(
    ground: RecordGround, silent: OfMemory
) -> None:
    await silent.say("I adopted a cat")
    tenant, memory_id = silent.memory.tenant, silent.memory.id
    async with ground.database.connection() as connection:
        await connection.execute(
            "INSERT INTO memory_turn_switches (tenant, memory_id, turns, generation)"
            " VALUES (%s, %s, true, 7)",
            (tenant, memory_id),
        )
    silent.memory = ground.change(silent.memory, turns=True)
    await ground.turns.work({"tenant": tenant, "memory": memory_id, "generation": 6})
    assert await silent.found("cat", namespacePath="/") == []
    await ground.turns.take_up()
    job = f"{FILL_JOB}:{tenant}:{memory_id}:7"

    async def done() -> bool:
        found = await ground.jobs.get(job)
        return found is not None and found.state == "done"

    await ground.until(done)
    assert await silent.found("cat", namespacePath="/") == ["I adopted a cat"]


async def test_no_tenant_finds_the_turns_of_another(ground: RecordGround, mine: OfMemory) -> None:
    event = await mine.say("I adopted a cat")
    theirs = ground.of(ground.memory("109876543210", turns=True))
    assert await theirs.found("cat", namespacePath="/") == []
    assert await theirs.listed(namespacePath="/") == []
    with pytest.raises(ClientError) as caught:
        await theirs.get_memory_record(memoryRecordId=turn_id(event, 0))
    assert caught.value.response["Error"]["Code"] == "ResourceNotFoundException"


async def test_nothing_is_left_of_a_deleted_memory(ground: RecordGround, mine: OfMemory) -> None:
    await mine.say("I adopted a cat")
    await ground.turns.clear(mine.memory.tenant, mine.memory.id)
    assert await count(ground, mine) == 0


def spoken(of: OfMemory, text: str) -> NewEvent:
    return NewEvent(
        memory_id=of.memory.id, actor_id="anna", session_id="s2", at=datetime.now(UTC),
        payload=[{"conversational": {"role": "USER", "content": {"text": text}}}],
    )  # fmt: skip


async def count(ground: RecordGround, of: OfMemory) -> int:
    """All turns, through every page."""
    found, after = 0, None
    while True:
        page = await ground.turns.page(of.memory, Where(path="/turns/"), after=after, limit=100)
        found += len(page)
        if len(page) < 100:
            return found
        after = page[-1][0]
