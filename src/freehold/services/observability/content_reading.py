"""What was said in a span: in its attributes, in its events, or in logs that name it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from freehold.ports.spans import SpanRecord
from freehold.ports.telemetry import LogRecord
from freehold.services.observability import conventions as c
from freehold.services.observability.messages import (
    Message,
    Part,
    decoded,
    messages,
    parts,
    unflattened,
)
from freehold.services.observability.model import Content

Attributes = Mapping[str, Any]


def content_of(span: SpanRecord, logs: Sequence[LogRecord] = ()) -> Content:
    """The first place that has any wins: instrumentations repeat themselves."""
    found = _Found()
    found.take(span.attributes)
    if not found.complete:
        found.take_flattened(span.attributes)
        found.take_adk(span.attributes)
    if not found.complete:
        for name, attributes in _said(span, logs):
            found.take_event(name, attributes)
    return found.content(span)


def _said(span: SpanRecord, logs: Sequence[LogRecord]) -> Iterable[tuple[str, Attributes]]:
    for event in span.events:
        yield event.name, event.attributes
    for log in logs:
        body = decoded(log.body)
        inside = body if isinstance(body, Mapping) else {"content": body}
        name = log.event or str(log.attributes.get("event.name") or "")
        yield name, {**log.attributes, **inside}


class _Found:
    """Gathered from several places; once a side has something, later places do not add to it,
    except events, of which there is one a message."""

    def __init__(self) -> None:
        self.system: list[Part] = []
        self.input: list[Message] = []
        self.output: list[Message] = []
        self._events_input: list[Message] = []
        self._events_output: list[Message] = []
        self._tool_input: Any = None
        self._tool_output: Any = None

    @property
    def complete(self) -> bool:
        return bool(self.input and self.output)

    def take(self, attributes: Attributes) -> None:
        get = attributes.get
        self.system = self.system or parts(get(c.SYSTEM_INSTRUCTIONS))
        self.input = self.input or messages(get(c.INPUT_MESSAGES), role="user")
        self.output = self.output or messages(get(c.OUTPUT_MESSAGES), role="assistant")

    def take_flattened(self, attributes: Attributes) -> None:
        for prefix in c.FLATTENED_INPUT:
            self.input = self.input or messages(unflattened(attributes, prefix), role="user")
        for prefix in c.FLATTENED_OUTPUT:
            said = unflattened(attributes, prefix)
            self.output = self.output or messages(said, role="assistant")

    def take_adk(self, attributes: Attributes) -> None:
        asked, answered = decoded(attributes.get(c.ADK_REQUEST)), attributes.get(c.ADK_RESPONSE)
        if isinstance(asked, Mapping):
            config = asked.get("config")
            if isinstance(config, Mapping):
                self.system = self.system or parts(config.get("system_instruction"))
            self.input = self.input or messages(asked.get("contents"), role="user")
        told = decoded(answered)
        if isinstance(told, Mapping) and isinstance(told.get("content"), Mapping):
            reason = str(told.get("finish_reason") or "").lower()
            self.output = self.output or messages(
                {**told["content"], "finish_reason": reason}, role="assistant"
            )

    def take_event(self, name: str, attributes: Attributes) -> None:
        """Events of 1.28 to 1.41, on spans or in logs, and bodies that hold both sides."""
        if name == c.DETAILS_EVENT:
            self.take(attributes)
        elif name == "gen_ai.system.message":
            self.system += parts(attributes.get("content"))
        elif name in _ROLE_OF_EVENT:
            role = _ROLE_OF_EVENT[name]
            if name == "gen_ai.tool.message" and attributes.get("role") == "tool":
                self._tool_input = attributes.get("content")  # Strands: what it is called with
            self._events_input += _event_message(attributes, role)
        elif name == "gen_ai.choice":
            said = attributes.get("message", attributes.get("content"))
            self._tool_output = said
            self._events_output += _event_message({**attributes, "content": said}, "assistant")
        elif name == "gen_ai.content.prompt":
            self._events_input += messages(attributes.get("gen_ai.prompt"), role="user")
        elif name == "gen_ai.content.completion":
            self._events_output += messages(attributes.get("gen_ai.completion"), role="assistant")
        elif "input" in attributes or "output" in attributes:
            # What AWS's distribution of OpenTelemetry makes of messages: one log for a call.
            self._events_input += messages(attributes.get("input"), role="user")
            self._events_output += messages(attributes.get("output"), role="assistant")

    def content(self, span: SpanRecord) -> Content:
        attributes = span.attributes
        tool = attributes.get(c.OPERATION) == c.TOOL_OPERATION
        if tool and self._tool_input is not None and not self.input:
            return Content(
                input_value=decoded(self._tool_input), output_value=decoded(self._tool_output)
            )
        heard, said = self.input or self._events_input, self.output or self._events_output
        system = self.system or [
            part for each in heard if each.role in _INSTRUCTING for part in each.parts
        ]
        heard = [each for each in heard if each.role not in _INSTRUCTING] or heard
        return Content(
            system=system,
            input=heard,
            output=said,
            input_value=None if heard else _value(attributes, c.INPUT_VALUE),
            output_value=None if said else _value(attributes, c.OUTPUT_VALUE),
        )


_INSTRUCTING = frozenset({"system", "developer"})
_ROLE_OF_EVENT = {
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}


def _event_message(attributes: Attributes, role: str) -> list[Message]:
    """`content` may be a text, blocks as JSON, or a message of its own; `id` is a tool call's."""
    body = decoded(attributes.get("content"))
    if isinstance(body, Mapping) and ("content" in body or "tool_calls" in body):
        return messages({**body, "finish_reason": attributes.get("finish_reason")}, role=role)
    calls = attributes.get("tool_calls")
    if body is None and not calls:
        return []
    return messages(
        {
            "role": role,
            "content": body,
            "tool_calls": calls,
            "tool_call_id": attributes.get("id") if role == "tool" else None,
            "finish_reason": attributes.get("finish_reason"),
        },
        role=role,
    )


def _value(attributes: Attributes, keys: Sequence[str]) -> Any:
    for key in keys:
        if attributes.get(key) is not None:
            return decoded(attributes[key])
    return None
