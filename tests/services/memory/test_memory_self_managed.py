"""Self-managed strategies: what was said is delivered, by their triggers, once at least."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from extraction_ground import ground_on, strategy

from freehold.kernel.errors import AccessDenied, NotFound, ValidationFailed
from freehold.ports.functions import FunctionFailed, Invoked
from freehold.ports.web import Unreachable, WebAnswer
from freehold.services.memory.self_managed import SelfManaged, TopicDelivery

BUCKET = "payloads"


class Buckets:
    """Of the blobs port, what is needed here."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], bytes] = {}
        self.trouble: Exception | None = None

    async def put(
        self, tenant: str, bucket: str, key: str, chunks: AsyncIterator[bytes], **_: Any
    ) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.objects[tenant, bucket, key] = b"".join([chunk async for chunk in chunks])


class OtherSide:
    """A function and a web, which note what they were told. `troubles` come first."""

    def __init__(self) -> None:
        self.troubles: list[Exception | int] = []
        self.invoked: list[Invoked] = []
        self.posted: list[tuple[str, dict[str, Any]]] = []

    async def invoke(self, invoked: Invoked) -> Any:
        self.invoked.append(invoked)
        if self.troubles:
            raise self.troubles.pop(0)
        return None

    async def ask(
        self, method: str, url: str, *, body: bytes, headers: dict[str, str], **_: Any
    ) -> WebAnswer:
        self.posted.append((url, json.loads(body)))
        trouble = self.troubles.pop(0) if self.troubles else 200
        if isinstance(trouble, Exception):
            raise trouble
        return WebAnswer(status=trouble, headers={}, body=b"")


class Delivery:
    def __init__(self, ground, buckets, other, memory, arn):
        self.ground, self.buckets, self.other = ground, buckets, other
        self.memory, self.arn = memory, arn

    def payloads(self) -> list[dict[str, Any]]:
        return [json.loads(data) for data in self.buckets.objects.values()]


def topic(tenant: str) -> str:
    return f"arn:aws:sns:us-east-1:{tenant}:memories"


def function(tenant: str) -> str:
    return f"arn:aws:lambda:us-east-1:{tenant}:function:learn"


def managed(arn: str, **triggers: Any) -> Any:
    names = {"messages": ("messageBasedTrigger", "messageCount"),
             "tokens": ("tokenBasedTrigger", "tokenCount"),
             "idle": ("timeBasedTrigger", "idleSessionTimeout")}  # fmt: skip
    conditions = [{names[key][0]: {names[key][1]: n}} for key, n in triggers.items()]
    return strategy({"customMemoryStrategy": {"name": "own", "configuration": {
        "selfManagedConfiguration": {
            "triggerConditions": conditions, "historicalContextWindowSize": 2,
            "invocationConfiguration": {
                "topicArn": arn, "payloadDeliveryBucketName": BUCKET}}}}})  # fmt: skip


@pytest.fixture
async def opened(fresh_dsn, tenant):
    """Self-managed strategies need no model, and there is none."""
    dsn = await fresh_dsn()
    buckets, other = Buckets(), OtherSide()
    urls = {topic(tenant): "https://hooks.example.com/x", topic("111122223333"): "https://o.test"}
    delivery: Any = TopicDelivery(other, other, urls)  # type: ignore[arg-type]
    own = SelfManaged(buckets, delivery)  # type: ignore[arg-type]
    async with ground_on(dsn, None, self_managed=own) as ground:

        def open(arn: str = function(tenant), **triggers: Any) -> Delivery:
            memory = ground.memories.make(
                tenant, strategies=(managed(arn, **(triggers or {"messages": 2})),)
            )
            return Delivery(ground, buckets, other, memory, arn)

        yield open


async def test_a_function_is_told_where_the_messages_are(opened, tenant):
    made = opened()
    first = await made.ground.said(made.memory, "one", minute=1)
    assert await made.ground.drain() == 0
    await made.ground.said(made.memory, ("ASSISTANT", "two"), minute=2)
    assert await made.ground.drain() == 1
    (invoked,) = made.other.invoked
    (record,) = invoked.event["Records"]
    message = json.loads(record["Sns"]["Message"])
    memory_id, strategy_id = made.memory.id, made.memory.strategies[0].id
    key = f"{memory_id}/{strategy_id}/{message['jobId']}.json"
    assert message == {
        "jobId": invoked.request_id, "s3PayloadLocation": f"s3://{BUCKET}/{key}",
        "memoryId": memory_id, "strategyId": strategy_id,
    }  # fmt: skip
    assert (invoked.tenant, invoked.arn) == (tenant, made.arn)
    payload = json.loads(made.buckets.objects[tenant, BUCKET, key])
    assert payload["currentContext"] == [
        {"role": "USER", "content": {"text": "one"}},
        {"role": "ASSISTANT", "content": {"text": "two"}},
    ]
    assert payload["historicalContext"] == []
    assert (payload["actorId"], payload["sessionId"]) == ("anna", "s1")
    assert payload["startingTimestamp"] == first.at.timestamp()


async def test_what_a_framework_wrapped_comes_as_it_is(opened):
    made = opened(messages=1)
    block = {"toolResult": {"toolUseId": "t", "content": [{"text": "21 degrees"}]}}
    message = {"role": "user", "content": [block]}
    wrapped = json.dumps({"message": message, "message_id": 0, "created_at": "2026-03-02"})
    await made.ground.said(made.memory, wrapped, minute=1)
    assert await made.ground.drain() == 1
    (payload,) = made.payloads()
    assert payload["currentContext"] == [{"role": "USER", "content": {"text": wrapped}}]


async def test_what_was_said_before_comes_with_it(opened):
    made = opened()
    for n in range(6):
        await made.ground.said(made.memory, f"m{n}", minute=n)
        await made.ground.drain()
    texts = [
        [[each["content"]["text"] for each in payload[name]]
         for name in ("historicalContext", "currentContext")]
        for payload in made.payloads()
    ]  # fmt: skip
    assert texts == [[[], ["m0", "m1"]], [["m0", "m1"], ["m2", "m3"]], [["m2", "m3"], ["m4", "m5"]]]


async def test_only_its_own_triggers_count(opened):
    made = opened(tokens=100)
    for n in range(20):
        await made.ground.said(made.memory, "a word", minute=n)
    assert await made.ground.drain() == 0
    await made.ground.said(made.memory, "x" * 400, minute=30)
    assert await made.ground.drain() == 1
    assert len(made.payloads()[0]["currentContext"]) == 21


async def test_an_operators_url_is_told_too(opened, tenant):
    made = opened(topic(tenant), messages=1)
    await made.ground.said(made.memory, "one")
    await made.ground.drain()
    ((url, told),) = made.other.posted
    assert (url, told["Type"], told["TopicArn"]) == (
        "https://hooks.example.com/x", "Notification", made.arn,
    )  # fmt: skip
    assert json.loads(told["Message"])["s3PayloadLocation"].startswith("s3://payloads/")


async def test_delivery_is_repeated_under_the_same_job_until_it_is_heard(opened):
    made = opened(messages=1)
    made.other.troubles = [FunctionFailed("ouch"), FunctionFailed("again")]
    await made.ground.said(made.memory, "one")
    await made.ground.drain()
    assert len(made.other.invoked) == 3
    assert len({each.request_id for each in made.other.invoked}) == 1
    assert await made.ground.queued(made.memory) == 0 and len(made.payloads()) == 1


@pytest.mark.parametrize(
    ("trouble", "why"),
    [(Unreachable("no route"), "cannot be told: no route"), (500, "answered 500")],
)
async def test_a_url_that_does_not_hear_is_given_up(opened, tenant, trouble, why):
    made = opened(topic(tenant), messages=1)
    made.other.troubles = [trouble] * 5
    await made.ground.said(made.memory, "one")
    await made.ground.drain()
    assert (len(made.other.posted), await _reason(made)) == (3, f"{topic(tenant)} {why}")


async def test_another_accounts_topic_is_not_told(opened):
    made = opened(topic("111122223333"), messages=1)
    await made.ground.said(made.memory, "one")
    await made.ground.drain()
    assert made.other.posted == [] and "not a topic of this account" in await _reason(made)


@pytest.mark.parametrize("trouble", [NotFound("no such"), AccessDenied("no keys")])
async def test_a_topic_that_is_nothing_says_so(opened, trouble):
    made = opened(messages=1)
    made.other.troubles = [trouble] * 5
    await made.ground.said(made.memory, "one")
    await made.ground.drain()
    assert "neither a function nor a topic that the operator gave a URL" in await _reason(made)


async def test_a_bucket_that_is_not_there_says_so(opened):
    made = opened(messages=1)
    made.buckets.trouble = NotFound("there is no such bucket")
    await made.ground.said(made.memory, "one")
    await made.ground.drain()
    assert "bucket 'payloads': there is no such bucket" in await _reason(made)
    assert made.other.invoked == []


@pytest.mark.parametrize(
    ("arn", "good"),
    [
        ("arn:aws:sns:us-east-1:{tenant}:memories", True),
        ("arn:aws:lambda:us-east-1:{tenant}:function:learn", True),
        ("arn:aws:lambda:us-east-1:999999999999:function:learn", False),
        ("arn:aws:sns:us-east-1:111122223333:memories", False),
        ("arn:aws:sns:us-east-1:{tenant}:elsewhere", False),
        ("no arn", False),
    ],
)
def test_a_destination_is_a_function_or_has_a_url(tenant, arn, good):
    other: Any = OtherSide()
    urls = {topic(tenant): "https://h.test", topic("111122223333"): "https://o.test"}
    delivery = TopicDelivery(other, other, urls)
    with contextlib.nullcontext() if good else pytest.raises(ValidationFailed):
        delivery.destination(tenant, arn.replace("{tenant}", tenant), BUCKET)


async def _reason(made: Delivery) -> str:
    ((reason, _),) = await made.ground.failures(made.memory)
    return str(reason)
