"""Traces: the list with its filters and its live tail, one trace as a tree, and one span."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import msgspec

from freehold.console import spans
from freehold.console.answer import Answer, Page, Stream
from freehold.console.filters import Field, Filter, read, since, values, with_query
from freehold.console.pages.agent_names import agent_names
from freehold.console.ports import Fragments, Platform
from freehold.console.routes import Route
from freehold.console.visit import Visit
from freehold.kernel.errors import NotFound, ValidationFailed

_API = "/freehold/v1/traces"
_PATH = "/console/traces"
_TRACES_A_PAGE = 50
_ROWS_A_PAGE = 200
_TRIES_MAX = 15


class Traces(msgspec.Struct, frozen=True, kw_only=True):
    """`names` are of agents, by id."""

    fields: list[Field]
    traces: list[dict[str, Any]]
    next_token: str | None
    names: dict[str, str]
    live: str
    """The address of the live tail with the same filters."""


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """`rows` are those from `first` on; there are `total`. `span` is the chosen one."""

    trace: dict[str, Any]
    rows: list[spans.Row]
    first: int
    total: int
    truncated: bool
    span: dict[str, Any] | None
    kind: str
    names: dict[str, str]


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """All rows of a trace, as `spans.Row.compact` has them."""

    rows: list[tuple[Any, ...]]


class Span(msgspec.Struct, frozen=True, kw_only=True):
    span: dict[str, Any]
    kind: str


class Coming(msgspec.Struct, frozen=True, kw_only=True):
    """The trace of a call that has just been made: what is recorded is written in batches."""

    next: str


class Why(msgspec.Struct, frozen=True, kw_only=True):
    trace_id: str
    span: dict[str, Any]
    steps: list[dict[str, Any]]
    missing: list[str]


class TracePages:
    def __init__(self, platform: Platform, fragments: Fragments) -> None:
        self._platform, self._fragments = platform, fragments

    def routes(self) -> list[Route]:
        one = f"{_PATH}/{{traceId}}"
        return [
            Route(method="GET", path=_PATH, act=self.index, operation="ListTraces"),
            Route(method="GET", path=f"{_PATH}/live", act=self.live, operation="FollowTraces"),
            Route(method="GET", path=one, act=self.show, operation="GetTrace"),
            Route(method="GET", path=f"{one}/rows", act=self.rows, operation="GetTrace"),
            Route(
                method="GET", path=f"{one}/spans/{{spanId}}", act=self.span, operation="GetSpan"
            ),
            Route(
                method="GET", path=f"{one}/spans/{{spanId}}/why", act=self.why,
                operation="ExplainSpan",
            ),
        ]  # fmt: skip

    async def index(self, visit: Visit) -> Answer:
        names = await agent_names(self._platform, visit)
        fields = read(visit, _filters(visit, names))
        asked = values(fields)
        found = await self._platform.get(
            visit, _API, **asked, limit=_TRACES_A_PAGE, nextToken=visit.query.get("nextToken")
        )
        traces = Traces(
            fields=fields,
            traces=found["traces"],
            next_token=found.get("nextToken"),
            names=names,
            live=with_query(f"{_PATH}/live", visit.query, nextToken=None, live=None),
        )
        return Page(template="traces.html", title="Traces", data=traces)

    async def live(self, visit: Visit) -> Answer:
        names = await agent_names(self._platform, visit)
        asked = values(read(visit, _filters(visit, names)))
        asked.pop("since", None)  # what comes is new
        lines = await self._platform.lines(visit, f"{_API}/live", **asked)

        async def rows() -> AsyncGenerator[bytes, None]:
            async for line in lines:
                one = line.get("trace")
                if one is None:
                    yield b"{}\n"  # so that a browser that has gone is noticed
                    continue
                shown = {"one": one, "names": names}
                html = self._fragments.fragment("trace_line.html", shown, visit)
                yield msgspec.json.encode({"id": f"trace-{one['traceId']}", "html": html}) + b"\n"

        return Stream(chunks=rows())

    async def show(self, visit: Visit) -> Answer:
        try:
            found = await self._trace(visit)
        except NotFound:
            if (tries := _tries(visit)) is None:
                raise
            coming = Coming(next=with_query(visit.address.partition("?")[0], {}, new=tries + 1))
            return Page(template="trace_coming.html", title="A moment", data=coming)
        names = await agent_names(self._platform, visit)
        all_rows = spans.rows(found["spans"])
        chosen = visit.query.get("span") or (all_rows[0].id if all_rows else "")
        place = next((i for i, row in enumerate(all_rows) if row.id == chosen), 0)
        first = _first(visit, place)
        span = await self._span(visit, chosen) if chosen else None
        trace = Trace(
            trace=found["trace"],
            rows=all_rows[first : first + _ROWS_A_PAGE],
            first=first,
            total=len(all_rows),
            truncated=found["truncated"],
            span=span,
            kind="" if span is None else spans.kind_of(span),
            names=names,
        )
        return Page(template="trace.html", title=str(found["trace"]["name"]), data=trace)

    async def rows(self, visit: Visit) -> Answer:
        """For the page's script; its JSON is what it is for."""
        found = await self._trace(visit)
        data = Rows(rows=[row.compact() for row in spans.rows(found["spans"])])
        return Page(template="trace_rows.html", title="Spans", data=data)

    async def span(self, visit: Visit) -> Answer:
        found = await self._span(visit, visit.params["spanId"])
        data = Span(span=found, kind=spans.kind_of(found))
        return Page(template="span.html", title=str(found["name"]), data=data)

    async def why(self, visit: Visit) -> Answer:
        trace_id, span_id = visit.params["traceId"], visit.params["spanId"]
        found = await self._platform.get(
            visit, f"{_API}/{{traceId}}/spans/{{spanId}}/explanation",
            traceId=trace_id, spanId=span_id,
        )  # fmt: skip
        data = Why(
            trace_id=trace_id, span=found["span"], steps=found["steps"], missing=found["missing"]
        )
        return Page(template="why.html", title="Why this call", data=data)

    async def _trace(self, visit: Visit) -> dict[str, Any]:
        found: dict[str, Any] = await self._platform.get(
            visit, f"{_API}/{{traceId}}", traceId=visit.params["traceId"]
        )
        return found

    async def _span(self, visit: Visit, span_id: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._platform.get(
            visit, f"{_API}/{{traceId}}/spans/{{spanId}}", traceId=visit.params["traceId"],
            spanId=span_id, raw=True,
        )  # fmt: skip
        return found


def _filters(visit: Visit, names: Mapping[str, str]) -> tuple[Filter, ...]:
    agents = dict(names)
    if (chosen := visit.query.get("agentId")) and chosen not in agents:
        agents[chosen] = chosen  # one that is deleted has traces still
    return (
        since(),
        Filter(
            name="agentId", label="Agent", kind="choice",
            choices=(("", "Any"), *sorted(agents.items(), key=lambda pair: pair[1].lower())),
        ),
        Filter(
            name="status", label="Outcome", kind="choice",
            choices=(("", "Any"), ("error", "Failed"), ("ok", "Good")),
        ),
        Filter(name="text", label="Text", placeholder="in names and contents"),
        Filter(name="sessionId", label="Session", more=True),
        Filter(name="user", label="User", more=True),
        Filter(name="agentVersion", label="Version", more=True),
        Filter(name="name", label="Name", more=True),
        Filter(name="model", label="Model", more=True),
        Filter(name="tool", label="Tool", more=True),
        Filter(name="durationMin", label="At least, ms", kind="number", more=True),
        Filter(name="tokensMin", label="Tokens from", kind="number", more=True),
        Filter(name="costMin", label="Cost from, $", kind="number", more=True),
        Filter(name="tag", label="Attribute", placeholder="key=value", more=True),
    )  # fmt: skip


def _tries(visit: Visit) -> int | None:
    """How often a trace was looked for that must come; None where it is to be there, or late."""
    tries = visit.query.get("new", "")
    return int(tries) if tries.isdigit() and int(tries[:4]) < _TRIES_MAX else None


def _first(visit: Visit, chosen: int) -> int:
    asked = visit.query.get("from")
    if asked is None:
        return chosen // _ROWS_A_PAGE * _ROWS_A_PAGE
    if not asked.isdigit() or len(asked) > 6:
        raise ValidationFailed("from is the number of a span")
    return int(asked) // _ROWS_A_PAGE * _ROWS_A_PAGE
