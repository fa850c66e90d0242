"""What an agent should know of somebody whatever is said: by our own API, whole."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from extraction_ground import START, strategy
from person_ground import PersonGround

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.services.memory.model import Strategy


@pytest.fixture(scope="module")
async def ground(
    database: PostgresDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Any]:
    state = tmp_path_factory.mktemp("profile")
    async with PersonGround(database, state, executor="profile").open() as opened:
        yield opened


def taste() -> Strategy:
    return strategy(
        {"userPreferenceMemoryStrategy": {"name": "taste", "namespaces": ["/taste/{actorId}/"]}}
    )


async def test_a_profile_has_preferences_and_standing_instructions(
    ground: PersonGround, tenant: str
) -> None:
    of = ground.of(ground.memory(tenant, strategies=(taste(),)))
    await of.say("tea is green", minute=1)
    await of.say("tea is black", minute=2, actor="bob")
    await of.learn()
    made = await of.client.batch_create_memory_records(
        memoryId=of.memory.id,
        records=[{
            "requestIdentifier": "1", "content": {"text": "Answer in verse."},
            "namespaces": ["/rules/anna/"], "timestamp": START,
            "metadata": {"kind": {"stringValue": "instruction"}},
        }],
    )  # fmt: skip
    rule = made["successfulRecords"][0]["memoryRecordId"]
    await of.put("has a cat", "/rules/anna/")
    profile = await of.get("/profile", actor="anna")
    assert {each["text"] for each in profile["records"]} == {"tea is green", "Answer in verse."}
    assert profile["more"] is False
    [shown] = [each for each in profile["records"] if each["recordId"] == rule]
    assert shown["metadata"] == {"kind": "instruction"}
    [line, *_] = await of.retrievals()
    assert (line["operation"], line["namespace"]) == ("GetMemoryProfile", "/anna/")
    assert {"recordId": rule, "score": None} in line["records"]


async def test_a_profile_by_its_path_has_all_that_is_current_there(
    ground: PersonGround, tenant: str
) -> None:
    of = ground.of(ground.memory(tenant))
    await of.say("city is Rome", minute=1)
    await of.say("city is Oslo", minute=2)
    await of.learn()
    profile = await of.get("/profile", namespacePath="/facts/anna/")
    assert [each["text"] for each in profile["records"]] == ["city is Oslo"]


@pytest.mark.parametrize("asked", [{}, {"actor": "anna", "namespacePath": "/a/"}])
async def test_a_profile_is_of_one_thing(
    ground: PersonGround, tenant: str, asked: dict[str, Any]
) -> None:
    of = ground.of(ground.memory(tenant))
    assert (await of.ask("/profile", **asked))[0] == 400


async def test_another_tenants_profile_is_not_there(ground: PersonGround, tenant: str) -> None:
    of = ground.of(ground.memory(tenant))
    assert (await of.ask("/profile", tenant="999900009999", actor="anna"))[0] == 404
