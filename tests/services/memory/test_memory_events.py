"""Events through boto3, on a real edge and a real Postgres."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from memory_ground import MemoryGround

from edge_ground import Client
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.pages import encode_token
from freehold.services.memory.model import Memory

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.fixture
async def ground(database: PostgresDatabase, tmp_path: Path) -> AsyncIterator[MemoryGround]:
    async with MemoryGround(database, tmp_path).open() as ground:
        yield ground


@pytest.fixture
def memory(ground: MemoryGround, tenant: str) -> Memory:
    made: Memory = ground.memories.make(tenant, namespace_keys={"team": {}})
    return made


@pytest.fixture
def session(ground: MemoryGround, memory: Memory) -> "Talk":
    return Talk(ground.client(memory.tenant), memory.id)


def said(text: str, role: str = "USER") -> dict[str, Any]:
    return {"conversational": {"content": {"text": text}, "role": role}}


class Talk:
    """One session, as boto3 sees it. Each next event is a second later."""

    def __init__(
        self, client: Client, memory_id: str, actor: str = "ann/home:1", session: str = "s-1"
    ) -> None:
        self.client = client
        self.ids: dict[str, str] = {"memoryId": memory_id, "actorId": actor, "sessionId": session}
        self.seconds = 0

    async def say(self, *texts: str, **more: Any) -> dict[str, Any]:
        self.seconds += 1
        asked = {
            **self.ids, "eventTimestamp": NOON + timedelta(seconds=self.seconds),
            "payload": [said(text) for text in texts], **more,
        }  # fmt: skip
        answer = await self.client.create_event(**asked)
        event: dict[str, Any] = answer["event"]
        return event

    async def id_of(self, text: str, **more: Any) -> str:
        event_id: str = (await self.say(text, **more))["eventId"]
        return event_id

    async def page(self, **more: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await self.client.list_events(**{**self.ids, **more})
        return answer

    async def texts(self, **more: Any) -> list[str]:
        events = (await self.page(**{"maxResults": 100, **more}))["events"]
        return [item["conversational"]["content"]["text"] for e in events for item in e["payload"]]

    async def refused(self, operation: str, **more: Any) -> tuple[str, str]:
        with pytest.raises(ClientError) as refusal:
            await getattr(self.client, operation)(**{**self.ids, **more})
        error = refusal.value.response["Error"]
        return error["Code"], error["Message"]

    async def refused_event(self, **more: Any) -> tuple[str, str]:
        return await self.refused(
            "create_event", **{"eventTimestamp": NOON, "payload": [said("x")], **more}
        )


# -- what goes in comes out


async def test_an_event_comes_back_as_it_went_in(session: Talk) -> None:
    blob = {"b": 1, "a": [1.0, 1, 1.5e300, 9007199254740993, "ü\n", None, True], "": {}}
    payload: list[Mapping[str, Any]] = [
        said("hello", "ASSISTANT"),
        {"blob": blob},
        {"blob": "just text"},
        {"json": {"content": [{"deep": [[]]}]}},
    ]
    metadata = {"place": {"stringValue": "Oslo"}, "empty": {"stringValue": ""}}
    made = await session.say(payload=payload, metadata=metadata)
    assert made["payload"] == payload
    assert list(made["payload"][1]["blob"]) == ["b", "a", ""]
    assert type(made["payload"][1]["blob"]["a"][0]) is float
    assert made["metadata"] == metadata
    assert made["eventTimestamp"] == NOON + timedelta(seconds=1)
    assert {made[key] for key in ("memoryId", "actorId", "sessionId")} == set(session.ids.values())
    found = await session.client.get_event(**session.ids, eventId=made["eventId"])
    assert found["event"] == made
    assert (await session.page())["events"] == [made]


async def test_a_memory_is_named_by_id_or_by_arn(session: Talk, memory: Memory) -> None:
    by_arn = Talk(session.client, memory.arn)
    first = await session.say("by id")
    second = await by_arn.say("by ARN", eventTimestamp=NOON + timedelta(seconds=2))
    assert second["memoryId"] == memory.id
    assert await by_arn.texts() == await session.texts() == ["by ARN", "by id"]
    found = await by_arn.client.get_event(**by_arn.ids, eventId=first["eventId"])
    assert found["event"] == first


async def test_without_a_session_an_event_begins_one(session: Talk) -> None:
    del session.ids["sessionId"]
    made = await session.say("hello")
    session.ids["sessionId"] = made["sessionId"]
    assert await session.texts() == ["hello"]
    again = await session.client.create_event(
        memoryId=made["memoryId"], actorId=made["actorId"], eventTimestamp=NOON, payload=[]
    )
    assert again["event"]["sessionId"] != made["sessionId"]


async def test_without_payloads_a_list_leaves_them_out(session: Talk) -> None:
    made = await session.say("hello")
    (shown,) = (await session.page(includePayloads=False))["events"]
    assert shown == {key: value for key, value in made.items() if key != "payload"}


async def test_the_newest_comes_first_however_they_arrive(session: Talk) -> None:
    for day in (3, 1, 2):
        await session.say(f"day {day}", eventTimestamp=NOON + timedelta(days=day))
    await session.say("day 0", eventTimestamp=datetime(1999, 12, 31, tzinfo=UTC))
    assert await session.texts() == ["day 3", "day 2", "day 1", "day 0"]


async def test_within_one_moment_the_last_to_arrive_comes_first(session: Talk) -> None:
    for number in range(30):
        await session.say(str(number), eventTimestamp=NOON)
    assert await session.texts() == [str(number) for number in reversed(range(30))]


async def test_an_unknown_event_session_or_memory(session: Talk, memory: Memory) -> None:
    gone = "0" * 15 + "#0000abcd"
    assert (await session.refused("get_event", eventId=gone))[0] == "ResourceNotFoundException"
    assert (await session.refused("delete_event", eventId=gone))[0] == "ResourceNotFoundException"
    assert (await session.page())["events"] == []
    for operation in ("list_events", "list_sessions", "list_actors"):
        ids = {"memoryId": "other-0123456789", "actorId": "a", "sessionId": "s"}
        if operation != "list_events":
            del ids["sessionId"]
        if operation == "list_actors":
            del ids["actorId"]
        with pytest.raises(ClientError, match="ResourceNotFoundException"):
            await getattr(session.client, operation)(**ids)


# -- tokens


async def test_a_client_token_makes_one_event(ground: MemoryGround, session: Talk) -> None:
    asked = {"eventTimestamp": NOON, "clientToken": "t-1"}
    first = await session.say("hello", **asked)
    assert await session.say("hello", **asked) == first
    assert await session.texts() == ["hello"]
    assert len(ground.learning.heard) == 1
    code, message = await session.refused_event(**asked, payload=[said("something else")])
    assert (code, "clientToken" in message) == ("ConflictException", True)
    del session.ids["sessionId"]
    made = await session.say("new session", **{**asked, "clientToken": "t-2"})
    assert await session.say("new session", **{**asked, "clientToken": "t-2"}) == made


async def test_a_client_token_is_of_one_memory(
    ground: MemoryGround, session: Talk, memory: Memory
) -> None:
    other = Talk(session.client, ground.memories.make(memory.tenant).id)
    await session.say("here", clientToken="t-1")
    await other.say("there", clientToken="t-1")
    assert await other.texts() == ["there"]


async def test_twenty_threads_with_one_token_make_one_event(
    ground: MemoryGround, session: Talk, memory: Memory
) -> None:
    aws = ground.aws(memory.tenant)
    asked = {**session.ids, "eventTimestamp": NOON, "payload": [said("once")]}

    def create(_: int) -> str:
        event_id: str = aws.create_event(**asked, clientToken="same")["event"]["eventId"]
        return event_id

    with ThreadPoolExecutor(20) as threads:
        ids = await asyncio.to_thread(lambda: set(threads.map(create, range(20))))
    aws.close()
    assert len(ids) == 1
    assert await session.texts() == ["once"]
    assert len(ground.learning.heard) == 1


async def test_many_add_to_one_session_at_once(
    ground: MemoryGround, session: Talk, memory: Memory
) -> None:
    aws = ground.aws(memory.tenant)

    def create(number: int) -> str:
        event_id: str = aws.create_event(
            **session.ids, eventTimestamp=NOON, payload=[said(str(number))]
        )["event"]["eventId"]
        return event_id

    with ThreadPoolExecutor(16) as threads:
        made = await asyncio.to_thread(lambda: list(threads.map(create, range(80))))
    aws.close()
    assert len(set(made)) == 80
    assert sorted(map(int, await session.texts())) == list(range(80))


# -- branches


async def test_a_branch_begins_with_its_root_event(session: Talk) -> None:
    one = await session.id_of("1")
    await session.say("2")
    fork = {"name": "fork", "rootEventId": one}
    made = await session.say("2b", branch=fork)
    assert made["branch"] == fork
    assert (await session.say("3b", branch={"name": "fork"}))["branch"] == fork
    assert (await session.say("4b", branch=fork))["branch"] == fork
    await session.say("5", branch={"name": "main"})
    assert await session.texts() == ["5", "4b", "3b", "2b", "2", "1"]
    assert await session.texts(filter={"branch": {"name": "fork"}}) == ["4b", "3b", "2b"]
    assert await session.texts(filter={"branch": {"name": "main"}}) == ["5", "2", "1"]
    whole = {"branch": {"name": "fork", "includeParentBranches": True}}
    assert await session.texts(filter=whole) == ["4b", "3b", "2b", "1"]


async def test_a_branch_of_a_branch_has_what_was_before_both(session: Talk) -> None:
    one = await session.id_of("1")
    await session.say("2")
    three = await session.id_of("a1", branch={"name": "a", "rootEventId": one})
    await session.say("a2", branch={"name": "a"})
    await session.say("b1", branch={"name": "b", "rootEventId": three})
    whole = {"branch": {"name": "b", "includeParentBranches": True}}
    assert await session.texts(filter=whole) == ["b1", "a1", "1"]
    await session.client.delete_event(**session.ids, eventId=three)
    assert await session.texts(filter=whole) == ["b1", "1"]


async def test_a_branch_needs_a_root_that_is_there(session: Talk) -> None:
    one = await session.id_of("1")
    two = await session.id_of("2")
    await session.say("a", branch={"name": "a", "rootEventId": one})
    elsewhere = Talk(session.client, session.ids["memoryId"], session="s-2")
    other = await elsewhere.id_of("other")
    for branch in (
        {"name": "new"},
        {"name": "new", "rootEventId": other},
        {"name": "new", "rootEventId": "0" * 15 + "#0000abcd"},
        {"name": "a", "rootEventId": two},
        {"name": "main", "rootEventId": one},
    ):
        code, message = await session.refused_event(branch=branch)
        assert (code, message.startswith("branch")) == ("ValidationException", True), branch
    assert await session.texts() == ["a", "2", "1"]


# -- filters and pages


async def test_all_conditions_on_metadata_must_hold(session: Talk) -> None:
    def pairs(**values: str) -> dict[str, Any]:
        return {"metadata": {key: {"stringValue": value} for key, value in values.items()}}

    await session.say("plain")
    await session.say("oslo", **pairs(city="Oslo", kind="trip"))
    await session.say("rome", **pairs(city="Rome", kind="trip"))
    await session.say("home", **pairs(city="Oslo"))

    async def found(*conditions: tuple[str, str, str | None]) -> list[str]:
        expressions = []
        for key, operator, value in conditions:
            right = {} if value is None else {"right": {"metadataValue": {"stringValue": value}}}
            expressions.append({"left": {"metadataKey": key}, "operator": operator, **right})
        return await session.texts(filter={"eventMetadata": expressions})

    assert await found(("city", "EQUALS_TO", "Oslo")) == ["home", "oslo"]
    assert await found(("city", "EQUALS_TO", "Oslo"), ("kind", "EXISTS", None)) == ["oslo"]
    assert await found(("kind", "NOT_EXISTS", None)) == ["home", "plain"]
    assert await found(("city", "EQUALS_TO", "oslo")) == []
    refusal = await session.refused(
        "list_events",
        filter={"eventMetadata": [{"left": {"metadataKey": "city"}, "operator": "EQUALS_TO"}]},
    )
    assert refusal[0] == "ValidationException"


async def test_pages_stay_right_while_events_are_added(session: Talk) -> None:
    for number in range(9):
        await session.say(str(number))
    first = await session.page(maxResults=4)
    await session.say("new")
    await session.say("late", eventTimestamp=NOON)
    second = await session.page(maxResults=4, nextToken=first["nextToken"])
    third = await session.page(maxResults=4, nextToken=second["nextToken"])
    texts = [
        event["payload"][0]["conversational"]["content"]["text"]
        for page in (first, second, third)
        for event in page["events"]
    ]
    assert texts == [*map(str, reversed(range(9))), "late"]
    assert "nextToken" not in third


@pytest.mark.parametrize("position", [[1], ["a", "b"], [], ["\0"], [10**18, "s"], [-1, "s"], None])
async def test_a_token_of_somebody_elses_making_is_refused(session: Talk, position: Any) -> None:
    token = "nonsense" if position is None else encode_token(*position)
    refusals = [await session.refused("list_events", nextToken=token)]
    del session.ids["sessionId"]
    refusals.append(await session.refused("list_sessions", nextToken=token))
    del session.ids["actorId"]
    refusals.append(await session.refused("list_actors", nextToken=token))
    assert [code for code, _ in refusals] == ["ValidationException"] * 3


async def test_a_page_has_twenty_events_unless_asked(session: Talk) -> None:
    for number in range(22):
        await session.say(str(number))
    page = await session.page()
    assert len(page["events"]) == 20
    assert len((await session.page(nextToken=page["nextToken"]))["events"]) == 2


# -- limits


async def test_limits_say_what_was_too_much(session: Talk) -> None:
    code, message = await session.refused_event(payload=[{"blob": 1}] * 101)
    assert (code, "100" in message) == ("ValidationException", True)
    code, message = await session.refused_event(payload=[said("ü" * 60_000)])
    assert (code, "100 KB" in message) == ("ValidationException", True)
    code, message = await session.refused_event(payload=[{"json": {"content": "x" * 102_400}}])
    assert (code, "100 KB" in message) == ("ValidationException", True)
    code, message = await session.refused_event(payload=[{"blob": "x" * (10 << 20)}])
    assert (code, "10 MB" in message) == ("ValidationException", True)
    many = {f"k{number}": {"stringValue": "v"} for number in range(16)}
    assert (await session.refused_event(metadata=many))[0] == "ValidationException"
    code, message = await session.refused_event(eventTimestamp=datetime(1969, 1, 1, tzinfo=UTC))
    assert (code, "eventTimestamp" in message) == ("ValidationException", True)
    assert (await session.page())["events"] == []


async def test_a_page_of_large_events_is_a_short_one(session: Talk) -> None:
    large = "x" * (6 << 20)
    for _ in range(3):
        await session.say(payload=[{"blob": large}])
    page = await session.page()
    assert [len(event["payload"][0]["blob"]) for event in page["events"]] == [len(large)] * 2
    rest = await session.page(nextToken=page["nextToken"])
    assert (len(rest["events"]), "nextToken" in rest) == (1, False)
    assert len((await session.page(includePayloads=False))["events"]) == 3


# -- sessions and actors


async def test_sessions_and_actors_are_those_who_said_something(
    session: Talk, memory: Memory
) -> None:
    client = session.client
    talks = [
        Talk(client, memory.id, actor, f"s-{number}")
        for actor in ("bob", "ann")
        for number in (1, 2)
    ]
    made = [(await talk.say("hi", "there"), await talk.say("again"))[0] for talk in talks]
    actors = await client.list_actors(memoryId=memory.id)
    assert actors["actorSummaries"] == [{"actorId": "ann"}, {"actorId": "bob"}]
    page = await client.list_sessions(memoryId=memory.id, actorId="bob", maxResults=1)
    (young,) = page["sessionSummaries"]
    rest = await client.list_sessions(
        memoryId=memory.id, actorId="bob", nextToken=page["nextToken"]
    )
    (old,) = rest["sessionSummaries"]
    assert (young["sessionId"], old["sessionId"]) == ("s-2", "s-1")
    assert young["createdAt"] > old["createdAt"]
    assert len(made) == 4
    first = await client.list_actors(memoryId=memory.id, maxResults=1)
    second = await client.list_actors(
        memoryId=memory.id, maxResults=1, nextToken=first["nextToken"]
    )
    assert second["actorSummaries"] == [{"actorId": "bob"}]
    assert "nextToken" not in second


async def test_an_empty_session_is_shown_for_a_day(
    ground: MemoryGround, session: Talk, memory: Memory
) -> None:
    async def sessions(**more: Any) -> list[str]:
        page = await session.client.list_sessions(
            memoryId=memory.id, actorId=session.ids["actorId"], **more
        )
        return [each["sessionId"] for each in page["sessionSummaries"]]

    one = await session.id_of("1")
    await session.client.delete_event(**session.ids, eventId=one)
    assert await sessions() == ["s-1"]
    assert await sessions(filter={"eventFilter": "HAS_EVENTS"}) == []
    await ground.expiry.sweep()
    assert await sessions() == ["s-1"]
    ground.clock.ahead = timedelta(days=1, minutes=1)
    await ground.expiry.sweep()
    assert await sessions() == []
    assert (await session.client.list_actors(memoryId=memory.id))["actorSummaries"] == []
    await session.say("2")
    assert await sessions(filter={"eventFilter": "HAS_EVENTS"}) == ["s-1"]


# -- taking away


async def test_what_is_deleted_is_told_and_gone(ground: MemoryGround, session: Talk) -> None:
    one, two = await session.id_of("1"), await session.id_of("2")
    answer = await session.client.delete_event(**session.ids, eventId=one)
    assert answer["eventId"] == one
    assert await session.texts() == ["2"]
    assert ground.learning.unheard_ids == [one]
    assert (await session.refused("get_event", eventId=one))[0] == "ResourceNotFoundException"
    ground.learning.trouble = RuntimeError("no")
    with pytest.raises(ClientError):
        await session.client.delete_event(**session.ids, eventId=two)
    assert await session.texts() == ["2"]


async def test_what_nobody_learned_of_was_not_said(ground: MemoryGround, session: Talk) -> None:
    ground.learning.trouble = RuntimeError("no")
    with pytest.raises(ClientError):
        await session.say("1")
    ground.learning.trouble = None
    assert await session.texts() == []
    await session.say("2", extractionMode="SKIP")
    await session.say(
        "3",
        extractionConfig={"namespaceVariables": {"team": "red"}},
        metadata={"freehold:recalled": {"stringValue": "mem-1 mem-2"}},
    )
    skipped, heard = ground.learning.heard
    assert (skipped.extract, heard.extract) == (False, True)
    assert (heard.variables, heard.recalled) == ({"team": "red"}, ("mem-1", "mem-2"))
    assert [(m.role, m.text) for m in heard.messages] == [("USER", "3")]


async def test_variables_are_those_that_the_memory_has(session: Talk) -> None:
    unknown = {"namespaceVariables": {"stage": "red"}}
    code, message = await session.refused_event(extractionConfig=unknown)
    assert code == "ValidationException" and "no namespace key 'stage'" in message
    assert await session.texts() == []


async def test_what_expired_is_not_shown_and_then_goes_without_a_word(
    ground: MemoryGround, session: Talk, memory: Memory
) -> None:
    one = await session.id_of("1", eventTimestamp=datetime(2001, 1, 1, tzinfo=UTC))
    assert await session.texts() == ["1"], "thirty days from its arrival"
    ground.clock.ahead = timedelta(days=29)
    two = await session.id_of("2")
    ground.clock.ahead = timedelta(days=30, minutes=1)
    assert await session.texts() == ["2"]
    for operation in ("get_event", "delete_event"):
        assert (await session.refused(operation, eventId=one))[0] == "ResourceNotFoundException"
    refusal = await session.refused_event(branch={"name": "b", "rootEventId": one})
    assert refusal[0] == "ValidationException"
    swept = await asyncio.gather(*(ground.expiry.sweep() for _ in range(3)))
    assert sum(swept) >= 1
    assert await session.texts() == ["2"]
    assert ground.learning.unheard == []
    left = await ground.events.by_id(memory.tenant, memory.id, [])
    assert (left, two > one) == ([], True)


async def test_an_actor_is_erased_from_all_sessions(
    ground: MemoryGround, session: Talk, memory: Memory
) -> None:
    talks = [Talk(session.client, memory.id, "bob", f"s-{number}") for number in range(3)]
    ids = [await talk.id_of(str(number)) for talk in talks for number in range(5)]
    await talks[0].say("forked", branch={"name": "b", "rootEventId": ids[0]})
    await session.say("of ann")
    assert await ground.events.erase(memory.tenant, memory.id, "bob", "s-1") == 5
    assert ground.learning.unheard_ids == sorted(ids[5:10])
    assert await ground.events.erase(memory.tenant, memory.id, "bob") == 11
    assert [await talk.texts() for talk in talks] == [[], [], []]
    assert set(ids) <= set(ground.learning.unheard_ids)
    actors = await session.client.list_actors(memoryId=memory.id)
    assert actors["actorSummaries"] == [{"actorId": session.ids["actorId"]}]
    assert (await talks[0].refused_event(branch={"name": "b"}))[0] == "ValidationException"
    assert await ground.events.erase(memory.tenant, memory.id, "bob") == 0


async def test_a_memory_that_is_forgotten_leaves_no_row(
    ground: MemoryGround, session: Talk, memory: Memory
) -> None:
    other = Talk(session.client, ground.memories.make(memory.tenant).id)
    for talk in (session, other):
        one = await talk.id_of("1")
        await talk.say("2", branch={"name": "b", "rootEventId": one})

    async def rows() -> list[int]:
        counts = []
        async with ground.database.connection() as connection:
            for table in ("memory_events", "memory_sessions", "memory_branches"):
                found = await connection.execute(
                    f"SELECT count(*) FROM {table} WHERE tenant = %s", (memory.tenant,)
                )
                counts += [count async for (count,) in found]
        return counts

    assert await rows() == [4, 2, 2]
    for _ in range(2):
        await ground.events.forget(memory.tenant, memory.id)
        assert await rows() == [2, 1, 1]
    assert await other.texts() == ["2", "1"]
    assert ground.learning.unheard == []


async def test_tenants_never_see_each_others(
    ground: MemoryGround, session: Talk, memory: Memory
) -> None:
    one = await session.id_of("secret", clientToken="t-1")
    stranger = str((int(memory.tenant) + 1) % 10**12).zfill(12)
    own = ground.memories.make(stranger)
    client = ground.client(stranger)
    for memory_id in (memory.id, memory.arn):
        theirs = Talk(client, memory_id)
        for refusal in (
            await theirs.refused("get_event", eventId=one),
            await theirs.refused("list_events"),
            await theirs.refused("delete_event", eventId=one),
            await theirs.refused_event(),
        ):
            assert refusal[0] == "ResourceNotFoundException"
    mine = Talk(client, own.id)
    assert await mine.texts() == []
    assert (await mine.say("mine", clientToken="t-1"))["eventId"] != one
    assert await session.texts() == ["secret"]
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        await client.list_actors(memoryId=memory.id)
    assert await ground.events.by_id(stranger, memory.id, []) == []
