"""Series for charts, without gaps, and what models cost, in rows."""

import math
from collections.abc import Iterable
from datetime import datetime

import msgspec

from freehold.ports.spans import Measured, Point, SeriesGroup, SeriesWanted, SpanStore, Wanted
from freehold.services.observability.views import at

POINTS_MAX = 2_000
_POINTS_AIM = 120
_STEP_SECONDS_MIN = 60
_STEPS = (60, 300, 900, 3_600, 10_800, 21_600, 86_400)
_EVER_SECONDS = 2**31 // 3_600 * 3_600
"""A step that holds all of time: one point a group, whose percentiles are of the whole. Of whole
hours, as the store has sums of hours; a short time is added up of minutes."""
_SHORT_NS = 48 * 3_600 * 10**9
_SESSIONS_MAX = 10_000
_SESSIONS_A_PAGE = 1_000


class SeriesPoint(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Percentiles within 5% of the true ones; null where nothing was counted. `cost` is null where
    no price is known."""

    at: datetime
    count: int = 0
    errors: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None


class SeriesGroupView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`total` is of the whole span of time; its `at` is where that begins."""

    group: str
    total: SeriesPoint
    points: list[SeriesPoint]


class SeriesView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`groups` by their count, the largest first; one of the name "" where nothing is grouped."""

    since: datetime
    until: datetime
    step_seconds: int
    groups: list[SeriesGroupView]


class ModelCostRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    key: str
    model_calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None


class ModelCostReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`unpriced`: rows with tokens whose price is not known; `total` is without them. `partial`:
    there are more sessions than were added up."""

    since: datetime
    until: datetime
    by: str
    currency: str
    rows: list[ModelCostRow]
    total: float | None
    unpriced: list[str]
    partial: bool


def step_for(since_ns: int, until_ns: int, asked: int | None) -> int:
    """What was asked for, in whole minutes, made larger until there are at most POINTS_MAX."""
    seconds = (until_ns - since_ns) / 1e9
    if asked is None:
        return next((step for step in _STEPS if seconds / step <= _POINTS_AIM), _STEPS[-1])
    least = max(asked, seconds / POINTS_MAX)
    return math.ceil(least / _STEP_SECONDS_MIN) * _STEP_SECONDS_MIN


def _ever(window: tuple[int, int]) -> int:
    return _EVER_SECONDS if window[1] - window[0] > _SHORT_NS else _EVER_SECONDS - 60


async def series(
    store: SpanStore,
    tenant: str,
    *,
    window: tuple[int, int],
    step: int | None,
    measured: Measured,
    by: SeriesGroup | None,
    agent_id: str = "",
    agent_version: str = "",
    model: str = "",
    tool: str = "",
) -> SeriesView:
    since_ns, until_ns = window
    asked = SeriesWanted(
        since_ns=since_ns, until_ns=until_ns, step_seconds=step_for(since_ns, until_ns, step),
        measured=measured, by=by, agent_id=agent_id, agent_version=agent_version, model=model,
        tool=tool,
    )  # fmt: skip
    points = await store.series(tenant, asked)
    whole = msgspec.structs.replace(asked, step_seconds=_ever(window))
    totals = {point.group: point for point in await store.series(tenant, whole)}
    if by is None:
        totals.setdefault("", _nothing(since_ns))
    groups = [
        SeriesGroupView(
            group=group,
            total=_shown(total, since_ns),
            points=filled(
                [point for point in points if point.group == group],
                since_ns, until_ns, asked.step_seconds,
            ),
        )
        for group, total in sorted(totals.items(), key=lambda item: (-item[1].count, item[0]))
    ]  # fmt: skip
    return SeriesView(
        since=at(since_ns), until=at(until_ns), step_seconds=asked.step_seconds, groups=groups
    )


def filled(
    points: Iterable[Point], since_ns: int, until_ns: int, step_seconds: int
) -> list[SeriesPoint]:
    """Every step there is, also those without anything."""
    step_ns = step_seconds * 10**9
    known = {point.at_ns - point.at_ns % step_ns: point for point in points}
    first = since_ns - since_ns % step_ns
    return [
        _shown(known[ns], ns) if ns in known else SeriesPoint(at=at(ns))
        for ns in range(first, until_ns, step_ns)
    ]


def _shown(point: Point, ns: int) -> SeriesPoint:
    return SeriesPoint(
        at=at(ns),
        count=point.count,
        errors=point.errors,
        p50_ms=point.p50_ms,
        p95_ms=point.p95_ms,
        p99_ms=point.p99_ms,
        input_tokens=point.input_tokens,
        output_tokens=point.output_tokens,
        cost=point.cost,
    )


def _nothing(ns: int) -> Point:
    return Point(
        at_ns=ns, group="", count=0, errors=0, p50_ms=None, p95_ms=None, p99_ms=None,
        input_tokens=0, output_tokens=0, cost=None,
    )  # fmt: skip


async def costs(
    store: SpanStore, tenant: str, *, window: tuple[int, int], by: str, agent_id: str = ""
) -> ModelCostReport:
    """`by`: model, agent, day, session or user."""
    partial = False
    if by in ("session", "user"):
        rows, partial = await _of_sessions(store, tenant, window, by, agent_id)
    else:
        rows = await _of_series(store, tenant, window, by, agent_id)
    known = [row.cost for row in rows if row.cost is not None]
    return ModelCostReport(
        since=at(window[0]),
        until=at(window[1]),
        by=by,
        currency="USD",
        rows=rows,
        total=sum(known) if known else None,
        unpriced=[
            row.key for row in rows if row.cost is None and (row.input_tokens or row.output_tokens)
        ],
        partial=partial,
    )


async def _of_series(
    store: SpanStore, tenant: str, window: tuple[int, int], by: str, agent_id: str
) -> list[ModelCostRow]:
    group: SeriesGroup | None = "model" if by == "model" else "agent" if by == "agent" else None
    asked = SeriesWanted(
        since_ns=window[0], until_ns=window[1], measured="model_calls", by=group,
        step_seconds=86_400 if by == "day" else _ever(window), agent_id=agent_id,
    )  # fmt: skip
    points = await store.series(tenant, asked)
    rows = [
        ModelCostRow(
            key=at(point.at_ns).date().isoformat() if by == "day" else point.group,
            model_calls=point.count,
            input_tokens=point.input_tokens,
            output_tokens=point.output_tokens,
            cost=point.cost,
        )
        for point in points
    ]
    return rows if by == "day" else _dearest(rows)


async def _of_sessions(
    store: SpanStore, tenant: str, window: tuple[int, int], by: str, agent_id: str
) -> tuple[list[ModelCostRow], bool]:
    asked = Wanted(since_ns=window[0], until_ns=window[1], agent_id=agent_id)
    rows: dict[str, ModelCostRow] = {}
    token, seen = None, 0
    while True:
        page = await store.sessions(tenant, asked, limit=_SESSIONS_A_PAGE, token=token)
        for session in page.items:
            key = session.session_id if by == "session" else session.user
            row = ModelCostRow(
                key=key,
                model_calls=session.model_calls,
                input_tokens=session.input_tokens,
                output_tokens=session.output_tokens,
                cost=session.cost,
            )
            rows[key] = _added(rows[key], row) if key in rows else row
        seen, token = seen + len(page.items), page.next_token
        if token is None or seen >= _SESSIONS_MAX:
            return _dearest(rows.values()), token is not None


def _added(one: ModelCostRow, other: ModelCostRow) -> ModelCostRow:
    known = [cost for cost in (one.cost, other.cost) if cost is not None]
    return ModelCostRow(
        key=one.key,
        model_calls=one.model_calls + other.model_calls,
        input_tokens=one.input_tokens + other.input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        cost=sum(known) if known else None,
    )


def _dearest(rows: Iterable[ModelCostRow]) -> list[ModelCostRow]:
    def order(row: ModelCostRow) -> tuple[float, int, int]:
        return (-(row.cost or 0.0), -(row.input_tokens + row.output_tokens), -row.model_calls)

    return sorted(rows, key=order)
