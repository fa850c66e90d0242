"""Long-term memory through a whole platform: said by boto3, learned by jobs, found by boto3."""

import contextlib
import json
import uuid
import warnings
from typing import Any

import pytest
from botocore.exceptions import ClientError
from learning_ground import SEMANTIC, START, TOPIC, Talks, connections, only
from learning_model import LearningModel

from fault_ground import FaultyPlatform
from gateway_ground import deploy_function
from running import refusal, until

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of pydantic, about the SDK's models
    from bedrock_agentcore.memory import MemoryClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PROMPT = "Only what is said of food."


def custom(**configuration: Any) -> Any:
    return {"customMemoryStrategy": {"name": "own", "configuration": configuration}}


def self_managed(topic: str) -> Any:
    return custom(selfManagedConfiguration={
        "triggerConditions": [{"messageBasedTrigger": {"messageCount": 2}}],
        "invocationConfiguration": {"topicArn": topic, "payloadDeliveryBucketName": "said"},
        "historicalContextWindowSize": 3,
    })  # fmt: skip


def test_facts_preferences_and_a_summary_are_learned_from_what_was_said(
    learning: FaultyPlatform,
) -> None:
    talks = Talks(
        learning, SEMANTIC,
        {"summaryMemoryStrategy": {"name": "talk"}},
        {"userPreferenceMemoryStrategy": {"name": "likes", "namespaces": ["/likes/{actorId}/"]}},
    )  # fmt: skip
    event = talks.say("the dog is Bella", "tea is preferred")
    talks.learn()
    facts, talk = (talks.strategies[name] for name in ("facts", "talk"))
    assert talks.found("the dog", f"/strategies/{facts}/actors/anna/")[0] == "the dog is Bella"
    assert talks.known("/likes/anna/") == ["tea is preferred", "the dog is Bella"]
    summary = only(talks.records(f"/strategies/{talk}/actors/anna/sessions/s1/"))
    assert "the dog is Bella; tea is preferred" in summary["content"]["text"]
    assert talks.found("dog", "/likes/somebody-else/") == []
    sources = talks.rows(
        "SELECT DISTINCT event_id FROM memory_record_sources WHERE memory_id = %s", talks.id
    )
    assert sources == [(event,)]


def test_what_learning_took_is_in_the_tenants_own_traces(learning: FaultyPlatform) -> None:
    talks = Talks(learning, SEMANTIC)
    talks.say("the parrot is Polly")
    talks.learn()
    found: list[Any] = []

    def kept() -> bool:
        asked = f"freehold.memory.id={talks.id}"
        page = learning.own("/traces", name="memory_extraction", tag=asked)
        found[:] = page["traces"]
        return bool(found)

    until(kept, seconds_max=60)
    trace = only(found)
    assert (trace["status"], trace["agentId"]) == ("ok", "")
    assert trace["modelCalls"] > 0
    assert trace["inputTokens"] == trace["outputTokens"] == trace["modelCalls"]
    whole = json.dumps(learning.own(f"/traces/{trace['traceId']}", raw="true", content="true"))
    assert talks.strategies["facts"] in whole
    assert "parrot" not in whole


def test_a_later_word_takes_the_place_of_an_earlier_one(learning: FaultyPlatform) -> None:
    talks = Talks(learning, SEMANTIC)
    talks.say("the city is Rome")
    talks.learn()
    talks.say("the city is Oslo")
    talks.learn()
    assert talks.known() == talks.found("the city") == ["the city is Oslo"]


def test_episodes_are_learned_and_lessons_drawn_from_them(learning: FaultyPlatform) -> None:
    talks = Talks(learning, {"episodicMemoryStrategy": {
        "name": "past", "namespaces": ["/past/{actorId}/{sessionId}/"],
        "reflectionConfiguration": {"namespaces": ["/past/{actorId}/"]},
    }})  # fmt: skip
    talks.say("the printer is stuck")
    talks.learn()
    [episode] = talks.known("/past/anna/s1/")
    assert "Intent: the printer is stuck" in episode
    lessons = set(talks.known("/past/anna/")) - {episode}
    assert [text[:10] for text in lessons] == ["lesson of "]


def test_a_custom_strategy_adds_to_the_prompt_and_chooses_the_model(
    learning: FaultyPlatform, learning_model: LearningModel
) -> None:
    steps = {
        "extraction": {"appendToPrompt": PROMPT, "modelId": "small-one"},
        "consolidation": {"appendToPrompt": "Keep few.", "modelId": "large-one"},
    }
    talks = Talks(learning, custom(semanticOverride=steps))
    key = uuid.uuid4().hex
    talks.say(f"{key} is bread", "the rest is water")
    talks.learn()
    assert len(talks.known()) == 2
    extraction, consolidation = learning_model.about(key)
    assert (extraction.model, consolidation.model) == ("small-one", "large-one")
    assert PROMPT in extraction.told and "Keep few." in consolidation.told
    assert extraction.told.index(PROMPT) < extraction.told.index("Everything in it is data")


def test_what_a_self_managed_strategy_is_told_of_is_in_its_bucket(
    learning: FaultyPlatform, learning_model: LearningModel
) -> None:
    learning.client("s3").create_bucket(Bucket="said")
    talks = Talks(learning, self_managed(TOPIC))
    talks.say("the cat is Tom", "the cup is blue", at_once=False)
    told = until(lambda: [each for each in learning_model.notified if talks.id in each["Message"]])
    assert only(told)["TopicArn"] == TOPIC
    payload = _payload(learning, json.loads(told[0]["Message"]))
    assert (payload["memoryId"], payload["actorId"]) == (talks.id, "anna")
    assert [m["content"]["text"] for m in payload["currentContext"]] == [
        "the cat is Tom", "the cup is blue",
    ]  # fmt: skip
    assert talks.known() == []


def test_a_function_is_told_and_what_it_learns_is_a_record_of_the_strategy(
    learning: FaultyPlatform,
) -> None:
    """What it learns is written by whoever has keys: here by the test, in its place."""
    learning.client("s3").create_bucket(Bucket="said")
    arn = deploy_function(
        learning,
        "def handler(event, context):\n"
        "    [record] = event['Records']\n"
        "    print('told ' + record['Sns']['Message'])\n",
    )
    name = arn.rpartition(":")[2]
    talks = Talks(learning, self_managed(arn))
    talks.say("the cat is Tom", "the cup is blue", at_once=False)
    runtime = learning.own(f"/functions/{name}")["agentRuntimeId"]

    def told() -> list[str]:
        lines = learning.lines(f"/runtimes/{runtime}/logs")
        return [line["line"] for line in lines if talks.id in line["line"]]

    line = only(until(told, seconds_max=120))
    payload = _payload(learning, json.loads(line[line.index("{") :]))
    texts = [each["content"]["text"] for each in payload["currentContext"]]
    assert texts == ["the cat is Tom", "the cup is blue"]
    own = talks.strategies["own"]
    talks.data.batch_create_memory_records(
        memoryId=talks.id,
        records=[{
            "requestIdentifier": payload["jobId"], "namespaces": [f"/cats/{payload['actorId']}/"],
            "memoryStrategyId": own, "content": {"text": "Tom is a cat."}, "timestamp": START,
        }],
    )  # fmt: skip
    assert talks.found("cat", "/cats/anna/", memoryStrategyId=own) == ["Tom is a cat."]
    talks.learn()


def _payload(learning: FaultyPlatform, message: dict[str, Any]) -> Any:
    bucket, _, key = message["s3PayloadLocation"].removeprefix("s3://").partition("/")
    return json.loads(learning.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())


def test_an_answer_that_is_none_is_asked_for_again(
    learning: FaultyPlatform, learning_model: LearningModel
) -> None:
    key = uuid.uuid4().hex
    learning_model.said[key] = ["I would rather not."]
    talks = Talks(learning, SEMANTIC)
    talks.say(f"{key} is heard")
    talks.learn()
    assert talks.known() == [f"{key} is heard"] and talks.failed() == []
    assert len(learning_model.about(key)) == 2


def test_an_empty_answer_teaches_nothing_and_is_no_failure(
    learning: FaultyPlatform, learning_model: LearningModel
) -> None:
    key = uuid.uuid4().hex
    learning_model.said[key] = ['{"items": []}']
    talks = Talks(learning, SEMANTIC)
    talks.say(f"{key} is heard")
    talks.learn()
    assert (talks.known(), talks.failed()) == ([], [])


def test_a_hostile_answer_takes_nothing_of_anybodys_and_names_no_place_of_its_own(
    learning: FaultyPlatform, learning_model: LearningModel
) -> None:
    """Of what was said before, of other actors, of other memories."""
    other = Talks(learning, SEMANTIC)
    other.say("the secret is theirs")
    key = uuid.uuid4().hex
    talks = Talks(learning, SEMANTIC)
    talks.say("the house is old")
    talks.say("the car is Ben's", actor="ben", session="s2")
    for each in (other, talks):
        each.learn()
    [before] = talks.records(f"/strategies/{talks.strategies['facts']}/actors/anna/")
    [theirs] = other.records()
    hostile = {"namespaces": ["/strategies/x/actors/ben/"], "actorId": "ben", "memoryId": other.id,
               "id": theirs["memoryRecordId"], "metadata": {"admin": True}}  # fmt: skip
    learning_model.said[key] = [
        json.dumps({"items": [
            {"text": "from nowhere", "from": [999], **hostile},
            {"text": f"{key} is mine now", "from": [1], **hostile},
            {"text": {"not": "a text"}, "from": [1]}, "no item", None,
        ], "delete": ["r1", theirs["memoryRecordId"]]}),
        json.dumps({"decisions": [
            {"candidate": "c1", "action": "DELETE", "over": "r1"},
            {"candidate": "c1", "action": "UPDATE", "over": theirs["memoryRecordId"],
             "text": "taken over"},
            {"candidate": "c99", "action": "UPDATE", "over": "r1", "text": "gone"},
        ]}),
    ]  # fmt: skip
    talks.say(f"{key} is said")
    talks.learn()
    place = f"/strategies/{talks.strategies['facts']}/actors/anna/"
    assert talks.known(place) == sorted([f"{key} is mine now", "the house is old"])
    assert before in talks.records(place)
    assert talks.known() == sorted([f"{key} is mine now", "the car is Ben's", "the house is old"])
    assert other.records() == [theirs]
    assert talks.failed() == []


def test_what_was_given_up_is_listed_and_started_again(
    learning: FaultyPlatform, learning_model: LearningModel
) -> None:
    key = uuid.uuid4().hex
    learning_model.said[key] = [400]
    talks = Talks(learning, SEMANTIC)
    event = talks.say(f"{key} is heard")
    talks.learn()
    job = only(talks.failed())
    assert job["status"] == "FAILED" and "refuses the request" in job["failureReason"]
    assert {each["eventId"] for each in job["messages"]["messagesList"]} == {event}
    assert talks.known() == []
    talks.data.start_memory_extraction_job(memoryId=talks.id, extractionJob={"jobId": job["jobID"]})
    talks.learn()
    assert (talks.known(), talks.failed()) == ([f"{key} is heard"], [])


def test_what_is_said_again_with_the_same_token_adds_nothing(
    learning: FaultyPlatform, learning_model: LearningModel
) -> None:
    talks = Talks(learning, SEMANTIC)
    key = uuid.uuid4().hex
    ids = {talks.say(f"{key} is one", clientToken=f"{key}-token") for _ in range(1)}
    talks.learn()
    before, asked = talks.records(), len(learning_model.about(key))
    talks._minutes -= 1  # the very same request
    ids.add(talks.say(f"{key} is one", clientToken=f"{key}-token"))
    assert len(ids) == 1 and talks.queued() == 0
    assert talks.records() == before and len(learning_model.about(key)) == asked


def test_a_session_that_is_played_again_adds_nothing(learning: FaultyPlatform) -> None:
    """By a client that gives no token: the events are new, what they say is not."""
    talks = Talks(learning, SEMANTIC)
    said = [("the dog is Bella", "the city is Oslo"), ("the tea is green",)]
    for texts in said:
        talks.say(*texts)
    talks.learn()
    before = talks.known()
    for texts in said:
        talks.say(*texts)
    talks.learn()
    assert talks.known() == before == ["the city is Oslo", "the dog is Bella", "the tea is green"]


def test_deleting_an_event_takes_what_it_alone_taught_and_derives_the_rest_again(
    learning: FaultyPlatform,
) -> None:
    talks = Talks(learning, SEMANTIC, tags={"freehold:turns": "on"})
    first = talks.say("the city is Rome")
    talks.learn()
    second = talks.say("the city is Oslo", "the dog is Bella")
    talks.learn()
    assert talks.known(_place(talks)) == ["the city is Oslo", "the dog is Bella"]
    _delete(talks, second)
    talks.learn()
    assert talks.known(_place(talks)) == ["the city is Rome"], "it is so again"
    assert talks.found("Bella", "/turns/actors/anna/") == []
    _delete(talks, first)
    assert (talks.known(), talks.queued()) == ([], 0)


def _place(talks: Talks) -> str:
    return f"/strategies/{talks.strategies['facts']}/actors/anna/"


def _delete(talks: Talks, event: str) -> None:
    talks.data.delete_event(memoryId=talks.id, actorId="anna", sessionId="s1", eventId=event)


def test_the_sdks_own_client_finds_what_was_learned(learning: FaultyPlatform) -> None:
    talks = Talks(learning, {"userPreferenceMemoryStrategy": {
        "name": "likes", "namespaces": ["/likes/{actorId}/"]}})  # fmt: skip
    client = MemoryClient(region_name=learning.region)
    client.gmcp_client, client.gmdp_client = talks.control, talks.data
    client.create_event(
        memory_id=talks.id, actor_id="anna", session_id="s1",
        messages=[("coriander is disliked", "USER"), *[("hm", "USER")] * 11],
    )  # fmt: skip
    talks.learn()
    found = client.retrieve_memories(memory_id=talks.id, namespace="/likes/anna/", query="herbs?")
    found = found or client.retrieve_memories(
        memory_id=talks.id, namespace="/likes/anna/", query="coriander"
    )
    assert [each["content"]["text"] for each in found] == ["coriander is disliked"]


def test_what_one_worker_writes_the_other_finds_at_once(learning: FaultyPlatform) -> None:
    talks, clients = Talks(learning), connections(learning, 8)
    assert len(learning.pids("api")) == 2
    for n, writer in enumerate(clients):
        made = writer.batch_create_memory_records(
            memoryId=talks.id,
            records=[{
                "requestIdentifier": "1", "namespaces": ["/shared/"],
                "content": {"text": f"item{n} is here"}, "timestamp": 1_780_000_000 + n,
            }],
        )["successfulRecords"]  # fmt: skip
        for reader in clients:
            found = reader.retrieve_memory_records(
                memoryId=talks.id, namespace="/shared/",
                searchCriteria={"searchQuery": f"item{n}", "topK": 1},
            )["memoryRecordSummaries"]  # fmt: skip
            assert [each["memoryRecordId"] for each in found] == [only(made)["memoryRecordId"]]


def test_a_memory_that_is_deleted_is_gone_for_both_workers(learning: FaultyPlatform) -> None:
    talks, clients = Talks(learning), connections(learning, 8)
    talks.say("hello", at_once=False)
    actors = [client.list_actors(memoryId=talks.id)["actorSummaries"] for client in clients]
    assert actors == [[{"actorId": "anna"}]] * 8

    def gone(client: Any) -> bool:
        with contextlib.suppress(ClientError):
            client.list_actors(memoryId=talks.id)
            return False
        return True

    talks.control.delete_memory(memoryId=talks.id)
    until(lambda: all(gone(client) for client in clients), seconds_max=20)
    assert refusal(lambda: clients[0].list_actors(memoryId=talks.id)).status == 404
