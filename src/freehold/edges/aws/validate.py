"""What the model demands of a value: range, length, pattern, enumeration.

Checks are compiled once for each shape, and report every violation instead of the first.
Values are never quoted: they may be secret.
"""

import functools
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from freehold.edges.aws.model import Shape
from freehold.kernel.errors import ValidationFailed

VIOLATIONS_MAX = 100
PATTERN_CHARS_MAX = 8192

# The way to a value: (the way to what holds it, its name there). Rendered for violations only.
Path: TypeAlias = "tuple[Path, str] | None"


class Violation(NamedTuple):
    name: str
    message: str


class Problems:
    """All violations of one request."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: list[Violation] = []

    def add(self, path: Path, constraint: str) -> None:
        """`constraint` is a clause: "Member must ..."."""
        name = rendered(path)
        message = f"Value at '{name}' failed to satisfy constraint: {constraint}"
        self.found.append(Violation(name, message))
        if len(self.found) >= VIOLATIONS_MAX:
            raise self.failure(more=True)

    def failure(self, *, more: bool = False) -> ValidationFailed:
        count = len(self.found)
        noun = "error" if count == 1 else "errors"
        listed = "; ".join(violation.message for violation in self.found)
        return ValidationFailed(
            f"{'At least ' if more else ''}{count} validation {noun} detected: {listed}",
            reason="FieldValidationFailed",
            fieldList=[violation._asdict() for violation in self.found],
        )


def rendered(path: Path) -> str:
    parts = []
    while path is not None:
        path, part = path
        parts.append(part)
    return ".".join(reversed(parts))


Check = Callable[[Any, Path, Problems], None]


@functools.cache
def check_of(shape: Shape) -> Check | None:
    """The check of one value of that shape, not of what it holds; None when anything goes."""
    if shape.kind in {"integer", "long", "float", "double"}:
        return _range_check(shape)
    if shape.kind == "string":
        return _string_check(shape)
    if shape.kind in {"list", "map", "blob"}:
        return _length_check(shape)
    return None


def _range_check(shape: Shape) -> Check | None:
    low = shape.traits.get("min", -math.inf)
    high = shape.traits.get("max", math.inf)
    if low == -math.inf and high == math.inf:
        return None

    def check(value: Any, path: Path, problems: Problems) -> None:
        if value < low:
            problems.add(path, f"Member must have value greater than or equal to {low}")
        elif value > high:
            problems.add(path, f"Member must have value less than or equal to {high}")

    return check


def _length_check(shape: Shape) -> Check | None:
    low = shape.traits.get("min", 0)
    high = shape.traits.get("max", math.inf)
    if low == 0 and high == math.inf:
        return None

    def check(value: Any, path: Path, problems: Problems) -> None:
        if len(value) < low:
            problems.add(path, f"Member must have length greater than or equal to {low}")
        elif len(value) > high:
            problems.add(path, f"Member must have length less than or equal to {high}")

    return check


def _string_check(shape: Shape) -> Check | None:
    length = _length_check(shape)
    pattern = _WIDER.get(shape.name, shape.traits.get("pattern"))
    matches = compiled(pattern).fullmatch if pattern else None
    longest = pattern_chars_max(shape) if pattern else 0
    allowed = frozenset(shape.traits.get("enum", ()))
    if matches is None and not allowed:
        return length
    listed = ", ".join(shape.traits.get("enum", ()))

    def check(value: Any, path: Path, problems: Problems) -> None:
        if length is not None:
            length(value, path, problems)
        if matches is not None and not (len(value) <= longest and matches(value)):
            problems.add(path, f"Member must satisfy regular expression pattern: {pattern}")
        if allowed and value not in allowed:
            problems.add(path, f"Member must satisfy enum value set: [{listed}]")

    return check


# Where Freehold takes more than AWS does: images of every registry, and OCI layouts on disk; plain
# http to targets in the platform's own network, which is where the gateway's own checks allow it;
# servers over standard input and output that the operator configures.
_WIDER = {
    "RuntimeContainerUri": r"[!-~]+",
    "McpServerTargetConfigurationEndpointString": r"https?://.*|stdio:[a-z0-9_]{1,64}",
    "PassthroughEndpoint": r"https?://[a-zA-Z0-9\-\.]+(:[0-9]{1,5})?(/.*)?",
}

# \p{C} is Unicode's "other": control, format, surrogate, private use and unassigned. Python's
# `re` has no such class; these ranges are its assigned part.
_OTHER = (
    r"\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e"
    r"\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ud800-\uf8ff\ufeff\ufff9-\ufffb"
    r"\U000110bd\U000110cd\U00013430-\U00013438\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0001\U000e0020-\U000e007f\U000f0000-\U000ffffd\U00100000-\U0010fffd"
)


_TOKEN, _NO_TOKEN = "[A-Za-z0-9-_=]", r"[^A-Za-z0-9-_=\n]"
# Patterns that take Python more than linear time, and the same in linear time.
_LINEAR = {
    # A user's token, to 131,072 characters. Its unescaped dots make it cubic; each can stand for
    # a separator, or be one more character of a run.
    rf"{_TOKEN}+.{_TOKEN}+.{_TOKEN}+": "|".join(
        (
            rf"{_TOKEN}{{5,}}+",
            rf"{_TOKEN}{{3,}}+{_NO_TOKEN}{_TOKEN}++",
            rf"{_TOKEN}++{_NO_TOKEN}{_TOKEN}{{3,}}+",
            rf"{_TOKEN}++{_NO_TOKEN}{_TOKEN}++{_NO_TOKEN}{_TOKEN}++",
        )
    ),
    # Actors, sessions and namespaces: the last star repeats what the parts before it may take.
    "[a-zA-Z0-9][a-zA-Z0-9-_/]*(?::[a-zA-Z0-9-_/]+)*[a-zA-Z0-9-_/]*": (
        "[a-zA-Z0-9][a-zA-Z0-9-_/]*+(?::[a-zA-Z0-9-_/]++)*+"
    ),
    "[a-zA-Z0-9/*][a-zA-Z0-9-_/*]*(?::[a-zA-Z0-9-_/*]+)*[a-zA-Z0-9-_/*]*": (
        "[a-zA-Z0-9/*][a-zA-Z0-9-_/*]*+(?::[a-zA-Z0-9-_/*]++)*+"
    ),
}
_ONE_CLASS = re.compile(r"\[(?:[^\]\\]|\\.)+\][*+]")


def pattern_chars_max(shape: Shape) -> float:
    """The longest text that a pattern is tried on; a longer one does not satisfy it.

    Where the model names no maximum, no name, id or URL is legitimately longer than this; at that
    length the slowest of today's patterns take some milliseconds.
    """
    unbounded = _ONE_CLASS.fullmatch(shape.traits["pattern"])
    longest: float = shape.traits.get("max", math.inf if unbounded else PATTERN_CHARS_MAX)
    return longest


@functools.cache
def compiled(pattern: str) -> re.Pattern[str]:
    """For `fullmatch`. The models' patterns mean Java's classes: \\d, \\s and \\w are ASCII."""
    pattern = _LINEAR.get(pattern, pattern)
    return re.compile(pattern.replace(r"\p{C}", _OTHER), re.ASCII)
