"""Lines of the audit as they are stored, and what is said of a chain."""

from datetime import datetime
from typing import Any

import msgspec

from freehold.ports.audit import AuditEvent

_ENCODER = msgspec.json.Encoder()
_TEXT_BYTES_MAX = 1000
# An index takes 2,700 bytes; an S3 key alone may have 1,024.
_RESOURCE_BYTES_MAX = 1600
_DETAILS_MAX = 16
_USUAL_BYTES_MAX = 900


def canonical(event: AuditEvent) -> bytes:
    """The one text of an event: what is stored, hashed and exported. JSON, fields in order."""
    try:
        line = _ENCODER.encode(event)
    except UnicodeEncodeError:
        return _ENCODER.encode(_bounded(event))
    if len(line) > _USUAL_BYTES_MAX or b"\\u0000" in line:
        return _ENCODER.encode(_bounded(event))
    return line


def _bounded(event: AuditEvent) -> AuditEvent:
    """Whatever a client said: short enough for the indexes, and text that Postgres can hold."""
    changed: dict[str, Any] = {
        name: _text(value, _RESOURCE_BYTES_MAX if name == "resource" else _TEXT_BYTES_MAX)
        for name in event.__struct_fields__
        if isinstance(value := getattr(event, name), str)
    }
    detail = list(event.detail.items())[:_DETAILS_MAX]
    changed["detail"] = {_text(k, 100): _text(v, _TEXT_BYTES_MAX) for k, v in detail}
    return msgspec.structs.replace(event, **changed)


def _text(value: str, bytes_max: int) -> str:
    encoded = value.replace("\0", "\\0").encode("utf-8", "backslashreplace")
    return encoded[:bytes_max].decode("utf-8", "ignore")


class Entry(msgspec.Struct, frozen=True):
    """One line as it stands in the store. `text` is canonical."""

    writer: int
    number: int
    at: datetime
    text: str


class Link(msgspec.Struct, frozen=True):
    """One place in a chain, and the entry that should stand there: None where it is gone."""

    sequence: int
    writer: int
    number: int
    hash: bytes
    tenant: str | None
    at: datetime | None
    text: str | None


class Head(msgspec.Struct, frozen=True):
    """The end of a chain, and what it is anchored to: the last entry that retention took."""

    sequence: int
    hash: bytes
    anchor_sequence: int
    anchor_hash: bytes


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What to list: all that are set must hold. `operations` is any of; `intents` adds the lines
    that were written before an act."""

    since: datetime | None = None
    until: datetime | None = None
    principal: str | None = None
    user: str | None = None
    operations: tuple[str, ...] = ()
    resource: str | None = None
    outcome: str | None = None
    call_id: str | None = None
    intents: bool = False

    def matches(self, event: AuditEvent) -> bool:
        """The same as SQL does in store.py."""
        return (
            (self.intents or event.phase != "intent")
            and (self.since is None or event.at >= self.since)
            and (self.until is None or event.at < self.until)
            and self.principal in (None, event.principal)
            and self.user in (None, event.user)
            and (not self.operations or event.operation in self.operations)
            and self.resource in (None, event.resource)
            and self.outcome in (None, event.outcome)
            and self.call_id in (None, event.call_id)
        )


class Fault(msgspec.Struct, frozen=True):
    """`kind`: changed, removed, inserted or rewritten. `sequence` is 0 for an entry without one."""

    kind: str
    sequence: int
    message: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Of `checked` entries after `anchor`; `waiting` are written and not yet linked."""

    holds: bool
    checked: int
    sequence: int
    hash: str
    anchor: int
    checkpoints: int
    waiting: int
    faults: list[Fault]
