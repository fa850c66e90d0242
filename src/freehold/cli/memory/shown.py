"""Conversations, records and retrievals as people read them, on a terminal of any width.

What somebody once said to an agent is shown here: control characters in it do nothing.
"""

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import click

from freehold.cli.memory.found import name_in
from freehold.cli.output import Output, when

WIDTH_MAX = 100
CUT_CHARACTERS = 400
_RETRIEVED_SHOWN = 5
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_ROLE_COLORS = {"USER": "cyan", "ASSISTANT": "green", "TOOL": "yellow"}
_ROLE_COLUMN = len("ASSISTANT") + 2


def safe(text: str) -> str:
    """Without what would steer a terminal, or turn its text around; line breaks stay."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def cut(text: str, *, full: bool) -> str:
    if full or len(text) <= CUT_CHARACTERS:
        return text
    return f"{text[:CUT_CHARACTERS].rstrip()} ... ({len(text):,} characters; --full shows all)"


def paragraph(output: Output, text: str, *, first: str = "", indent: int = 0) -> None:
    """`text` after `first`, its further lines below its beginning: wrapped to a terminal, as it is
    for a pipe. `indent` counts from the left, and for both."""
    begins = " " * indent + first
    rest = " " * (indent + len(click.unstyle(first)))
    for line in safe(text).splitlines() or [""]:
        for part in _wrapped(line, len(rest)):
            output.say((begins + part).rstrip())
            begins = rest


def remark(output: Output, text: str) -> None:
    """What the platform said of the result: a sentence on standard error, wrapped to a terminal."""
    text = f"{text[:1].upper()}{text[1:].removesuffix('.')}."
    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else 0
    for line in safe(text).splitlines():
        output.note(textwrap.fill(line, min(width, WIDTH_MAX)) if width else line)


def _wrapped(text: str, used: int) -> list[str]:
    if not sys.stdout.isatty():
        return [text]
    width = max(min(shutil.get_terminal_size().columns, WIDTH_MAX) - used, 20)
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]


def dim(output: Output, *parts: str, indent: int = 2) -> None:
    """Details in one line, as far as they fit; each stays whole where it can."""
    width = min(shutil.get_terminal_size().columns, WIDTH_MAX) if sys.stdout.isatty() else None
    line = ""
    for part in (safe(part) for part in parts if part):
        if line and width is not None and indent + len(line) + 2 + len(part) > width:
            output.say(click.style(" " * indent + line, dim=True))
            line = part
        else:
            line = f"{line}  {part}" if line else part
    if line:
        output.say(click.style(" " * indent + line, dim=True))


# -- what was said


def event(output: Output, shown: Mapping[str, Any], *, full: bool) -> None:
    dim(output, when(shown["eventTimestamp"]), shown["eventId"], indent=0)
    for item in shown.get("payload") or ():
        if "conversational" in item:
            said = item["conversational"]
            role, text = _unwrapped(said["role"], said["content"].get("text", ""))
            message(output, role, cut(text, full=full))
        else:
            kept = json.dumps(item.get("blob"), ensure_ascii=False, default=str)
            message(output, "(data)", cut(kept, full=full))
    metadata = {
        key: value.get("stringValue", "") for key, value in (shown.get("metadata") or {}).items()
    }
    if metadata:
        dim(output, *(f"{key} = {value}" for key, value in sorted(metadata.items())))


def _unwrapped(role: str, text: str) -> tuple[str, str]:
    """A framework may have said a whole document of its own: the words in it, and whose they are.
    With --json it is seen as it came."""
    from freehold.services.memory.said import said_in

    words, of_tool = said_in(text)
    return ("TOOL" if of_tool else role), words or text


def message(output: Output, role: str, text: str, *, indent: int = 2) -> None:
    label = click.style(role.ljust(_ROLE_COLUMN), fg=_ROLE_COLORS.get(role))
    paragraph(output, text, first=label, indent=indent)


# -- what is remembered


def strategy(id: str) -> str:
    """As people know it: by its name."""
    return {"none": "put there", "turns": "as it was said", "": "put there"}.get(id, name_in(id))


def viewed(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A record of AWS's operations in the shape of our own API's."""
    return {
        "recordId": summary["memoryRecordId"],
        "text": (summary.get("content") or {}).get("text", ""),
        "namespaces": list(summary.get("namespaces") or ()),
        "strategyId": summary.get("memoryStrategyId", ""),
        "at": summary.get("timestamp") or summary.get("createdAt"),
        "score": summary.get("score"),
    }


def record(output: Output, view: Mapping[str, Any], *, full: bool = False, indent: int = 0) -> None:
    score = view.get("score")
    first = click.style(f"{score:.3f}  ", bold=True) if score is not None else ""
    paragraph(output, cut(view["text"], full=full), first=first, indent=indent)
    deep = indent + 2
    dim(output, when(view.get("at")), strategy(view["strategyId"]), view["recordId"], indent=deep)
    dim(output, *view["namespaces"], indent=deep)
    if view.get("validUntil"):
        by = f"; in its place {view['supersededBy']}" if view.get("supersededBy") else ""
        text = f"not so any more since {when(view['validUntil'])}{by}"
        paragraph(output, text, indent=deep)


def records(output: Output, views: Sequence[Mapping[str, Any]], *, full: bool = False) -> None:
    for at, view in enumerate(views):
        if at:
            output.say("")
        record(output, view, full=full)


def retrieval(
    output: Output,
    shown: Mapping[str, Any],
    *,
    of: str | None = None,
    indent: int = 0,
) -> None:
    """With `of` only that record's score is shown."""
    asked = f'"{shown["query"]}"' if shown.get("query") else shown["operation"]
    paragraph(output, cut(asked, full=False), first=f"{when(shown['at'])}  ", indent=indent)
    deep = indent + 2
    found = [each for each in shown["records"] if of in (None, each["recordId"])]
    session = f"session {shown['sessionId']}" if shown.get("sessionId") else ""
    operation = shown["operation"] if shown.get("query") else ""
    dim(output, operation, f"in {shown['namespace']}" if shown.get("namespace") else "",
        f"by {shown['by']}" if shown.get("by") else "", session, indent=deep)  # fmt: skip
    if of is None:
        for each in found[:_RETRIEVED_SHOWN]:
            output.say(" " * deep + _scored(each))
        if len(found) > _RETRIEVED_SHOWN:
            output.say(f"{' ' * deep}and {len(found) - _RETRIEVED_SHOWN} more")
        if not found:
            output.say(f"{' ' * deep}found nothing")
    elif found and found[0].get("score") is not None:
        dim(output, f"score {found[0]['score']:.3f}", indent=deep)


def _scored(each: Mapping[str, Any]) -> str:
    """Without a score where nothing was searched for."""
    score = each.get("score")
    return f"{score:.3f}  {each['recordId']}" if score is not None else str(each["recordId"])
