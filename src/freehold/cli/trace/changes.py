"""What a fork is told to change: options of `trace fork`, and the same in words."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from freehold.cli.options import applied
from freehold.cli.platform import Platform
from freehold.cli.policy import found as policy_found
from freehold.cli.trace import shown

_QUOTED_CHARACTERS = 40

change_options = applied(
    click.option("--model", help="Another model, from the step on."),
    click.option("--system", metavar="TEXT|@FILE", help="Other instructions, from the step on."),
    click.option("--prompt", metavar="TEXT|@FILE", help="Another message of the user, there."),
    click.option(
        "--payload", metavar="JSON|@FILE",
        help="Another payload, where SPAN is an invocation. Text that is no JSON is a prompt.",
    ),
    click.option(
        "--tool-answer", metavar="TEXT|JSON|@FILE",
        help="What a gateway's tool is to have answered: text, or an MCP result.",
    ),
    click.option(
        "--policy-engine", metavar="NAME", help="The policy engine that decides, from the step on."
    ),
)  # fmt: skip


def asked(platform: Platform, given: Mapping[str, str | None]) -> dict[str, Any]:
    """`change` of CreateFork."""
    change: dict[str, Any] = {
        "model": given["model"],
        "system": _text(given["system"]),
        "prompt": _text(given["prompt"]),
        "payload": _payload(_text(given["payload"])),
        "toolAnswer": _tool_answer(_text(given["tool_answer"])),
    }
    if engine := given["policy_engine"]:
        change["policyEngineId"] = policy_found.find(platform, engine).id
    return {name: value for name, value in change.items() if value is not None}


def in_words(change: Mapping[str, Any]) -> str:
    """Of a fork, short."""
    said = []
    for name, label in (("model", "model"), ("policyEngineId", "policy engine")):
        if change.get(name):
            said.append(f"{label} {change[name]}")
    for name, label in (
        ("system", "instructions"), ("prompt", "prompt"), ("payload", "payload"),
        ("toolAnswer", "tool answer"),
    ):  # fmt: skip
        if change.get(name):
            said.append(f"{label} {_quoted(shown.value(change[name]))}")
    return shown.safe(", ".join(said)) or "nothing"


def _quoted(text: str) -> str:
    words = " ".join(text.split())
    return f'"{words[:_QUOTED_CHARACTERS]}{"..." if len(words) > _QUOTED_CHARACTERS else ""}"'


def _text(given: str | None) -> str | None:
    if given is None or not given.startswith("@"):
        return given
    return policy_found.read(Path(given[1:]))


def _payload(text: str | None) -> Any:
    """As `freehold invoke` takes it."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return {"prompt": text}


def _tool_answer(text: str | None) -> Any:
    """An MCP CallToolResult as it is; whatever else is the text that the tool said."""
    if text is None:
        return None
    try:
        result = json.loads(text)
    except ValueError:
        return text
    return result if isinstance(result, dict) and "content" in result else text
