"""Whether what is to be changed fits the step. Pure."""

import msgspec

from freehold.kernel.errors import ValidationFailed
from freehold.services.forks.model import CHANGES, TEXT_BYTES_MAX, ForkChange, ForkStep

_WHERE = {"payload": "a turn", "prompt": "a model's call", "toolAnswer": "a gateway's tool call"}
_KINDS = {"turn": "a turn", "model": "a model's call", "tool": "a gateway's tool call"}
_MODEL_CHARACTERS_MAX = 256


def check_change(change: ForkChange, step: ForkStep) -> None:
    """Raises ValidationFailed."""
    allowed = CHANGES[step.kind]
    for name in change.members():
        if name not in allowed:
            raise ValidationFailed(
                f"change.{name}: can be changed at {_WHERE[name]}, and this step is "
                f"{_KINDS[step.kind]}. Here there are {', '.join(allowed)}"
            )
        text = msgspec.to_builtins(change)[name]
        if text == "" or (name == "model" and len(text) > _MODEL_CHARACTERS_MAX):
            raise ValidationFailed(f"change.{name}: is empty or too long; leave it out instead")
        if len(msgspec.json.encode(text)) > TEXT_BYTES_MAX:
            raise ValidationFailed(f"change.{name}: more than {TEXT_BYTES_MAX} bytes")
    answer = change.tool_answer
    if answer is not None and not isinstance(answer, str) and not _is_result(answer):
        raise ValidationFailed(
            "change.toolAnswer: give a text, or MCP's CallToolResult: an object with `content`, a "
            "list of parts that have a `type`"
        )


def payload_of(change: ForkChange) -> bytes | None:
    """A text as it is, anything else as JSON."""
    if change.payload is None:
        return None
    if isinstance(change.payload, str):
        return change.payload.encode()
    return msgspec.json.encode(change.payload)


def _is_result(answer: object) -> bool:
    if not isinstance(answer, dict):
        return False
    content = answer.get("content")
    return isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("type"), str) for part in content
    )
