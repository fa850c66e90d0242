"""What spans say of calls through a gateway: of tools, and of models."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from freehold.kernel import tracing
from freehold.kernel.errors import FreeholdError
from freehold.kernel.tracing import Kind, Span
from freehold.ports.content_capture import CONTENT_BYTES_MAX
from freehold.ports.exchanges import contents, wire_of_path
from freehold.ports.mcp import REFUSED
from freehold.ports.model_spans import usage_attributes
from freehold.ports.targets import Json, RpcRefused
from freehold.ports.usage import UsageReader
from freehold.services.gateway.inference import EMBEDDINGS, MESSAGES, Choice
from freehold.services.gateway.results import STATUS, TARGET

_PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "bedrock-mantle": "aws.bedrock"}


@contextmanager
def tool_call(gateway_id: str, name: str, arguments: object) -> Iterator[Span]:
    """`execute_tool`, to be told the outcome of by `tell_result`."""
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": name,
        "mcp.method.name": "tools/call",
        "freehold.gateway.id": gateway_id,
    }
    if tracing.captures():
        attributes["gen_ai.tool.call.arguments"] = _bounded(arguments)
    with tracing.span(f"execute_tool {name}", attributes=attributes) as span:
        try:
            yield span
        except RpcRefused as error:
            span.fail(f"JSON-RPC {error.code}")
            raise
        except FreeholdError as error:
            span.fail(error.code)
            raise


def tell_result(span: Span, result: Json) -> None:
    """An MCP CallToolResult."""
    meta = result.get("_meta")
    meta = meta if isinstance(meta, dict) else {}
    if TARGET in meta:
        span.attributes["freehold.target"] = meta[TARGET]
    if STATUS in meta:
        span.attributes["freehold.upstream.status_code"] = meta[STATUS]
    if span.trail.content:
        told = {name: value for name, value in result.items() if name != "_meta"}
        span.attributes["gen_ai.tool.call.result"] = _bounded(told)
    failed = result.get("isError") is True
    span.attributes["freehold.tool.is_error"] = failed
    if REFUSED in meta:
        span.attributes["freehold.refused"] = meta[REFUSED]
    if failed:
        span.fail(f"refused: {meta[REFUSED]}" if REFUSED in meta else "the tool failed")


class ModelCall:
    """A call of a model, from before its target is chosen until its last byte."""

    def __init__(self, path: str, model: str, request: bytes) -> None:
        around = tracing.current()
        operation = "embeddings" if path == EMBEDDINGS else "chat"
        self.span: Span | None = None
        self._path, self._request, self._operation = path, request, operation
        self._captured: bytearray | None = None
        self._cut = False
        if around is None:
            return
        attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "anthropic" if path == MESSAGES else "openai",
            "gen_ai.request.model": model[:256],
            "freehold.metered": True,
        }
        self.span = around.child(
            f"{operation} {model[:256]}", kind=Kind.CLIENT, attributes=attributes
        )
        if around.trail.content and operation == "chat":
            self._captured = bytearray()

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """What is done until the answer begins; it is over if that fails."""
        if self.span is None:
            yield
            return
        try:
            with tracing.within(self.span, ends=False):
                yield
        except BaseException:
            self.span.end()
            raise

    def answering(
        self, choice: Choice, configuration: Json, status: int, headers: Mapping[str, str]
    ) -> None:
        span = self.span
        if span is None:
            return
        source = configuration.get("source") or {}
        provider = _PROVIDERS.get(str(source.get("connectorId")))
        if provider:
            span.attributes["gen_ai.provider.name"] = provider
        span.attributes["freehold.target"] = choice.target
        span.attributes["gen_ai.request.model"] = choice.model[:256]
        span.attributes["http.response.status_code"] = status
        span.attributes["freehold.streamed"] = _type(headers) == "text/event-stream"
        span.name = f"{self._operation} {choice.model[:256]}"
        if status >= 400:
            span.fail(str(status))

    def heard(self, chunk: bytes) -> None:
        if self._captured is not None and not self._cut:
            self._captured += chunk[: CONTENT_BYTES_MAX + 1 - len(self._captured)]
            self._cut = len(self._captured) > CONTENT_BYTES_MAX

    def end(self, reader: UsageReader, headers: Mapping[str, str]) -> None:
        span = self.span
        if span is None:
            return
        span.attributes |= usage_attributes(reader.usage())
        if answered_by := reader.model():
            span.attributes["gen_ai.response.model"] = answered_by
        if self._captured is not None:
            span.attributes |= contents(
                wire_of_path(self._path), self._request, bytes(self._captured), _type(headers),
                cut=self._cut,
            )  # fmt: skip
        span.end()


def _type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _bounded(value: object) -> str:
    """What is too long is cut, and no JSON any more."""
    return msgspec.json.encode(value)[:CONTENT_BYTES_MAX].decode(errors="replace")
