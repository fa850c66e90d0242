"""Atlassian's documents (ADF, version 1): made of text, and made text again.

Models write text, and read it at a fifth of the length. Of Markdown we understand what they write
most: paragraphs, lists, headings, code blocks, links.
"""

import re
from collections.abc import Callable
from typing import Any

from freehold.ports.targets import Json

_FENCE = re.compile(r"^```(\w*)\s*$")
_HEADING = re.compile(r"^(#{1,6}) +(.+)$")
_BULLET = re.compile(r"^[-*] +(.+)$")
_NUMBER = re.compile(r"^\d+[.)] +(.+)$")
_LINK = re.compile(
    r"\[([^\]\n]{1,500})\]\((https?://[^\s)]{1,2000})\)|(https?://[^\s<>)\]]{1,2000})"
)
_DEPTH_MAX = 60


def document(text: str) -> Json:
    return {"type": "doc", "version": 1, "content": list(_blocks(text.splitlines()))}


def texts(value: Any, depth: int = 0) -> Any:
    """What an API answered, each document in it as text."""
    if depth > _DEPTH_MAX:
        return value
    if isinstance(value, list):
        return [texts(each, depth + 1) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "doc" and isinstance(value.get("content"), list):
        return _text(value, 0).strip()
    return {name: texts(inner, depth + 1) for name, inner in value.items()}


def _blocks(lines: list[str]) -> Any:
    at = 0
    while at < len(lines):
        line = lines[at]
        fence, heading = _FENCE.match(line), _HEADING.match(line)
        if fence:
            end = next((i for i in range(at + 1, len(lines)) if lines[i].strip() == "```"), None)
            code = "\n".join(lines[at + 1 : end])
            block: Json = {"type": "codeBlock", "content": [{"type": "text", "text": code}]}
            if not code:
                del block["content"]
            if fence[1]:
                block["attrs"] = {"language": fence[1]}
            yield block
            at = len(lines) if end is None else end + 1
        elif heading:
            level = len(heading[1])
            yield {"type": "heading", "attrs": {"level": level}, "content": _inline(heading[2])}
            at += 1
        elif _BULLET.match(line) or _NUMBER.match(line):
            pattern = _BULLET if _BULLET.match(line) else _NUMBER
            items, at = _taken(lines, at, lambda each, p=pattern: p.match(each) is not None)
            kind = "bulletList" if pattern is _BULLET else "orderedList"
            yield {"type": kind, "content": [_item(pattern, each) for each in items]}
        elif line.strip():
            several, at = _taken(lines, at, _is_plain)
            yield {"type": "paragraph", "content": _lines(several)}
        else:
            at += 1


def _taken(lines: list[str], at: int, belongs: Any) -> tuple[list[str], int]:
    end = at + 1
    while end < len(lines) and belongs(lines[end]):
        end += 1
    return lines[at:end], end


def _is_plain(line: str) -> bool:
    marked = (_FENCE, _HEADING, _BULLET, _NUMBER)
    return bool(line.strip()) and not any(pattern.match(line) for pattern in marked)


def _item(pattern: re.Pattern[str], line: str) -> Json:
    found = pattern.match(line)
    assert found is not None
    return {"type": "listItem", "content": [{"type": "paragraph", "content": _inline(found[1])}]}


def _lines(lines: list[str]) -> list[Json]:
    found: list[Json] = []
    for line in lines:
        if found:
            found.append({"type": "hardBreak"})
        found += _inline(line)
    return found


def _inline(line: str) -> list[Json]:
    found: list[Json] = []
    at = 0
    for link in _LINK.finditer(line):
        if link.start() > at:
            found.append({"type": "text", "text": line[at : link.start()]})
        words, url = (link[1], link[2]) if link[1] else (link[3], link[3])
        mark = {"type": "link", "attrs": {"href": url}}
        found.append({"type": "text", "text": words, "marks": [mark]})
        at = link.end()
    if at < len(line):
        found.append({"type": "text", "text": line[at:]})
    return found


def _text(node: Any, depth: int) -> str:
    if not isinstance(node, dict) or depth > _DEPTH_MAX:
        return ""
    attrs = node.get("attrs") or {}
    leaf = _LEAVES.get(str(node.get("type")))
    if leaf is not None:
        return leaf(node, attrs)
    content = node.get("content")
    inner = [_text(each, depth + 1) for each in content] if isinstance(content, list) else []
    return _block(str(node.get("type")), attrs, "".join(inner))


def _block(kind: str, attrs: Json, text: str) -> str:
    if kind == "heading":
        text = f"{'#' * int(attrs.get('level') or 1)} {text}"
    elif kind == "codeBlock":
        text = f"```{attrs.get('language') or ''}\n{text}\n```"
    elif kind == "listItem":
        text = "- " + text.strip().replace("\n", "\n  ")
    elif kind in ("tableCell", "tableHeader"):
        text = text.strip()
    return text + _AFTER.get(kind, "")


def _marked(node: Json) -> str:
    text = str(node.get("text") or "")
    for mark in node.get("marks") or ():
        url = (mark.get("attrs") or {}).get("href") if mark.get("type") == "link" else None
        if url and url != text:
            return f"[{text}]({url})"
    return text


_AFTER = {
    **dict.fromkeys(("paragraph", "heading", "codeBlock", "blockquote", "panel", "rule"), "\n\n"),
    **dict.fromkeys(("mediaSingle", "expand"), "\n\n"),
    **dict.fromkeys(("listItem", "bulletList", "orderedList", "tableRow"), "\n"),
    **dict.fromkeys(("taskItem", "decisionItem"), "\n"),
    **dict.fromkeys(("tableCell", "tableHeader"), " | "),
}
_LEAVES: dict[str, Callable[[Json, Json], str]] = {
    "text": lambda node, _: _marked(node),
    "hardBreak": lambda _, __: "\n",
    **dict.fromkeys(("mention", "status"), lambda _, attrs: str(attrs.get("text") or "")),
    "emoji": lambda _, attrs: str(attrs.get("text") or attrs.get("shortName") or ""),
    "date": lambda _, attrs: str(attrs.get("timestamp") or ""),
    **dict.fromkeys(
        ("inlineCard", "blockCard", "embedCard"), lambda _, attrs: str(attrs.get("url") or "")
    ),
}
