"""What a recorded step said, as the form of a fork begins with it, and what the form changes."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus

from freehold.console import words
from freehold.kernel.errors import ValidationFailed
from freehold.ports.exchanges.raw import recorded_bytes

TEXTS = ("model", "system", "prompt", "payload", "toolAnswer")
"""Members of a change that are written; `policyEngineId` is chosen."""
_PREFILLED_BYTES_MAX = 12 << 10
"""Of one field, as a browser sends it: the whole form has to fit (visit.py)."""

Span = Mapping[str, Any]


def texts(span: Span) -> dict[str, str]:
    """By member of the change; "" for what is not known, or not of this step."""
    read = span.get("is") or {}
    content, tool = read.get("content") or {}, read.get("tool") or {}
    said = [message for message in content.get("input") or () if message["role"] == "user"]
    attributes = (span.get("raw") or {}).get("attributes") or {}
    payload = _text(attributes.get("freehold.exchange.request")) or content.get("inputValue") or ""
    return {
        "model": str(read.get("model") or ""),
        "system": _joined(content.get("system") or ()),
        "prompt": _joined(said[-1]["parts"]) if said else "",
        "payload": words.pretty(payload),
        "toolAnswer": _tool_answer(tool.get("result")),
    }


def fits(text: str) -> bool:
    """Whether it can be edited in a form; else it is left as it was recorded."""
    return len(quote_plus(text)) <= _PREFILLED_BYTES_MAX


def change(
    recorded: Mapping[str, str], form: Mapping[str, str], possible: list[str]
) -> dict[str, Any]:
    """`change` of CreateFork. What is empty, or as it was recorded, is no change.

    Raises ValidationFailed where JSON was recorded, and what is to take its place is none."""
    found: dict[str, Any] = {}
    for name in TEXTS:
        # Browsers send lines of a text with both ends.
        text, before = (each.replace("\r\n", "\n") for each in (form.get(name, ""), recorded[name]))
        if name in possible and text.strip() and text.strip() != before.strip():
            found[name] = _value(name, text, before)
    if "policyEngineId" in possible and form.get("policyEngineId"):
        found["policyEngineId"] = form["policyEngineId"]
    return found


def _value(name: str, text: str, before: str) -> Any:
    if name == "payload":
        parsed = _json(text)
        if parsed is None and (not before or _json(before) is not None):
            raise ValidationFailed("the payload is no JSON; what was recorded is")
        return text if parsed is None else parsed
    if name == "toolAnswer":
        parsed = _json(text)
        return parsed if isinstance(parsed, dict) and "content" in parsed else text
    return text.strip() if name == "model" else text


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _text(recorded: Any) -> str:
    """ "" for what is no text."""
    try:
        return recorded_bytes(recorded).decode() if isinstance(recorded, str) else ""
    except ValueError:
        return ""


def _joined(parts: Any) -> str:
    return "\n".join(str(part["text"]) for part in parts if part.get("type") == "text")


def _tool_answer(result: Any) -> str:
    """The text of an MCP result that has nothing else; any other as JSON."""
    if isinstance(result, Mapping) and isinstance(result.get("content"), list):
        content = result["content"]
        plain = len(content) == 1 and content[0].get("type") == "text"
        if plain and not result.get("isError") and not result.get("structuredContent"):
            return str(content[0].get("text") or "")
    return "" if result is None else words.pretty(result)
