"""Bedrock's Converse, through boto3 in threads."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, TypeVar

import boto3
import msgspec
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from freehold.kernel.errors import FreeholdError, Throttled, Unavailable, ValidationFailed
from freehold.ports.models import Completion, Message, ModelProvider, Tool, ToolCall, Usage

_CONNECT_SECONDS_MAX = 10
_IDLE_SECONDS_MAX = 300

Document = dict[str, Any]
T = TypeVar("T")


class BedrockModels:
    def __init__(self, provider: ModelProvider) -> None:
        # At DEBUG botocore logs requests whole, bearer and session tokens with them.
        logging.getLogger("botocore").setLevel(logging.INFO)
        self._provider = provider
        self._client: Any = None
        self._making = asyncio.Lock()

    async def close(self) -> None:
        if self._client is not None:
            await asyncio.to_thread(self._client.close)

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        model: str = "",
        output_tokens_max: int = 1024,
    ) -> Completion:
        client = await self._made()
        asked = self._request(messages, tools, model, output_tokens_max)
        answer = await _called(self._provider, lambda: client.converse(**asked))
        content = answer["output"]["message"]["content"]
        return _completion(content, answer.get("usage", {}), asked["modelId"])

    async def stream(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        model: str = "",
        output_tokens_max: int = 1024,
    ) -> AsyncIterator[str | Completion]:
        client = await self._made()
        asked = self._request(messages, tools, model, output_tokens_max)
        answer = await _called(self._provider, lambda: client.converse_stream(**asked))
        events: Iterator[Document] = iter(answer["stream"])
        blocks: dict[int, Document] = {}
        usage: Document = {}
        try:
            while (event := await _called(self._provider, lambda: next(events, None))) is not None:
                if "contentBlockStart" in event:
                    start = event["contentBlockStart"]
                    blocks[start["contentBlockIndex"]] = dict(start["start"])
                elif "contentBlockDelta" in event:
                    delta = event["contentBlockDelta"]
                    _grow(blocks.setdefault(delta["contentBlockIndex"], {}), delta["delta"])
                    if piece := delta["delta"].get("text"):
                        yield piece
                elif "metadata" in event:
                    usage = event["metadata"].get("usage", {})
        finally:
            answer["stream"].close()
        yield _completion([_closed(block) for block in blocks.values()], usage, asked["modelId"])

    async def _made(self) -> Any:
        async with self._making:
            if self._client is None:
                self._client = await _called(
                    self._provider, self._make
                )  # reads botocore's model: 100 ms
        return self._client

    def _make(self) -> Any:
        provider = self._provider
        bearer = provider.api_key and provider.aws_keys is None
        key_id, secret, token = provider.aws_keys or (None, None, None)
        client = boto3.session.Session().client(
            "bedrock-runtime",
            region_name=provider.region,
            endpoint_url=provider.base_url,
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            aws_session_token=token or None,
            config=Config(
                connect_timeout=_CONNECT_SECONDS_MAX,
                read_timeout=_IDLE_SECONDS_MAX,
                proxies={"http": provider.proxy, "https": provider.proxy} if provider.proxy else {},
                signature_version=UNSIGNED if bearer else None,
            ),
        )
        if bearer:

            def authorize(request: Any, **_: Any) -> None:
                request.headers["Authorization"] = f"Bearer {provider.api_key}"

            client.meta.events.register("before-send.bedrock-runtime", authorize)
        return client

    def _request(
        self, messages: Sequence[Message], tools: Sequence[Tool], model: str, tokens_max: int
    ) -> Document:
        asked: Document = {
            "modelId": model or self._provider.default_model,
            "messages": [_message(message) for message in messages if message.role != "system"],
            "system": [{"text": message.text} for message in messages if message.role == "system"],
            "inferenceConfig": {"maxTokens": tokens_max},
        }
        if tools:
            specs = [
                {
                    "name": tool.name,
                    "description": tool.description,
                    "inputSchema": {"json": tool.schema},
                }
                for tool in tools
            ]
            asked["toolConfig"] = {"tools": [{"toolSpec": spec} for spec in specs]}
        return asked


async def _called(provider: ModelProvider, work: Callable[[], T]) -> T:
    """In a thread, with botocore's errors made the port's."""
    try:
        return await asyncio.to_thread(work)
    except ClientError as error:
        raise _failure(provider, error) from None
    except BotoCoreError as error:
        raise Unavailable(f"bedrock cannot be reached ({type(error).__name__})") from None


def _failure(provider: ModelProvider, error: ClientError) -> FreeholdError:
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    if status == 429:
        return Throttled("bedrock asks to slow down")
    if status >= 500 or status in (401, 403):
        return Unavailable(f"bedrock answers {status} {code}")
    message = provider.redacted(error.response.get("Error", {}).get("Message", ""))
    return ValidationFailed(f"bedrock refuses the request ({status} {code}): {message[:500]}")


def _message(message: Message) -> Document:
    if message.role == "tool":
        result = {"toolUseId": message.tool_call_id, "content": [{"text": message.text}]}
        return {"role": "user", "content": [{"toolResult": result}]}
    blocks: list[Document] = [{"text": message.text}] if message.text else []
    blocks += [
        {"toolUse": {"toolUseId": call.id, "name": call.name, "input": call.arguments}}
        for call in message.tool_calls
    ]
    return {"role": message.role, "content": blocks}


def _grow(block: Document, delta: Document) -> None:
    if "text" in delta:
        block["text"] = block.get("text", "") + delta["text"]
    elif "toolUse" in delta:
        block["json"] = block.get("json", "") + delta["toolUse"]["input"]


def _closed(block: Document) -> Document:
    if "toolUse" in block:
        arguments = msgspec.json.decode(block.get("json") or "{}", type=dict)
        return {"toolUse": {**block["toolUse"], "input": arguments}}
    return block


def _completion(content: Sequence[Document], counts: Document, model: str) -> Completion:
    uses = [block["toolUse"] for block in content if "toolUse" in block]
    read, write = counts.get("cacheReadInputTokens"), counts.get("cacheWriteInputTokens")
    fresh = counts.get("inputTokens")
    return Completion(
        text="".join(block.get("text", "") for block in content),
        tool_calls=tuple(ToolCall(use["toolUseId"], use["name"], use["input"]) for use in uses),
        usage=Usage(
            input_tokens=None if fresh is None else fresh + (read or 0) + (write or 0),
            output_tokens=counts.get("outputTokens"),
            cache_read_tokens=read,
            cache_write_tokens=write,
        ),
        model=model,
    )
