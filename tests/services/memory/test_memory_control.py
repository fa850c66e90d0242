"""Memories with real boto3: made, shown, changed, tagged, deleted with all they hold."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from control_memory_ground import ControlGround
from psycopg.types.json import Jsonb

from edge_ground import REGION, refused
from freehold.kernel.errors import Conflict, NotFound, Unavailable
from freehold.services.memory.model import MEMORY, TAG_TURNS

ROLE = "arn:aws:iam::123456789012:role/memory"
KEY = "arn:aws:kms:us-east-1:123456789012:key/1"
STREAM = "arn:aws:kinesis:us-east-1:123456789012:stream/records"
FACTS = {"semanticMemoryStrategy": {"name": "facts"}}
SUMS = {"summaryMemoryStrategy": {"name": "sums"}}


@pytest.fixture(scope="module")
async def dsn(fresh_dsn: Any) -> str:
    made: str = await fresh_dsn()
    return made


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("memories")


@pytest.fixture(scope="module")
async def ground(dsn: str, state: Path) -> AsyncIterator[ControlGround]:
    async with ControlGround(dsn, state).open() as ground:
        yield ground


async def test_a_memory_is_active_and_shown_whole(ground: ControlGround, tenant: str) -> None:
    given = {
        "description": "of talks", "memoryExecutionRoleArn": ROLE, "eventExpiryDuration": 3,
        "indexedKeys": [{"key": "topic", "type": "STRING"}],
        "namespaceKeys": [{"key": "team", "validation": {"allowedValues": ["a", "b"]}}],
    }  # fmt: skip
    memory = await ground.memory(tenant, "Talks_1", **given, memoryStrategies=[FACTS])
    id = memory["id"]
    assert id.startswith("Talks_1-") and len(id) == len("Talks_1-") + 10
    assert memory["arn"] == f"arn:aws:bedrock-agentcore:{REGION}:{tenant}:memory/{id}"
    shown = await ground.shown(tenant, id)
    assert shown == memory and shown["name"] == "Talks_1" and shown["status"] == "ACTIVE"
    assert {name: shown[name] for name in given} == given
    ((before, after),) = ground.told.of(id)
    assert before is None and after == await ground.loaded.get(tenant, id)
    assert after.namespace_keys == {"team": {"allowedValues": ["a", "b"]}}
    assert after.indexed_keys == {"topic": "STRING"} and after.expiry_days == 3
    waiter = ground.control(tenant).boto3.get_waiter("memory_created")
    await asyncio.to_thread(waiter.wait, memoryId=id, WaiterConfig={"MaxAttempts": 1})
    seen = (await ground.control(tenant).get_memory(memoryId=id, view="without_decryption"))[
        "memory"
    ]
    assert seen == shown


async def test_memories_are_listed_in_pages_oldest_first(
    ground: ControlGround, tenant: str
) -> None:
    made = [(await ground.memory(tenant, f"m{n}"))["id"] for n in range(3)]
    first = await ground.control(tenant).list_memories(maxResults=2)
    assert [memory["id"] for memory in first["memories"]] == made[:2]
    rest = await ground.control(tenant).list_memories(maxResults=2, nextToken=first["nextToken"])
    assert [memory["id"] for memory in rest["memories"]] == made[2:] and "nextToken" not in rest


async def test_an_update_leaves_what_it_does_not_name(ground: ControlGround, tenant: str) -> None:
    memory = await ground.memory(
        tenant, description="old", memoryExecutionRoleArn=ROLE, memoryStrategies=[FACTS],
        indexedKeys=[{"key": "topic", "type": "STRING"}],
    )  # fmt: skip
    changed = await ground.control(tenant).update_memory(
        memoryId=memory["id"], eventExpiryDuration=3650,
        addIndexedKeys=[{"key": "cost", "type": "NUMBER"}],
    )  # fmt: skip
    after = changed["memory"]
    assert after == await ground.shown(tenant, memory["id"])
    assert after["updatedAt"] > memory["updatedAt"]
    assert after["eventExpiryDuration"] == 3650
    assert [entry["key"] for entry in after["indexedKeys"]] == ["topic", "cost"]
    same = ("description", "memoryExecutionRoleArn", "strategies", "name", "arn", "createdAt")
    assert [after[name] for name in same] == [memory[name] for name in same]
    assert (await ground.loaded.get(tenant, memory["id"])).expiry_days == 3650


async def test_what_is_once_indexed_keeps_its_type(ground: ControlGround, tenant: str) -> None:
    memory = await ground.memory(tenant, indexedKeys=[{"key": "topic", "type": "STRING"}])
    control = ground.control(tenant)
    message = await refused(
        control.update_memory(
            memoryId=memory["id"], addIndexedKeys=[{"key": "topic", "type": "NUMBER"}]
        ),
        "ValidationException",
    )
    assert "'topic' is a STRING" in message
    more = [{"key": f"k{n}", "type": "STRING"} for n in range(10)]
    await refused(
        control.update_memory(memoryId=memory["id"], addIndexedKeys=more),
        "ServiceQuotaExceededException",
    )
    own = [{"key": "x-amz-agentcore-memory-createdAt", "type": "STRING"}]
    await refused(
        control.update_memory(memoryId=memory["id"], addIndexedKeys=own), "ValidationException"
    )
    assert len((await ground.shown(tenant, memory["id"]))["indexedKeys"]) == 1


async def test_the_same_request_twice_makes_one_memory(ground: ControlGround, tenant: str) -> None:
    token = "t" * 40
    first = await ground.memory(tenant, clientToken=token, memoryStrategies=[FACTS])
    again = await ground.memory(tenant, clientToken=token, memoryStrategies=[FACTS])
    assert again == first
    assert len(ground.told.of(first["id"])) == 1
    await refused(ground.memory(tenant, "other", clientToken=token), "ConflictException")


async def test_a_name_that_is_taken_is_said_as_the_sdk_reads_it(
    ground: ControlGround, tenant: str
) -> None:
    memory = await ground.memory(tenant)
    message = await refused(ground.memory(tenant), "ValidationException")
    assert "already exists" in message and memory["id"] in message


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"encryptionKeyArn": KEY}, "encrypt the disk"),
        (
            {
                "streamDeliveryResources": {
                    "resources": [
                        {
                            "kinesis": {
                                "dataStreamArn": STREAM,
                                "contentConfigurations": [{"type": "MEMORY_RECORDS"}],
                            }
                        }
                    ]
                }
            },
            "no Kinesis here",
        ),
        ({"tags": {TAG_TURNS: "yes"}}, "expected off, on"),
        ({"tags": {"freehold:other": "x"}}, "no such setting"),
        ({"namespaceKeys": [{"key": "a"}, {"key": "a"}]}, "twice"),
        ({"namespaceKeys": [{"key": "a", "validation": {"regexPattern": "("}}]}, "no regular"),
        (
            {"namespaceKeys": [{"key": "a", "validation": {"regexPattern": "(a+)+"}}]},
            "cannot be repeated",
        ),
    ],
)
async def test_what_cannot_be_here_is_refused_in_words(
    ground: ControlGround, tenant: str, parameters: dict[str, Any], why: str
) -> None:
    assert why in await refused(ground.memory(tenant, **parameters), "ValidationException")
    assert (await ground.control(tenant).list_memories())["memories"] == []


async def test_an_empty_list_of_streams_is_fine(ground: ControlGround, tenant: str) -> None:
    memory = await ground.memory(tenant, streamDeliveryResources={"resources": []})
    assert "streamDeliveryResources" not in memory


async def test_a_memory_of_another_tenant_is_not_there(ground: ControlGround, tenant: str) -> None:
    memory = await ground.memory(tenant, memoryStrategies=[FACTS])
    id, stranger = memory["id"], str(int(tenant) // 2).zfill(12)
    control = ground.control(stranger)
    absent = "ResourceNotFoundException"
    await refused(control.get_memory(memoryId=id), absent)
    await refused(control.update_memory(memoryId=id, description="mine"), absent)
    await refused(control.delete_memory(memoryId=id), absent)
    await refused(control.list_tags_for_resource(resourceArn=memory["arn"]), absent)
    assert (await control.list_memories())["memories"] == []
    for name in (id, memory["arn"], memory["arn"].replace(tenant, stranger)):
        with pytest.raises(NotFound):
            await ground.loaded.get(stranger, name)
    with pytest.raises(NotFound):
        await ground.loaded.get(tenant, memory["arn"].replace(tenant, stranger))
    assert await ground.shown(tenant, id) == memory


# -- in a worker's memory


async def test_who_changes_a_memory_sees_the_change_at_once(
    ground: ControlGround, tenant: str
) -> None:
    id = (await ground.memory(tenant))["id"]
    for days in range(31, 41):
        assert (await ground.loaded.get(tenant, id)).expiry_days == days - 1
        await ground.memories.update(tenant, {"memoryId": id, "eventExpiryDuration": days})
    assert (await ground.loaded.get(tenant, id)).expiry_days == 40
    await ground.memories.delete(tenant, id)
    with pytest.raises(NotFound):
        await ground.loaded.get(tenant, id)


async def test_a_memory_is_found_by_its_id_and_its_arn(ground: ControlGround, tenant: str) -> None:
    memory = await ground.memory(tenant)
    found = await ground.loaded.get(tenant, memory["arn"])
    assert found is await ground.loaded.get(tenant, memory["id"])
    wrong = memory["arn"].replace("memory/", "gateway/")
    for name in (wrong, "arn:aws:bedrock-agentcore", memory["id"] + "x", ""):
        with pytest.raises(NotFound):
            await ground.loaded.get(tenant, name)


async def test_another_worker_sees_changes(
    ground: ControlGround, dsn: str, state: Path, tenant: str
) -> None:
    async with ControlGround(dsn, state, works=False, executor="two").open() as other:
        with pytest.raises(NotFound):
            await other.loaded.get(tenant, "talks-0123456789")
        id = (await ground.memory(tenant))["id"]
        assert (await other.loaded.get(tenant, id)).expiry_days == 30
        await ground.control(tenant).update_memory(memoryId=id, eventExpiryDuration=60)

        async def seen() -> bool:
            return (await other.loaded.get(tenant, id)).expiry_days == 60

        await other.until(seen)
        await ground.control(tenant).delete_memory(memoryId=id)

        async def absent() -> bool:
            try:
                await other.loaded.get(tenant, id)
            except NotFound:
                return True
            return False

        await other.until(absent)


async def test_one_that_is_being_made_cannot_be_used_yet(
    ground: ControlGround, tenant: str
) -> None:
    id = (await ground.memory(tenant))["id"]
    await ground.resources.set_status(tenant, MEMORY, id, "CREATING")
    ground.loaded.drop(tenant, id)
    with pytest.raises(Conflict):
        await ground.loaded.get(tenant, id)


# -- raw turns


async def test_who_keeps_turns_is_told_when_they_are_switched(
    ground: ControlGround, tenant: str
) -> None:
    memory = await ground.memory(tenant, tags={TAG_TURNS: "on"})
    id, control = memory["id"], ground.control(tenant)
    assert (await ground.loaded.get(tenant, id)).turns
    await refused(
        control.tag_resource(resourceArn=memory["arn"], tags={TAG_TURNS: "maybe"}),
        "ValidationException",
    )
    await control.tag_resource(resourceArn=memory["arn"], tags={TAG_TURNS: "off", "team": "x"})
    assert not (await ground.loaded.get(tenant, id)).turns

    async def told(*switches: bool) -> None:
        async def said() -> bool:
            return ground.told.switches_of(id) == list(switches)

        await ground.until(said)

    await told(False)
    await control.tag_resource(resourceArn=memory["arn"], tags={TAG_TURNS: "on"})
    await told(False, True)
    await control.untag_resource(resourceArn=memory["arn"], tagKeys=[TAG_TURNS])
    await told(False, True, False)
    assert (await ground.shown(tenant, id))["status"] == "ACTIVE"


async def test_a_switch_back_while_the_first_is_told_is_told_too(
    ground: ControlGround, tenant: str
) -> None:
    memory = await ground.memory(tenant)
    id, arn = memory["id"], memory["arn"]

    async def back(on: bool) -> None:
        ground.told.switching = None
        await ground.resources.tag(tenant, arn, {TAG_TURNS: "off"})

    ground.told.switching = back
    await ground.control(tenant).tag_resource(resourceArn=arn, tags={TAG_TURNS: "on"})

    async def settled() -> bool:
        return ground.told.switches_of(id)[-1:] == [False]

    await ground.until(settled)
    assert ground.told.switches_of(id) == [True, False]


async def test_a_switch_that_nobody_heard_is_told_at_the_next_start(
    fresh_dsn: Any, state: Path, tenant: str
) -> None:
    dsn = await fresh_dsn()
    async with ControlGround(dsn, state).open() as ground:
        memory = await ground.memory(tenant)
    async with asyncio.timeout(10), await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute(
            "UPDATE resources SET tags = %s WHERE arn = %s",
            (Jsonb({TAG_TURNS: "on"}), memory["arn"]),
        )
    async with ControlGround(dsn, state).open() as again:
        assert again.told.switches_of(memory["id"]) == [True]
    async with ControlGround(dsn, state).open() as once_more:
        assert once_more.told.switches == []


async def test_a_switch_that_was_told_when_a_crash_came_is_told_again(
    fresh_dsn: Any, state: Path, tenant: str
) -> None:
    dsn = await fresh_dsn()
    async with ControlGround(dsn, state).open() as ground:
        memory = await ground.memory(tenant)
        reached = asyncio.Event()

        async def never(on: bool) -> None:
            reached.set()
            await asyncio.Event().wait()

        ground.told.switching = never
        await ground.control(tenant).tag_resource(resourceArn=memory["arn"], tags={TAG_TURNS: "on"})
        async with asyncio.timeout(10):
            await reached.wait()
        await ground.resources.tag(tenant, memory["arn"], {TAG_TURNS: "off"})
    async with ControlGround(dsn, state).open() as again:
        assert again.told.switches_of(memory["id"]) == [False]


# -- changes at once


async def test_two_updates_at_once_both_count(ground: ControlGround, tenant: str) -> None:
    id = (await ground.memory(tenant))["id"]

    async def add(strategy: Any) -> None:
        await ground.control(tenant).update_memory(
            memoryId=id, memoryStrategies={"addMemoryStrategies": [strategy]}
        )

    names = [f"s{n}" for n in range(6)]
    await asyncio.gather(*(add({"semanticMemoryStrategy": {"name": name}}) for name in names))
    shown = await ground.shown(tenant, id)
    assert sorted(strategy["name"] for strategy in shown["strategies"]) == names
    befores = [len(before.strategies) for before, _ in ground.told.of(id) if before]
    assert befores == [0, 1, 2, 3, 4, 5]


async def test_of_two_that_want_one_name_one_gets_it(ground: ControlGround, tenant: str) -> None:
    id = (await ground.memory(tenant))["id"]

    async def add() -> str:
        try:
            await ground.control(tenant).update_memory(
                memoryId=id, memoryStrategies={"addMemoryStrategies": [FACTS]}
            )
        except Exception as error:  # noqa: BLE001 - compared below
            return type(error).__name__
        return "made"

    assert sorted(await asyncio.gather(add(), add())) == ["ValidationException", "made"]
    assert len((await ground.shown(tenant, id))["strategies"]) == 1


async def test_a_repeated_update_is_one(ground: ControlGround, tenant: str) -> None:
    id = (await ground.memory(tenant))["id"]
    for _ in range(2):
        await ground.control(tenant).update_memory(
            memoryId=id, clientToken="u" * 40,
            memoryStrategies={"addMemoryStrategies": [FACTS]},
        )  # fmt: skip
    assert len((await ground.shown(tenant, id))["strategies"]) == 1
    assert len(ground.told.of(id)) == 2


async def test_a_change_that_a_part_cannot_take_does_not_happen(
    ground: ControlGround, tenant: str
) -> None:
    memory = await ground.memory(tenant)
    ground.told.trouble = Unavailable("not now")
    try:
        await refused(
            ground.control(tenant).update_memory(
                memoryId=memory["id"], memoryStrategies={"addMemoryStrategies": [FACTS]}
            ),
            "ServiceUnavailableException",
        )
    finally:
        ground.told.trouble = None
    assert await ground.shown(tenant, memory["id"]) == memory


# -- deletion


async def test_a_deleted_memory_goes_with_all_it_holds(ground: ControlGround, tenant: str) -> None:
    id = (await ground.memory(tenant))["id"]
    kept = (await ground.memory(tenant, "kept"))["id"]
    await ground.held.hold(tenant, id, 10)
    await ground.held.hold(tenant, kept, 3)
    await ground.loaded.get(tenant, id)
    ground.held.gate = asyncio.Event()
    try:
        answer = await ground.control(tenant).delete_memory(memoryId=id)
        assert answer == {"memoryId": id, "status": "DELETING"}
        with pytest.raises(NotFound):
            await ground.loaded.get(tenant, id)
        assert (await ground.shown(tenant, id))["status"] == "DELETING"
        await refused(
            ground.control(tenant).update_memory(memoryId=id, description="late"),
            "ConflictException",
        )
        assert (await ground.control(tenant).delete_memory(memoryId=id))["status"] == "DELETING"
    finally:
        ground.held.gate.set()
        ground.held.gate = None
    await ground.gone(tenant, id)
    await refused(ground.control(tenant).get_memory(memoryId=id), "ResourceNotFoundException")
    await refused(ground.control(tenant).delete_memory(memoryId=id), "ResourceNotFoundException")
    assert await ground.held.held(tenant, id) == 0
    assert await ground.held.held(tenant, kept) == 3
    assert (await ground.memory(tenant))["id"] != id, "the name is free again"


async def test_a_deletion_survives_a_crash_in_its_middle(
    fresh_dsn: Any, state: Path, tenant: str
) -> None:
    dsn = await fresh_dsn()
    async with ControlGround(dsn, state).open() as first:
        id = (await first.memory(tenant))["id"]
        await first.held.hold(tenant, id, 10)
        first.held.gate = asyncio.Event()
        await first.control(tenant).delete_memory(memoryId=id)
        async with asyncio.timeout(10):
            await first.held.reached.wait()
        assert await first.held.held(tenant, id) == 5
    async with ControlGround(dsn, state, executor="two").open() as second:
        await second.gone(tenant, id)
        assert await second.held.held(tenant, id) == 0


async def test_a_deletion_that_nobody_was_asked_to_do_is_taken_up(
    fresh_dsn: Any, state: Path, tenant: str
) -> None:
    """The crash came after the status was written, before the job was."""
    dsn = await fresh_dsn()
    async with ControlGround(dsn, state, works=False).open() as first:
        id = (await first.memory(tenant))["id"]
        await first.held.hold(tenant, id, 4)
        await first.resources.set_status(tenant, MEMORY, id, "DELETING")
    async with ControlGround(dsn, state, executor="two").open() as second:
        await second.gone(tenant, id)
        assert await second.held.held(tenant, id) == 0


async def test_a_deletion_that_was_given_up_can_be_asked_for_again(
    ground: ControlGround, tenant: str
) -> None:
    id = (await ground.memory(tenant))["id"]
    await ground.held.hold(tenant, id, 4)
    ground.held.trouble = Unavailable("the disk is full")
    try:
        await ground.control(tenant).delete_memory(memoryId=id)

        async def given_up() -> bool:
            job = await ground.jobs.get(f"memory deletion/{tenant}/{id}")
            return job is not None and job.state == "failed"

        await ground.until(given_up)
    finally:
        ground.held.trouble = None
    assert (await ground.shown(tenant, id))["status"] == "DELETING"
    await ground.control(tenant).delete_memory(memoryId=id)
    await ground.gone(tenant, id)
    assert await ground.held.held(tenant, id) == 0


async def test_what_is_written_while_a_memory_goes_goes_too(
    ground: ControlGround, tenant: str
) -> None:
    """A worker that has not heard yet may still write once after the first clearing."""
    id = (await ground.memory(tenant))["id"]
    cleared = ground.held.clear

    async def late(of_tenant: str, memory_id: str) -> None:
        await cleared(of_tenant, memory_id)
        if memory_id == id and ground.held.cleared.count(id) == 1:
            await ground.held.hold(tenant, id, 1)

    ground.held.clear = late  # type: ignore[method-assign]
    try:
        await ground.control(tenant).delete_memory(memoryId=id)

        async def twice() -> bool:
            return ground.held.cleared.count(id) == 2

        await ground.until(twice)
    finally:
        ground.held.clear = cleared  # type: ignore[method-assign]
    assert await ground.held.held(tenant, id) == 0


# -- what waits


async def test_people_are_told_what_waits_for_a_model(ground: ControlGround, tenant: str) -> None:
    id = (await ground.memory(tenant, memoryStrategies=[FACTS, SUMS]))["id"]
    memory = await ground.loaded.get(tenant, id)
    (reason,) = ground.memories.waiting(memory)
    assert reason.startswith("2 strategies wait (facts, sums) for a model")
    assert "OPENAI_API_KEY" in reason
    ground.model = True
    try:
        assert ground.memories.waiting(memory) == []
    finally:
        ground.model = False
    plain = await ground.loaded.get(tenant, (await ground.memory(tenant, "plain"))["id"])
    assert ground.memories.waiting(plain) == []


async def test_answers_say_what_waits_beside_the_model(ground: ControlGround, tenant: str) -> None:
    control = ground.control(tenant).boto3
    answer = await asyncio.to_thread(
        control.create_memory, name="talks", eventExpiryDuration=3, memoryStrategies=[FACTS]
    )
    notice = answer["ResponseMetadata"]["HTTPHeaders"]["x-freehold-notice"]
    assert notice.startswith("1 strategy waits (facts) for a model")
    plain = await asyncio.to_thread(control.create_memory, name="plain", eventExpiryDuration=3)
    assert "x-freehold-notice" not in plain["ResponseMetadata"]["HTTPHeaders"]


async def test_the_status_says_what_works_and_what_waits(
    ground: ControlGround, tenant: str
) -> None:
    made = await ground.memory(tenant, memoryStrategies=[FACTS], tags={TAG_TURNS: "on"})
    id = made["id"]
    status, answer = await ground.own(tenant, "GET", f"/memories/{id}/status")
    model, vectors = answer.pop("waiting")
    assert status == 200 and answer == {
        "memoryId": id, "memoryArn": made["arn"], "status": "ACTIVE", "turns": True,
        "strategies": [
            {
                "strategyId": made["strategies"][0]["strategyId"], "name": "facts",
                "status": "ACTIVE", "learns": "SEMANTIC",
            }
        ],
    }  # fmt: skip
    assert model.startswith("1 strategy waits (facts) for a model")
    assert vectors == "12 texts of talks wait for their vectors"
    stranger = str(int(tenant) // 2).zfill(12)
    assert (await ground.own(stranger, "GET", f"/memories/{id}/status"))[0] == 404
