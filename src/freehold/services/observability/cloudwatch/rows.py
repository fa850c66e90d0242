"""What a query walks over: entries of a log, and the rows that its commands make of them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from freehold.services.observability.cloudwatch.documents import Document, message_of

_DEPTH_MAX = 32


class Entry:
    """One event of a log. `log` is "{account}:{group}"; `id` tells it from all others there."""

    __slots__ = ("_message", "at_ns", "document", "id", "log", "stream")

    def __init__(self, *, at_ns: int, log: str, stream: str, id: str, document: Document) -> None:
        self.at_ns, self.log, self.stream, self.id = at_ns, log, stream, id
        self.document = document
        self._message: str | None = None

    @property
    def at_ms(self) -> int:
        return self.at_ns // 1_000_000

    @property
    def message(self) -> str:
        if self._message is None:
            self._message = message_of(self.document)
        return self._message

    @property
    def pointer(self) -> str:
        return f"{self.log}:{self.stream}:{self.id}"


class Row:
    """An entry and what was computed of it; after `stats` there is no entry."""

    __slots__ = ("computed", "entry")

    def __init__(self, entry: Entry | None, computed: dict[str, Any] | None = None) -> None:
        self.entry = entry
        self.computed: dict[str, Any] = {} if computed is None else computed

    def get(self, name: str) -> Any:
        """None where there is no such field."""
        if name in self.computed:
            return self.computed[name]
        entry = self.entry
        if entry is None:
            return None
        if name.startswith("@"):
            return _own(entry, name)
        return found(entry.document, name)


def _own(entry: Entry, name: str) -> Any:
    match name:
        case "@timestamp" | "@ingestionTime":
            return Moment(entry.at_ms)
        case "@message":
            return entry.message
        case "@log":
            return entry.log
        case "@logStream":
            return entry.stream
        case "@ptr":
            return entry.pointer
    return None


class Moment(int):
    """Milliseconds since 1970, shown as a date."""

    def __str__(self) -> str:
        try:
            at = datetime.fromtimestamp(int(self) / 1000, UTC)
        except (OverflowError, ValueError):
            return str(int(self))
        return f"{at:%Y-%m-%d %H:%M:%S}.{int(self) % 1000:03}"


def found(value: Any, name: str, depth: int = 0) -> Any:
    """By a dotted path; names of members may hold dots themselves, as attributes' do."""
    if depth > _DEPTH_MAX:
        return None
    if isinstance(value, Mapping):
        if name in value:
            return value[name]
        at = name.find(".")
        while at > 0:
            head = name[:at]
            if head in value:
                inner = found(value[head], name[at + 1 :], depth + 1)
                if inner is not None:
                    return inner
            at = name.find(".", at + 1)
    elif isinstance(value, list | tuple):
        head, _, rest = name.partition(".")
        if head.isdigit() and len(head) < 7 and int(head) < len(value):
            item = value[int(head)]
            return found(item, rest, depth + 1) if rest else item
    return None
