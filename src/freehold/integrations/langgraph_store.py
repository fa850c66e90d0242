"""LangGraph's store in a memory's records: any document, by namespace and key.

AWS's own `AgentCoreMemoryStore` takes messages of conversations and finds what was learned from
them; it cannot give back what was put there, delete, or list namespaces. This one keeps documents:

    store = RecordStore("notes-1a2b3c4d5e", region_name="us-east-1")
    store.put(("users", "anna"), "likes", {"text": "tea, no sugar"})
    store.search(("users",), query="tea")

A document is one record, its JSON of at most 16,000 characters; found by its words and meaning as
all records are (`index` of `put` is not looked at). It needs boto3 and langgraph, and
works with AWS's own service as well. Of two that put the same new key at the same moment, the last
one is got.
"""

import asyncio
import json
import operator
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import boto3
from langgraph.store.base import (  # type: ignore[import-not-found]
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
)

DOCUMENT_CHARACTERS_MAX = 16_000
_FOUND_MAX = 100
_PAGE = 100
_QUERY_CHARACTERS_MAX = 10_000
_KEY = "_"
"""Before a key, so that it is no namespace; in names it is encoded."""
_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
Namespace = tuple[str, ...]


class RecordStore(BaseStore):  # type: ignore[misc]
    """`root` is the namespace that all of it is below: no strategy's. `client` are arguments of
    boto3's."""

    def __init__(self, memory_id: str, *, root: str = "/store/", **client: Any) -> None:
        self.memory_id = memory_id
        self._root = f"/{root.strip('/')}/"
        self._client = boto3.client("bedrock-agentcore", **client)

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        return [self._do(op) for op in ops]

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        return await asyncio.to_thread(self.batch, list(ops))

    def _do(self, op: Op) -> Result:
        if isinstance(op, PutOp):
            return self._put(op)
        if isinstance(op, GetOp):
            return self._get(op)
        if isinstance(op, SearchOp):
            return self._search(op)
        if isinstance(op, ListNamespacesOp):
            return self._namespaces(op)
        raise ValueError(f"{type(op).__name__} is no operation of a store")

    # -- one document

    def _put(self, op: PutOp) -> None:
        place = self._place(op.namespace, op.key)
        there = self._at(place)
        if op.value is None:
            self._delete(there)
            return
        text = json.dumps(op.value, ensure_ascii=False)
        if len(text) > DOCUMENT_CHARACTERS_MAX:
            raise ValueError(
                f"the document {op.key!r} has {len(text)} characters of JSON;"
                f" a record has at most {DOCUMENT_CHARACTERS_MAX}"
            )
        changed: dict[str, Any] = {"content": {"text": text}, "timestamp": datetime.now(UTC)}
        if there:
            record = {"memoryRecordId": there[0]["memoryRecordId"], **changed}
            answer = self._client.batch_update_memory_records(
                memoryId=self.memory_id, records=[record]
            )
            self._delete(there[1:])
        else:
            record = {"requestIdentifier": uuid.uuid4().hex, "namespaces": [place], **changed}
            answer = self._client.batch_create_memory_records(
                memoryId=self.memory_id, records=[record]
            )
        for failed in answer["failedRecords"]:
            raise RuntimeError(f"{op.key!r} was not put: {failed.get('errorMessage')}")

    def _delete(self, records: Sequence[dict[str, Any]]) -> None:
        if records:
            ids = [{"memoryRecordId": each["memoryRecordId"]} for each in records]
            self._client.batch_delete_memory_records(memoryId=self.memory_id, records=ids)

    def _get(self, op: GetOp) -> Item | None:
        found = self._at(self._place(op.namespace, op.key))
        return Item(**self._item(found[0])) if found else None

    def _at(self, place: str) -> list[dict[str, Any]]:
        """The newest first."""
        found = list(self._listed(namespace=place))
        return sorted(found, key=lambda each: (each["timestamp"], each["createdAt"]), reverse=True)

    # -- many

    def _search(self, op: SearchOp) -> list[SearchItem]:
        """Filters are of this side: with a query they choose among the 100 best."""
        path = self._place(op.namespace_prefix)
        records: Iterable[dict[str, Any]]
        if op.query:
            enough = _FOUND_MAX if op.filter else min(_FOUND_MAX, op.offset + op.limit)
            answer = self._client.retrieve_memory_records(
                memoryId=self.memory_id, namespacePath=path, maxResults=enough,
                searchCriteria={
                    "searchQuery": op.query[:_QUERY_CHARACTERS_MAX], "topK": enough,
                },
            )  # fmt: skip
            records = answer["memoryRecordSummaries"]
        else:
            records = self._listed(namespacePath=path)
        found = [
            SearchItem(**item, score=record.get("score"))
            for record in records
            if fits((item := self._item(record))["value"], op.filter or {})
        ]
        return found[op.offset : op.offset + op.limit]

    def _namespaces(self, op: ListNamespacesOp) -> list[Namespace]:
        every = {
            self._item(record)["namespace"] for record in self._listed(namespacePath=self._root)
        }
        conditions = op.match_conditions or ()
        found = {
            namespace[: op.max_depth]
            for namespace in every
            if all(matches(namespace, each) for each in conditions)
        }
        return sorted(found)[op.offset : op.offset + op.limit]

    def _listed(self, **where: str) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            page = self._client.list_memory_records(
                memoryId=self.memory_id, maxResults=_PAGE, **where, **token
            )
            yield from page["memoryRecordSummaries"]
            if not page.get("nextToken"):
                return
            token = {"nextToken": page["nextToken"]}

    # -- names

    def _place(self, namespace: Namespace, key: str | None = None) -> str:
        parts = [_encoded(part) for part in namespace]
        if key is not None:
            parts.append(_KEY + _encoded(key))
        return self._root + "".join(f"{part}/" for part in parts)

    def _item(self, record: dict[str, Any]) -> dict[str, Any]:
        *parts, key = record["namespaces"][0].removeprefix(self._root).strip("/").split("/")
        return {
            "namespace": tuple(_decoded(part) for part in parts),
            "key": _decoded(key.removeprefix(_KEY)),
            "value": json.loads(record["content"]["text"]),
            "created_at": record["createdAt"],
            # boto3 may send whole seconds of it.
            "updated_at": max(record["timestamp"], record["createdAt"]),
        }


def fits(value: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """LangGraph's filters: of a member its value, or operators."""
    for member, given in wanted.items():
        there = value.get(member)
        if isinstance(given, dict) and any(each.startswith("$") for each in given):
            if not all(_holds(there, name, other) for name, other in given.items()):
                return False
        elif there != given:
            return False
    return True


def _holds(value: Any, name: str, other: Any) -> bool:
    if name not in _OPERATORS:
        raise ValueError(f"{name} is none of the operators {', '.join(_OPERATORS)}")
    comparable = value is not None or name in ("$eq", "$ne")
    return comparable and bool(_OPERATORS[name](value, other))


def matches(namespace: Namespace, condition: MatchCondition) -> bool:
    """A prefix or suffix, in which "*" is any one part."""
    path = condition.path
    if len(path) > len(namespace):
        return False
    start = 0 if condition.match_type == "prefix" else len(namespace) - len(path)
    part = namespace[start : start + len(path)]
    return all(wanted in ("*", given) for wanted, given in zip(path, part, strict=True))


def _encoded(part: str) -> str:
    """A namespace of AgentCore's has letters, digits and few signs: others as "-" and hex."""
    return re.sub("[^A-Za-z0-9]", lambda found: _hex(found[0]), part)


def _hex(character: str) -> str:
    return "".join(f"-{byte:02x}" for byte in character.encode())


def _decoded(part: str) -> str:
    pieces = re.findall("-([0-9a-f]{2})|(.)", part)
    return b"".join(bytes.fromhex(a) if a else b.encode() for a, b in pieces).decode()
