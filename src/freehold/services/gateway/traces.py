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
from freehold.ports.exchanges.raw import media_type
from freehold.ports.mcp import REFUSED
from freehold.ports.model_spans import usage_attributes
from freehold.ports.replay import FORK_ID, REPLAY, REPLAY_CHANGED, REPLAY_DIFFERS, ModelAnswer
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
        attributes |= _captured("arguments", arguments)
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
        span.attributes |= _captured("result", told)
    failed = result.get("isError") is True
    span.attributes["freehold.tool.is_error"] = failed
    if REFUSED in meta:
        span.attributes["freehold.refused"] = meta[REFUSED]
    if failed:
        span.fail(f"refused: {meta[REFUSED]}" if REFUSED in meta else "the tool failed")


def told_of_fork(
    fork_id: str, source: str = "", *, differs: bool = False, changed: bool = False
) -> dict[str, Any]:
    """Attributes. `source`: where the answer came from; "" where there is none."""
    told: dict[str, Any] = {FORK_ID: fork_id}
    if source:
        told[REPLAY] = source
    if differs:
        told[REPLAY_DIFFERS] = True
    if changed:
        told[REPLAY_CHANGED] = True
    return told


class ModelCall:
    """A call of a model, from before its target is chosen until its last byte. `told`: further
    attributes."""

    def __init__(
        self, path: str, model: str, request: bytes, *, told: Mapping[str, Any] = {}
    ) -> None:
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
            "freehold.operation": f"gateway:{path}",
            "freehold.metered": True,
            **told,
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
        kind = media_type(headers.get("content-type", ""))
        span.attributes["freehold.streamed"] = kind == "text/event-stream"
        span.name = f"{self._operation} {choice.model[:256]}"
        if status >= 400:
            span.fail(str(status))

    def heard(self, chunk: bytes) -> None:
        if self._captured is not None and not self._cut:
            self._captured += chunk[: CONTENT_BYTES_MAX + 1 - len(self._captured)]
            self._cut = len(self._captured) > CONTENT_BYTES_MAX

    def recorded(self, answer: ModelAnswer, told: Mapping[str, Any]) -> None:
        """Nobody was called and nothing used. It is metered still: so what an agent tells of the
        same call, which reads the usage of the record, is not counted."""
        span = self.span
        if span is None:
            return
        span.attributes |= {
            "http.response.status_code": 200,
            "freehold.streamed": media_type(answer.content_type) == "text/event-stream",
            **told,
        }
        self.heard(answer.body)
        self._end(span, answer.content_type)

    def end(self, reader: UsageReader, headers: Mapping[str, str]) -> None:
        span = self.span
        if span is None:
            return
        span.attributes |= usage_attributes(reader.usage())
        if answered_by := reader.model():
            span.attributes["gen_ai.response.model"] = answered_by
        self._end(span, headers.get("content-type", ""))

    def _end(self, span: Span, content_type: str) -> None:
        if self._captured is not None:
            span.attributes |= contents(
                wire_of_path(self._path), self._request, bytes(self._captured), content_type,
                cut=self._cut,
            )  # fmt: skip
        span.end()


def _captured(member: str, value: object) -> dict[str, Any]:
    """What is too long is cut, and no JSON any more."""
    raw = msgspec.json.encode(value)
    text = raw[:CONTENT_BYTES_MAX].decode(errors="replace")
    found: dict[str, Any] = {f"gen_ai.tool.call.{member}": text}
    if len(raw) > CONTENT_BYTES_MAX:
        found["freehold.exchange.truncated"] = True
    return found
