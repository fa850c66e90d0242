"""Text that people and models read alike: without characters that only one of them sees.

What is taken out can hide instructions in a description that looks harmless to whoever approves
it: zero-width and bidirectional characters, control characters, tags, variation selectors, fillers.
"""

import unicodedata
from typing import Any

from freehold.ports.targets import Json

_KEPT = frozenset("\n\t")
_LINE_ENDS = {0x0D: "\n", 0x2028: "\n", 0x2029: "\n\n", 0x85: "\n"}
# Of other categories than control and format, and nothing to be seen all the same.
_BLANK = frozenset(
    [
        0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0,
        *range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0),
    ]
)  # fmt: skip
# Members whose text a request is made of, or that mean something to a machine: left as they are.
_LITERAL = frozenset(
    [
        "name", "uri", "uriTemplate", "enum", "const", "pattern", "$ref", "$id", "$anchor",
        "$dynamicRef", "$schema", "type", "format", "required", "mimeType", "dependentRequired",
    ]
)  # fmt: skip
_NAMES_TO_SCHEMAS = frozenset(
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"]
)


def is_invisible(character: str) -> bool:
    if character in _KEPT:
        return False
    category = unicodedata.category(character)
    return category in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") or ord(character) in _BLANK


def visible(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    text = text.replace("\r\n", "\n").translate(_LINE_ENDS)
    return "".join(c for c in text if not is_invisible(c))


def cleaned(document: Json) -> tuple[Json, int]:
    """The document of a definition, and how many characters went from its titles, descriptions and
    whatever else of it is text for a reader."""
    counter = [0]
    clean: Json = _cleaned(document, counter)
    return clean, counter[0]


def _cleaned(value: Any, counter: list[int]) -> Any:
    if isinstance(value, str):
        clean = visible(value)
        # Ends of lines are rewritten, which hides nothing.
        counter[0] += sum(map(is_invisible, value.translate(_LINE_ENDS))) if clean != value else 0
        return clean
    if isinstance(value, list):
        return [_cleaned(item, counter) for item in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, member in value.items():
        if key in _NAMES_TO_SCHEMAS and isinstance(member, dict):
            found[key] = {name: _cleaned(schema, counter) for name, schema in member.items()}
        elif key in _LITERAL and not isinstance(member, dict):
            found[key] = member
        else:
            found[key] = _cleaned(member, counter)
    return found


def hidden_in(value: Any) -> bool:
    """Whether anything invisible is left: in names and in values that a call is made of."""
    if isinstance(value, str):
        return any(map(is_invisible, value)) if not value.isascii() else not _plain(value)
    if isinstance(value, list):
        return any(map(hidden_in, value))
    if isinstance(value, dict):
        return any(hidden_in(key) or hidden_in(member) for key, member in value.items())
    return False


def _plain(text: str) -> bool:
    return text.isprintable() or not any(map(is_invisible, text))


# Letters of other scripts that look like Latin ones. Not all: those that a name is forged with.
_LOOKALIKES = str.maketrans(
    "авекмнорстухіјѕԁһӏɡαβεικνορτυχω",
    "abekmhopctyxijsdhlgabeikvoptuxw",
)


def skeleton(name: str) -> str:
    """Equal for two names that a reader would take for one another."""
    if name.isascii():
        return visible(name).casefold()
    folded = unicodedata.normalize("NFKC", visible(name)).casefold()
    return folded.translate(_LOOKALIKES)
