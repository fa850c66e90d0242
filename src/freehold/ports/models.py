"""Models: talked to by the platform itself, and passed through to a session's own clients."""

from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

import msgspec


class ModelKind(StrEnum):
    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    BEDROCK = "bedrock"
    GEMINI = "gemini"
    MISTRAL = "mistral"


class ModelProvider(msgspec.Struct, frozen=True, kw_only=True):
    """`base_url` as that wire's SDK takes it. `api_key` and `aws_keys` are secret: `repr` hides.

    Bedrock signs with `aws_keys` (id, secret, session token or ""), else sends `api_key` as a
    bearer token, else signs with what botocore's chain finds.
    """

    kind: ModelKind
    base_url: str
    api_key: str = ""
    default_model: str = ""
    region: str = ""
    aws_keys: tuple[str, str, str] | None = None
    proxy: str = ""

    def __post_init__(self) -> None:
        if "@" in urlsplit(self.base_url).netloc:
            raise ValueError(f"the base URL of {self.kind} must hold no user name or password")

    def __repr__(self) -> str:
        return f"ModelProvider({self.kind.value})"

    def redacted(self, text: str) -> str:
        """The text without this provider's secrets."""
        for secret in filter(None, (self.api_key, *(self.aws_keys or ())[1:])):
            text = text.replace(secret, "***")
        return text


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens as the provider counted them; None where it did not say.

    `input_tokens` are all of them; what a cache served or stored is in the two others too.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None


class ToolCall(msgspec.Struct, frozen=True):
    id: str
    name: str
    arguments: dict[str, Any]


class Tool(msgspec.Struct, frozen=True):
    name: str
    description: str
    schema: dict[str, Any]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """`tool_call_id` names what a message of role `tool` answers."""

    role: Literal["system", "user", "assistant", "tool"]
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    tool_calls: tuple[ToolCall, ...]
    usage: Usage
    model: str


class Models(Protocol):
    """Raises ValidationFailed, Throttled or Unavailable; the message never holds a key."""

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        model: str = "",
        output_tokens_max: int = 1024,
    ) -> Completion: ...

    def stream(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        model: str = "",
        output_tokens_max: int = 1024,
    ) -> AsyncIterator[str | Completion]:
        """The text in pieces, then the whole completion, last."""

    async def close(self) -> None: ...
