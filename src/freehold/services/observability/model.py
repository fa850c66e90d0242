"""A span as readers see it, whichever conventions it was written by."""

from typing import Any

import msgspec

from freehold.services.observability.conventions import Family
from freehold.services.observability.messages import Message, Part


class Tokens(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`input` holds those read from and written to a cache; `output` those of reasoning."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0

    def __bool__(self) -> bool:
        return bool(self.input or self.output)


class ToolUse(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """None for what was not captured."""

    name: str = ""
    call_id: str = ""
    arguments: Any = None
    result: Any = None


class MemoryRead(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """`records` have texts only where the instrumentation captured them."""

    memory_id: str = ""
    namespaces: list[str] = []
    query: str = ""
    record_ids: list[str] = []
    records: list[Any] = []


class PolicyVerdict(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """`decision`: allow or deny. `policies` determined it; none where nothing permitted the call.
    With `mode` LOG_ONLY it went on anyway. `decision_id` is its line in the decision log."""

    decision: str
    policies: list[str] = []
    mode: str = ""
    decision_id: str = ""


class Content(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What was said. `input_value` and `output_value`: of a span that has no messages."""

    system: list[Part] = []
    input: list[Message] = []
    output: list[Message] = []
    input_value: Any = None
    output_value: Any = None

    def __bool__(self) -> bool:
        return bool(
            self.system or self.input or self.output
            or self.input_value is not None or self.output_value is not None
        )  # fmt: skip


class Normalised(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """`family` and `mapper`: whose names decided, and the version of what read them.
    `captured` is false where a span that would have content has none."""

    mapper: int
    family: Family = ""
    operation: str = ""
    provider: str = ""
    model: str = ""
    request_model: str = ""
    agent_name: str = ""
    conversation_id: str = ""
    tokens: Tokens | None = None
    metered: bool = False
    finish_reasons: list[str] = []
    tool: ToolUse | None = None
    memory: MemoryRead | None = None
    policy: PolicyVerdict | None = None
    credential: str = ""
    mcp_method: str = ""
    error_type: str = ""
    captured: bool = False
    content: Content | None = None
