"""What is shown of the inputs of a decision. Applied before anything of them leaves the platform.

A path is dotted and begins with `input`, `claims` or `context`: `input.amount`, `claims.email`,
`input.items.*.price` (an element of a list is one step), `input.card_*`. It stands for all that is
below it too. Where a path is both revealed and hidden, it is hidden.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from freehold.kernel.errors import ValidationFailed

ROOTS = ("input", "claims", "context")
PATHS_MAX = 100
PATH_CHARACTERS_MAX = 200
_DEPTH_MAX = 64

HIDDEN = "(hidden)"
# What a schema would name a member. A map's keys may be what is to be masked.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
Show = Literal["none", "masked", "all"]
Path = tuple[str | int, ...]
"""Names, and the places in lists."""
_NOTHING: Any = object()


class DecisionView(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`masked`: the names of members (those that look like names) and the types of values, and no
    value. `none`: nothing at all. Of both, what `reveal` names is shown as it was; `hide` wins over
    everything."""

    show: Show = "masked"
    reveal: tuple[str, ...] = ()
    hide: tuple[str, ...] = ()


def check(view: DecisionView) -> None:
    """Raises ValidationFailed."""
    for path in (*view.reveal, *view.hide):
        steps = path.split(".")
        if len(path) > PATH_CHARACTERS_MAX or "\0" in path or not all(steps):
            raise ValidationFailed(
                f"{path[:PATH_CHARACTERS_MAX]!r}: expected names with dots between them, of "
                f"{PATH_CHARACTERS_MAX} characters at most"
            )
        if any(step.count("*") > 1 for step in steps):
            raise ValidationFailed(f"{path!r}: there may be one * in a name")
        if steps[0] not in (*ROOTS, "*"):
            raise ValidationFailed(f"{path!r}: a path begins with {', '.join(ROOTS)} or *")
    if max(len(view.reveal), len(view.hide)) > PATHS_MAX:
        raise ValidationFailed(f"there may be {PATHS_MAX} paths of a kind")


class Redaction:
    """Of one view."""

    def __init__(self, view: DecisionView) -> None:
        self._view = view
        self._reveal = _patterns(view.reveal)
        self._hide = _patterns([path.casefold() for path in view.hide])

    def shown(self, root: str, value: Mapping[str, Any] | None) -> Any:
        """`input`, `claims` or `context`, with what may be seen of it. None: nothing of it."""
        if value is None:
            return None
        shown = self._shown((root,), value, self._view.show == "all")
        return None if shown is _NOTHING else shown

    def errors(self, errors: Sequence[str]) -> list[str]:
        """The engine's words repeat values; who may not see all of them is told which policy."""
        if self._view.show == "all" and not self._view.hide:
            return list(errors)
        return [_failed(error) for error in errors]

    def _shown(self, path: Path, value: Any, revealed: bool) -> Any:
        masked = self._view.show == "masked"
        if len(path) > _DEPTH_MAX or _hides(self._hide, path):
            return HIDDEN if masked or revealed else _NOTHING
        revealed = revealed or _reveals(self._reveal, path)
        if isinstance(value, Mapping):
            shown: Any = {}
            for number, (name, each) in enumerate(value.items()):
                seen = self._shown((*path, name), each, revealed)
                if seen is not _NOTHING:
                    known = revealed or path == ("claims",) or _NAME.fullmatch(name)
                    shown[name if known else f"(name {number})"] = seen
        elif isinstance(value, list | tuple):
            numbered = enumerate(value)
            listed = [self._shown((*path, number), each, revealed) for number, each in numbered]
            shown = [each for each in listed if each is not _NOTHING]
        elif revealed:
            return value
        else:
            return f"({_type(value)})" if masked else _NOTHING
        return shown if shown or masked or revealed else _NOTHING


def _type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, str) else "number"


_Step = tuple[str, str | None]
"""What a name begins with, and what it ends with; or, with None, the whole name."""
_Pattern = tuple[_Step, ...]


def _patterns(paths: Sequence[str]) -> tuple[_Pattern, ...]:
    return tuple(tuple(_step(step) for step in path.split(".")) for path in paths)


def _step(text: str) -> _Step:
    before, star, after = text.partition("*")
    return before, after if star else None


def _fits(step: _Step, name: str) -> bool:
    before, after = step
    if after is None:
        return name == before
    length = len(before) + len(after)
    return len(name) >= length and name.startswith(before) and name.endswith(after)


def _reveals(patterns: Sequence[_Pattern], path: Path) -> bool:
    """Names exactly as they are: a member named `a.b` is not the member `b` of `a`."""
    return any(_begins(pattern, [str(step) for step in path]) for pattern in patterns)


def _hides(patterns: Sequence[_Pattern], path: Path) -> bool:
    """In any case of letters, with a dot in a name as well as between names, with the step into a
    list or without: what somebody meant to hide is hidden, and rather more than that."""
    if not patterns:
        return False
    names = [str(step).casefold() for step in path]
    parts = [part for name in names for part in name.split(".")]
    named = [step.casefold() for step in path if isinstance(step, str)]
    unlisted = [part for name in named for part in name.split(".")]
    return any(
        _begins(pattern, steps) for pattern in patterns for steps in (names, parts, unlisted)
    )


def _begins(pattern: _Pattern, steps: Sequence[str]) -> bool:
    return len(pattern) <= len(steps) and all(map(_fits, pattern, steps))


# At the beginning alone: further on the words may be the caller's.
_POLICY = re.compile(r"(?:error while evaluating )?policy (`?)([A-Za-z0-9_.-]{1,100})\1: ")


def _failed(error: str) -> str:
    named = _POLICY.match(error)
    return f"policy {named[2]} failed" if named else "the decision failed"
