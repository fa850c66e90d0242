"""Which messages are looked at together, and how the model sees them."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from freehold.services.memory.extraction_places import Place
from freehold.services.memory.extraction_store import Queued
from freehold.services.memory.model import Event, Message, Source
from freehold.services.memory.ports import Events

BATCH_MESSAGES_MAX = 40
BATCH_TOKENS_MAX = 12_000
CONTEXT_MESSAGES_MAX = 4
CONTEXT_CHARACTERS_MAX = 2_000
CONTEXT_TOKENS_MAX = 4_000
_PAGE = 100
_PAGES_MAX = 10
_CHARACTERS_A_TOKEN = 4
# How far back it is looked for what was said before: the first that is enough.
_BACK_MILLISECONDS = (600_000, 7_200_000, 172_800_000, 7_776_000_000)

# Whose words may be a source. What a tool returns can be anybody's, and what the assistant says is
# no preference of the person.
_ROLES = {
    "SEMANTIC": frozenset({"USER", "ASSISTANT", "OTHER"}),
    "USER_PREFERENCE": frozenset({"USER", "OTHER"}),
}


class Line(msgspec.Struct, frozen=True):
    """A message as the model sees it. `context`: it was dealt with before, or is no source."""

    event: Event
    message: Message
    context: bool

    @property
    def source(self) -> Source:
        return Source(
            event_id=self.event.id, index=self.message.index, actor_id=self.event.actor_id,
            session_id=self.event.session_id,
        )  # fmt: skip


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """`lines` are numbered from 1. `taken` leaves the queue with this batch, `more` stays in it."""

    place: Place
    lines: Sequence[Line]
    taken: Mapping[str, list[int]]
    more: bool

    @property
    def numbers(self) -> list[int]:
        return [n for n, line in enumerate(self.lines, 1) if not line.context]

    @property
    def variables(self) -> Mapping[str, str]:
        return next((line.event.variables for line in self.lines if not line.context), {})

    def line(self, number: int) -> Line:
        return self.lines[number - 1]


def tokens_of(text: str) -> int:
    return len(text) // _CHARACTERS_A_TOKEN + 1


def to_learn(event: Event, kind: str) -> list[Message]:
    """What there is to learn from an event. One that repeats records teaches nothing by the words
    of who repeats them: the agent's, or all of it where nobody else speaks."""
    roles = _ROLES.get(kind)
    messages = [each for each in event.messages if each.text.strip()]
    if event.recalled:
        repeated = [each for each in messages if each.role != "USER"]
        messages = [each for each in messages if each.role == "USER"] if repeated else []
    return [each for each in messages if roles is None or each.role in roles]


async def gathered(events: Events, place: Place, queued: Sequence[Queued]) -> Batch:
    """The oldest of what waits, of events whose namespaces have the same variables. Without any
    line, where these events are gone."""
    wanted = {each.event_id: each.messages for each in queued}
    found = {event.id: event for event in await _read(events, place, list(wanted))}
    gathering = _Gathering()
    for id in sorted(found):
        gathering.add(found[id], wanted[id])
        if gathering.full:
            break
    gone = {id: wanted[id] for id in wanted if id not in found}
    return Batch(
        place=place, lines=gathering.lines, taken={**gone, **gathering.taken}, more=gathering.full
    )


class _Gathering:
    """Fresh messages until there are enough, and around them what is context, bounded too."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.taken: dict[str, list[int]] = {}
        self.full = False
        self._variables: Mapping[str, str] | None = None
        self._messages = self._tokens = self._context_tokens = 0

    def add(self, event: Event, wanted: Sequence[int]) -> None:
        if self._variables not in (None, event.variables):
            self.full = True
            return
        self._variables = event.variables
        there = {message.index for message in event.messages}
        kept = [index for index in wanted if index not in there]
        for message in event.messages:
            if message.index not in wanted:
                self._around(event, message)
            elif self._fits(message):
                self.lines.append(Line(event, message, context=False))
                kept.append(message.index)
            else:
                self.full = True
                break
        if kept:
            self.taken[event.id] = kept

    def _fits(self, message: Message) -> bool:
        cost = tokens_of(message.text)
        room = self._messages < BATCH_MESSAGES_MAX and self._tokens + cost <= BATCH_TOKENS_MAX
        if self._messages and not room:
            return False
        self._messages, self._tokens = self._messages + 1, self._tokens + cost
        return True

    def _around(self, event: Event, message: Message) -> None:
        cost = tokens_of(message.text[:CONTEXT_CHARACTERS_MAX])
        if self._context_tokens + cost <= CONTEXT_TOKENS_MAX:
            self._context_tokens += cost
            self.lines.append(Line(event, message, context=True))


async def before(events: Events, first: Event, messages_max: int) -> list[tuple[Event, Message]]:
    """The last messages before an event, the oldest first."""
    moment = int(first.id.partition("#")[0])
    found: list[tuple[Event, Message]] = []
    if messages_max == 0:
        return found
    for back in _BACK_MILLISECONDS:
        after = f"{max(0, moment - back):015d}"
        found = []
        for _ in range(_PAGES_MAX):
            page = await events.of_session(
                first.tenant, first.memory_id, first.actor_id, first.session_id,
                after=after, limit=_PAGE,
            )  # fmt: skip
            earlier = [event for event in page if event.id < first.id]
            found += [(event, message) for event in earlier for message in event.messages]
            found = found[-messages_max:]
            if len(earlier) < _PAGE:
                break
            after = earlier[-1].id
        if len(found) == messages_max:
            break
    return found


def document(batch: Batch, context: Sequence[tuple[Event, Message]]) -> dict[str, Any]:
    """What the model is given to read."""
    said = [_said(event, message, None) for event, message in context]
    said += [
        _said(line.event, line.message, None if line.context else n)
        for n, line in enumerate(batch.lines, 1)
    ]
    return {"actor": batch.place.actor_id, "messages": said}


def _said(event: Event, message: Message, number: int | None) -> dict[str, Any]:
    """What has no number is context."""
    said = {"role": message.role, "at": event.at.isoformat(timespec="minutes")}
    if number is None:
        return {**said, "text": message.text[:CONTEXT_CHARACTERS_MAX], "context": True}
    return {"n": number, **said, "text": message.text}


async def _read(events: Events, place: Place, ids: Sequence[str]) -> list[Event]:
    """Ids are one session's: another may have the same."""
    sources = [
        Source(event_id=id, actor_id=place.actor_id, session_id=place.session_id) for id in ids
    ]
    return [
        event for event in await events.by_id(place.tenant, place.memory_id, sources)
        if (event.actor_id, event.session_id) == (place.actor_id, place.session_id)
    ]  # fmt: skip
