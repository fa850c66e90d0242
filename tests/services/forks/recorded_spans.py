"""Recorded sessions, made of few words: spans as the platform and agents tell them."""

import json
import secrets
import time
from typing import Any

from freehold.ports.spans import Facts, SpanRecord

MS = 10**6
SECOND = 1000 * MS
BEGAN_NS = time.time_ns() - 3600 * SECOND


class Told:
    """The spans of one session, each a while after the one before. Every method gives the span."""

    def __init__(
        self, tenant: str = "100000000001", *, session: str = "", agent: str = "agent-x",
        began_ns: int = BEGAN_NS, captured: bool = True,
    ) -> None:  # fmt: skip
        self.tenant, self.agent, self.captured = tenant, agent, captured
        self.session = session or f"session-{secrets.token_hex(8)}"
        self.spans: list[SpanRecord] = []
        self._at = began_ns
        self._turn: SpanRecord | None = None

    def turn(self, payload: str = '{"ask": 1}', **more: Any) -> SpanRecord:
        """In a trace of its own. What follows is below it."""
        self._turn = None
        said = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "greeter"}
        said |= {"freehold.operation": "bedrock-agentcore:InvokeAgentRuntime"}
        said |= self._kept(payload, '{"done": 1}')
        self._turn = self.span("invoke_agent greeter", ms=900, **_with(more, said))
        return self._turn

    def model(
        self, asked: Any = "hello", answered: str = "hi", *, operation: str = "ChatCompletions",
        model: str = "gpt-4o", **more: Any,
    ) -> SpanRecord:  # fmt: skip
        said = {
            "gen_ai.operation.name": "embeddings" if operation == "Embeddings" else "chat",
            "gen_ai.request.model": model, "freehold.operation": f"models:{operation}",
            "freehold.metered": True, **self._kept(request(asked), answer(answered)),
        }  # fmt: skip
        if operation == "Embeddings":
            said = {name: value for name, value in said.items() if "exchange" not in name}
        facts = Facts(
            operation="chat", model=model, metered=True, input_tokens=10, output_tokens=2, cost=0.5
        )
        return self.span(f"chat {model}", **_with(more, said, facts=facts))

    def tool(
        self, name: str = "bank___pay", arguments: Any = None, result: Any = "paid",
        *, gateway: str = "gw-1", **more: Any,
    ) -> SpanRecord:  # fmt: skip
        said = {
            "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name,
            "mcp.method.name": "tools/call", "freehold.gateway.id": gateway,
        }  # fmt: skip
        if self.captured:
            said["gen_ai.tool.call.arguments"] = json.dumps(arguments or {})
            if result is not None:
                said["gen_ai.tool.call.result"] = json.dumps(tool_result(result))
        facts = Facts(operation="execute_tool", tool=name)
        return self.span(f"execute_tool {name}", **_with(more, said, facts=facts))

    def inner(self, name: str, **more: Any) -> SpanRecord:
        """A tool in the agent's own process."""
        facts = Facts(operation="execute_tool", tool=name)
        return self.span(f"execute_tool {name}", **{"origin": "agent", "facts": facts, **more})

    def memory(self, **more: Any) -> SpanRecord:
        said = {"gen_ai.operation.name": "search_memory", "freehold.memory.record_ids": ["r1"]}
        return self.span("search_memory m", **_with(more, said))

    def span(self, name: str, *, ms: float = 10, **values: Any) -> SpanRecord:
        self._at += SECOND
        under = values.pop("under", self._turn)
        made = SpanRecord(
            **{
                "tenant": self.tenant,
                "trace_id": under.trace_id if under else secrets.token_hex(16),
                "span_id": secrets.token_hex(8),
                "parent_id": under.span_id if under else "",
                "name": name,
                "started_ns": self._at,
                "ended_ns": self._at + int(ms * MS),
                "origin": "platform",
                "agent_id": self.agent,
                "agent_version": "3",
                "endpoint": "DEFAULT",
                "session_id": self.session,
                **values,
            }
        )
        self.spans.append(made)
        return made

    def _kept(self, asked: str, answered: str) -> dict[str, Any]:
        if not self.captured:
            return {}
        return {
            "freehold.exchange.request": asked,
            "freehold.exchange.response": answered,
            "freehold.exchange.content_type": "application/json",
        }


def request(asked: Any) -> str:
    """Of a model: a text that a user says, or the whole body."""
    if not isinstance(asked, str):
        return json.dumps(asked)
    return json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": asked}]})


def answer(text: str) -> str:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


def tool_result(said: Any) -> Any:
    return said if isinstance(said, dict) else {"content": [{"type": "text", "text": said}]}


def _with(more: dict[str, Any], said: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {**others, **more, "attributes": {**said, **more.get("attributes", {})}}
