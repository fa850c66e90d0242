"""Memories: what was said, what was learned of it, and who was given that."""

from typing import Any

import msgspec

from freehold.console import filters
from freehold.console.answer import Answer, Page
from freehold.console.filters import Field, Filter
from freehold.console.ports import Platform
from freehold.console.routes import Route
from freehold.console.visit import Visit

LIST = "/console/memory"
ONE = f"{LIST}/{{id}}"
OWN = "/freehold/v1/memories/{memoryId}"
AWS = "/memories/{memoryId}"
_PAGE = 50
_FOUND_MAX = 25
_RECORDS = (
    Filter(name="query", label="Search", placeholder="Which city does she live in?"),
    Filter(name="path", label="Path", placeholder="/"),
    Filter(
        name="kept", label="Records", kind="choice",
        choices=(("", "All, with what is no longer so"), ("current", "Only what is so now")),
    ),
)  # fmt: skip
_RETRIEVALS = (
    filters.since("7d"),
    Filter(name="actor", label="About", placeholder="actor"),
    Filter(name="record", label="Record", placeholder="mem-..."),
)


class Memories(msgspec.Struct, frozen=True, kw_only=True):
    memories: list[dict[str, Any]]
    next_token: str | None


class MemoryFrame(msgspec.Struct, frozen=True, kw_only=True):
    memory: dict[str, Any]
    tab: str


class Overview(MemoryFrame, frozen=True, kw_only=True):
    status: dict[str, Any]


class Records(MemoryFrame, frozen=True, kw_only=True):
    """`searched`: best first, as an agent would be given them; else newest first."""

    fields: list[Field]
    records: list[dict[str, Any]]
    searched: bool
    next_token: str | None


class RecordPage(MemoryFrame, frozen=True, kw_only=True):
    provenance: dict[str, Any]


class Said(MemoryFrame, frozen=True, kw_only=True):
    """Of all actors, of the sessions of `actor`, or of the events of `session`."""

    actor: str
    session: str
    actors: list[dict[str, Any]] = []
    sessions: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    next_token: str | None = None


class Retrievals(MemoryFrame, frozen=True, kw_only=True):
    fields: list[Field]
    retrievals: list[dict[str, Any]]
    next_token: str | None


async def memory_of(platform: Platform, visit: Visit) -> dict[str, Any]:
    found = await platform.get(visit, f"{AWS}/details", memoryId=visit.params["id"])
    memory: dict[str, Any] = found["memory"]
    return memory


class MemoryPages:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        pages = {
            LIST: self.listing, ONE: self.overview, f"{ONE}/records": self.records,
            f"{ONE}/records/{{record}}": self.record, f"{ONE}/said": self.said,
            f"{ONE}/retrievals": self.retrievals,
        }  # fmt: skip
        return [
            Route(method="GET", path=path, act=act, operation="ReadMemories")
            for path, act in pages.items()
        ]

    async def listing(self, visit: Visit) -> Answer:
        asked = _asked(visit)
        found = await self._platform.post(visit, "/memories/", asked)
        data = Memories(memories=found["memories"], next_token=found.get("nextToken"))
        return Page(template="memories.html", title="Memory", data=data)

    async def overview(self, visit: Visit) -> Answer:
        memory = await memory_of(self._platform, visit)
        status = await self._platform.get(visit, f"{OWN}/status", memoryId=memory["id"])
        data = Overview(memory=memory, tab="overview", status=status)
        return _page("memory.html", data)

    async def records(self, visit: Visit) -> Answer:
        fields = filters.read(visit, _RECORDS)
        chosen = filters.values(fields)
        memory = await memory_of(self._platform, visit)
        query, path = chosen.get("query", ""), chosen.get("path", "/")
        current = chosen.get("kept") == "current"
        if current and query:
            records, more = await self._search(visit, query, path), None
        elif current:
            records, more = await self._current(visit, path)
        else:
            found = await self._platform.get(
                visit, f"{OWN}/history", memoryId=memory["id"], namespacePath=path, query=query,
                maxResults=_PAGE, nextToken=visit.query.get("nextToken"),
            )  # fmt: skip
            records, more = found["records"], found.get("nextToken")
        data = Records(
            memory=memory, tab="records", fields=fields, records=records, searched=bool(query),
            next_token=more,
        )  # fmt: skip
        return _page("memory_records.html", data)

    async def _search(self, visit: Visit, query: str, path: str) -> list[dict[str, Any]]:
        """As an agent would be given them."""
        found = await self._platform.post(
            visit, f"{AWS}/retrieve", memoryId=visit.params["id"],
            body={
                "namespacePath": path,
                "searchCriteria": {"searchQuery": query, "topK": _FOUND_MAX},
            },
        )  # fmt: skip
        return [_record(each) for each in found["memoryRecordSummaries"]]

    async def _current(self, visit: Visit, path: str) -> tuple[list[dict[str, Any]], str | None]:
        found = await self._platform.post(
            visit, f"{AWS}/memoryRecords", {**_asked(visit), "namespacePath": path},
            memoryId=visit.params["id"],
        )  # fmt: skip
        return [_record(each) for each in found["memoryRecordSummaries"]], found.get("nextToken")

    async def record(self, visit: Visit) -> Answer:
        memory = await memory_of(self._platform, visit)
        found = await self._platform.get(
            visit, f"{OWN}/records/{{recordId}}/provenance", memoryId=memory["id"],
            recordId=visit.params["record"], nextToken=visit.query.get("nextToken"),
        )  # fmt: skip
        data = RecordPage(memory=memory, tab="records", provenance=found)
        return _page("memory_record.html", data)

    async def said(self, visit: Visit) -> Answer:
        memory = await memory_of(self._platform, visit)
        actor, session = visit.query.get("actor", ""), visit.query.get("session", "")
        path, at = f"{AWS}/actors", {"memoryId": memory["id"]}
        asked = _asked(visit)
        if actor:
            path, at = f"{AWS}/actor/{{actor}}/sessions", {**at, "actor": actor}
        if actor and session:
            path, at = f"{path}/{{session}}", {**at, "session": session}
            asked["includePayloads"] = True
        found = await self._platform.post(visit, path, asked, **at)
        data = Said(
            memory=memory, tab="said", actor=actor, session=session if actor else "",
            actors=found.get("actorSummaries", []), sessions=found.get("sessionSummaries", []),
            events=found.get("events", []), next_token=found.get("nextToken"),
        )  # fmt: skip
        return _page("memory_said.html", data)

    async def retrievals(self, visit: Visit) -> Answer:
        fields = filters.read(visit, _RETRIEVALS)
        memory = await memory_of(self._platform, visit)
        found = await self._platform.get(
            visit, f"{OWN}/retrievals", memoryId=memory["id"], maxResults=_PAGE,
            nextToken=visit.query.get("nextToken"), **filters.values(fields),
        )  # fmt: skip
        data = Retrievals(
            memory=memory, tab="retrievals", fields=fields, retrievals=found["retrievals"],
            next_token=found.get("nextToken"),
        )  # fmt: skip
        return _page("memory_retrievals.html", data)


def _asked(visit: Visit) -> dict[str, Any]:
    token = visit.query.get("nextToken")
    return {"maxResults": _PAGE, **({"nextToken": token} if token else {})}


def _record(summary: dict[str, Any]) -> dict[str, Any]:
    """AWS's shape in that of our own API, so that the page has one."""
    return {
        "recordId": summary["memoryRecordId"],
        "text": summary.get("content", {}).get("text", ""),
        "namespaces": summary.get("namespaces", []),
        "strategyId": summary.get("memoryStrategyId", ""),
        "at": summary.get("timestamp") or summary.get("createdAt"),
        "score": summary.get("score"),
    }


def _page(template: str, data: MemoryFrame) -> Page:
    return Page(template=template, title=data.memory["name"], data=data)
