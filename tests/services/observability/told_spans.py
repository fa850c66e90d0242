"""Spans as agents and the platform tell of them, for tests of what is read."""

import json
import secrets
import time
from pathlib import Path
from typing import Any

import msgspec

from freehold.ports.spans import SpanEvent, SpanRecord
from freehold.services.observability.model_prices import PriceBook

LIBRARIES = Path(__file__).with_name("library_spans")
PRICES = PriceBook()
MS = 10**6


def of_library(name: str) -> list[SpanRecord]:
    """What a library really wrote, of the same conversation: the weather in Utrecht, by a tool.
    They stand in the order in which they ended; each began before what it encloses."""
    told = json.loads((LIBRARIES / f"{name}.json").read_text())["spans"]
    above = {each["span_id"]: each["parent_id"] for each in told}
    began: dict[str, int] = {}
    for at, each in enumerate(told):
        span_id, height = each["span_id"], 0
        while span_id:
            began[span_id] = min(began.get(span_id, at * 100 + 50), at * 100 + 50 - height)
            span_id, height = above.get(span_id, ""), height + 1
    return [
        SpanRecord(
            tenant="1",
            started_ns=began[each["span_id"]],
            ended_ns=at * 100 + 99,
            origin="agent",
            events=[SpanEvent(*event) for event in each.pop("events")],
            **each,
        )
        for at, each in enumerate(told)
    ]


class Trace:
    """Spans of one trace, `at` and `ms` in milliseconds since its beginning."""

    def __init__(self, tenant: str, *, began_ns: int | None = None, **of_all: Any) -> None:
        self.tenant, self.id = tenant, secrets.token_hex(16)
        self.began_ns = began_ns if began_ns is not None else time.time_ns() - 60 * 10**9
        self._of_all = of_all
        self.spans: list[SpanRecord] = []

    def span(
        self, name: str, *, under: str = "", at: float = 0, ms: float = 10, **fields: Any
    ) -> str:
        span_id = fields.pop("span_id", None) or secrets.token_hex(8)
        fields = {"origin": "agent", "attributes": {}, **self._of_all, **fields}
        record = SpanRecord(
            tenant=self.tenant,
            trace_id=self.id,
            span_id=span_id,
            parent_id=under,
            name=name,
            started_ns=self.began_ns + int(at * MS),
            ended_ns=self.began_ns + int((at + ms) * MS),
            **fields,
        )
        self.spans.append(msgspec.structs.replace(record, facts=PRICES.facts_of(record)))
        return span_id

    def chat(self, *, under: str = "", at: float = 0, ms: float = 10, **more: Any) -> str:
        tokens = more.pop("tokens", (100, 10))
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": more.pop("model", "gpt-4o"),
            "gen_ai.usage.input_tokens": tokens[0],
            "gen_ai.usage.output_tokens": tokens[1],
            **more.pop("attributes", {}),
        }
        for side, key in (("heard", "gen_ai.input.messages"), ("said", "gen_ai.output.messages")):
            if side in more:
                attributes[key] = json.dumps(more.pop(side))
        return self.span("chat", under=under, at=at, ms=ms, attributes=attributes, **more)

    def tool(
        self, name: str, *, under: str = "", at: float = 0, ms: float = 10, **more: Any
    ) -> str:
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            **more.pop("attributes", {}),
        }
        for given, key in (
            ("call_id", "gen_ai.tool.call.id"),
            ("arguments", "gen_ai.tool.call.arguments"),
            ("result", "gen_ai.tool.call.result"),
        ):
            if given in more:
                value = more.pop(given)
                attributes[key] = value if isinstance(value, str) else json.dumps(value)
        return self.span(
            f"execute_tool {name}", under=under, at=at, ms=ms, attributes=attributes, **more
        )


def text(role: str, words: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": words}]}


def asks(name: str, arguments: Any, *, id: str = "", thinks: str = "") -> dict[str, Any]:
    """What a model says that wants a tool called."""
    parts: list[dict[str, Any]] = [{"type": "reasoning", "content": thinks}] if thinks else []
    call = {"type": "tool_call", "name": name, "arguments": arguments}
    return {"role": "assistant", "parts": [*parts, {**call, "id": id} if id else call]}


def answered(id: str, response: Any) -> dict[str, Any]:
    return {
        "role": "tool",
        "parts": [{"type": "tool_call_response", "id": id, "response": response}],
    }
