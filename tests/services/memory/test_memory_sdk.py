"""AgentCore's own SDK, unmodified: MemoryClient, and sessions of MemorySessionManager."""

import asyncio
import functools
import re
import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from control_memory_ground import TOPIC, ControlGround
from extraction_ground import AT_ONCE, ModelDouble
from psycopg import sql

from edge_ground import REGION
from freehold.adapters.embeddings.absent import NoEmbeddings
from freehold.ports.database import Connection
from freehold.services.memory import events_api, records_api
from freehold.services.memory.events import EventLog
from freehold.services.memory.index.service import MemoryIndex
from freehold.services.memory.learning import Extraction
from freehold.services.memory.model import TAG_TURNS, Event, Memory
from freehold.services.memory.records import Records
from freehold.services.memory.turns import FILL_JOB, Turns

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of pydantic, about the SDK's models
    from bedrock_agentcore.memory import MemoryClient
    from bedrock_agentcore.memory.constants import (
        BlobMessage,
        ConversationalMessage,
        MessageRole,
        RetrievalConfig,
    )
    from bedrock_agentcore.memory.controlplane import MemoryControlPlaneClient
    from bedrock_agentcore.memory.session import MemorySessionManager

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:bedrock_agentcore.*")

PROMPT = {"prompt": "Only of food.", "modelId": "small"}
ACTOR, SESSION = "alice", "monday"
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


class DataPlane:
    """Events, turns, records and what is learned, with their real parts; found by their words."""

    def __init__(self, ground: ControlGround) -> None:
        database, memories = ground.database, ground.loaded
        self._database = database
        self._index = MemoryIndex(database, NoEmbeddings())
        self._turns = Turns(database, self._index, memories=memories, jobs=ground.jobs)
        self._records = Records(database, self._index, memories=memories)
        self._extraction = Extraction(
            database, memories=memories, records=self._records, jobs=ground.jobs,
            models=ModelDouble(), triggers=AT_ONCE,
        )  # fmt: skip
        self._events = EventLog(database, memories=memories, learning=self)
        self._extraction.reads(self._events)
        ground.jobs.register(FILL_JOB, self._turns.work, concurrency=2)
        ground.parts, ground.turns = self, self._turns
        ground.own_parts = [self._extraction]
        self.handlers = {
            **events_api.handlers(self._events),
            **records_api.handlers(memories, self._records, self._turns, self._index),
        }

    async def said(self, connection: Connection, memory: Memory, event: Event) -> None:
        await self._turns.said(connection, memory, event)
        await self._extraction.said(connection, memory, event)

    async def unsaid(self, connection: Connection, memory: Memory, events: Sequence[Event]) -> None:
        await self._turns.unsaid(connection, memory, events)
        await self._extraction.unsaid(connection, memory, events)

    async def clear(self, tenant: str, memory_id: str) -> None:
        await self._events.forget(tenant, memory_id)
        await self._turns.clear(tenant, memory_id)
        await self._records.clear(tenant, memory_id)
        async with self._database.transaction() as connection:
            await self._index.clear(connection, tenant, memory_id)
            await self._extraction.clear(connection, tenant, memory_id)


@pytest.fixture(scope="module")
async def ground(
    fresh_dsn: Any, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControlGround]:
    state = tmp_path_factory.mktemp("sdk")
    async with ControlGround(
        await fresh_dsn(), state, more=lambda ground: DataPlane(ground).handlers
    ).open() as ground:
        yield ground


@pytest.fixture
def session(ground: ControlGround, tenant: str, monkeypatch: pytest.MonkeyPatch) -> boto3.Session:
    """As a user sets it up: two variables, and a key."""
    key = ground.access_keys.of(tenant)
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", ground.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL", ground.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key.id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key.secret)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    return boto3.Session(region_name=REGION)


class Awaited:
    """Its methods run in a thread, within a time that no poll of the SDK's (10 s) fits into: what
    it waits for has happened when it first looks."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def act(*args: Any, **given: Any) -> Any:
            call = functools.partial(getattr(self._client, name), *args, **given)
            async with asyncio.timeout(8):
                return await asyncio.to_thread(call)

        return act


@pytest.fixture
def client(session: boto3.Session) -> Awaited:
    return Awaited(MemoryClient(boto3_session=session))


# -- the control plane


async def test_a_memory_is_made_and_waited_for(client: Awaited) -> None:
    strategies = [
        {"semanticMemoryStrategy": {"name": "facts"}},
        {"userPreferenceMemoryStrategy": {"name": "likes", "namespaces": ["/likes/{actorId}/"]}},
        {"summaryMemoryStrategy": {"name": "sums"}},
    ]
    memory = await client.create_memory_and_wait(
        "talks", strategies, description="of talks", event_expiry_days=7,
        indexed_keys=[{"key": "topic", "type": "STRING"}],
    )  # fmt: skip
    assert memory["status"] == "ACTIVE" and memory["memoryId"] == memory["id"]
    assert re.fullmatch(r"talks-[a-zA-Z0-9]{10}", memory["id"])
    assert [s["memoryStrategyType"] for s in memory["memoryStrategies"]] == [
        "SEMANTIC", "USER_PREFERENCE", "SUMMARIZATION",
    ]  # fmt: skip
    assert memory["strategies"][1]["namespaceTemplates"] == ["/likes/{actorId}/"]
    assert [each["memoryId"] for each in await client.list_memories()] == [memory["id"]]
    assert await client.get_memory_status(memory["id"]) == "ACTIVE"


async def test_a_memory_that_is_there_is_got(client: Awaited) -> None:
    made = await client.create_or_get_memory("talks")
    got = await client.create_or_get_memory("talks")
    assert got["memoryId"] == made["memoryId"]


async def test_strategies_are_added_and_waited_for(client: Awaited) -> None:
    id = (await client.create_memory_and_wait("talks", []))["memoryId"]
    await client.add_semantic_strategy_and_wait(id, "facts", description="what is so")
    await client.add_summary_strategy_and_wait(id, "sums")
    await client.add_user_preference_strategy_and_wait(
        id, "likes", namespace_templates=["/likes/{actorId}/"]
    )
    await client.add_episodic_strategy_and_wait(
        id, "trips", reflection_namespace_templates=["/trips/{actorId}/"],
        namespace_templates=["/trips/{actorId}/{sessionId}/"],
    )  # fmt: skip
    await client.add_custom_semantic_strategy_and_wait(id, "food", PROMPT, PROMPT)
    memory = await client.add_custom_episodic_strategy_and_wait(
        id, "meals", PROMPT, PROMPT, {**PROMPT, "namespaceTemplates": ["custom/{actorId}/"]}
    )
    found = {s["name"]: s for s in memory["strategies"]}
    assert [s["type"] for s in found.values()] == [
        "SEMANTIC", "SUMMARIZATION", "USER_PREFERENCE", "EPISODIC", "CUSTOM", "CUSTOM",
    ]  # fmt: skip
    assert found["food"]["configuration"]["type"] == "SEMANTIC_OVERRIDE"
    assert found["meals"]["configuration"]["type"] == "EPISODIC_OVERRIDE"
    with pytest.raises(ClientError, match="at most 6 strategies"):
        await client.add_semantic_strategy_and_wait(id, "more")


async def test_strategies_are_modified_and_deleted(client: Awaited) -> None:
    strategies = [
        {"customMemoryStrategy": {"name": "own", "configuration": {
            "selfManagedConfiguration": {"invocationConfiguration": {
                "topicArn": TOPIC, "payloadDeliveryBucketName": "said-things"}}}}},
    ]  # fmt: skip
    id = (await client.create_memory_and_wait("talks", strategies))["memoryId"]
    await client.add_custom_semantic_strategy_and_wait(id, "food", PROMPT, PROMPT)
    own, food = (s["strategyId"] for s in await client.get_memory_strategies(id))
    other = {"appendToPrompt": "Only of drink.", "modelId": "large"}
    await client.modify_strategy(id, food, description="new", configuration={"extraction": other})
    await client.modify_strategy(
        id, own, namespace_templates=["/own/"],
        configuration={"selfManagedConfiguration": {"historicalContextWindowSize": 9}},
    )  # fmt: skip
    changed = {s["strategyId"]: s for s in await client.get_memory_strategies(id)}
    assert changed[food]["description"] == "new"
    assert changed[food]["configuration"]["extraction"] == {
        "customExtractionConfiguration": {"semanticExtractionOverride": other}
    }
    assert changed[own]["namespaces"] == ["/own/"]
    managed = changed[own]["configuration"]["selfManagedConfiguration"]
    assert managed["historicalContextWindowSize"] == 9
    memory = await client.update_memory_strategies_and_wait(
        id, add_strategies=[{"summaryMemoryStrategy": {"name": "sums"}}],
        modify_strategies=[{"memoryStrategyId": own, "description": "told"}],
        delete_strategy_ids=[food],
    )  # fmt: skip
    assert [s["name"] for s in memory["strategies"]] == ["own", "sums"]
    after = await client.delete_strategy(id, own)
    assert [s["name"] for s in after["strategies"]] == ["sums"]


async def test_a_memory_is_deleted_and_waited_for(client: Awaited) -> None:
    id = (await client.create_memory_and_wait("talks", []))["memoryId"]
    # At the second look it is gone: a job does it.
    await client.delete_memory_and_wait(id, poll_interval=0.2)
    with pytest.raises(ClientError, match="ResourceNotFound"):
        await client.get_memory_status(id)


async def test_the_other_control_client_manages_strategies(session: boto3.Session) -> None:
    client = Awaited(MemoryControlPlaneClient(region_name=REGION))
    memory = await client.create_memory("talks", wait_for_active=True)
    memory = await client.add_strategy(
        memory["id"], {"semanticMemoryStrategy": {"name": "facts"}}, wait_for_active=True
    )
    (strategy,) = memory["strategies"]
    await client.update_strategy(
        memory["id"], strategy["strategyId"], description="so", wait_for_active=True
    )
    found = await client.get_strategy(memory["id"], strategy["strategyId"])
    assert found["description"] == "so"
    updated = await client.update_memory(memory["id"], event_expiry_days=9, wait_for_active=True)
    assert updated["eventExpiryDuration"] == 9 and updated["strategyCount"] == 1
    await client.remove_strategy(memory["id"], strategy["strategyId"], wait_for_active=True)
    assert (await client.list_memories())[0]["id"] == memory["id"]
    await client.delete_memory(
        memory["id"], wait_for_deletion=True, wait_for_strategies=True, poll_interval=0.2
    )


# -- what is said


async def test_a_conversation_is_saved_forked_and_read_back(client: Awaited) -> None:
    id = (await client.create_memory_and_wait("talks", []))["memoryId"]
    at = [NOON + timedelta(minutes=n) for n in range(4)]
    said = [
        await client.create_event(
            id, ACTOR, SESSION, [(f"question {n}", "USER"), (f"answer {n}", "ASSISTANT")],
            event_timestamp=at[n], metadata={"topic": {"stringValue": f"t{n % 2}"}},
        )
        for n in range(3)
    ]  # fmt: skip
    ids = [event["eventId"] for event in said]
    assert ids == sorted(ids) and all(re.fullmatch("[0-9]+#[a-f0-9]+", each) for each in ids)
    forked = await client.fork_conversation(
        id, ACTOR, SESSION, ids[0], "retry", [("question again", "USER")], event_timestamp=at[3]
    )
    assert forked["branch"] == {"name": "retry", "rootEventId": ids[0]}
    await client.save_conversation(
        id, ACTOR, SESSION, [("answer again", "ASSISTANT")], branch={"name": "retry"},
        event_timestamp=at[3] + timedelta(minutes=1),
    )  # fmt: skip

    turns = await client.get_last_k_turns(id, ACTOR, SESSION, k=2, branch_name="main")
    # The SDK reads all branches here, newest first; the last answers come first.
    texts = [[message["content"]["text"] for message in turn] for turn in turns]
    assert texts[0] == ["answer again"] and texts[1] == ["question again"]
    branches = {b["name"]: b for b in await client.list_branches(id, ACTOR, SESSION)}
    assert branches["main"]["eventCount"] == 3 and branches["retry"]["eventCount"] == 2
    assert branches["retry"]["rootEventId"] == ids[0]
    own = await client.list_branch_events(id, ACTOR, SESSION, branch_name="retry")
    assert [event["eventId"] for event in own][-1] == forked["eventId"] and len(own) == 2
    path = await client.list_branch_events(
        id, ACTOR, SESSION, branch_name="retry", include_parent_branches=True
    )
    assert ids[0] in {e["eventId"] for e in path} and ids[1] not in {e["eventId"] for e in path}
    main = await client.list_branch_events(id, ACTOR, SESSION)
    assert [event["eventId"] for event in main] == ids[::-1]
    merged = await client.merge_branch_context(id, ACTOR, SESSION, "retry")
    assert [message["content"] for message in merged] == [
        "question 0", "answer 0", "question again", "answer again",
    ]  # fmt: skip
    tree = await client.get_conversation_tree(id, ACTOR, SESSION)
    assert len(tree["main_branch"]["branches"]["retry"]["events"]) == 2
    found = await client.list_events(
        id, ACTOR, SESSION,
        event_metadata=[{
            "left": {"metadataKey": "topic"}, "operator": "EQUALS_TO",
            "right": {"metadataValue": {"stringValue": "t0"}},
        }],
    )  # fmt: skip
    assert {event["eventId"] for event in found} == {ids[0], ids[2]}


async def test_last_turns_are_the_newest(client: Awaited) -> None:
    id = (await client.create_memory_and_wait("talks", []))["memoryId"]
    for n in range(5):
        await client.create_event(
            id, ACTOR, SESSION, [(f"q{n}", "USER"), (f"a{n}", "ASSISTANT")],
            event_timestamp=NOON + timedelta(minutes=n),
        )  # fmt: skip
    turns = await client.get_last_k_turns(id, ACTOR, SESSION, k=2)
    assert [[m["content"]["text"] for m in turn] for turn in turns] == [["q4", "a4"], ["q3", "a3"]]


async def test_blobs_come_back_as_they_went(client: Awaited) -> None:
    id = (await client.create_memory_and_wait("talks", []))["memoryId"]
    blob = {"state": [1, 2.5, None, {"deep": "yes"}]}
    event = await client.create_blob_event(id, ACTOR, SESSION, blob)
    (read,) = await client.list_events(id, ACTOR, SESSION)
    assert read["payload"] == event["payload"] == [{"blob": blob}]


async def test_a_session_speaks_for_one_actor(session: boto3.Session, client: Awaited) -> None:
    id = (await client.create_memory_and_wait("talks", []))["memoryId"]
    sessions = MemorySessionManager(memory_id=id, boto3_session=session)
    own = sessions.create_memory_session(ACTOR, SESSION)
    talk = Awaited(own)
    first = await talk.add_turns(
        [
            ConversationalMessage("Where is the cat?", MessageRole.USER),
            BlobMessage({"page": 3}),
            ConversationalMessage("On the mat.", MessageRole.ASSISTANT),
        ]
    )
    fork = await talk.fork_conversation(
        [ConversationalMessage("And the dog?", MessageRole.USER)], first.eventId, "dogs"
    )
    assert (await talk.get_event(first.eventId)).eventId == first.eventId
    turns = await talk.get_last_k_turns(k=5, branch_name="dogs", include_parent_branches=False)
    assert [message["content"]["text"] for turn in turns for message in turn] == ["And the dog?"]
    assert {branch["name"] for branch in await talk.list_branches()} == {"main", "dogs"}
    assert [actor.actorId for actor in await talk.list_actors()] == [ACTOR]
    (summary,) = await Awaited(own.get_actor()).list_sessions()
    assert summary.sessionId == SESSION
    await talk.delete_event(fork.eventId)
    assert [event.eventId for event in await talk.list_events()] == [first.eventId]
    stranger = MemorySessionManager(memory_id=id[:-1] + "0", boto3_session=session)
    with pytest.raises(ClientError, match="does not exist"):
        await Awaited(stranger.create_memory_session(ACTOR, SESSION)).list_events()


# -- what is found


async def with_turns(session: boto3.Session, client: Awaited) -> str:
    """A memory whose turns are searchable, as a user switches that: by a tag."""
    memory = await client.create_memory_and_wait("talks", [])
    control = Awaited(session.client("bedrock-agentcore-control"))
    await control.tag_resource(resourceArn=memory["arn"], tags={TAG_TURNS: "on"})
    id: str = memory["memoryId"]
    return id


async def test_what_was_said_is_found_and_a_turn_is_answered_with_it(
    session: boto3.Session, client: Awaited
) -> None:
    id = await with_turns(session, client)
    await client.save_conversation(
        id, ACTOR, SESSION,
        [("My sister Nora bought a violin.", "USER"), ("How lovely for her!", "ASSISTANT")],
    )  # fmt: skip
    namespace = f"/turns/actors/{ACTOR}/sessions/{SESSION}/"
    assert await client.wait_for_memories(id, namespace, test_query="violin", poll_interval=0.1)
    found = await client.retrieve_memories(id, namespace=namespace, query="Who plays the violin?")
    assert found[0]["content"]["text"] == "My sister Nora bought a violin."
    assert 0 < found[0]["score"] <= 1 and found[0]["memoryStrategyId"] == "turns"
    below = await client.retrieve_memories(id, namespace_path="/turns/", query="violin", top_k=1)
    assert [record["memoryRecordId"] for record in below] == [found[0]["memoryRecordId"]]

    def answers(asked: str, memories: Any) -> str:
        return f"It was said: {memories[0]['content']['text']}"

    memories, answer, event = await client.process_turn_with_llm(
        id, ACTOR, "tuesday", "Who bought a violin?", answers, retrieval_namespace=namespace
    )
    assert answer == "It was said: My sister Nora bought a violin." and memories
    texts = [item["conversational"]["content"]["text"] for item in event["payload"]]
    assert texts == ["Who bought a violin?", answer]

    manager = MemorySessionManager(memory_id=id, boto3_session=session)
    talk = Awaited(manager.create_memory_session(ACTOR, "wednesday"))
    memories, answer, event = await talk.process_turn_with_llm(
        "And the violin?", answers,
        {"/turns/actors/{actorId}/sessions/monday/": RetrievalConfig(top_k=2)},
    )  # fmt: skip
    assert "Nora" in answer and event.eventId


async def test_turns_of_before_the_switch_are_found_too(
    session: boto3.Session, client: Awaited
) -> None:
    memory = await client.create_memory_and_wait("talks", [])
    id = memory["memoryId"]
    await client.create_event(id, ACTOR, SESSION, [("The key is under the pot.", "USER")])
    assert await client.retrieve_memories(id, namespace_path="/turns/", query="key") == []
    control = Awaited(session.client("bedrock-agentcore-control"))
    await control.tag_resource(resourceArn=memory["arn"], tags={TAG_TURNS: "on"})
    namespace = f"/turns/actors/{ACTOR}/sessions/{SESSION}/"
    assert await client.wait_for_memories(id, namespace, test_query="key", poll_interval=0.1)


async def test_what_is_learned_is_waited_for_and_retrieved(client: Awaited) -> None:
    memory = await client.create_memory_and_wait(
        "talks",
        [
            {"semanticMemoryStrategy": {"name": "facts"}},
            {"summaryMemoryStrategy": {"name": "sums", "namespaces": ["/sums/{sessionId}/"]}},
        ],
    )
    id, facts = memory["memoryId"], memory["strategies"][0]["strategyId"]
    await client.save_conversation(
        id, ACTOR, SESSION, [("The cat is grey.", "USER"), ("Noted.", "ASSISTANT")]
    )
    namespace = f"/strategies/{facts}/actors/{ACTOR}/"
    assert await client.wait_for_memories(id, namespace, test_query="cat", poll_interval=0.1)
    found = await client.retrieve_memories(id, namespace=namespace, query="What is the cat?")
    assert found[0]["content"]["text"] == "The cat is grey."
    assert found[0]["memoryStrategyId"] == facts and found[0]["namespaces"] == [namespace]
    assert await client.wait_for_memories(id, "/sums/monday/", test_query="cat", poll_interval=0.1)
    # Its records stay when a strategy goes, and it learns no more.
    await client.delete_strategy(id, facts)
    again = await client.retrieve_memories(id, namespace=namespace, query="cat")
    assert [record["memoryRecordId"] for record in again] == [found[0]["memoryRecordId"]]


async def test_records_are_searched_listed_and_deleted(
    session: boto3.Session, client: Awaited
) -> None:
    id = (await client.create_memory_and_wait("talks", []))["memoryId"]
    namespace = "/likes/alice/"
    made = await client.batch_create_memory_records(
        memoryId=id,
        records=[
            {
                "requestIdentifier": f"r{n}", "namespaces": [namespace], "timestamp": NOON,
                "content": {"text": f"Alice likes {thing}."},
            }
            for n, thing in enumerate(("tea", "violins", "rain"))
        ],
    )  # fmt: skip
    assert len(made["successfulRecords"]) == 3 and made["failedRecords"] == []
    manager = MemorySessionManager(memory_id=id, boto3_session=session)
    talk = Awaited(manager.create_memory_session(ACTOR, SESSION))
    found = await talk.search_long_term_memories("violins", namespace=namespace, top_k=1)
    assert [record["content"]["text"] for record in found] == ["Alice likes violins."]
    listed = await talk.list_long_term_memory_records(namespace=namespace)
    assert len(listed) == 3
    one = await talk.get_memory_record(found[0].memoryRecordId)
    assert one.content == {"text": "Alice likes violins."}
    await talk.delete_memory_record(found[0].memoryRecordId)
    gone = await Awaited(manager).delete_all_long_term_memories_in_namespace(namespace)
    assert len(gone["successfulRecords"]) == 2
    assert await talk.list_long_term_memory_records(namespace_path="/likes/") == []


async def test_a_deleted_memory_takes_all_it_held_along(
    ground: ControlGround, tenant: str, session: boto3.Session, client: Awaited
) -> None:
    id = await with_turns(session, client)
    await client.add_semantic_strategy_and_wait(id, "facts")
    await client.create_event(id, ACTOR, SESSION, [("The key is under the pot.", "USER")])
    await client.batch_create_memory_records(
        memoryId=id,
        records=[
            {
                "requestIdentifier": "r", "namespaces": ["/facts/"], "timestamp": NOON,
                "content": {"text": "There is a pot."},
            }
        ],
    )  # fmt: skip
    assert await rows_of(ground, tenant) > 3
    await client.delete_memory_and_wait(id, poll_interval=0.2)

    async def all_gone() -> bool:
        return await rows_of(ground, tenant) == 0

    await ground.until(all_gone)


async def rows_of(ground: ControlGround, tenant: str) -> int:
    """In every table of memory's that knows tenants, whoever has added it."""
    async with ground.database.connection() as connection:
        found = await connection.execute(
            "SELECT table_name FROM information_schema.columns"
            " WHERE column_name = 'tenant' AND starts_with(table_name, 'memory_')"
        )
        tables = [row[0] for row in await found.fetchall()]
        assert len(tables) > 3
        count = 0
        for table in tables:
            rows = await connection.execute(
                sql.SQL("SELECT count(*) FROM {} WHERE tenant = %s").format(sql.Identifier(table)),
                (tenant,),
            )
            row = await rows.fetchone()
            assert row is not None
            count += row[0]
        return count
