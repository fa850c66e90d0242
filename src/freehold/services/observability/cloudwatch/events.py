"""GetLogEvents and FilterLogEvents: the entries of a stream in the order of time, page by page."""

import base64
import binascii
import shlex
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from freehold.services.observability.cloudwatch.failures import InvalidParameter, LimitExceeded
from freehold.services.observability.cloudwatch.groups import Group, Stretch
from freehold.services.observability.cloudwatch.rows import Entry

EVENTS_MAX = 10_000
_ENTRIES_MAX = 50_000
_PAGE_BYTES_MAX = 8 << 20


class Boundary(NamedTuple):
    """Between two entries: `passed` of those of this very moment lie before it."""

    at_ns: int
    passed: int


class Events(NamedTuple):
    entries: Sequence[Entry]
    before: Boundary
    after: Boundary


def token_of(direction: str, boundary: Boundary) -> str:
    raw = msgspec.json.encode([direction, *boundary])
    return f"{direction}/{base64.urlsafe_b64encode(raw).decode().rstrip('=')}"


def read_token(token: str) -> tuple[str, Boundary]:
    """The direction, f or b, and where to go on. Raises InvalidParameter."""
    direction, _, text = token.partition("/")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        said, at_ns, passed = msgspec.json.decode(raw, type=tuple[str, int, int])
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise InvalidParameter("The specified nextToken is invalid.") from None
    if said != direction or direction not in ("f", "b") or not 0 <= passed <= _ENTRIES_MAX:
        raise InvalidParameter("The specified nextToken is invalid.")
    return direction, Boundary(at_ns, passed)


async def entries_of(
    group: Group, tenant: str, stretch: Stretch, passes: Callable[[Entry], bool] | None = None
) -> list[Entry]:
    """By time. LimitExceeded for more than one answer can be made of."""
    found: list[Entry] = []
    async for entries in group.read(tenant, stretch):
        found += [
            entry
            for entry in entries
            if stretch.since_ns <= entry.at_ns < stretch.until_ns
            and (passes is None or passes(entry))
        ]
        if len(found) > _ENTRIES_MAX:
            raise LimitExceeded(f"More than {_ENTRIES_MAX} events: narrow the range of time.")
    return sorted(found, key=lambda entry: (entry.at_ns, entry.id))


def page_of(
    entries: Sequence[Entry], *, from_head: bool, at: tuple[str, Boundary] | None, limit: int
) -> Events:
    """`at` is where another page ended; else from the first or up to the last."""
    if at is None:
        low, high = (0, limit) if from_head else (max(0, len(entries) - limit), len(entries))
    else:
        place = _place(entries, at[1])
        low, high = (place, place + limit) if at[0] == "f" else (max(0, place - limit), place)
    forward = from_head if at is None else at[0] == "f"
    shown = _fitting(entries[low:high], forward=forward)
    if not shown:
        here = at[1] if at else Boundary(0, 0)
        return Events([], here, here)
    if not forward:
        low = min(high, len(entries)) - len(shown)
    return Events(shown, _boundary(entries, low), _after(entries, low + len(shown) - 1))


def _fitting(entries: Sequence[Entry], *, forward: bool) -> list[Entry]:
    """As many as an answer may be large, one at least."""
    size = 0
    shown: list[Entry] = []
    for entry in entries if forward else reversed(entries):
        size += len(entry.message)
        if shown and size > _PAGE_BYTES_MAX:
            break
        shown.append(entry)
    return shown if forward else shown[::-1]


def _first_of(entries: Sequence[Entry], at_ns: int) -> int:
    return bisect_left(entries, at_ns, key=lambda entry: entry.at_ns)


def _place(entries: Sequence[Entry], boundary: Boundary) -> int:
    return min(_first_of(entries, boundary.at_ns) + boundary.passed, len(entries))


def _boundary(entries: Sequence[Entry], place: int) -> Boundary:
    at_ns = entries[place].at_ns
    return Boundary(at_ns, place - _first_of(entries, at_ns))


def _after(entries: Sequence[Entry], place: int) -> Boundary:
    boundary = _boundary(entries, place)
    return boundary._replace(passed=boundary.passed + 1)


def filter_of(pattern: str) -> Callable[[Entry], bool] | None:
    """Texts that all have to stand in the message, -text that must not, and ?text of which one has
    to. None for a pattern that everything fits."""
    if not pattern.strip():
        return None
    if pattern.strip()[0] in "{[%":
        raise InvalidParameter(
            'Filter patterns are texts here, such as ERROR "no such" -debug; for fields, ask by '
            "StartQuery."
        )
    try:
        words = shlex.split(pattern)
    except ValueError:
        raise InvalidParameter("Invalid filter pattern: a quotation does not end.") from None
    denied = [word[1:] for word in words if word[0] == "-" and len(word) > 1]
    choices = [word[1:] for word in words if word[0] == "?" and len(word) > 1]
    needed = [word for word in words if word[0] not in "-?"]

    def passes(entry: Entry) -> bool:
        message = entry.message
        if any(word in message for word in denied):
            return False
        if choices and not needed:
            return any(word in message for word in choices)
        return all(word in message for word in needed)

    return passes
