"""Memory records in AWS's operations.

A list or a search that finds nothing in a namespace that holds nothing says so in the header
`x-freehold-notice`, in boto3 `answer["ResponseMetadata"]["HTTPHeaders"]`: a wrong namespace looks
like an empty one otherwise. A record without a strategy is shown with the strategy id "none".
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from freehold.kernel import clock
from freehold.kernel.errors import Conflict, FreeholdError, ValidationFailed
from freehold.kernel.pages import decode_token, encode_token
from freehold.kernel.request import Handler, Request
from freehold.services.memory import filters
from freehold.services.memory.event_store import digest
from freehold.services.memory.model import TAG_TURNS, TURNS_STRATEGY, Memory, Record
from freehold.services.memory.ports import Index, Memories, Where
from freehold.services.memory.record_store import Position, normalised
from freehold.services.memory.records import Change, Failures, Records, is_in, not_there
from freehold.services.memory.retrievals import Retrieval, retrieval_of
from freehold.services.memory.traces import CREATE, DELETE, SEARCH, UPDATE, told
from freehold.services.memory.turns import RESERVED_PATH, Turns, actor_in, source_of

Params = dict[str, Any]

RESULTS_DEFAULT = 20
TOP_K_DEFAULT = 10
EXPIRY_DAYS_MAX = 36_500
NO_STRATEGY = "none"
"""The strategy id of records that were put there without one: the API's model demands one."""
_SPACE = uuid.UUID("4f1c8a52-6a3e-5d0b-9c55-0f0f5d3f7c11")
_TURNS_PATH = f"/{RESERVED_PATH}/"


def handlers(
    memories: Memories,
    records: Records,
    turns: Turns,
    index: Index,
    *,
    note: Callable[[Retrieval], None] = lambda _: None,
    now: Callable[[], datetime] = clock.now,
) -> dict[str, Handler]:
    """`note` is told of every retrieval: at once, and without waiting."""
    own = RecordOperations(memories, records, turns, index, note=note, now=now)
    service = "bedrock-agentcore"
    return {
        f"{service}:BatchCreateMemoryRecords": own.create,
        f"{service}:BatchUpdateMemoryRecords": own.update,
        f"{service}:BatchDeleteMemoryRecords": own.delete_batch,
        f"{service}:GetMemoryRecord": own.get,
        f"{service}:ListMemoryRecords": own.page,
        f"{service}:DeleteMemoryRecord": own.delete,
        f"{service}:RetrieveMemoryRecords": own.retrieve,
    }


class RecordOperations:
    def __init__(
        self,
        memories: Memories,
        records: Records,
        turns: Turns,
        index: Index,
        *,
        note: Callable[[Retrieval], None],
        now: Callable[[], datetime],
    ) -> None:
        self._memories, self._records, self._turns = memories, records, turns
        self._index, self._note, self._now = index, note, now

    # -- batches

    async def create(self, request: Request, params: Params) -> Params:
        memory = await self._memory(request, params)
        now = self._now()
        expires_at = _expiry(params, now)
        if (params.get("recordExpirySpecification") or {}).get("action"):
            raise ValidationFailed("recordExpirySpecification: there is nothing to REMOVE yet")
        token = params.get("clientToken") or str(uuid.uuid4())
        batch = _Batch()
        made, requests, names = [], {}, {}
        for item in params["records"]:
            name = item["requestIdentifier"]
            asked = uuid.uuid5(_SPACE, f"{memory.tenant}/{memory.id}/{token}/{name}")
            id = f"mem-{asked}"
            try:
                if id in requests or id in batch.failures:
                    raise ValidationFailed(f"requestIdentifier: {name} stands twice in this batch")
                record = _new(memory, id, item, expires_at, now)
            except FreeholdError as error:
                batch.failed(id, error, name)
                continue
            made.append(record)
            names[id] = name
            requests[id] = uuid.uuid5(_SPACE, repr((item, params.get("recordExpirySpecification"))))
        failures = await self._records.create(memory, made, requests)
        told(CREATE, memory.id, record_ids=[each.id for each in made if each.id not in failures])
        return batch.answer([record.id for record in made], failures, names)

    async def update(self, request: Request, params: Params) -> Params:
        memory = await self._memory(request, params)
        expires_at = _expiry(params, self._now())
        batch, changes = _Batch(), {}
        for item in params["records"]:
            id = item["memoryRecordId"]
            try:
                if id in changes:
                    raise Conflict(f"memory record {id} stands twice in this batch")
                _check_no_turn(id, "a turn is what was said, and does not change")
                changes[id] = _change(memory, item, params, expires_at)
            except FreeholdError as error:
                batch.failed(id, error)
        failures = await self._records.update(memory, list(changes.values()))
        told(UPDATE, memory.id, record_ids=[id for id in changes if id not in failures])
        return batch.answer(list(changes), failures)

    async def delete_batch(self, request: Request, params: Params) -> Params:
        memory = await self._memory(request, params)
        batch, wanted = _Batch(), {}
        for item in params["records"]:
            id = item["memoryRecordId"]
            try:
                if id in wanted:
                    raise Conflict(f"memory record {id} stands twice in this batch")
                _check_no_turn(id, "a turn goes with its event: DeleteEvent")
                wanted[id] = item.get("namespace") or ""
            except FreeholdError as error:
                batch.failed(id, error)
        failures = await self._records.delete(memory, wanted)
        told(DELETE, memory.id, record_ids=[id for id in wanted if id not in failures])
        return batch.answer(list(wanted), failures)

    # -- one

    async def get(self, request: Request, params: Params) -> Params:
        memory = await self._memory(request, params)
        id, namespace = params["memoryRecordId"], params.get("namespace")
        source = self._turns if source_of(id) else self._records
        record = (await source.read(memory, [id])).get(id)
        wanted = (namespace,) if namespace else ()
        if record is None or not is_in(record, wanted):
            raise not_there(id, wanted)
        shown = _shown(record)
        shown["expiresAt"] = record.expires_at
        if record.valid_until is not None:
            history = {
                "freehold:validUntil": record.valid_until,
                "freehold:supersededBy": record.superseded_by,
            }
            known = {name: value for name, value in history.items() if value}
            shown["metadata"] = filters.to_api({**record.metadata, **known})
        place = normalised(namespace) if namespace else ""
        self._note(
            retrieval_of(request, memory, "GetMemoryRecord", place, query="", used=[(id, None)])
        )
        told(SEARCH, memory.id, record_ids=[id], namespace=place)
        return {"memoryRecord": shown}

    async def delete(self, request: Request, params: Params) -> Params:
        memory = await self._memory(request, params)
        id = params["memoryRecordId"]
        _check_no_turn(id, "a turn goes with its event: DeleteEvent")
        failures = await self._records.delete(memory, {id: params.get("namespace") or ""})
        if id in failures:
            raise failures[id]
        told(DELETE, memory.id, record_ids=[id])
        return {"memoryRecordId": id}

    # -- many

    async def page(self, request: Request, params: Params) -> Params:
        memory = await self._memory(request, params)
        where = _where(memory, params, params)
        limit = params.get("maxResults") or RESULTS_DEFAULT
        which = _which("list", memory, where.namespace, where.path)
        after = _position(params.get("nextToken"), which)
        found: list[tuple[Position, Record | None]] = []
        if where.strategy_id != TURNS_STRATEGY:
            found += await self._records.page(memory, where, after=after, limit=limit + 1)
        found += await self._turns.page(memory, where, after=after, limit=limit + 1)
        found.sort(key=lambda item: item[0], reverse=True)
        answer: Params = {
            "memoryRecordSummaries": [_shown(record) for _, record in found[:limit] if record]
        }
        if len(found) > limit:
            namespace, at, id = found[limit - 1][0]
            answer["nextToken"] = encode_token(which, namespace, at.isoformat(), id)
        told(
            SEARCH, memory.id, record_ids=[each["memoryRecordId"] for each in _summaries(answer)],
            namespace=where.namespace or where.path,
        )  # fmt: skip
        if not found and after is None:
            await self._explain(request, memory, where)
        return answer

    async def retrieve(self, request: Request, params: Params) -> Params:
        memory = await self._memory(request, params)
        criteria = params["searchCriteria"]
        where = _where(memory, params, criteria)
        top = criteria.get("topK") or TOP_K_DEFAULT
        limit = params.get("maxResults") or RESULTS_DEFAULT
        which = _which("search", memory, where, criteria["searchQuery"], top)
        start = _offset(params.get("nextToken"), which)
        hits = await self._index.search(memory, where, criteria["searchQuery"], top)
        part = hits[start : start + limit]
        there = await self._read(memory, [hit.id for hit in part])
        self._note(
            retrieval_of(
                request, memory, "RetrieveMemoryRecords", where.namespace or where.path,
                query=criteria["searchQuery"],
                used=[(hit.id, hit.score) for hit in part if hit.id in there],
            )
        )  # fmt: skip
        answer: Params = {
            "memoryRecordSummaries": [
                {**_shown(there[hit.id]), "score": hit.score} for hit in part if hit.id in there
            ]
        }
        found = _summaries(answer)
        told(
            SEARCH, memory.id, record_ids=[each["memoryRecordId"] for each in found],
            namespace=where.namespace or where.path, scores=[each["score"] for each in found],
            query=criteria["searchQuery"],
        )  # fmt: skip
        if start + limit < len(hits):
            answer["nextToken"] = encode_token(which, start + limit)
        if not hits and not start:
            await self._explain(request, memory, where)
        return answer

    async def _read(self, memory: Memory, ids: Sequence[str]) -> dict[str, Record]:
        """Records and turns that are there, without what was superseded since it was found."""
        turns = [id for id in ids if source_of(id)]
        records = await self._records.read(memory, [id for id in ids if not source_of(id)])
        current = {id: record for id, record in records.items() if record.valid_until is None}
        return {**current, **await self._turns.read(memory, turns)}

    async def _explain(self, request: Request, memory: Memory, where: Where) -> None:
        """Nothing was found. A namespace that holds nothing is more often wrong than empty: say
        so, but name no other, which may be somebody else's."""
        known = {strategy.id for strategy in memory.strategies} | {NO_STRATEGY, TURNS_STRATEGY}
        if where.strategy_id and where.strategy_id not in known:
            request.notices.append(f"memory {memory.id} has no strategy {where.strategy_id!r}")
        place = normalised(where.namespace or where.path)
        if place.startswith(_TURNS_PATH) and not memory.turns:
            request.notices.append(
                f"raw turns are not searchable in memory {memory.id}: tag it {TAG_TURNS}=on"
            )
            return
        if await self._holds(memory, where):
            return
        said = f"nothing is stored in namespace {place} of memory {memory.id}"
        if where.path:
            said = f"nothing is stored in or below {place} of memory {memory.id}"
        elif await self._holds(memory, Where(path=place)):
            said += "; there is something below it, which namespacePath finds"
        templates = sorted({name for item in memory.strategies for name in item.namespaces})
        if templates:
            said += f"; its strategies write to {', '.join(templates)}"
        if "*" in place:
            said += "; a * stands for itself, and namespacePath finds all below a path"
        request.notices.append(said)

    async def _holds(self, memory: Memory, where: Where) -> bool:
        place = Where(namespace=where.namespace, path=where.path)
        return await self._records.holds(memory, place) or bool(
            await self._turns.page(memory, place, after=None, limit=1)
        )

    async def _memory(self, request: Request, params: Params) -> Memory:
        return await self._memories.get(request.tenant, params["memoryId"])


class _Batch:
    """What becomes of each record of a request: one that fails leaves the others alone."""

    def __init__(self) -> None:
        self.failures: dict[str, Params] = {}
        self._listed: list[Params] = []

    def failed(self, id: str, error: FreeholdError, name: str | None = None) -> None:
        outcome = {
            "memoryRecordId": id, "status": "FAILED", "requestIdentifier": name,
            "errorCode": error.status, "errorMessage": error.message,
        }  # fmt: skip
        self.failures[id] = outcome
        self._listed.append(outcome)

    def answer(
        self, ids: Sequence[str], failures: Failures, names: Mapping[str, str] | None = None
    ) -> Params:
        names = names or {}
        for id in ids:
            if id in failures:
                self.failed(id, failures[id], names.get(id))
        succeeded = [
            {"memoryRecordId": id, "status": "SUCCEEDED", "requestIdentifier": names.get(id)}
            for id in ids
            if id not in failures
        ]
        return {"successfulRecords": succeeded, "failedRecords": self._listed}


def _new(
    memory: Memory, id: str, item: Params, expires_at: datetime | None, now: datetime
) -> Record:
    return Record(
        tenant=memory.tenant, memory_id=memory.id, id=id,
        namespaces=_namespaces(item["namespaces"]),
        strategy_id=_strategy(memory, item.get("memoryStrategyId")) or NO_STRATEGY,
        text=_text(item["content"]), at=item["timestamp"], created_at=now,
        metadata=_metadata(memory, item.get("metadata")), expires_at=expires_at,
    )  # fmt: skip


def _change(memory: Memory, item: Params, params: Params, expires_at: datetime | None) -> Change:
    namespaces, metadata, content = (item.get(k) for k in ("namespaces", "metadata", "content"))
    return Change(
        id=item["memoryRecordId"], at=item["timestamp"],
        text=None if content is None else _text(content),
        namespaces=None if namespaces is None else _namespaces(namespaces),
        source=tuple(item.get("sourceNamespaces") or ()),
        strategy_id=_strategy(memory, item.get("memoryStrategyId")),
        metadata=None if metadata is None else _metadata(memory, metadata),
        expiry=params.get("recordExpirySpecification") is not None, expires_at=expires_at,
    )  # fmt: skip


def _expiry(params: Params, now: datetime) -> datetime | None:
    days = (params.get("recordExpirySpecification") or {}).get("recordExpiryDurationDays")
    if days is None:
        return None
    if days > EXPIRY_DAYS_MAX:
        raise ValidationFailed(f"recordExpiryDurationDays: at most {EXPIRY_DAYS_MAX}")
    return now + timedelta(days=days)


def _text(content: Mapping[str, str]) -> str:
    text = content["text"]
    if "\0" in text:
        raise ValidationFailed("content.text: it must not hold the character U+0000")
    return text


def _namespaces(given: Sequence[str]) -> tuple[str, ...]:
    if not given:
        raise ValidationFailed("namespaces: a record is in one, or nothing would ever find it")
    if any(normalised(name).startswith(_TURNS_PATH) for name in given):
        raise ValidationFailed(f"namespaces: {_TURNS_PATH} is for what was said, as it was said")
    return tuple(given)


def _strategy(memory: Memory, id: str | None) -> str | None:
    known = [strategy.id for strategy in memory.strategies]
    if id is not None and id not in (*known, NO_STRATEGY):
        raise ValidationFailed(
            f"memoryStrategyId: memory {memory.id} has no strategy {id!r};"
            f" it has {', '.join(known) or 'none'}"
        )
    return id


def _metadata(memory: Memory, given: Params | None) -> dict[str, Any]:
    metadata = filters.from_api(given)
    filters.check_types(metadata.items(), memory.indexed_keys, "metadata")
    return metadata


def _where(memory: Memory, place: Params, criteria: Params) -> Where:
    namespace, path = place.get("namespace"), place.get("namespacePath")
    if (namespace is None) == (path is None):
        raise ValidationFailed(
            "give namespace (exactly that one) or namespacePath (all below it), and not both"
        )
    asked = filters.parsed(criteria.get("metadataFilters"))
    valued = [(item.key, item.value) for item in asked if item.value is not None]
    filters.check_types(valued, memory.indexed_keys, "metadataFilters")
    whole = normalised(namespace or path or "")
    return Where(
        namespace=whole if namespace else "",
        path=whole if path else "",
        asker=actor_in(whole),
        strategy_id=criteria.get("memoryStrategyId") or "",
        filters=criteria.get("metadataFilters") or (),
    )


def _shown(record: Record) -> Params:
    shown: Params = {
        "memoryRecordId": record.id,
        "content": {"text": record.text},
        "memoryStrategyId": record.strategy_id,
        "namespaces": list(record.namespaces),
        "createdAt": record.created_at,
        "timestamp": record.at,
    }
    if record.metadata:
        shown["metadata"] = filters.to_api(record.metadata)
    return shown


def _check_no_turn(id: str, why: str) -> None:
    if source_of(id):
        raise ValidationFailed(f"{id}: {why}")


def _summaries(answer: Params) -> list[Params]:
    found: list[Params] = answer["memoryRecordSummaries"]
    return found


def _which(name: str, memory: Memory, *asked: object) -> str:
    """What a nextToken is of: with another list or search it would leave out what nobody saw."""
    return f"{name} {digest(repr((memory.tenant, memory.id, asked)).encode()).hex}"


def _position(token: str | None, which: str) -> Position | None:
    match decode_token(token or None):
        case None:
            return None
        case [first, str(namespace), str(at), str(id)] if (
            first == which and "\0" not in namespace + id
        ):
            try:
                return namespace, datetime.fromisoformat(at), id
            except ValueError:
                pass
    raise ValidationFailed("nextToken is not a token that this list returned")


def _offset(token: str | None, which: str) -> int:
    match decode_token(token or None):
        case None:
            return 0
        case [first, int(start)] if first == which and start >= 0:
            return start
    raise ValidationFailed("nextToken is not a token that this search returned")
