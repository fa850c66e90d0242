"""What a span is to an explanation, and whether what a model asked for is what was called."""

from collections.abc import Mapping, Sequence
from typing import Any

from freehold.ports.spans import SpanRecord
from freehold.services.observability import conventions as c
from freehold.services.observability import mapper
from freehold.services.observability.messages import Message, Part
from freehold.services.observability.model import MemoryRead, Normalised

_TARGET = "___"
_TEXT_MEMBERS = ("content", "text", "input", "prompt", "message", "query")


def asked_for(read: Normalised) -> list[Part]:
    """The tool calls in what a model said."""
    said = [] if read.content is None else read.content.output
    return [part for message in said for part in message.parts if part.type == "tool_call"]


def same_tool(one: str, other: str) -> bool:
    """A gateway's tools are named `target___tool`, and some frameworks leave the target out."""
    return bool(one) and (
        one == other or one.rpartition(_TARGET)[2] == other.rpartition(_TARGET)[2]
    )


def texts_of(value: Any) -> list[Part]:
    """The words in something of an unknown shape: a text, or the usual members of an object."""
    if isinstance(value, str):
        return [Part(type="text", text=value)] if value else []
    if isinstance(value, Mapping):
        for member in _TEXT_MEMBERS:
            if member in value and (found := texts_of(value[member])):
                return found
        return [Part(type="other", raw=dict(value))] if value else []
    if isinstance(value, list):
        return [part for each in value for part in texts_of(each)]
    return []


def is_call(span: SpanRecord) -> bool:
    attributes = span.attributes
    return mapper.operation_of(attributes) in c.MODEL_OPERATIONS or c.ADK_RESPONSE in attributes


def may_ask(span: SpanRecord) -> bool:
    return not is_tool(span) and (is_call(span) or c.OUTPUT_MESSAGES in span.attributes)


def is_tool(span: SpanRecord) -> bool:
    return mapper.operation_of(span.attributes) == c.TOOL_OPERATION


def is_agent(span: SpanRecord) -> bool:
    return mapper.operation_of(span.attributes) in ("invoke_agent", "invoke_workflow")


def is_governance(span: SpanRecord) -> bool:
    operation = mapper.operation_of(span.attributes)
    return operation in (c.POLICY_OPERATION, c.CREDENTIAL_OPERATION)


def may_remember(span: SpanRecord) -> bool:
    """Retrieved, and not written or deleted."""
    operation = mapper.operation_of(span.attributes)
    if operation in c.RETRIEVAL_OPERATIONS:
        return True
    return not operation and "freehold.memory.record_ids" in span.attributes


def reasoning_of(read: Normalised) -> list[str]:
    said = [] if read.content is None else read.content.output
    return [p.text for message in said for p in message.parts if p.type == "reasoning" and p.text]


def last_request(heard: Sequence[Message]) -> Message | None:
    for message in reversed(heard):
        if message.role != "user":
            continue
        if texts := [part for part in message.parts if part.type == "text" and part.text]:
            return Message(role="user", parts=texts)
    return None


def sent(read: Normalised) -> str:
    content = read.content
    if content is None:
        return ""
    heard = [part for message in content.input for part in message.parts] + content.system
    return "\n".join(part.text or str(part.result or "") for part in heard)


def answered(read: Normalised) -> set[str]:
    heard = [] if read.content is None else read.content.input
    return {p.id for message in heard for p in message.parts if p.type == "tool_result" and p.id}


def found_again(memory: MemoryRead, told: str) -> bool:
    texts = [part.text for record in memory.records for part in texts_of(record)]
    return any(len(text) >= 8 and text in told for text in texts)
