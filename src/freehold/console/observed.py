"""Series of the platform's API (GetTraceSeries) as charts take them."""

from collections.abc import Mapping
from typing import Any

import msgspec

from freehold.console.parts import Part

STEPS = {"1h": "1m", "24h": "30m", "7d": "3h", "30d": "12h"}
"""The step of a chart over a time: some fifty columns."""


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One value a step; None where nothing was measured. `total` is of the whole time."""

    times: list[str]
    count: list[float | None]
    errors: list[float | None]
    good: list[float | None]
    p50_ms: list[float | None]
    p95_ms: list[float | None]
    tokens_in: list[float | None]
    tokens_out: list[float | None]
    cost: list[float | None]
    total: Mapping[str, Any]


def series(answer: Mapping[str, Any]) -> Series:
    """Of a series without groups."""
    one = answer["groups"][0]
    points = one["points"]

    def values(name: str) -> list[float | None]:
        return [point[name] for point in points]

    return Series(
        times=[point["at"] for point in points],
        count=values("count"),
        errors=values("errors"),
        good=[point["count"] - point["errors"] for point in points],
        p50_ms=values("p50Ms"),
        p95_ms=values("p95Ms"),
        tokens_in=values("inputTokens"),
        tokens_out=values("outputTokens"),
        cost=values("cost"),
        total=one["total"],
    )


def series_part(asked: Part) -> Part:
    return asked if asked.problem else Part(value=series(asked.value))
