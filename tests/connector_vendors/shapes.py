"""The shapes that facts are written in: judging a value by one, and making one up from one."""

import re
from dataclasses import dataclass
from typing import Any, Literal

Shape = Any
FORMED = ("001D000000IqhSLIAZ", "v60.0", "2026-11-21T09:30:00.000+0000")
"""Samples of what facts have a form for."""
Kind = Literal["missing", "type", "choice", "unknown"]
_BOUNDED = re.compile(r"integer\((\d+)-(\d+)\)")
_UUID = re.compile(r"^[A-Za-z0-9+/]{22}==$")
_TESTS: dict[str, Any] = {
    "string": lambda v: isinstance(v, str),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "boolean": lambda v: isinstance(v, bool),
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "any": lambda v: True,
    "null": lambda v: v is None,
    "digits": lambda v: isinstance(v, str) and v.isdigit(),
    "uuid": lambda v: isinstance(v, str) and bool(_UUID.match(v)),
    "file": lambda v: isinstance(v, bytes | str),
}


@dataclass(frozen=True)
class Problem:
    kind: Kind
    where: str
    """"body.data.name", "query.limit"."""
    expected: str

    def __str__(self) -> str:
        return f"{self.where}: {self.kind}, expected {self.expected}"


def judge(value: Any, shape: Shape, where: str) -> list[Problem]:
    """What is wrong with a JSON value. "unknown" is a member that the shape does not have."""
    if isinstance(shape, str):
        return _judge_word(value, shape, where)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [Problem("type", where, "array")]
        return [p for i, v in enumerate(value) for p in judge(v, shape[0], f"{where}[{i}]")]
    if "|" in shape:
        tries = [judge(value, choice, where) for choice in shape["|"]]
        return min(tries, key=lambda found: sum(1 + (p.where == where) for p in found))
    if not isinstance(value, dict):
        return [Problem("type", where, "object")]
    return _judge_members(value, shape, where)


def _judge_members(value: dict[str, Any], shape: Shape, where: str) -> list[Problem]:
    found: list[Problem] = []
    known = {name.rstrip("!"): (name.endswith("!"), inner) for name, inner in shape.items()}
    for name, (required, inner) in known.items():
        if name in value and name != "*":
            found += judge(value[name], inner, f"{where}.{name}")
        elif required:
            found.append(Problem("missing", f"{where}.{name}", "a value"))
    rest = known.get("*")
    for name in value.keys() - known.keys():
        if rest is None:
            found.append(Problem("unknown", f"{where}.{name}", "no such member"))
        else:
            found += judge(value[name], rest[1], f"{where}.{name}")
    return found


def _judge_word(value: Any, shape: str, where: str) -> list[Problem]:
    if shape[0] == "~":
        fits = isinstance(value, str) and re.fullmatch(shape[1:], value)
        return [] if fits else [Problem("type", where, shape)]
    bounds = _BOUNDED.fullmatch(shape)
    if bounds:
        least, most = int(bounds[1]), int(bounds[2])
        fits = _TESTS["integer"](value) and least <= value <= most
        return [] if fits else [Problem("type", where, f"{least} to {most}")]
    if shape[0] in "=#":
        choices = [c if shape[0] == "=" else int(c) for c in shape[1:].split("|") if c != "null"]
        if value in choices or (value is None and shape.endswith("|null")):
            return []
        kind: Kind = "choice" if isinstance(value, str | int) else "type"
        return [Problem(kind, where, f"one of {choices}")]
    if any(_TESTS[word](value) for word in shape.split("|")):
        return []
    return [Problem("type", where, shape)]


def from_text(text: str, shape: Shape) -> Any:
    """A query's, path's or form's text as the value that the shape wants; the text itself, where
    it is none, so that `judge` says so."""
    words = shape.split("|") if isinstance(shape, str) and shape[0] not in "=#~" else []
    if isinstance(shape, str) and shape[0] == "#":
        words = ["integer"]
    if "boolean" in words and text in ("true", "false"):
        return text == "true"
    if isinstance(shape, str) and _BOUNDED.fullmatch(shape):
        words = ["integer"]
    if ("integer" in words or "number" in words) and re.fullmatch(r"-?\d+", text):
        return int(text) if "string" not in words else text
    if "number" in words and re.fullmatch(r"-?\d+\.\d+", text):
        return float(text)
    if isinstance(shape, list):
        return [from_text(part, shape[0]) for part in text.split(",")]
    return text


def sample(shape: Shape, name: str, number: int) -> Any:
    """A plausible value. `number` makes it one of its own."""
    if isinstance(shape, list):
        return [sample(shape[0], name, number)]
    if isinstance(shape, dict):
        if "|" in shape:
            return sample(shape["|"][0], name, number)
        members = {n.rstrip("!"): inner for n, inner in shape.items() if n != "*"}
        return {n: sample(inner, n, number) for n, inner in members.items()}
    bounds = _BOUNDED.fullmatch(shape)
    if bounds:
        return max(int(bounds[1]), min(number, int(bounds[2])))
    if shape[0] == "~":
        return next(one for one in FORMED if re.fullmatch(shape[1:], one))
    if shape[0] in "=#":
        first = shape[1:].split("|")[0]
        return first if shape[0] == "=" else int(first)
    return _sample_word(shape.split("|")[0], name, number)


def _sample_word(word: str, name: str, number: int) -> Any:
    if word == "string":
        if name.endswith(("_at", "_time", "created", "updated", "date", "_on")):
            return "2026-11-21T09:30:00Z"
        if name.endswith(("url", "self", "link")):
            return f"https://vendor.example/{name}/{number}"
        return str(number) if name in ("id", "gid", "Id", "sub") else f"{name} {number}"
    values: dict[str, Any] = {
        "integer": number, "number": float(number), "boolean": True, "object": {}, "array": [],
        "any": None, "null": None, "digits": str(number), "uuid": "4444AAAiAAAAAiAiAiiAii==",
        "file": "",
    }  # fmt: skip
    return values[word]
