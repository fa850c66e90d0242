"""Self-managed strategies: what was said goes to a bucket, and a topic is told where it is.

A topic's ARN names a function, here or at AWS, or is one that the operator gave a URL. Told is in
the shape that AWS's own notifications have, so that a function made for those works: an envelope of
records for functions, the notification itself for URLs. At least once: `jobId` is the same when it
is delivered again.
"""

import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from freehold.kernel import clock
from freehold.kernel.arns import Arn
from freehold.kernel.errors import FreeholdError, ValidationFailed
from freehold.ports.blobs import Blobs
from freehold.ports.functions import FunctionFailed, Functions, Invoked
from freehold.ports.topics import NotDelivered, Topics
from freehold.ports.web import Unreachable, Web
from freehold.services.memory import strategies
from freehold.services.memory.extraction_batch import Batch, before
from freehold.services.memory.extraction_model import ExtractionFailed
from freehold.services.memory.extraction_store import Triggers
from freehold.services.memory.model import Event, Memory, Message, Strategy
from freehold.services.memory.ports import Events

_FUNCTION_SECONDS_MAX = 60.0


def triggers_of(configuration: Mapping[str, Any]) -> Triggers:
    given: dict[str, Any] = {}
    for trigger in configuration.get("triggerConditions") or ():
        given |= trigger
    return Triggers(
        messages=(given.get("messageBasedTrigger") or {}).get("messageCount"),
        tokens=(given.get("tokenBasedTrigger") or {}).get("tokenCount"),
        idle_seconds=(given.get("timeBasedTrigger") or {}).get("idleSessionTimeout"),
    )


class SelfManaged:
    def __init__(self, blobs: Blobs, topics: Topics) -> None:
        self._blobs, self._topics = blobs, topics

    async def deliver(
        self,
        events: Events,
        memory: Memory,
        strategy: Strategy,
        batch: Batch,
        *,
        job_id: str,
        putting: Callable[[str, str], AbstractAsyncContextManager[bool]],
    ) -> None:
        """`putting` is around putting the payload into a bucket by its key, and says whether it may
        be put there at all. Raises ExtractionFailed."""
        own = strategies.self_managed(strategy)
        assert own is not None, "the strategy is self-managed"
        where = own["invocationConfiguration"]
        bucket, key = where["payloadDeliveryBucketName"], f"{memory.id}/{strategy.id}/{job_id}.json"
        lines = [line for line in batch.lines if not line.context]
        history = await before(events, lines[0].event, own["historicalContextWindowSize"])
        payload = {
            "requestId": job_id,
            "jobId": job_id,
            "accountId": memory.tenant,
            "memoryId": memory.id,
            "actorId": batch.place.actor_id,
            "sessionId": batch.place.session_id,
            "strategyId": strategy.id,
            "startingTimestamp": lines[0].event.at.timestamp(),
            "endingTimestamp": lines[-1].event.at.timestamp(),
            "currentContext": [_said(line.event, line.message) for line in lines],
            "historicalContext": [_said(event, message) for event, message in history],
        }
        message = {
            "jobId": job_id, "s3PayloadLocation": f"s3://{bucket}/{key}", "memoryId": memory.id,
            "strategyId": strategy.id,
        }  # fmt: skip
        try:
            async with putting(bucket, key) as may:
                if not may:
                    return
                await self._blobs.put(
                    memory.tenant, bucket, key, _whole(msgspec.json.encode(payload)),
                    content_type="application/json",
                )  # fmt: skip
            await self._topics.tell(memory.tenant, where["topicArn"], message, id=job_id)
        except NotDelivered as error:
            raise ExtractionFailed(str(error), again=error.again) from None
        except FreeholdError as error:
            raise ExtractionFailed(
                f"the payload could not be stored in bucket {bucket!r}: {error.message}", again=True
            ) from None


class TopicDelivery:
    """Implements `ports.Topics`. `urls` are the operator's, by the ARN of a topic."""

    def __init__(self, functions: Functions, web: Web, urls: Mapping[str, str]) -> None:
        self._functions, self._web, self._urls = functions, web, dict(urls)

    def destination(self, tenant: str, topic_arn: str, bucket: str) -> None:
        """Whether this account can name it at all. Raises ValidationFailed. Whether the function
        and the bucket are there shows when it is told."""
        arn = Arn.parse(topic_arn)
        if arn is None or arn.tenant != tenant:
            raise ValidationFailed(f"topicArn: {topic_arn} is of another account")
        function = arn.service == "lambda" and arn.resource.startswith("function:")
        if not function and topic_arn not in self._urls:
            raise ValidationFailed(
                f"topicArn: {topic_arn} is neither the ARN of a function nor a topic that the "
                "operator gave a URL"
            )

    async def tell(
        self, tenant: str, topic_arn: str, message: Mapping[str, Any], *, id: str
    ) -> None:
        told = {
            "Type": "Notification",
            "MessageId": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{topic_arn}/{id}")),
            "TopicArn": topic_arn,
            "Message": msgspec.json.encode(message).decode(),
            "Timestamp": clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        url = self._urls.get(topic_arn)
        if url is not None:
            await self._post(tenant, topic_arn, url, told)
        else:
            await self._invoke(tenant, topic_arn, told, id)

    async def _post(self, tenant: str, arn: str, url: str, told: Mapping[str, Any]) -> None:
        parsed = Arn.parse(arn)
        if parsed is None or parsed.tenant != tenant:
            raise NotDelivered(f"{arn} is not a topic of this account", again=False)
        try:
            answer = await self._web.ask(
                "POST", url, headers={"content-type": "application/json"},
                body=msgspec.json.encode(told),
            )  # fmt: skip
        except Unreachable as error:
            raise NotDelivered(f"{arn} cannot be told: {error}", again=True) from None
        if not 200 <= answer.status < 300:
            raise NotDelivered(f"{arn} answered {answer.status}", again=True)

    async def _invoke(self, tenant: str, arn: str, told: Mapping[str, Any], id: str) -> None:
        record = {"EventSource": "aws:sns", "EventVersion": "1.0", "Sns": told}
        invoked = Invoked(
            tenant=tenant, arn=arn, event={"Records": [record]}, context={}, request_id=id,
            seconds_max=_FUNCTION_SECONDS_MAX,
        )  # fmt: skip
        try:
            await self._functions.invoke(invoked)
        except FunctionFailed as error:
            raise NotDelivered(f"the function {arn} failed: {error.message}", again=True) from None
        except FreeholdError as error:
            raise NotDelivered(
                f"{arn} is neither a function nor a topic that the operator gave a URL: "
                f"{error.message}", again=True,
            ) from None  # fmt: skip


def _said(event: Event, message: Message) -> dict[str, Any]:
    """As it came: who manages a strategy reads the form that their framework writes."""
    item = event.payload[message.index]["conversational"]
    return {"role": item["role"], "content": {"text": item["content"]["text"]}}


async def _whole(data: bytes) -> AsyncIterator[bytes]:
    yield data
