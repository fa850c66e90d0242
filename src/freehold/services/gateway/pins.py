"""Pins: what a target may offer is what was approved, by a hash of all that a model reads of it.

No SQL and no clock: what was pinned and what was seen go in, what is to be stored comes out.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from freehold.ports.targets import Definition, Json, Kind, Problem
from freehold.services.gateway.invisible import cleaned, hidden_in
from freehold.services.gateway.model import Pinned

Key = tuple[Kind, str]
"""A definition among those of its target: its kind, and the target's own name for it."""

NewTools = Literal["trust", "approve"]

REMOVED_KEPT_MAX = 2000
"""Pins of what a target no longer offers."""
DOCUMENT_BYTES_MAX = 256 << 10
DEPTH_MAX = 100
OTHERS_MAX = 1000
"""Resources, templates and prompts of a target, of each kind."""
_NAME_CHARACTERS_MAX = 2048
_encode = msgspec.json.Encoder(order="sorted").encode

_CHANGED = "it is not what was approved"
_REMOVED = "{} characters that nobody sees were taken out of its texts"
_HIDDEN = (
    "its schema has names or values with characters that nobody sees; they stay, since calls need "
    "them"
)
_NEW = "it is new, and new tools of this target wait for approval"


def fingerprint(definition: Definition) -> str:
    """Of the document, and of how it is called: a tool that reads the same and goes elsewhere is
    another one. `_meta` is left out: servers put there what differs each time, and no model
    reads it."""
    document = {k: v for k, v in definition.document.items() if k != "_meta"}
    canonical = _encode([definition.kind, definition.name, document, definition.plan])
    return hashlib.sha256(canonical).hexdigest()


def checked(definitions: Iterable[Definition]) -> tuple[list[Definition], list[Problem]]:
    """Without invisible characters; and what could not be taken over, or was changed, with why."""
    found: dict[Key, Definition] = {}
    problems: list[Problem] = []
    counts = Counter[Kind]()
    for definition in definitions:
        key = (definition.kind, definition.name)
        counts[definition.kind] += 1
        if definition.kind != "tool" and counts[definition.kind] > OTHERS_MAX:
            continue
        if why := _unusable(definition, found.keys()):
            problems.append(Problem(where=_shown(definition.name), why=why))
            continue
        document, removed = cleaned(definition.document)
        if removed:
            problems.append(_altered(definition, _REMOVED.format(removed)))
        if hidden_in(document):
            problems.append(_altered(definition, _HIDDEN))
        found[key] = msgspec.structs.replace(definition, document=document)
    problems += [
        Problem(where=kind, why=f"there are {count}; the first {OTHERS_MAX} are taken")
        for kind, count in counts.items()
        if kind != "tool" and count > OTHERS_MAX
    ]
    return list(found.values()), problems


def _altered(definition: Definition, why: str) -> Problem:
    return Problem(where=definition.name, why=why, skipped=False)


def _unusable(definition: Definition, taken: Iterable[Key]) -> str:
    if not definition.name or len(definition.name) > _NAME_CHARACTERS_MAX:
        return f"a name has 1 to {_NAME_CHARACTERS_MAX} characters"
    if hidden_in(definition.name):
        return "its name has characters that nobody sees; give it another name"
    if (definition.kind, definition.name) in taken:
        return "the target offers two of this name; the first one is kept"
    return _unstorable(definition)


def _unstorable(definition: Definition) -> str:
    if _too_deep([definition.document, definition.plan]):
        return f"its definition is nested more than {DEPTH_MAX} levels deep"
    try:
        size = len(_encode([definition.document, definition.plan]))
    except (UnicodeEncodeError, TypeError, ValueError):
        return "it is not JSON that can be stored"
    if size > DOCUMENT_BYTES_MAX:
        return f"its definition is larger than {DOCUMENT_BYTES_MAX >> 10} KB"
    return ""


def _too_deep(value: Any) -> bool:
    """Without a recursion of its own: what strangers send may be nested as deep as it likes."""
    level = [value]
    for _ in range(DEPTH_MAX):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _shown(name: str) -> str:
    return name.encode("ascii", "backslashreplace").decode()[:200]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at a target leaves: rows to be written, and keys of rows that go."""

    written: tuple[Pinned, ...] = ()
    gone: tuple[Key, ...] = ()

    @property
    def anything(self) -> bool:
        return bool(self.written or self.gone)


def compare(
    pinned: Mapping[Key, Pinned],
    definitions: Sequence[Definition],
    *,
    now: datetime,
    approved_by: str | None = None,
    new_tools: NewTools = "trust",
    whole: bool = True,
) -> Seen:
    """`approved_by`: an administrator's own act made them what they are, and all are in force.
    Else the first sight of a target pins what it shows, and what differs from a pin is quarantined.
    `whole`: what is missing is no longer offered."""
    first = not pinned
    written: list[Pinned] = []
    for position, definition in enumerate(definitions):
        known = pinned.get((definition.kind, definition.name))
        hash = fingerprint(definition)
        if approved_by is not None:
            row = _in_force(definition, hash, position, known, by=approved_by, now=now)
        elif known is None:
            trusted = first or new_tools == "trust"
            by = "first seen" if first else "trusted when it appeared"
            make = _in_force if trusted else _quarantined_new
            row = make(definition, hash, position, None, by=by, now=now)
        else:
            row = _seen_again(definition, hash, known, now=now)
            row = msgspec.structs.replace(row, position=position) if whole else row
        if row != known:
            written.append(row)
    if not whole:
        return Seen(written=tuple(written))
    offered = {(d.kind, d.name) for d in definitions}
    missing = [row for key, row in pinned.items() if key not in offered]
    gone = [row for row in missing if approved_by is not None or row.hash is None]
    kept = [row for row in missing if row not in gone]
    kept.sort(key=lambda row: (not row.present, row.position))
    gone += kept[REMOVED_KEPT_MAX:]
    written += [
        msgspec.structs.replace(row, present=False)
        for row in kept[:REMOVED_KEPT_MAX]
        if row.present
    ]
    return Seen(written=tuple(written), gone=tuple((row.kind, row.name) for row in gone))


def _in_force(
    definition: Definition,
    hash: str,
    position: int,
    known: Pinned | None,
    *,
    by: str,
    now: datetime,
) -> Pinned:
    """Unchanged where it is in force already: who approved it first stays on record."""
    if known is not None and known.hash == hash:
        row = _without_pending(known)
        return msgspec.structs.replace(row, present=True, position=position)
    return Pinned(
        kind=definition.kind, name=definition.name, position=position,
        document=definition.document, plan=definition.plan, hash=hash,
        approved_by=by, approved_at=now, first_at=known.first_at if known else now,
    )  # fmt: skip


def _quarantined_new(
    definition: Definition, hash: str, position: int, _: None, *, by: str, now: datetime
) -> Pinned:
    blank = Pinned(
        kind=definition.kind, name=definition.name, position=position, first_at=now
    )  # fmt: skip
    return _pending(blank, definition, hash, _NEW, now)


def _seen_again(definition: Definition, hash: str, known: Pinned, *, now: datetime) -> Pinned:
    row = msgspec.structs.replace(known, present=True)
    if hash == known.hash:
        return _without_pending(row)
    if hash == known.pending_hash:
        return row
    return _pending(row, definition, hash, _CHANGED if known.hash else _NEW, now)


def _pending(row: Pinned, definition: Definition, hash: str, why: str, now: datetime) -> Pinned:
    return msgspec.structs.replace(
        row, pending_document=definition.document, pending_plan=definition.plan,
        pending_hash=hash, pending_why=why, pending_at=now, rejected_by=None,
    )  # fmt: skip


def _without_pending(row: Pinned) -> Pinned:
    return msgspec.structs.replace(
        row, pending_document=None, pending_plan=None, pending_hash=None, pending_why=None,
        pending_at=None, rejected_by=None,
    )  # fmt: skip


def approved(row: Pinned, *, by: str, now: datetime) -> Pinned:
    """What is pending, in force."""
    assert row.pending_hash is not None, "nothing is pending"
    in_force = msgspec.structs.replace(
        row, document=row.pending_document, plan=row.pending_plan, hash=row.pending_hash,
        approved_by=by, approved_at=now,
    )  # fmt: skip
    return _without_pending(in_force)


def rejected(row: Pinned, *, by: str) -> Pinned:
    """Blocked until the target offers the approved form again, or a third one, which is a change
    to be decided on anew."""
    assert row.pending_hash is not None, "nothing is pending"
    return msgspec.structs.replace(row, rejected_by=by)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One difference: where, as a JSON pointer, and both sides as JSON; None for what is absent.
    What is called, and how, is below /call."""

    where: str
    old: str | None
    new: str | None


_LINES_MAX = 100
_LINE_CHARACTERS_MAX = 2000


def difference(row: Pinned) -> list[Line]:
    old = _leaves(row.document, row.plan)
    new = _leaves(row.pending_document, row.pending_plan)
    lines = [
        Line(where=where, old=old.get(where), new=new.get(where))
        for where in sorted(old.keys() | new.keys())
        if old.get(where) != new.get(where)
    ]
    return lines[:_LINES_MAX]


def _leaves(document: Json | None, plan: Json | None) -> dict[str, str]:
    found: dict[str, str] = {}
    if document is not None:
        _collect({k: v for k, v in document.items() if k != "_meta"}, "", found)
    if plan:
        _collect(plan, "/call", found)
    return found


def _collect(value: Any, where: str, found: dict[str, str]) -> None:
    if isinstance(value, dict) and value:
        for key, member in value.items():
            step = str(key).replace("~", "~0").replace("/", "~1")
            _collect(member, f"{where}/{step}", found)
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for number, item in enumerate(value):
            _collect(item, f"{where}/{number}", found)
    else:
        text = _encode(value).decode()
        if len(text) > _LINE_CHARACTERS_MAX:
            digest = hashlib.sha256(text.encode()).hexdigest()[:12]
            text = f"{text[:_LINE_CHARACTERS_MAX]}... ({len(text)} characters, sha256 {digest})"
        found[where] = text
