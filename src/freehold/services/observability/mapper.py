"""Raw attributes of whichever conventions, as one shape: a little when a span comes in, all of it
when it is read. What is stored stays raw, so that a better mapper reads old spans better.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from freehold.ports.spans import Facts, SpanRecord
from freehold.ports.telemetry import LogRecord
from freehold.services.observability import conventions as c
from freehold.services.observability.content_names import is_content, is_message, of_a_message
from freehold.services.observability.content_reading import content_of
from freehold.services.observability.messages import decoded, one_text
from freehold.services.observability.model import (
    Content,
    MemoryRead,
    Normalised,
    PolicyVerdict,
    Tokens,
    ToolUse,
)

Attributes = Mapping[str, Any]
_PLAIN = Facts()
_TOKENS_MAX = 2**31 - 1
_NAME_CHARACTERS_MAX = 256


def facts(name: str, attributes: Attributes, *, scope: str = "") -> Facts:
    """What lists and sums use. Runs for each span that comes in: a plain one costs a microsecond.
    `cost` is left to the price book."""
    operation = operation_of(attributes)
    if not operation:
        return _PLAIN
    tool = ""
    if operation == c.TOOL_OPERATION:
        tool = _text(attributes, c.TOOL_NAME) or _named_after(name)
    if operation not in c.MODEL_OPERATIONS and operation not in c.SUMMING_OPERATIONS:
        return Facts(operation=operation, tool=tool)
    used = tokens(attributes)
    return Facts(
        operation=operation,
        provider=_text(attributes, c.PROVIDER).lower(),
        model=_text(attributes, c.REQUEST_MODEL) or _text(attributes, c.RESPONSE_MODEL),
        input_tokens=used.input,
        output_tokens=used.output,
        metered=attributes.get("freehold.metered") is True,
    )


_TOLD_BY: tuple[tuple[str, Mapping[str, str]], ...] = (
    (c.OPERATION, c.OPERATIONS),
    (c.OPENINFERENCE_KIND, c.OPERATION_OF_KIND),
    (c.REQUEST_TYPE, c.OPERATION_OF_REQUEST),
    (c.TRACELOOP_KIND, c.OPERATION_OF_ENTITY),
    (c.MCP_METHOD, c.OPERATION_OF_METHOD),
    ("freehold.policy.decision", c.OPERATION_OF_DECISION),
)


def operation_of(attributes: Attributes) -> str:
    """Empty for what is none of the conventions' operations."""
    get = attributes.get
    for key, operations in _TOLD_BY:
        said = get(key)
        if said is not None:
            return operations.get(said, "") if isinstance(said, str) else ""
    return c.CREDENTIAL_OPERATION if "freehold.credential.provider" in attributes else ""


def tokens(attributes: Attributes) -> Tokens:
    """Where the cached tokens are more than all inputs, the instrumentation left them out of
    these (as Anthropic's own counts do): they are added."""
    get = attributes.get
    read, write = _count(get, c.CACHE_READ_TOKENS), _count(get, c.CACHE_WRITE_TOKENS)
    taken = _count(get, c.INPUT_TOKENS)
    if read + write > taken:
        taken += read + write
    return Tokens(
        input=taken,
        output=_count(get, c.OUTPUT_TOKENS),
        cache_read=read,
        cache_write=write,
        reasoning=_count(get, c.REASONING_TOKENS),
    )


def models(attributes: Attributes) -> tuple[str, ...]:
    """What answered first, then what was asked for: a price may be known by either name."""
    named = (_text(attributes, c.RESPONSE_MODEL), _text(attributes, c.REQUEST_MODEL))
    return tuple(dict.fromkeys(name for name in named if name))


def normalised(
    span: SpanRecord, logs: Sequence[LogRecord] = (), *, content: bool = True
) -> Normalised:
    """`logs` are those that name this span: until 1.36 the conventions had messages in them.
    Without `content` what was said is not even decoded."""
    attributes = span.attributes
    operation = operation_of(attributes)
    said = content_of(span, logs) if content else Content()
    tool = _tool(span, operation, said, content=content)
    finish = attributes.get(c.FINISH_REASONS[0]) or attributes.get(c.FINISH_REASONS[1]) or ()
    answered = _text(attributes, c.RESPONSE_MODEL)
    return Normalised(
        mapper=c.MAPPER_VERSION,
        family=family(span),
        operation=operation,
        provider=_text(attributes, c.PROVIDER).lower(),
        model=answered or _text(attributes, c.REQUEST_MODEL),
        request_model=_text(attributes, c.REQUEST_MODEL),
        agent_name=_agent(attributes),
        conversation_id=_text(attributes, c.CONVERSATION),
        tokens=tokens(attributes) or None,
        metered=attributes.get("freehold.metered") is True,
        finish_reasons=[finish] if isinstance(finish, str) else [str(each) for each in finish],
        tool=tool,
        memory=_memory(span, operation, content=content),
        policy=_policy(attributes),
        credential=str(attributes.get("freehold.credential.provider") or ""),
        mcp_method=str(attributes.get(c.MCP_METHOD) or ""),
        error_type=_error_type(span),
        captured=is_captured(span) or bool(logs and said),
        content=said or None,
    )


def is_captured(span: SpanRecord) -> bool:
    """Whether anything that was said stands in it; roles, names and ids alone are structure."""
    return any(is_content(name) for name in span.attributes) or any(
        any(is_content(name) for name in event.attributes)
        or (is_message(event.name) and len(of_a_message(event.attributes)) < len(event.attributes))
        for event in span.events
    )


def family(span: SpanRecord) -> c.Family:
    """Whose names the span is written in. A span may have several: the richer ones win."""
    events = tuple(event.name for event in span.events)
    return _family(span.scope, tuple(span.attributes), events)


@lru_cache(maxsize=512)
def _family(scope: str, names: tuple[str, ...], events: tuple[str, ...]) -> c.Family:
    """Remembered: the spans of one library have the same few sets of names."""
    for found, scopes, starts in _FAMILIES:
        if scopes and scope.startswith(scopes):
            return found
        if any(name.startswith(starts) for name in names):
            return found
    if any(name.startswith("gen_ai.") for name in events):
        return "gen_ai_legacy"
    return "gen_ai" if any(name.startswith("gen_ai.") for name in names) else ""


_FAMILIES: tuple[tuple[c.Family, str, tuple[str, ...]], ...] = (
    ("openinference", "", (c.OPENINFERENCE_KIND,)),
    ("strands", c.STRANDS_SCOPE, ()),
    ("openllmetry", "", (c.REQUEST_TYPE, c.TRACELOOP_KIND)),
    ("adk", c.ADK_SCOPE, (c.ADK_PREFIX,)),
    ("freehold", "", ("freehold.",)),
    ("gen_ai", "", ("gen_ai.provider.name", c.INPUT_MESSAGES, c.OUTPUT_MESSAGES)),
    ("gen_ai_legacy", "", ("gen_ai.system",)),
    ("mcp", "", (c.MCP_METHOD,)),
)


def _tool(span: SpanRecord, operation: str, said: Content, *, content: bool) -> ToolUse | None:
    if operation != c.TOOL_OPERATION:
        return None
    attributes = span.attributes
    arguments = result = None
    if content:
        arguments = decoded(_first(attributes, c.TOOL_ARGUMENTS))
        result = decoded(_first(attributes, c.TOOL_RESULT))
    return ToolUse(
        name=_text(attributes, c.TOOL_NAME) or _named_after(span.name),
        call_id=_text(attributes, c.TOOL_CALL_ID),
        arguments=said.input_value if arguments is None else arguments,
        result=one_text(said.output_value if result is None else result),
    )


def _memory(span: SpanRecord, operation: str, *, content: bool) -> MemoryRead | None:
    attributes = span.attributes
    ids = attributes.get("freehold.memory.record_ids")
    records = _listed(attributes.get("gen_ai.memory.records"))
    if operation == "retrieval":
        records = records or _listed(attributes.get("gen_ai.retrieval.documents"))
    query = _text(attributes, c.MEMORY_QUERY)
    for event in span.events:  # Strands
        if event.name == "memory.results":
            records = records or _listed(event.attributes.get("content"))
        elif event.name == "memory.query":
            query = query or str(event.attributes.get("content") or "")
    store = attributes.get(c.MEMORY_STORE[0]) or attributes.get(c.MEMORY_STORE[1])
    if ids is None and not records and not store and operation not in c.RETRIEVAL_OPERATIONS:
        return None
    one = attributes.get("gen_ai.memory.record.id")
    named = [str(id) for id in _listed(ids)] or ([str(one)] if one else [])
    named = named or [
        str(record["id"]) for record in records if isinstance(record, dict) and record.get("id")
    ]
    namespaces = _first(attributes, c.MEMORY_NAMESPACE)
    return MemoryRead(
        memory_id=str(store or ""),
        namespaces=[str(each) for each in _listed(namespaces)],
        query=query if content else "",
        record_ids=named,
        records=records if content else [],
    )


def _policy(attributes: Attributes) -> PolicyVerdict | None:
    decision = attributes.get("freehold.policy.decision")
    if not decision:
        return None
    return PolicyVerdict(
        decision=str(decision),
        policies=[str(id) for id in _listed(attributes.get("freehold.policy.ids"))],
        mode=str(attributes.get("freehold.policy.mode") or ""),
        decision_id=str(attributes.get("freehold.decision.id") or ""),
    )


def _error_type(span: SpanRecord) -> str:
    if found := _text(span.attributes, c.ERROR_TYPE):
        return found
    for event in span.events:
        if event.name == "exception":
            return str(event.attributes.get("exception.type") or "")
    return ""


def _agent(attributes: Attributes) -> str:
    if attributes.get(c.TRACELOOP_KIND) in (None, "agent", "workflow"):
        return _text(attributes, c.AGENT_NAME)
    return _text(attributes, c.AGENT_NAME[:2])


def _named_after(name: str) -> str:
    """The tool in a span's name such as `execute_tool search`."""
    operation, _, rest = name.partition(" ")
    return rest if operation in ("execute_tool", "tools/call") else name


def _text(attributes: Attributes, keys: Sequence[str]) -> str:
    for key in keys:
        value = attributes.get(key)
        if value:
            return value[:_NAME_CHARACTERS_MAX] if isinstance(value, str) else str(value)
    return ""


def _first(attributes: Attributes, keys: Sequence[str]) -> Any:
    for key in keys:
        value = attributes.get(key)
        if value is not None:
            return value
    return None


def _count(get: Any, keys: Sequence[str]) -> int:
    """Of what an agent says: anything but a number that can be true is none."""
    for key in keys:
        value = get(key)
        if value is None:
            continue
        if isinstance(value, str) and value.isdecimal() and len(value) < 12:
            value = int(value)
        if isinstance(value, int | float) and 0 <= value <= _TOKENS_MAX:
            return int(value)
    return 0


def _listed(value: Any) -> list[Any]:
    value = decoded(value)
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
