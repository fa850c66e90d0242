"""RetrieveMemoryRecords: what is found, how it is scored and paged; and the profile of an actor."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from record_ground import AT, FACTS, TASTE, OfMemory, RecordGround, draft, notice

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.services.memory.model import Source
from freehold.services.memory.records import PROFILE_RECORDS_MAX


@pytest.fixture(scope="module")
async def ground(
    database: PostgresDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RecordGround]:
    state = tmp_path_factory.mktemp("retrieve")
    async with RecordGround(database, state, "retrieve").open() as opened:
        yield opened


@pytest.fixture
def mine(ground: RecordGround, tenant: str) -> OfMemory:
    return ground.of(ground.memory(tenant, indexed_keys={"cost": "NUMBER"}))


def asked(key: str, operator: str, **value: Any) -> dict[str, Any]:
    right = {"right": {"metadataValue": value}} if value else {}
    return {"left": {"metadataKey": key}, "operator": operator, **right}


async def test_the_better_match_comes_first_with_the_higher_score(mine: OfMemory) -> None:
    await mine.create(
        draft("1", "Anna has a cat called Milo"),
        draft("2", "Anna has a bicycle"),
        draft("3", "The weather was fine"),
    )
    answer = await mine.retrieve_memory_records(
        namespace="/actors/anna/", searchCriteria={"searchQuery": "Anna cat Milo"}
    )
    found = answer["memoryRecordSummaries"]
    assert [item["content"]["text"] for item in found][:2] == [
        "Anna has a cat called Milo",
        "Anna has a bicycle",
    ]
    scores = [item["score"] for item in found]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert scores[0] > scores[1]
    assert notice(answer) == ""


async def test_only_the_namespace_or_path_that_is_named_is_searched(mine: OfMemory) -> None:
    await mine.create(
        draft("1", "cat of anna", "/actors/anna/"),
        draft("2", "cat of a session", "/actors/anna/sessions/s1/"),
        draft("3", "cat of annabel", "/actors/annabel/"),
    )
    assert await mine.found("cat", namespace="actors/anna") == ["cat of anna"]
    below = await mine.found("cat", namespacePath="/actors/anna/")
    assert set(below) == {"cat of anna", "cat of a session"}
    assert len(await mine.found("cat", namespacePath="/")) == 3
    for place in ({}, {"namespace": "/a/", "namespacePath": "/a/"}):
        with pytest.raises(ClientError, match="namespacePath") as caught:
            await mine.found("cat", **place)
        assert caught.value.response["Error"]["Code"] == "ValidationException"


async def test_a_wrong_namespace_does_not_fail_silently(mine: OfMemory) -> None:
    await mine.create(draft("1", "likes tea"))
    criteria = {"searchQuery": "tea"}
    wrong = await mine.retrieve_memory_records(namespace="/actor/anna/", searchCriteria=criteria)
    assert wrong["memoryRecordSummaries"] == []
    assert "nothing is stored in namespace /actor/anna/" in notice(wrong)
    turns = await mine.retrieve_memory_records(namespacePath="/turns/", searchCriteria=criteria)
    assert "freehold:turns=on" in notice(turns)
    right = await mine.retrieve_memory_records(
        namespace="/actors/anna/", searchCriteria={"searchQuery": "submarine"}
    )
    assert (right["memoryRecordSummaries"], notice(right)) == ([], "")


async def test_strategies_and_metadata_choose(mine: OfMemory) -> None:
    cost = [{"cost": {"numberValue": n}} for n in (1, 2, 3)]
    await mine.create(
        draft("1", "cat one", metadata=cost[0], memoryStrategyId=FACTS.id),
        draft("2", "cat two", metadata=cost[1], memoryStrategyId=FACTS.id),
        draft("3", "cat three", metadata=cost[2]),
        draft("4", "cat free"),
    )
    everywhere = {"namespacePath": "/"}
    of_strategy = {"memoryStrategyId": FACTS.id}
    assert set(await mine.found("cat", of_strategy, **everywhere)) == {"cat one", "cat two"}
    dear = [asked("cost", "GREATER_THAN", numberValue=1.5)]
    filtered = {"metadataFilters": dear}
    assert set(await mine.found("cat", filtered, **everywhere)) == {"cat two", "cat three"}
    assert set(await mine.listed(**everywhere, **filtered)) == {"cat two", "cat three"}
    both = {**of_strategy, "metadataFilters": dear}
    assert await mine.found("cat", both, **everywhere) == ["cat two"]
    free = {"metadataFilters": [asked("cost", "NOT_EXISTS")]}
    assert await mine.found("cat", free, **everywhere) == ["cat free"]


async def test_records_are_chosen_by_when_they_were_made_or_changed(mine: OfMemory) -> None:
    old, _ = await mine.create(draft("1", "cat one"), draft("2", "cat two"))
    made = datetime.now(UTC)
    await mine.batch_update_memory_records(records=[{"memoryRecordId": old, "timestamp": AT}])
    created, updated = "x-amz-agentcore-memory-createdAt", "x-amz-agentcore-memory-updatedAt"
    for key, expected in ((created, 0), (updated, 1)):
        since = {"metadataFilters": [asked(key, "AFTER", dateTimeValue=made)]}
        assert len(await mine.listed(namespacePath="/", **since)) == expected
        assert len(await mine.found("cat", since, namespacePath="/")) == expected
    shown = (await mine.get_memory_record(memoryRecordId=old))["memoryRecord"]
    assert "metadata" not in shown


async def test_a_filter_of_the_wrong_type_is_an_error_and_not_an_empty_answer(
    mine: OfMemory,
) -> None:
    for expression, why in (
        (asked("cost", "EQUALS_TO", stringValue="1"), "of type NUMBER"),
        (asked("cost", "BEFORE", numberValue=1), "dateTimeValue"),
        (asked("cost", "LESS_THAN"), "needs"),
    ):
        with pytest.raises(ClientError, match=why) as caught:
            await mine.found("cat", {"metadataFilters": [expression]}, namespacePath="/")
        assert caught.value.response["Error"]["Code"] == "ValidationException"
    wrong = {"cost": {"stringValue": "1"}}
    made = await mine.batch_create_memory_records(records=[draft("1", "x", metadata=wrong)])
    assert "NUMBER" in made["failedRecords"][0]["errorMessage"]


async def test_the_top_k_come_page_by_page(mine: OfMemory) -> None:
    await mine.create(*(draft(f"r{n}", f"cat number {n}") for n in range(60)))
    place = {"namespace": "/actors/anna/"}
    assert len(await mine.found("cat", **place)) == 10
    assert len(await mine.found("cat", {"topK": 50}, **place)) == 20
    assert len(await mine.found("cat", {"topK": 100}, maxResults=100, **place)) == 60
    seen: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = await mine.retrieve_memory_records(
            searchCriteria={"searchQuery": "cat", "topK": 50}, maxResults=20, **place, **token
        )
        seen += [item["memoryRecordId"] for item in page["memoryRecordSummaries"]]
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert len(seen) == len(set(seen)) == 50
    with pytest.raises(ClientError, match="nextToken"):
        await mine.found("cat", nextToken="bm9uc2Vuc2U", **place)


# -- the profile


async def test_a_profile_is_all_of_an_actors_preferences_and_instructions_newest_first(
    ground: RecordGround, mine: OfMemory
) -> None:
    instruction = {"kind": {"stringValue": "instruction"}}
    other = {"kind": {"stringValue": "fact"}}
    await mine.create(
        draft("1", "prefers tea", "/taste/anna/", memoryStrategyId=TASTE.id),
        draft("2", "always answer in French", "/rules/anna/", metadata=instruction,
              timestamp=AT + timedelta(days=1)),
        draft("3", "has a cat", "/actors/anna/", memoryStrategyId=FACTS.id, metadata=other),
        draft("4", "prefers coffee", "/taste/ben/", memoryStrategyId=TASTE.id),
        draft("5", "always answer in verse", "/rules/ben/", metadata=instruction),
        draft("6", "prefers rain", "/taste/annabel/", memoryStrategyId=TASTE.id),
    )  # fmt: skip
    old = mine.record("7", "preferred milk", namespaces=("/taste/anna/",), strategy_id=TASTE.id)
    await mine.put(old)
    async with ground.database.transaction() as connection:
        await ground.records.supersede(connection, mine.memory, old.id, "mem-new", AT)
    profile = await ground.records.profile(mine.memory, "anna")
    assert [record.text for record in profile.records] == [
        "always answer in French",
        "prefers tea",
    ]
    assert not profile.more


async def test_where_a_namespace_names_no_actor_a_preference_is_whose_words_it_comes_from(
    ground: RecordGround, tenant: str
) -> None:
    shared = TASTE.__class__(
        id=TASTE.id, name="taste", type="USER_PREFERENCE", namespaces=("/taste/",)
    )
    mine = ground.of(ground.memory(tenant, strategies=(shared,)))

    def of(id: str, text: str, *actors: str) -> Any:
        sources = tuple(
            Source(event_id=f"00000000000000{n}#00000001", actor_id=actor, session_id="s")
            for n, actor in enumerate(actors)
        )
        place = {"namespaces": ("/taste/",), "strategy_id": TASTE.id, "sources": sources}
        return mine.record(id, text, **place)

    await mine.put(of("1", "tea", "anna"), of("2", "coffee", "ben"), of("3", "politeness"))
    profile = await ground.records.profile(mine.memory, "anna")
    assert {record.text for record in profile.records} == {"tea", "politeness"}


async def test_an_instruction_is_found_among_those_of_many_others(
    ground: RecordGround, mine: OfMemory
) -> None:
    kind = {"metadata": {"kind": "instruction"}}
    await mine.put(
        mine.record("x", "always answer in French", namespaces=("/rules/anna/",), **kind),
        *(
            mine.record(
                str(n), f"rule {n}", namespaces=(f"/rules/{n}/",), at=AT + timedelta(days=1), **kind
            )
            for n in range(2 * PROFILE_RECORDS_MAX)
        ),
    )
    profile = await ground.records.profile(mine.memory, "anna")
    assert [record.text for record in profile.records] == ["always answer in French"]
    assert not profile.more


async def test_a_profile_that_is_too_long_says_so(ground: RecordGround, mine: OfMemory) -> None:
    place = {"namespaces": ("/taste/anna/",), "strategy_id": TASTE.id}
    most = [
        mine.record(str(n), f"preference {n}", at=AT + timedelta(hours=n), **place)
        for n in range(PROFILE_RECORDS_MAX)
    ]
    await mine.put(*most)
    whole = await ground.records.profile(mine.memory, "anna")
    assert (len(whole.records), whole.more) == (PROFILE_RECORDS_MAX, False)
    await mine.put(mine.record("x", "one more", at=AT - timedelta(hours=1), **place))
    cut = await ground.records.profile(mine.memory, "anna")
    assert (len(cut.records), cut.more) == (PROFILE_RECORDS_MAX, True)
