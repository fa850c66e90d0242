"""What the scripted model says: rules, read top to bottom; the first that fits answers."""

import re
from typing import Any, Literal

import msgspec

MODEL_NAME = "freehold-scripted"

_PIECE = re.compile(r"\s*\S+\s*")


class ScriptedToolCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    arguments: dict[str, Any] = {}


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    r"""`when` is searched in the text of the last message, which must be of `role`.

    `reply` and the strings in `tool_call.arguments` may quote groups of the match (`\1`,
    `\g<name>`). A rule with a `tool_call` fits only a request that offers that tool. A `status`
    of 400 or more answers with an error of that status, `reply` being its message.
    """

    when: str = ""
    role: Literal["user", "tool"] = "user"
    reply: str = ""
    tool_call: ScriptedToolCall | None = None
    status: int = 200


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rules: tuple[Rule, ...]
    piece_delay_ms: int = 0

    @classmethod
    def from_json(cls, text: bytes | str) -> "Script":
        """Raises ValueError that names the field at fault."""
        return msgspec.json.decode(text, type=cls)


DEFAULT_SCRIPT = Script(
    rules=(
        Rule(
            role="tool",
            when=r"(?s)(.{0,400})",
            reply=r"I am a scripted stand-in, not a model. The tool answered: \1",
        ),
        Rule(
            when=r"(?s)(.{0,400})",
            reply=r"I am a scripted stand-in, not a model. You said: \1",
        ),
    )
)


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What a request of any wire comes down to."""

    role: Literal["user", "tool"]
    text: str
    tools: frozenset[str]
    input_tokens: int
    stream: bool


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """`number` counts the answers of one model from 1, and makes ids that repeat in a rerun."""

    number: int
    text: str
    tool_call: ScriptedToolCall | None
    status: int
    input_tokens: int

    @property
    def pieces(self) -> list[str]:
        return _PIECE.findall(self.text) or [self.text]

    @property
    def output_tokens(self) -> int:
        if self.tool_call is not None:
            return 1 + words(self.arguments_json)
        return words(self.text)

    @property
    def arguments_json(self) -> str:
        assert self.tool_call is not None
        return msgspec.json.encode(self.tool_call.arguments).decode()


def words(text: str) -> int:
    """The scripted model's token is a word."""
    return len(text.split())


def answer(script: Script, turn: Turn, number: int) -> Answer:
    for rule in script.rules:
        if rule.role != turn.role or (match := re.search(rule.when, turn.text)) is None:
            continue
        call = rule.tool_call
        if call is not None and call.name not in turn.tools:
            continue
        if call is not None:
            call = ScriptedToolCall(call.name, _expand(match, call.arguments))
        return Answer(
            number=number,
            text=match.expand(rule.reply),
            tool_call=call,
            status=rule.status,
            input_tokens=turn.input_tokens,
        )
    return Answer(
        number=number,
        text=f"{MODEL_NAME}: no rule of the script fits",
        tool_call=None,
        status=400,
        input_tokens=turn.input_tokens,
    )


def _expand(match: re.Match[str], value: Any) -> Any:
    if isinstance(value, str):
        return match.expand(value)
    if isinstance(value, dict):
        return {key: _expand(match, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(match, item) for item in value]
    return value
