"""Numbers, messages and trees as people read them.

What somebody once said to an agent is shown here: control characters in it do nothing.
"""

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from freehold.cli.output import Output

WIDTH_MAX = 100
CUT_CHARACTERS = 600
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def safe(text: str) -> str:
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def duration(ms: float | None) -> str:
    if ms is None:
        return "-"
    if ms < 1:
        return f"{ms:.2f} ms"
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 120_000:
        return f"{ms / 1000:.1f} s"
    return f"{ms / 60_000:.1f} min"


def tokens(incoming: int, outgoing: int) -> str:
    return f"{incoming:,} > {outgoing:,}" if incoming or outgoing else "-"


def dollars(cost: float | None) -> str:
    """A cost that is not known is a dash, never zero."""
    if cost is None:
        return "-"
    return f"${cost:,.2f}" if cost >= 1 or not cost else f"${cost:.6f}".rstrip("0").ljust(7, "0")


def tree(spans: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each span with the lines that hang it on its parent; they come in the order of the tree."""
    lines: list[str] = []
    below: set[int] = set()
    for span in reversed(spans):
        depth = span.get("depth", 0)
        stems = "".join("│  " if level in below else "   " for level in range(1, depth))
        twig = "" if depth == 0 else "├─ " if depth in below else "└─ "
        lines.append(stems + twig)
        below = {level for level in below if level < depth} | {depth}
    yield from zip(reversed(lines), spans, strict=True)


def paragraph(output: Output, text: str, *, first: str = "", indent: int = 0) -> None:
    """`text` after `first`, its further lines below its beginning: wrapped to a terminal, as it is
    for a pipe."""
    begins = " " * indent + first
    rest = " " * (indent + len(click.unstyle(first)))
    for line in safe(text).splitlines() or [""]:
        for part in _wrapped(line, len(rest)):
            output.say((begins + part).rstrip())
            begins = rest


def _wrapped(text: str, used: int) -> list[str]:
    if not sys.stdout.isatty():
        return [text]
    width = max(min(shutil.get_terminal_size().columns, WIDTH_MAX) - used, 20)
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]


def cut(text: str, *, full: bool) -> str:
    if full or len(text) <= CUT_CHARACTERS:
        return text
    return f"{text[:CUT_CHARACTERS].rstrip()} ... ({len(text):,} characters; --full shows all)"


def value(said: Any) -> str:
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False, default=str)


def message(output: Output, said: Mapping[str, Any], *, full: bool, indent: int) -> None:
    role = f"{said['role']}  "
    for part in said["parts"]:
        words = cut(part_text(part), full=full)
        styled = click.style(role, dim=True) if part["type"] == "reasoning" else role
        paragraph(output, words, first=styled, indent=indent)


def part_text(part: Mapping[str, Any]) -> str:
    kind = part["type"]
    if kind == "text":
        return str(part.get("text", ""))
    if kind == "reasoning":
        return f"(thinks) {part.get('text', '')}"
    if kind == "tool_call":
        return f"-> {part.get('name', '')} {value(part.get('arguments'))}"
    if kind == "tool_result":
        return f"<- {value(part.get('result'))}"
    if kind == "other":
        return value(part.get("raw"))
    return f"({kind} {part.get('uri') or part.get('media_type') or ''})".replace(" )", ")")
