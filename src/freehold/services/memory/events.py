"""What was said: added, read and taken away, an event at a time.

What is acknowledged is committed, and what learns of it was told in the same transaction. Nothing
is grouped: an event waits for nobody else's.
"""

import contextlib
import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from freehold.kernel import clock
from freehold.kernel.errors import (
    Conflict,
    FreeholdError,
    NotFound,
    Unavailable,
    ValidationFailed,
)
from freehold.kernel.pages import Page, decode_token, encode_token
from freehold.ports.database import Connection, Database
from freehold.services.memory.event_sql import EventFilter
from freehold.services.memory.event_store import (
    EventStore,
    NewRow,
    Session,
    digest,
    recalled_in,
    thread_of,
)
from freehold.services.memory.model import (
    EVENT_BYTES_MAX,
    MAIN,
    MESSAGE_BYTES_MAX,
    PAYLOAD_ITEMS_MAX,
    Event,
    Memory,
    Source,
)
from freehold.services.memory.namespace_keys import check_values
from freehold.services.memory.ports import Learning, Memories

METADATA_MAX = 15
_BATCH_EVENTS = 200
_ATTEMPTS_MAX = 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STEP_MAX = 1 << 16
_ARRIVALS_MAX = 1 << 32
_MICROSECONDS_MAX = 1 << 53


class NewEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks for. `memory_id` is an id or an ARN; `session_id` "" for a new one."""

    memory_id: str
    actor_id: str
    at: datetime
    payload: Sequence[Mapping[str, Any]]
    session_id: str = ""
    branch: str = MAIN
    root_event_id: str = ""
    metadata: Mapping[str, str] = {}
    extract: bool = True
    variables: Mapping[str, str] = {}
    client_token: str = ""


class EventLog:
    """Implements `ports.Events`. Each method is of one tenant, whose memories alone it finds."""

    def __init__(
        self,
        database: Database,
        *,
        memories: Memories,
        learning: Learning,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._database = database
        self._store = EventStore()
        self._memories = memories
        self._learning = learning
        self._now = now

    # -- adding

    async def create(self, tenant: str, asked: NewEvent) -> Event:
        """The event that there is already, where the client's token was used for the same."""
        memory = await self._memories.get(tenant, asked.memory_id)
        check_values(memory, asked.variables)
        payload = checked_payload(asked)
        token, request = _identity(memory, asked, payload)
        # Tokens are new, nearly always: that one is not shows when its event is added. On a branch
        # it is looked up first, as the root event may be gone since.
        known = asked.branch != MAIN
        for attempt in range(_ATTEMPTS_MAX):
            with contextlib.suppress(_Taken):
                async with self._database.transaction() as connection:
                    if attempt and await self._store.is_erasing(
                        connection, tenant, memory.id, asked.actor_id
                    ):
                        raise Conflict("this actor is being erased; try again when that is done")
                    if token is not None and known:
                        kept = await self._store.by_token(connection, tenant, token)
                        if kept is not None:
                            if kept.request != request:
                                raise Conflict("clientToken: it was used for another request")
                            return kept.event
                    return await self._added(
                        connection, memory, asked, payload=payload, token=token, request=request
                    )
            known = True
        raise Unavailable("too much is said at this very moment; try again")

    async def _added(
        self,
        connection: Connection,
        memory: Memory,
        asked: NewEvent,
        *,
        payload: bytes,
        token: uuid.UUID | None,
        request: uuid.UUID,
    ) -> Event:
        now = self._now()
        event = Event(
            tenant=memory.tenant, memory_id=memory.id, actor_id=asked.actor_id,
            session_id=asked.session_id or str(uuid.uuid4()), id="", at=asked.at,
            payload=asked.payload, branch=asked.branch, metadata=asked.metadata,
            extract=asked.extract, variables=asked.variables,
            recalled=recalled_in(asked.metadata), created_at=now,
        )  # fmt: skip
        thread = thread_of(memory.tenant, memory.id, event.actor_id, event.session_id)
        moment = f"{_milliseconds(asked.at):015d}"
        last = await self._store.enter(connection, event, thread, moment, now)
        root = await self._root(connection, memory.tenant, thread, asked, now)
        event = msgspec.structs.replace(
            event, id=f"{moment}#{_next_arrival(last):08x}", root_event_id=root
        )
        new = NewRow(
            event=event, payload=payload, token=token, request=request,
            expires_at=now + timedelta(days=memory.expiry_days),
        )  # fmt: skip
        if not await self._store.insert(connection, thread, new):
            raise _Taken
        await self._learning.said(connection, memory, event)
        return event

    async def _root(
        self,
        connection: Connection,
        tenant: str,
        thread: uuid.UUID,
        asked: NewEvent,
        now: datetime,
    ) -> str:
        """The id of the event that the asked branch begins after."""
        if asked.branch == MAIN:
            if asked.root_event_id:
                raise ValidationFailed("branch.rootEventId: main has no root event")
            return ""
        there = await self._store.root_of(connection, tenant, thread, asked.branch)
        if there is None:
            if not asked.root_event_id:
                raise ValidationFailed(
                    f"branch: there is no branch {asked.branch!r} in this session; its first event"
                    " names the rootEventId"
                )
            root = await self._store.get(connection, tenant, thread, asked.root_event_id, now)
            if root is None:
                raise ValidationFailed(
                    f"branch.rootEventId: this session has no event {asked.root_event_id!r}"
                )
            there = await self._store.make_branch(connection, tenant, thread, asked.branch, root)
        if asked.root_event_id not in ("", there):
            raise ValidationFailed(f"branch.rootEventId: {asked.branch!r} begins after {there!r}")
        return there

    # -- reading

    async def get(
        self, tenant: str, memory_id: str, actor_id: str, session_id: str, event_id: str
    ) -> Event:
        memory = await self._memories.get(tenant, memory_id)
        thread = thread_of(tenant, memory.id, actor_id, session_id)
        async with self._database.connection() as connection:
            event = await self._store.get(connection, tenant, thread, event_id, self._now())
        if event is None:
            raise _absent(event_id)
        return event

    async def page(
        self,
        tenant: str,
        memory_id: str,
        actor_id: str,
        session_id: str,
        what: EventFilter,
        *,
        limit: int,
        token: str | None = None,
        payloads: bool = True,
    ) -> Page[Event]:
        """Newest first. A session without events is no error. What is added meanwhile is newer
        than the rest of the pages, or has its place among them by when it was."""
        memory = await self._memories.get(tenant, memory_id)
        thread = thread_of(tenant, memory.id, actor_id, session_id)
        which = f"events {thread.hex}"
        (before,) = _position(token, which, str) or ("",)
        async with self._database.connection() as connection:
            events, more = await self._store.newest(
                connection, tenant, thread, what,
                before=before, limit=limit, payloads=payloads, now=self._now(),
            )  # fmt: skip
        return Page(events, encode_token(which, events[-1].id) if more else None)

    async def of_session(
        self,
        tenant: str,
        memory_id: str,
        actor_id: str,
        session_id: str,
        *,
        after: str = "",
        limit: int = 100,
    ) -> Sequence[Event]:
        async with self._database.connection() as connection:
            return await self._store.after(
                connection, tenant, thread_of(tenant, memory_id, actor_id, session_id),
                after=after, limit=limit, now=self._now(),
            )  # fmt: skip

    async def by_id(
        self, tenant: str, memory_id: str, sources: Sequence[Source]
    ) -> Sequence[Event]:
        ids = sorted({source.event_id for source in sources})
        async with self._database.connection() as connection:
            return await self._store.by_id(connection, tenant, memory_id, ids, self._now())

    async def sessions(
        self,
        tenant: str,
        memory_id: str,
        actor_id: str,
        *,
        limit: int,
        token: str | None = None,
        with_events: bool = False,
    ) -> Page[Session]:
        """The youngest first. One whose events are all gone is shown for a day."""
        memory = await self._memories.get(tenant, memory_id)
        which = f"sessions {thread_of(tenant, memory.id, actor_id, '').hex}"
        position = _position(token, which, int, str)
        before = position and (_EPOCH + timedelta(microseconds=position[0]), position[1])
        async with self._database.connection() as connection:
            found = await self._store.sessions(
                connection, tenant, memory.id, actor_id, before=before or None,
                limit=limit + 1, with_events=with_events, now=self._now(),
            )  # fmt: skip
        if len(found) <= limit:
            return Page(found)
        last = found[limit - 1]
        microseconds = (last.created_at - _EPOCH) // timedelta(microseconds=1)
        return Page(found[:limit], encode_token(which, microseconds, last.session_id))

    async def actors(
        self, tenant: str, memory_id: str, *, limit: int, token: str | None = None
    ) -> Page[str]:
        """Those who have sessions, by their ids."""
        memory = await self._memories.get(tenant, memory_id)
        which = f"actors {thread_of(tenant, memory.id, '', '').hex}"
        (after,) = _position(token, which, str) or ("",)
        async with self._database.connection() as connection:
            found = await self._store.actors(
                connection, tenant, memory.id, after=after, limit=limit + 1
            )
        more = len(found) > limit
        return Page(found[:limit], encode_token(which, found[limit - 1]) if more else None)

    # -- taking away

    async def delete(
        self, tenant: str, memory_id: str, actor_id: str, session_id: str, event_id: str
    ) -> None:
        memory = await self._memories.get(tenant, memory_id)
        thread = thread_of(tenant, memory.id, actor_id, session_id)
        async with self._database.transaction() as connection:
            event = await self._store.delete(connection, tenant, thread, event_id, self._now())
            if event is None:
                raise _absent(event_id)
            await self._learning.unsaid(connection, memory, [event])

    async def erase(
        self, tenant: str, memory_id: str, actor_id: str, session_id: str | None = None
    ) -> int:
        """All that an actor said, or of one session of theirs, and that there was such a session.
        How many events it was. Repeated after a failure, it goes on where it was."""
        memory = await self._memories.get(tenant, memory_id)
        if session_id is not None:
            threads = [thread_of(tenant, memory.id, actor_id, session_id)]
        else:
            async with self._database.connection() as connection:
                threads = await self._store.threads(connection, tenant, memory.id, actor_id)
        erased = 0
        for thread in threads:
            while taken := await self._taken(memory, thread):
                erased += taken
        return erased

    async def _taken(self, memory: Memory, thread: uuid.UUID) -> int:
        async with self._database.transaction() as connection:
            taken = await self._store.take_batch(
                connection, memory.tenant, thread, limit=_BATCH_EVENTS
            )
            if taken:
                await self._learning.unsaid(connection, memory, taken)
        return len(taken)

    async def forget(self, tenant: str, memory_id: str) -> None:
        """All of a memory that is deleted, by its id. Who learned of its events is not told: that
        goes with the memory too."""
        gone = 1
        while gone:
            async with self._database.transaction() as connection:
                gone = await self._store.forget(connection, tenant, memory_id, limit=_BATCH_EVENTS)


class _Taken(Exception):
    """The id or the client's token is taken, the session went this moment, or the actor is being
    erased: look again."""


def checked_payload(asked: NewEvent) -> bytes:
    """Its JSON. What the API's model cannot say about an event is checked here."""
    if asked.at < _EPOCH or asked.at.year > 9998:
        raise ValidationFailed("eventTimestamp: it must be between the years 1970 and 9998")
    if len(asked.payload) > PAYLOAD_ITEMS_MAX:
        raise ValidationFailed(f"payload: at most {PAYLOAD_ITEMS_MAX} items")
    if len(asked.metadata) > METADATA_MAX:
        raise ValidationFailed(f"metadata: at most {METADATA_MAX} pairs")
    for index, item in enumerate(asked.payload):
        said, json = item.get("conversational"), item.get("json")
        size = 0
        if said is not None:
            size = len(said["content"]["text"].encode())
        elif json is not None:
            size = len(msgspec.json.encode(json["content"]))
        if size > MESSAGE_BYTES_MAX:
            raise ValidationFailed(
                f"payload[{index}]: {size} bytes; at most {MESSAGE_BYTES_MAX >> 10} KB a message"
            )
    payload = msgspec.json.encode(asked.payload)
    if len(payload) > EVENT_BYTES_MAX:
        raise ValidationFailed(
            f"payload: {len(payload)} bytes; at most {EVENT_BYTES_MAX >> 20} MB an event"
        )
    return payload


def _identity(
    memory: Memory, asked: NewEvent, payload: bytes
) -> tuple[uuid.UUID | None, uuid.UUID]:
    """What the client's token becomes, and what it was used for. Not the moment: who is told
    something a second time often says "now" again."""
    rest = (
        asked.actor_id, asked.session_id, asked.branch, asked.root_event_id,
        sorted(asked.metadata.items()), asked.extract, sorted(asked.variables.items()),
    )  # fmt: skip
    request = digest(msgspec.json.encode(rest) + payload)
    if not asked.client_token:
        return None, request
    return digest(msgspec.json.encode((memory.tenant, memory.id, asked.client_token))), request


def _milliseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)


def _next_arrival(last: str | None) -> int:
    """After all of the same moment and session. The steps are random, so that events of different
    sessions hardly ever meet, and an id that was deleted hardly ever comes again; they get
    shorter as room gets scarce."""
    if last is None:
        return secrets.randbelow(_ARRIVALS_MAX >> 1)
    arrival = int(last.rpartition("#")[2], 16)
    room = _ARRIVALS_MAX - 1 - arrival
    if room == 0:
        raise ValidationFailed("eventTimestamp: this session has too many events of that moment")
    return arrival + 1 + secrets.randbelow(max(1, min(_STEP_MAX, room // _STEP_MAX)))


def _position(token: str | None, which: str, *kinds: type) -> list[Any] | None:
    """What a token of the list `which` says. Raises ValidationFailed for one of another list: it
    would leave out what nobody has seen."""
    position = decode_token(token or None)
    if position is None:
        return None
    ours, place = position[:1] == [which], position[1:]
    fits = [type(part) for part in place] == list(kinds)
    if not ours or not fits or not all(_is_of_ours(part) for part in place):
        raise ValidationFailed("nextToken is not one of this list's")
    return place


def _is_of_ours(part: str | int) -> bool:
    return "\0" not in part if isinstance(part, str) else 0 <= part <= _MICROSECONDS_MAX


def _absent(event_id: str) -> FreeholdError:
    return NotFound(f"event {event_id!r} does not exist")
