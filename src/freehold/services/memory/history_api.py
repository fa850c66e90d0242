"""What a memory knows of somebody, since when, and where that comes from: in our own API."""

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from freehold.kernel.errors import ValidationFailed
from freehold.kernel.operation import Operation, Parameter, Params
from freehold.kernel.pages import decode_token, encode_token
from freehold.kernel.request import Request
from freehold.ports.database import Database
from freehold.services.memory.model import QUERY_CHARACTERS_MAX, TOP_K_MAX, Memory, Record
from freehold.services.memory.native_views import (
    RecordPage,
    RecordView,
    RetrievalView,
    record_view,
)
from freehold.services.memory.ports import Events, Index, Memories, Where
from freehold.services.memory.record_store import Made, normalised
from freehold.services.memory.records import Records, not_there
from freehold.services.memory.retrievals import Retrieval, retrieval_of
from freehold.services.memory.retrievals_api import Lines
from freehold.services.memory.retrievals_store import Wanted
from freehold.services.memory.turns import TEXT_CHARACTERS_MAX, Turns, source_of

PAGE_RECORDS = 50
PAGE_RECORDS_MAX = 100
PAGE_RETRIEVALS = 20
_HISTORY = "memory-history"
_FOUND = "memory-history-search"

_ID = Parameter(name="memoryId", meaning="The memory", where="path")
_PLACES = (
    Parameter(name="namespace", meaning="Exactly this namespace"),
    Parameter(name="namespacePath", meaning="This path and all below it"),
)
_TOKEN = Parameter(name="nextToken", meaning="Where the previous page ended")


class SourceView(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A message that a record comes from. `gone`: it expired, or was deleted; its words are kept no
    more. A long text is cut."""

    event_id: str
    index: int
    actor_id: str
    session_id: str
    gone: bool
    at: datetime | None = None
    role: str | None = None
    text: str | None = None


class ProvenanceView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`retrievals` are those that gave it away, newest first; `nextToken` goes on with them."""

    record: RecordView
    sources: list[SourceView]
    supersedes: list[RecordView]
    superseded_by: RecordView | None
    retrievals: list[RetrievalView]
    next_token: str | None


class ProfileView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`more`: there are others, which had no room."""

    records: list[RecordView]
    more: bool


def operations(
    database: Database,
    memories: Memories,
    *,
    events: Events,
    records: Records,
    turns: Turns,
    index: Index,
    lines: Lines,
    note: Callable[[Retrieval], None],
) -> list[Operation]:
    """`note` is told of every retrieval."""
    own = _Own(
        database, memories, events=events, records=records, turns=turns, index=index, lines=lines,
        note=note,
    )  # fmt: skip
    memory = "/memories/{memoryId}"
    return [
        Operation(
            name="GetMemoryProfile", method="GET", path=f"{memory}/profile", act=own.profile,
            summary="Somebody's preferences and standing instructions, whole",
            answer=ProfileView,
            parameters=(
                _ID,
                Parameter(name="actor", meaning="Whose"),
                Parameter(
                    name="namespacePath",
                    meaning="Instead: all that is current at this path and below it",
                ),
            ),
        ),
        Operation(
            name="GetMemoryRecordProvenance", method="GET", answer=ProvenanceView,
            path=f"{memory}/records/{{recordId}}/provenance", act=own.provenance,
            summary="What a record comes from, what it took the place of, and who was given it",
            parameters=(
                _ID,
                Parameter(name="recordId", meaning="The record, or turn", where="path"),
                _TOKEN,
            ),
        ),
        Operation(
            name="ListMemoryHistory", method="GET", path=f"{memory}/history", act=own.history,
            summary="Records with those that are no longer so, newest first; with a query those "
            "that fit it, best first",
            answer=RecordPage,
            parameters=(
                _ID, *_PLACES,
                Parameter(name="query", meaning="What is looked for, in turns too"),
                Parameter(
                    name="maxResults", meaning="Records a page", kind="integer",
                    default=PAGE_RECORDS, minimum=1, maximum=PAGE_RECORDS_MAX,
                ),
                _TOKEN,
            ),
        ),
    ]  # fmt: skip


class _Own:
    def __init__(
        self,
        database: Database,
        memories: Memories,
        *,
        events: Events,
        records: Records,
        turns: Turns,
        index: Index,
        lines: Lines,
        note: Callable[[Retrieval], None],
    ) -> None:
        self._database, self._memories = database, memories
        self._events, self._records, self._turns = events, records, turns
        self._index, self._lines, self._note = index, lines, note

    async def profile(self, request: Request, params: Params, _: object) -> ProfileView:
        memory = await self._memory(request, params)
        actor, path = params["actor"], params["namespacePath"]
        if (actor is None) == (path is None):
            raise ValidationFailed("give actor, or namespacePath, and not both")
        if actor is not None:
            profile = await self._records.profile(memory, actor)
        else:
            profile = await self._records.profile_at(memory, path)
        place = normalised(path if actor is None else actor)
        used = [(record.id, None) for record in profile.records]
        self._note(retrieval_of(request, memory, "GetMemoryProfile", place, query="", used=used))
        return ProfileView(records=[record_view(r) for r in profile.records], more=profile.more)

    async def provenance(self, request: Request, params: Params, _: object) -> ProvenanceView:
        memory, id = await self._memory(request, params), params["recordId"]
        record = (await self._read(memory, [id])).get(id)
        if record is None:
            raise not_there(id)
        async with self._database.connection() as connection:
            older = await self._records.superseded_by(connection, memory, [id])
        newer = await self._records.read(memory, [record.superseded_by])
        lines, more = await self._lines.page(
            memory, Wanted(record=id), limit=PAGE_RETRIEVALS, token=params["nextToken"]
        )
        by = newer.get(record.superseded_by)
        return ProvenanceView(
            record=record_view(record), sources=await self._sources(memory, record),
            supersedes=[record_view(each) for each in older],
            superseded_by=None if by is None else record_view(by),
            retrievals=lines, next_token=more,
        )  # fmt: skip

    async def _sources(self, memory: Memory, record: Record) -> list[SourceView]:
        found = await self._events.by_id(memory.tenant, memory.id, record.sources)
        said = {
            (event.actor_id, event.session_id, event.id, message.index): (event.at, message)
            for event in found
            for message in event.messages
        }
        views = []
        for source in record.sources:
            known = source.actor_id, source.session_id, source.event_id, source.index
            at, message = said.get(known, (None, None))
            views.append(
                SourceView(
                    event_id=source.event_id, index=source.index, actor_id=source.actor_id,
                    session_id=source.session_id, gone=message is None, at=at,
                    role=None if message is None else message.role,
                    text=None if message is None else message.text[:TEXT_CHARACTERS_MAX],
                )
            )  # fmt: skip
        return views

    async def history(self, request: Request, params: Params, _: object) -> RecordPage:
        memory = await self._memory(request, params)
        where = _where(params)
        if params["query"] is not None:
            return await self._search(request, memory, where, params)
        limit, after = params["maxResults"], _position(params["nextToken"], memory)
        made = await self._records.newest(memory, where, after=after, limit=limit + 1)
        there = await self._records.read(memory, [id for _, id in made[:limit]])
        more = None
        if len(made) > limit:
            at, id = made[limit - 1]
            more = encode_token(_HISTORY, memory.id, at.isoformat(), id)
        shown = [record_view(there[id]) for _, id in made[:limit] if id in there]
        return RecordPage(records=shown, next_token=more)

    async def _search(
        self, request: Request, memory: Memory, where: Where, params: Params
    ) -> RecordPage:
        query, limit = params["query"], params["maxResults"]
        if not 1 <= len(query) <= QUERY_CHARACTERS_MAX:
            raise ValidationFailed(f"query: 1 to {QUERY_CHARACTERS_MAX} characters")
        start = _offset(params["nextToken"], memory)
        hits = await self._index.search(memory, where, query, TOP_K_MAX)
        part = hits[start : start + limit]
        there = await self._read(memory, [hit.id for hit in part])
        part = [hit for hit in part if hit.id in there]
        self._note(
            retrieval_of(
                request, memory, "ListMemoryHistory", where.namespace or where.path, query=query,
                used=[(hit.id, hit.score) for hit in part],
            )
        )  # fmt: skip
        left = start + limit < len(hits)
        return RecordPage(
            records=[record_view(there[hit.id], hit.score) for hit in part],
            next_token=encode_token(_FOUND, memory.id, start + limit) if left else None,
        )

    async def _read(self, memory: Memory, ids: Sequence[str]) -> dict[str, Record]:
        records = await self._records.read(memory, [id for id in ids if not source_of(id)])
        return {**records, **await self._turns.read(memory, [id for id in ids if source_of(id)])}

    async def _memory(self, request: Request, params: Params) -> Memory:
        return await self._memories.get(request.tenant, params["memoryId"])


def _where(params: Params) -> Where:
    """Without a place the whole memory."""
    namespace, path = params["namespace"], params["namespacePath"]
    if namespace is not None and path is not None:
        raise ValidationFailed("give namespace or namespacePath, and not both")
    return Where(
        namespace=normalised(namespace) if namespace else "",
        path="" if namespace else normalised(path or "/"), current=False,
    )  # fmt: skip


def _position(token: str | None, memory: Memory) -> Made | None:
    match decode_token(token):
        case None:
            return None
        case [kind, of, str(at), str(id)] if (kind, of) == (_HISTORY, memory.id):
            try:
                return datetime.fromisoformat(at), id
            except ValueError:
                pass
    raise ValidationFailed("nextToken is not a token that this list returned")


def _offset(token: str | None, memory: Memory) -> int:
    match decode_token(token):
        case None:
            return 0
        case [kind, of, int(start)] if (kind, of) == (_FOUND, memory.id) and start >= 0:
            return start
    raise ValidationFailed("nextToken is not a token that this search returned")
