"""How new notes join the records that are there: added, in place of an older one, or not at all.

What was said earlier never takes the place of what was said later, in whatever order it is learned:
it becomes history at once. So the outcome depends on what was said and when, not on when a job ran.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import msgspec

from freehold.services.memory.extraction_answers import Decision
from freehold.services.memory.extraction_metadata import Value
from freehold.services.memory.model import Record, Source

NEAREST_MAX = 10
SOURCES_MAX = 64
"""More of them are not added to a record that says the same."""
_ALIKE = 0.6

_WORD = re.compile(r"\w+")


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A new note. `strict` is metadata that records must share to be one. `echo`: no person said
    it, and an agent that repeats what it was reminded of is no further source of it."""

    text: str
    sources: tuple[Source, ...]
    at: datetime
    metadata: Mapping[str, Value] = {}
    strict: Mapping[str, Value] = {}
    echo: bool = False


class Supersession(msgspec.Struct, frozen=True):
    id: str
    by: str
    at: datetime


class Plan(msgspec.Struct, frozen=True):
    """What is to be written: first the records, then what took whose place."""

    puts: list[Record]
    supersessions: list[Supersession]


def normalised(text: str) -> str:
    """What two texts have in common that differ in case, spaces and signs alone."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def last_said(sources: Sequence[Source], at: datetime) -> tuple[str, int]:
    """Sorts by when it was said last. Event ids begin with their milliseconds."""
    if sources:
        return max((source.event_id, source.index) for source in sources)
    return f"{int(at.timestamp() * 1000):015d}", 0


def merged(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Each thing once, by when it was said last."""
    found: dict[tuple[str, str], Candidate] = {}
    for each in candidates:
        key = (normalised(each.text), repr(sorted(each.strict.items())))
        other = found.get(key)
        if other is None:
            found[key] = each
            continue
        found[key] = msgspec.structs.replace(
            other, sources=_union(other.sources, each.sources), at=max(other.at, each.at),
            echo=other.echo and each.echo,
        )  # fmt: skip
    return sorted(found.values(), key=lambda each: last_said(each.sources, each.at))


class Consolidation:
    """Works on copies; nothing is written. `make` gives a record its id, namespace and times."""

    def __init__(self, make: Callable[[Candidate], Record], strict_keys: Sequence[str]) -> None:
        self._make, self._strict_keys = make, tuple(strict_keys)
        self._records: dict[str, Record] = {}
        self._changed: dict[str, None] = {}
        self._superseded: dict[str, Supersession] = {}

    def known(self, records: Sequence[Record]) -> None:
        for record in records:
            self._records.setdefault(record.id, record)

    def duplicate(self, candidate: Candidate, near: Sequence[Record]) -> bool:
        """Whether one of these says it already, which then has its sources too. Or was made of the
        same messages in words that are almost the same: those were looked at twice."""
        text = normalised(candidate.text)
        for record in near:
            current = self._records[record.id]
            if not self._joins(candidate, current):
                continue
            if normalised(current.text) == text:
                self._skip(candidate, current)
                return True
            same = bool(current.sources) and set(candidate.sources) <= set(current.sources)
            if same and _likeness(current.text, candidate.text) >= _ALIKE:
                return True
        return False

    def decide(self, candidate: Candidate, decision: Decision | None, over: str | None) -> str:
        """`over` is the id of a record that the candidate may be about. Without a decision that can
        be followed, it is added. The id of the record that says it now."""
        target = self._records[self._head(over)] if over is not None else None
        if decision is None or target is None or not self._joins(candidate, target):
            return self._add(candidate).id
        same = normalised(candidate.text) == normalised(target.text)
        if decision.action == "SKIP" or same:
            self._skip(candidate, target)
            return target.id
        if decision.action == "ADD":
            return self._add(candidate).id
        return self._update(candidate, target, decision.text).id

    def plan(self) -> Plan:
        return Plan([self._records[id] for id in self._changed], list(self._superseded.values()))

    def _joins(self, candidate: Candidate, record: Record) -> bool:
        return all(record.metadata.get(key) == candidate.strict.get(key)
                   for key in self._strict_keys)  # fmt: skip

    def _head(self, id: str) -> str:
        while id in self._superseded:
            id = self._superseded[id].by
        return id

    def _add(self, candidate: Candidate) -> Record:
        record = self._make(candidate)
        self._put(record)
        return record

    def _skip(self, candidate: Candidate, target: Record) -> None:
        sources = _union(target.sources, candidate.sources)
        full = len(sources) > SOURCES_MAX or not target.sources or candidate.echo
        if sources != target.sources and not full:
            self._put(
                msgspec.structs.replace(target, sources=sources, at=max(target.at, candidate.at))
            )

    def _update(self, candidate: Candidate, target: Record, text: str) -> Record:
        joined = bool(text) and normalised(text) != normalised(candidate.text)
        if joined:
            # It says what both said: it goes with either's sources.
            candidate = msgspec.structs.replace(
                candidate, text=text, sources=_union(target.sources, candidate.sources)
            )
        older = last_said(candidate.sources, candidate.at) < last_said(target.sources, target.at)
        record = self._add(candidate)
        if older and not joined:
            self._supersede(record, by=target)
        else:
            self._supersede(target, by=record)
        return record

    def _supersede(self, record: Record, *, by: Record) -> None:
        self._superseded[record.id] = _supersession(record, by)

    def _put(self, record: Record) -> None:
        self._records[record.id] = record
        self._changed[record.id] = None


def ends(gone: Sequence[Record]) -> dict[str, tuple[str, str]]:
    """Of records that go, by id: the last of its successors that go too, or itself, and the id of
    what follows that; "" for nothing."""
    successors = {record.id: record.superseded_by for record in gone}
    found = {}
    for id in successors:
        end, seen = id, {id}
        while successors[end] in successors and successors[end] not in seen:
            end = successors[end]
            seen.add(end)
        heir = successors[end]
        found[id] = end, "" if heir in seen else heir
    return found


def chained(
    orphans: Sequence[Record],
    ends: Mapping[str, tuple[str, str]],
    heirs: Mapping[str, Record],
) -> tuple[list[Record], list[Supersession]]:
    """Records whose successors go: those that are current again, and those that another follows
    from now on: each the next one of its chain, the last one what the chain ended in."""
    current: list[Record] = []
    superseded: list[Supersession] = []
    chains: dict[str, list[Record]] = {}
    for record in orphans:
        chains.setdefault(ends[record.superseded_by][0], []).append(record)
    for records in chains.values():
        ordered = sorted(records, key=lambda each: last_said(each.sources, each.at))
        heir = heirs.get(ends[ordered[-1].superseded_by][1])
        for record, following in zip(ordered, [*ordered[1:], heir], strict=True):
            if following is None:
                current.append(msgspec.structs.replace(record, valid_until=None, superseded_by=""))
            else:
                superseded.append(_supersession(record, following))
    return current, superseded


def _supersession(record: Record, by: Record) -> Supersession:
    at = max(by.valid_from or by.at, record.valid_from or record.at)
    return Supersession(record.id, by.id, at)


def _union(first: Sequence[Source], second: Sequence[Source]) -> tuple[Source, ...]:
    return tuple(dict.fromkeys((*first, *second)))


def _likeness(first: str, second: str) -> float:
    one, other = set(normalised(first).split()), set(normalised(second).split())
    return len(one & other) / max(1, len(one | other))
