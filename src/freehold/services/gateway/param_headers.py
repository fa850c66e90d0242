"""Arguments that a tool's schema wants in headers too (`x-mcp-header`, SEP-2243).

Who routes by a header must be able to trust it: header and argument agree, or the call is refused.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any

PREFIX = "mcp-param-"
HEADER_MISMATCH = -32020
_KEY = "x-mcp-header"
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DECIMAL = re.compile(r"(-?\d+)(?:\.0*)?", re.ASCII)
_KINDS = ("string", "integer", "boolean")

Declarations = tuple[tuple[tuple[str, ...], str, str], ...]
"""(path of the argument, its header's name, its type)."""


def declared(schema: Mapping[str, Any]) -> Declarations:
    """From a tool's input schema, to be kept with the tool. Empty for a tool that wants none, and
    for a schema that declares them wrongly."""
    found = tuple(_under(schema, ()))
    names = [name for _, name, _ in found]
    wrong = len(set(names)) < len(names) or any(
        kind not in _KINDS or not _TOKEN.fullmatch(name) for _, name, kind in found
    )
    return () if wrong else found


def _under(
    schema: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str, str]]:
    properties = schema.get("properties")
    if not isinstance(properties, dict) or len(path) > 8:
        return
    for name, below in properties.items():
        if not isinstance(below, dict):
            continue
        header = below.get(_KEY)
        if header is not None:
            yield (*path, name), str(header).lower(), str(below.get("type"))
        yield from _under(below, (*path, name))


def mismatch(
    declarations: Declarations,
    arguments: Mapping[str, Any],
    headers: Mapping[str, str],
) -> str | None:
    """What does not agree, to be refused with HEADER_MISMATCH; None where all does. `headers`
    have lower-case names; a repeated one, its values joined, agrees with nothing."""
    for path, name, kind in declarations:
        value, header = _at(arguments, path), headers.get(PREFIX + name)
        if value is None and header is None:
            continue
        if value is None or header is None:
            lacks = "the argument" if value is None else "the header"
            return f"Mcp-Param-{name} and the argument {'.'.join(path)}: {lacks} is missing."
        text = _decoded(header)
        if text is None or not _agree(kind, value, text):
            return f"Mcp-Param-{name} differs from the argument {'.'.join(path)}."
    return None


def _at(arguments: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if not isinstance(arguments, dict):
            return None
        arguments = arguments.get(key)
    return arguments


def _decoded(header: str) -> str | None:
    if not (header.startswith("=?base64?") and header.endswith("?=")):
        return header
    try:
        return base64.b64decode(header[9:-2], validate=True).decode()
    except (binascii.Error, ValueError):
        return None


def _agree(kind: str, value: Any, text: str) -> bool:
    if isinstance(value, bool):
        return text == ("true" if value else "false")
    if kind == "integer" and isinstance(value, int | float):
        number = _DECIMAL.fullmatch(text)
        return number is not None and len(text) < 400 and int(number[1]) == value
    return isinstance(value, str | int | float) and text == str(value)
