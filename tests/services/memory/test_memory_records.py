"""Memory records by boto3: batches, one at a time, lists; and where they come from."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from record_ground import AT, FACTS, OfMemory, RecordGround, draft, notice

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.services.memory.ports import Where


@pytest.fixture(scope="module")
async def ground(
    database: PostgresDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RecordGround]:
    state: Path = tmp_path_factory.mktemp("records")
    async with RecordGround(database, state, "records").open() as opened:
        yield opened


@pytest.fixture
def mine(ground: RecordGround, tenant: str) -> OfMemory:
    return ground.of(ground.memory(tenant))


async def refused(code: str, awaitable: object) -> str:
    with pytest.raises(ClientError) as caught:
        await awaitable  # type: ignore[misc]
    assert caught.value.response["Error"]["Code"] == code
    return str(caught.value.response["Error"]["Message"])


# -- making them


async def test_a_record_comes_back_as_it_was_put_there(mine: OfMemory) -> None:
    metadata = {
        "topic": {"stringValue": "billing"},
        "tags": {"stringListValue": ["a", "b"]},
        "cost": {"numberValue": 2.5},
        "due": {"dateTimeValue": datetime(2026, 6, 1, tzinfo=UTC)},
    }
    record = draft("one", "Anna pays by card", memoryStrategyId=FACTS.id, metadata=metadata)
    before = datetime.now(UTC) - timedelta(seconds=1)
    [id] = await mine.create(record)
    found = (await mine.get_memory_record(memoryRecordId=id))["memoryRecord"]
    assert found["createdAt"] >= before
    del found["createdAt"]
    assert found == {
        "memoryRecordId": id, "content": {"text": "Anna pays by card"}, "timestamp": AT,
        "memoryStrategyId": FACTS.id, "namespaces": ["/actors/anna/"], "metadata": metadata,
    }  # fmt: skip


async def test_a_namespace_is_kept_as_written_and_found_however_its_ends_are(
    mine: OfMemory,
) -> None:
    [id] = await mine.create(draft("one", "likes tea", "actors/anna"))
    found = (await mine.get_memory_record(memoryRecordId=id))["memoryRecord"]
    assert found["namespaces"] == ["actors/anna"]
    assert await mine.listed(namespace="/actors/anna/") == ["likes tea"]
    assert await mine.listed(namespace="actors/anna") == ["likes tea"]
    assert await mine.listed(namespacePath="actors") == ["likes tea"]


async def test_one_bad_record_fails_alone(mine: OfMemory) -> None:
    made = await mine.batch_create_memory_records(
        records=[
            draft("good", "likes tea"),
            draft("no-such-strategy", "x", memoryStrategyId="other-0123456789"),
            {**draft("nowhere", "x"), "namespaces": []},
            draft("turns", "x", "/turns/actors/anna/sessions/s1/"),
            draft("good", "again"),
            draft("own-key", "x", metadata={"x-amz-agentcore-memory-a": {"stringValue": "b"}}),
        ]
    )
    good, *rest = made["successfulRecords"]
    assert rest == []
    assert (good["requestIdentifier"], good["status"]) == ("good", "SUCCEEDED")
    failed = {item["requestIdentifier"]: item for item in made["failedRecords"]}
    assert failed.keys() == {"no-such-strategy", "nowhere", "turns", "good", "own-key"}
    assert {(item["status"], item["errorCode"]) for item in failed.values()} == {("FAILED", 400)}
    assert FACTS.id in failed["no-such-strategy"]["errorMessage"]
    assert "namespaces" in failed["nowhere"]["errorMessage"]
    assert "twice" in failed["good"]["errorMessage"]
    assert await mine.listed(namespacePath="/") == ["likes tea"]


async def test_the_same_client_token_makes_no_second_record(mine: OfMemory) -> None:
    token = str(uuid.uuid4())
    first = await mine.create(draft("a", "likes tea"), draft("b", "has a cat"), clientToken=token)
    again = await mine.create(draft("a", "likes tea"), draft("b", "has a cat"), clientToken=token)
    assert again == first
    other = await mine.batch_create_memory_records(
        records=[draft("a", "likes coffee")], clientToken=token
    )
    assert other["successfulRecords"] == []
    assert [item["errorCode"] for item in other["failedRecords"]] == [409]
    assert sorted(await mine.listed(namespacePath="/")) == ["has a cat", "likes tea"]


async def test_the_same_client_token_twice_at_once_makes_one_record_each(mine: OfMemory) -> None:
    drafts = [draft(f"r{n}", f"fact {n}") for n in range(30)]
    token = str(uuid.uuid4())
    one, two = await asyncio.gather(
        mine.create(*drafts, clientToken=token), mine.create(*drafts, clientToken=token)
    )
    assert one == two
    assert len(await mine.listed(namespacePath="/", maxResults=100)) == 30


async def test_a_hundred_in_one_batch_are_listed_page_by_page(mine: OfMemory) -> None:
    await mine.create(*(draft(f"r{n}", f"fact {n}") for n in range(100)))
    seen: list[str] = []
    token: dict[str, str] = {}
    pages = 0
    while True:
        page = await mine.list_memory_records(namespace="/actors/anna/", maxResults=30, **token)
        seen += [item["content"]["text"] for item in page["memoryRecordSummaries"]]
        pages += 1
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert sorted(seen) == sorted(f"fact {n}" for n in range(100))
    assert pages == 4
    assert len(await mine.listed(namespace="/actors/anna/")) == 20
    message = await refused(
        "ValidationException",
        mine.list_memory_records(namespace="/actors/anna/", nextToken="bm9uc2Vuc2U"),
    )
    assert "nextToken" in message


# -- changing and deleting them


async def test_an_update_changes_what_it_names_and_nothing_else(mine: OfMemory) -> None:
    metadata = {"topic": {"stringValue": "drinks"}}
    [id] = await mine.create(
        draft("one", "likes tea", memoryStrategyId=FACTS.id, metadata=metadata)
    )
    before = (await mine.get_memory_record(memoryRecordId=id))["memoryRecord"]
    later = AT + timedelta(days=1)
    made = await mine.batch_update_memory_records(
        records=[{"memoryRecordId": id, "timestamp": later, "content": {"text": "likes coffee"}}]
    )
    assert [item["memoryRecordId"] for item in made["successfulRecords"]] == [id]
    after = (await mine.get_memory_record(memoryRecordId=id))["memoryRecord"]
    assert after == {**before, "content": {"text": "likes coffee"}, "timestamp": later}
    assert await mine.found("coffee", namespacePath="/") == ["likes coffee"]
    assert await mine.found("tea", namespacePath="/") == []


async def test_a_record_moves_to_another_namespace(mine: OfMemory) -> None:
    [id] = await mine.create(draft("one", "likes tea"))
    change = {"memoryRecordId": id, "timestamp": AT, "namespaces": ["/actors/ben/"]}
    wrong = await mine.batch_update_memory_records(
        records=[{**change, "sourceNamespaces": ["/actors/carl/"]}]
    )
    assert [item["errorCode"] for item in wrong["failedRecords"]] == [404]
    right = await mine.batch_update_memory_records(
        records=[{**change, "sourceNamespaces": ["/actors/anna/"]}]
    )
    assert right["failedRecords"] == []
    assert await mine.listed(namespace="/actors/anna/") == []
    assert await mine.listed(namespace="/actors/ben/") == ["likes tea"]
    assert await mine.found("tea", namespace="/actors/anna/") == []
    assert await mine.found("tea", namespace="/actors/ben/") == ["likes tea"]


async def test_each_record_of_an_update_or_a_delete_fails_alone(mine: OfMemory) -> None:
    one, two = await mine.create(draft("one", "likes tea"), draft("two", "has a cat"))
    absent = f"mem-{uuid.uuid4()}"
    change = {"timestamp": AT, "content": {"text": "new"}}
    updated = await mine.batch_update_memory_records(
        records=[
            {"memoryRecordId": absent, **change},
            {"memoryRecordId": one, **change},
            {"memoryRecordId": one, **change},
            {"memoryRecordId": two, "timestamp": AT, "memoryStrategyId": "other-0123456789"},
        ]
    )
    assert [item["memoryRecordId"] for item in updated["successfulRecords"]] == [one]
    failed = {(item["memoryRecordId"], item["errorCode"]) for item in updated["failedRecords"]}
    assert failed == {(absent, 404), (one, 409), (two, 400)}
    deleted = await mine.batch_delete_memory_records(
        records=[
            {"memoryRecordId": absent},
            {"memoryRecordId": one},
            {"memoryRecordId": two, "namespace": "/actors/ben/"},
        ]
    )
    assert [item["memoryRecordId"] for item in deleted["successfulRecords"]] == [one]
    failed = {(item["memoryRecordId"], item["errorCode"]) for item in deleted["failedRecords"]}
    assert failed == {(absent, 404), (two, 404)}
    assert await mine.listed(namespacePath="/") == ["has a cat"]


async def test_a_deleted_record_is_neither_there_nor_listed_nor_found(mine: OfMemory) -> None:
    [id] = await mine.create(draft("one", "likes tea"))
    await refused(
        "ResourceNotFoundException",
        mine.delete_memory_record(memoryRecordId=id, namespace="/actors/ben/"),
    )
    deleted = await mine.delete_memory_record(memoryRecordId=id, namespace="actors/anna")
    assert deleted["memoryRecordId"] == id
    await refused("ResourceNotFoundException", mine.get_memory_record(memoryRecordId=id))
    await refused("ResourceNotFoundException", mine.delete_memory_record(memoryRecordId=id))
    assert await mine.listed(namespacePath="/") == []
    assert await mine.found("tea", namespacePath="/") == []


async def test_updates_and_deletes_of_the_same_records_at_once_end_in_one_or_the_other(
    mine: OfMemory,
) -> None:
    ids = await mine.create(*(draft(f"r{n}", f"fact {n}") for n in range(20)))
    update = [{"memoryRecordId": id, "timestamp": AT, "content": {"text": "new"}} for id in ids]
    updated, deleted = await asyncio.gather(
        mine.batch_update_memory_records(records=update),
        mine.batch_delete_memory_records(records=[{"memoryRecordId": id} for id in ids[::-1]]),
    )
    assert deleted["failedRecords"] == []
    ends = {(len(updated["successfulRecords"]), len(updated["failedRecords"]))}
    assert ends <= {(20, 0), (0, 20)}
    assert await mine.listed(namespacePath="/") == []
    assert await mine.found("new", namespacePath="/") == []


async def test_batches_of_the_same_namespaces_do_not_get_into_each_others_way(
    mine: OfMemory,
) -> None:
    places = [f"/actors/{n}/" for n in range(5)]
    ids = await mine.create(*(draft(f"r{n}", f"fact {n}", places[n % 5]) for n in range(40)))

    def changes(some: list[str]) -> list[dict[str, object]]:
        return [
            {
                "memoryRecordId": id,
                "timestamp": AT,
                "content": {"text": f"changed {id}"},
                "namespaces": [places[n % 5]],
            }
            for n, id in enumerate(some)
        ]

    answers = await asyncio.gather(
        mine.batch_update_memory_records(records=changes(ids)),
        mine.batch_update_memory_records(records=changes(ids[::-1])),
        mine.batch_update_memory_records(records=changes(ids[10:30])),
        mine.create(*(draft(f"n{n}", f"new {n}", places[-n % 5]) for n in range(40))),
        mine.batch_delete_memory_records(records=[{"memoryRecordId": id} for id in ids[:10]]),
        mine.found("fact", namespacePath="/"),
    )
    assert answers[4]["failedRecords"] == []
    assert len(await mine.listed(namespacePath="/", maxResults=100)) == 70
    assert len(await mine.found("changed", {"topK": 100}, namespacePath="/", maxResults=100)) == 30


# -- listing them


async def test_a_list_is_of_one_namespace_exactly_or_of_a_path(mine: OfMemory) -> None:
    await mine.create(
        draft("1", "of anna", "/actors/anna/"),
        draft("2", "of anna's session", "/actors/anna/sessions/s1/"),
        draft("3", "of annabel", "/actors/annabel/"),
    )
    assert await mine.listed(namespace="/actors/anna/") == ["of anna"]
    assert set(await mine.listed(namespacePath="/actors/anna")) == {"of anna", "of anna's session"}
    assert len(await mine.listed(namespacePath="/")) == 3
    both = {"namespace": "/a/", "namespacePath": "/a/"}
    for place in ({}, both):
        message = await refused("ValidationException", mine.list_memory_records(**place))
        assert "namespacePath" in message


async def test_the_newest_come_first_and_a_strategy_chooses(mine: OfMemory) -> None:
    for text in ("first", "second", "third"):
        more = {} if text == "second" else {"memoryStrategyId": FACTS.id}
        await mine.create(draft("r", text, **more))
    assert await mine.listed(namespace="/actors/anna/") == ["third", "second", "first"]
    chosen = {"namespace": "/actors/anna/", "memoryStrategyId": FACTS.id}
    assert await mine.listed(**chosen) == ["third", "first"]
    without = {"namespace": "/actors/anna/", "memoryStrategyId": "none"}
    assert await mine.listed(**without) == ["second"]


async def test_a_namespace_with_nothing_in_it_says_so(mine: OfMemory) -> None:
    await mine.create(draft("1", "of anna's session", "/actors/anna/sessions/s1/"))
    empty = await mine.list_memory_records(namespace="/actors/ana/")
    assert empty["memoryRecordSummaries"] == []
    assert "nothing is stored in namespace /actors/ana/" in notice(empty)
    assert "/strategies/{memoryStrategyId}/actors/{actorId}/" in notice(empty)
    assert "anna" not in notice(empty)
    above = await mine.list_memory_records(namespace="/actors/anna")
    assert "namespacePath" in notice(above)
    unmatched = await mine.list_memory_records(
        namespacePath="/actors/anna/",
        metadataFilters=[{"left": {"metadataKey": "topic"}, "operator": "EXISTS"}],
    )
    assert (unmatched["memoryRecordSummaries"], notice(unmatched)) == ([], "")
    star = await mine.list_memory_records(namespace="/actors/*/sessions/s1/")
    assert "* stands for itself" in notice(star)
    unknown = await mine.list_memory_records(namespacePath="/", memoryStrategyId="fact")
    assert "has no strategy 'fact'" in notice(unknown)


# -- expiry


async def test_an_expired_record_is_gone_at_once_and_swept_later(
    ground: RecordGround, mine: OfMemory
) -> None:
    days = {"recordExpirySpecification": {"recordExpiryDurationDays": 31}}
    expiring, kept = await mine.create(draft("1", "likes tea"), draft("2", "has a cat"), **days)
    never = {"recordExpirySpecification": {"action": "REMOVE"}}
    await mine.batch_update_memory_records(
        records=[{"memoryRecordId": kept, "timestamp": AT}], **never
    )
    await mine.batch_update_memory_records(
        records=[{"memoryRecordId": expiring, "timestamp": AT, "content": {"text": "drinks tea"}}]
    )
    shown = (await mine.get_memory_record(memoryRecordId=expiring))["memoryRecord"]
    assert shown["expiresAt"] - shown["createdAt"] == timedelta(days=31)
    assert "expiresAt" not in (await mine.get_memory_record(memoryRecordId=kept))["memoryRecord"]
    ground.clock.ahead = timedelta(days=32)
    try:
        await refused("ResourceNotFoundException", mine.get_memory_record(memoryRecordId=expiring))
        await refused(
            "ResourceNotFoundException", mine.delete_memory_record(memoryRecordId=expiring)
        )
        assert await mine.listed(namespacePath="/") == ["has a cat"]
        assert await mine.found("tea", namespacePath="/") == []
        await ground.expiry_of_records.sweep()
    finally:
        ground.clock.ahead = timedelta()
    await refused("ResourceNotFoundException", mine.get_memory_record(memoryRecordId=expiring))
    assert await ground.index.search(mine.memory, Where(path="/"), "tea", 10) == []
    assert await mine.listed(namespacePath="/") == ["has a cat"]


async def test_there_is_no_expiry_to_remove_when_a_record_is_made(mine: OfMemory) -> None:
    message = await refused(
        "ValidationException",
        mine.batch_create_memory_records(
            records=[draft("1", "x")], recordExpirySpecification={"action": "REMOVE"}
        ),
    )
    assert "REMOVE" in message


# -- tenants


async def test_no_tenant_sees_or_touches_the_records_of_another(
    ground: RecordGround, mine: OfMemory
) -> None:
    [id] = await mine.create(draft("1", "likes tea"))
    stranger = ground.of(mine.memory)
    stranger.client = ground.client("210987654321")
    calls = [
        stranger.get_memory_record(memoryRecordId=id),
        stranger.list_memory_records(namespacePath="/"),
        stranger.delete_memory_record(memoryRecordId=id),
        stranger.batch_delete_memory_records(records=[{"memoryRecordId": id}]),
        stranger.batch_create_memory_records(records=[draft("1", "x")]),
        stranger.retrieve_memory_records(namespacePath="/", searchCriteria={"searchQuery": "tea"}),
    ]
    for call in calls:
        await refused("ResourceNotFoundException", call)
    theirs = ground.of(ground.memory("210987654321"))
    await refused("ResourceNotFoundException", theirs.get_memory_record(memoryRecordId=id))
    assert await theirs.found("tea", namespacePath="/") == []
    assert await mine.listed(namespacePath="/") == ["likes tea"]


# -- history and provenance


async def test_a_superseded_record_is_history(ground: RecordGround, mine: OfMemory) -> None:
    old, new = mine.record("1", "lives in Rome"), mine.record("2", "lives in Oslo")
    await mine.put(old, new)
    async with ground.database.transaction() as connection:
        await ground.records.supersede(connection, mine.memory, old.id, new.id, AT)
    place = f"/strategies/{FACTS.id}/actors/anna/"
    assert await mine.listed(namespace=place) == ["lives in Oslo"]
    assert await mine.found("lives", namespace=place) == ["lives in Oslo"]
    nearest = await ground.records.nearest(mine.memory, place, FACTS.id, "lives in", 10)
    assert [record.id for record in nearest] == [new.id]
    shown = (await mine.get_memory_record(memoryRecordId=old.id))["memoryRecord"]["metadata"]
    assert shown["freehold:supersededBy"] == {"stringValue": new.id}
    assert shown["freehold:validUntil"] == {"dateTimeValue": AT}
    asked = Where(namespace=place, current=False)
    history = {record.id async for record in ground.records.every(mine.memory, asked)}
    assert history == {old.id, new.id}
    assert len(await ground.index.search(mine.memory, asked, "lives", 10)) == 2


async def test_provenance_is_followed_both_ways(ground: RecordGround, mine: OfMemory) -> None:
    both = mine.record("1", "likes tea", "000000000000001#00000001", "000000000000002#00000002")
    one = mine.record("2", "has a cat", "000000000000002#00000002")
    none = mine.record("3", "is tall")
    await mine.put(both, one, none)
    stored = await ground.records.read(mine.memory, [both.id, one.id, none.id])
    assert {id: record.sources for id, record in stored.items()} == {
        record.id: record.sources for record in (both, one, none)
    }
    of_two = await ground.records.from_events(mine.memory, ["000000000000002#00000002"])
    assert {record.id for record in of_two} == {both.id, one.id}
    assert await ground.records.from_events(mine.memory, ["000000000000003#00000003"]) == []
    async with ground.database.transaction() as connection:
        await ground.records.remove(connection, mine.memory, [both.id])
        left = await ground.records.from_events(
            mine.memory, ["000000000000001#00000001"], connection=connection
        )
        assert left == []


async def test_what_extraction_puts_again_replaces_and_stays_as_old_as_it_is(
    ground: RecordGround, mine: OfMemory
) -> None:
    first = mine.record("1", "likes tea", "000000000000001#00000001")
    await mine.put(first)
    again = mine.record("1", "likes green tea", "000000000000002#00000002")
    await mine.put(again)
    [record] = (await ground.records.read(mine.memory, [first.id])).values()
    assert (record.text, record.sources) == (again.text, again.sources)
    assert record.created_at == first.created_at
    assert await mine.listed(namespacePath="/") == ["likes green tea"]


async def test_what_a_failed_transaction_did_is_undone_in_the_index_too(
    ground: RecordGround, mine: OfMemory
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with ground.database.transaction() as connection:
            await ground.records.put(connection, mine.memory, [mine.record("1", "likes tea")])
            raise ZeroDivisionError
    assert await mine.listed(namespacePath="/") == []
    assert await mine.found("tea", namespacePath="/") == []


async def test_every_record_of_a_deleted_memory_goes(ground: RecordGround, mine: OfMemory) -> None:
    await mine.create(*(draft(f"r{n}", f"fact {n}") for n in range(10)))
    await ground.records.clear(mine.memory.tenant, mine.memory.id)
    assert await mine.listed(namespacePath="/") == []
