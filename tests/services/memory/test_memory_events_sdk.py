"""Events through AWS's own SDK, on a real edge and a real Postgres."""

import asyncio
import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from memory_ground import MemoryGround

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.services.memory.model import Memory

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of its own dependencies
    from bedrock_agentcore.memory import MemoryClient, MemorySessionManager
    from bedrock_agentcore.memory.constants import (
        BlobMessage,
        ConversationalMessage,
        MessageRole,
    )
    from bedrock_agentcore.memory.models import (
        EventMetadataFilter,
        LeftExpression,
        OperatorType,
        RightExpression,
        StringValue,
    )


@pytest.fixture
async def ground(database: PostgresDatabase, tmp_path: Path) -> AsyncIterator[MemoryGround]:
    async with MemoryGround(database, tmp_path).open() as ground:
        yield ground


@pytest.fixture
def memory(ground: MemoryGround, tenant: str) -> Memory:
    made: Memory = ground.memories.make(tenant, namespace_keys={"team": {}})
    return made


async def test_the_sdk_forks_lists_and_recalls_turns(
    ground: MemoryGround, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        client = await asyncio.to_thread(_sdk_client, ground, memory.tenant, monkeypatch)
        stack.push_async_callback(asyncio.to_thread, client.gmdp_client.close)
        stack.push_async_callback(asyncio.to_thread, client.gmcp_client.close)

        def talk() -> dict[str, Any]:
            ids = {"memory_id": memory.id, "actor_id": "ann", "session_id": "s-1"}
            for number in range(4):
                messages = [(f"question {number}", "USER"), (f"answer {number}", "ASSISTANT")]
                made = client.create_event(**ids, messages=messages)
            client.fork_conversation(
                **ids, root_event_id=made["eventId"], branch_name="fork",
                new_messages=[("another question", "USER")],
            )  # fmt: skip
            return {
                "events": client.list_events(**ids),
                "turns": client.get_last_k_turns(**ids, k=2),
                "branches": client.list_branches(**ids),
                "main": client.list_branch_events(**ids),
                "tree": client.get_conversation_tree(**ids),
                "fork": client.merge_branch_context(**ids, branch_name="fork"),
            }

        found = await asyncio.to_thread(talk)
    assert len(found["events"]) == 5
    assert [turn[0]["content"]["text"] for turn in found["turns"]][:1] == ["another question"]
    assert {b["name"]: b["eventCount"] for b in found["branches"]} == {"main": 4, "fork": 1}
    assert len(found["main"]) == 4
    assert len(found["tree"]["main_branch"]["events"]) == 4
    assert len(found["fork"]) == 9


async def test_the_sdks_sessions_add_find_and_delete(
    ground: MemoryGround, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    _redirect_sdk(ground, memory.tenant, monkeypatch)
    manager = MemorySessionManager(memory_id=memory.id, region_name="us-east-1")

    def talk() -> dict[str, Any]:
        session = manager.create_memory_session(actor_id="ann", session_id="s-1")
        place = {"place": StringValue.build("Oslo")}
        messages = [
            ConversationalMessage("hello", MessageRole.USER), BlobMessage({"a": [1, 2]}),
        ]  # fmt: skip
        first = session.add_turns(messages, metadata=place)
        session.add_turns([ConversationalMessage("more", MessageRole.USER)])
        session.fork_conversation(
            messages=[ConversationalMessage("else", MessageRole.USER)],
            root_event_id=first["eventId"], branch_name="fork",
        )  # fmt: skip
        oslo = EventMetadataFilter.build_expression(
            LeftExpression.build("place"), OperatorType.EQUALS_TO, RightExpression.build("Oslo")
        )
        found = {
            "oslo": session.list_events(eventMetadata=[oslo]),
            "fork": session.list_events(branch_name="fork", include_parent_branches=True),
            "turns": session.get_last_k_turns(k=1),
            "branches": session.list_branches(),
            "actors": manager.list_actors(),
            "sessions": manager.list_actor_sessions("ann"),
            "blob": session.get_event(first["eventId"])["payload"][1],
        }
        session.delete_event(first["eventId"])
        return {**found, "left": session.list_events(), "first": first}

    try:
        found = await asyncio.to_thread(talk)
    finally:
        await asyncio.to_thread(manager._data_plane_client.close)
    assert [event["eventId"] for event in found["oslo"]] == [found["first"]["eventId"]]
    assert len(found["fork"]) == 2
    assert found["turns"][0][0]["content"]["text"] == "else"
    assert {b["name"]: b["eventCount"] for b in found["branches"]} == {"main": 2, "fork": 1}
    assert [actor["actorId"] for actor in found["actors"]] == ["ann"]
    assert [session["sessionId"] for session in found["sessions"]] == ["s-1"]
    assert found["blob"] == {"blob": {"a": [1, 2]}}
    assert len(found["left"]) == 2


def _sdk_client(ground: MemoryGround, tenant: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    _redirect_sdk(ground, tenant, monkeypatch)
    return MemoryClient(region_name="us-east-1")


def _redirect_sdk(ground: MemoryGround, tenant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ground.access_keys.of(tenant)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key.id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key.secret)
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", ground.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL", ground.endpoint)
