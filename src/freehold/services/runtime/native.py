"""Sessions, logs and costs in our own API: what AWS has no operation for."""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any

import msgspec

from freehold.kernel.clock import now
from freehold.kernel.errors import NotFound, ValidationFailed
from freehold.kernel.operation import Operation, Parameter, Params
from freehold.kernel.request import Request
from freehold.ports.placement import SessionRecord
from freehold.services.runtime.invocations import InvocationService
from freehold.services.runtime.prices import Prices
from freehold.services.runtime.service import RuntimeService
from freehold.services.runtime.store import COST_GROUPS, CostRow

_TAIL_LINES_MAX = 10_000
_SESSIONS_LOGGED_MAX = 20
_ROWS_MAX = 1000


class SessionView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One session. Usage and cost are null where this machine cannot measure them.

    `start` is how its sandbox came to be: forked, restored, warm or cold, and empty until it is
    known; `startNote` is why not better.
    """

    session_id: str
    sandbox_id: str
    runtime_id: str
    runtime_name: str
    endpoint: str
    version: int
    status: str
    tier: str
    start: str
    start_note: str
    user: str | None
    started_at: datetime
    last_used_at: datetime
    ended_at: datetime | None
    end_reason: str | None
    invocations: int
    metering: str
    cpu_seconds: float | None
    memory_gb_seconds: float | None
    cost: float | None


class SessionList(msgspec.Struct, frozen=True, rename="camel"):
    sessions: list[SessionView]
    next_token: str | None


class CostView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Of `sessions`, `unmeasured` are not in the sums, which are null when nothing is."""

    key: str
    name: str
    sessions: int
    unmeasured: int
    invocations: int
    cpu_seconds: float | None
    memory_gb_seconds: float | None
    cost: float | None


class CostReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`total` sums what was measured; `unmeasured` counts the sessions that were not."""

    currency: str
    since: datetime
    by: str
    rows: list[CostView]
    total: float
    unmeasured: int
    prices: Prices


class LogLine(msgspec.Struct, frozen=True):
    """`source` is a session id, or "build"."""

    time: str
    source: str
    line: str


_LINE = msgspec.json.Encoder()


def operations(
    runtimes: RuntimeService, invocations: InvocationService, *, prices: Prices, build_logs: Any
) -> list[Operation]:
    """`build_logs(build id) -> lines` reads what a build said."""
    own = _Own(runtimes, invocations, prices, build_logs)
    return [
        Operation(
            name="ListSessions", method="GET", path="/sessions", act=own.sessions,
            summary="Sessions, newest first", answer=SessionList,
            parameters=(
                Parameter(name="runtimeId", meaning="Only of this agent runtime"),
                Parameter(name="sessionId", meaning="Only with this session id"),
                Parameter(
                    name="status", meaning="Live ones, ended ones or all", default="live",
                    choices=("live", "ended", "all"),
                ),
                Parameter(
                    name="limit", meaning="Sessions a page", kind="integer", default=100,
                    minimum=1, maximum=1000,
                ),
                Parameter(name="nextToken", meaning="Where the previous page ended"),
            ),
        ),
        Operation(
            name="ReadLogs", method="GET", path="/runtimes/{runtimeId}/logs", act=own.logs,
            summary="What an agent's sessions and its builds wrote, as JSON lines",
            answer=LogLine, streams=True, follows=True,
            parameters=(
                Parameter(name="runtimeId", meaning="The agent runtime", where="path"),
                Parameter(name="sessionId", meaning="Only of this session"),
                Parameter(
                    name="tail", meaning="Lines of each source", kind="integer", default=200,
                    minimum=0, maximum=_TAIL_LINES_MAX,
                ),
                Parameter(
                    name="follow", kind="boolean", default=False,
                    meaning="Go on with what comes: of the session, or of every live one and "
                    "those that start later",
                ),
                Parameter(
                    name="build", meaning="The newest version's build log instead",
                    kind="boolean", default=False,
                ),
            ),
        ),
        Operation(
            name="ReportCosts", method="GET", path="/costs", act=own.costs,
            summary="What sessions used and what that would cost", answer=CostReport,
            parameters=(
                Parameter(name="by", meaning="Rows of", default="agent", choices=COST_GROUPS),
                Parameter(
                    name="since", meaning="ISO 8601, or a span such as 24h or 7d", default="24h"
                ),
            ),
        ),
    ]  # fmt: skip


class _Own:
    def __init__(
        self,
        runtimes: RuntimeService,
        invocations: InvocationService,
        prices: Prices,
        build_logs: Any,
    ) -> None:
        self._runtimes, self._invocations = runtimes, invocations
        self._prices, self._build_logs = prices, build_logs

    async def sessions(self, request: Request, params: Params, _: Any) -> SessionList:
        page = await self._invocations.sessions(
            request.tenant,
            runtime_id=params["runtimeId"],
            session_id=params["sessionId"],
            live={"live": True, "ended": False, "all": None}[params["status"]],
            limit=params["limit"],
            token=params["nextToken"],
        )
        return SessionList([self._view(r) for r in page.items], page.next_token)

    def _view(self, record: SessionRecord) -> SessionView:
        measured = record.cpu_seconds is not None and record.memory_gb_seconds is not None
        return SessionView(
            **{
                f: getattr(record, f)
                for f in SessionView.__struct_fields__
                if f not in ("metering", "cost")
            },
            metering="measured" if measured else "unmeasured",
            cost=self._prices.cost(record.tier, record.cpu_seconds, record.memory_gb_seconds),
        )

    async def logs(self, request: Request, params: Params, _: Any) -> AsyncIterator[bytes]:
        tenant, runtime_id = request.tenant, params["runtimeId"]
        if params["build"]:
            runtime = await self._runtimes.get(tenant, runtime_id)
            return self._build(f"{runtime.id}-{runtime.version}", params["tail"])
        page = await self._invocations.sessions(
            tenant,
            runtime_id=runtime_id,
            session_id=params["sessionId"],
            limit=_SESSIONS_LOGGED_MAX,
        )
        if not page.items:
            await self._runtimes.get(tenant, runtime_id)
            if params["sessionId"] is not None:
                raise NotFound(f"agent runtime {runtime_id} has no session {params['sessionId']}")
        if params["follow"] and params["sessionId"] is None:
            return self._lines_of_all(tenant, runtime_id, page.items, params["tail"])
        return self._lines(page.items, params["tail"], follow=params["follow"])

    async def _build(self, build_id: str, tail: int) -> AsyncIterator[bytes]:
        lines = await self._build_logs(build_id)
        for line in lines[max(0, len(lines) - tail) :]:
            yield _LINE.encode(LogLine("", "build", line)) + b"\n"

    async def _lines(
        self, records: list[SessionRecord], tail: int, *, follow: bool
    ) -> AsyncGenerator[bytes, None]:
        """Oldest session first; with `follow`, the newest goes on."""
        for record in reversed(records):
            newest = record is records[0]
            async with aclosing(
                self._invocations.log_lines(record, tail=tail, follow=follow and newest)
            ) as lines:
                async for text in lines:
                    yield _line(record.session_id, text)

    async def _lines_of_all(
        self, tenant: str, runtime_id: str, records: list[SessionRecord], tail: int
    ) -> AsyncIterator[bytes]:
        """What ended, and then all that lives or comes to be."""
        ended = [record for record in records if record.ended_at is not None]
        async with aclosing(self._lines(ended, tail, follow=False)) as past:
            async for line in past:
                yield line
        async with aclosing(self._invocations.follow_logs(tenant, runtime_id, tail=tail)) as news:
            async for said in news:
                yield _line(said.session_id, said.text)

    async def costs(self, request: Request, params: Params, _: Any) -> CostReport:
        since = _since(params["since"])
        rows = await self._invocations.costs(request.tenant, by=params["by"], since=since)
        views = self._cost_views(rows, newest_first=params["by"] == "day")
        return CostReport(
            currency=self._prices.currency,
            since=since,
            by=params["by"],
            rows=views,
            total=round(sum(v.cost or 0.0 for v in views), 9),
            unmeasured=sum(v.unmeasured for v in views),
            prices=self._prices,
        )

    def _cost_views(self, rows: list[CostRow], *, newest_first: bool) -> list[CostView]:
        """One for each key, whatever tiers it was spread over."""
        views: dict[str, CostView] = {}
        for row in rows:
            view = CostView(
                **{f: getattr(row, f) for f in row.__struct_fields__ if f != "tier"},
                cost=self._prices.cost(row.tier, row.cpu_seconds, row.memory_gb_seconds),
            )
            known = views.get(row.key)
            views[row.key] = view if known is None else _sum(known, view)
        if newest_first:
            return sorted(views.values(), key=lambda view: view.key, reverse=True)
        return sorted(views.values(), key=lambda view: (-(view.cost or 0.0), view.key))[:_ROWS_MAX]


_SUMMED = ("sessions", "unmeasured", "invocations", "cpu_seconds", "memory_gb_seconds", "cost")


def _sum(one: CostView, other: CostView) -> CostView:
    """What is null in one of them is unknown there, and counts in neither."""

    def add(a: float | None, b: float | None) -> float | None:
        return a if b is None else b if a is None else a + b

    sums = {f: add(getattr(one, f), getattr(other, f)) for f in _SUMMED}
    return msgspec.structs.replace(one, **sums)


def _line(session_id: str, text: str) -> bytes:
    time, _, line = text.partition(" ")
    return _LINE.encode(LogLine(time, session_id, line)) + b"\n"


_SPAN = re.compile(r"(\d{1,5})([mhd])")


def _since(text: str) -> datetime:
    if span := _SPAN.fullmatch(text):
        unit = {"m": "minutes", "h": "hours", "d": "days"}[span[2]]
        return now() - timedelta(**{unit: int(span[1])})
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValidationFailed(
            f"since={text}: expected ISO 8601, or a span such as 90m, 24h or 7d"
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=now().tzinfo)
