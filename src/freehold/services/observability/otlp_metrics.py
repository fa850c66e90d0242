"""OTLP's metrics as points of ours: a gauge, a sum, or a histogram with explicit bounds.

An exponential histogram gets the bounds that its scale means; of a summary count and sum are kept.
"""

import math
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from freehold.ports.exports import Source
from freehold.ports.telemetry import MetricPoint
from freehold.services.observability.otlp_decoding import (
    NAME_CHARACTERS_MAX,
    Bounds,
    Group,
    Refused,
    bounded_attributes,
    each,
)
from freehold.services.observability.otlp_identity import Whose, told
from freehold.services.observability.otlp_values import NotTaken, Wire, text

_KINDS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")
_TEMPORALITIES = (
    "AGGREGATION_TEMPORALITY_UNSPECIFIED",
    "AGGREGATION_TEMPORALITY_DELTA",
    "AGGREGATION_TEMPORALITY_CUMULATIVE",
)
_DELTA = 1
_NO_VALUE_FLAG = 1
_BUCKETS_MAX = 1000
_INTEGER_MAX = 2**63 - 1


class _Values(msgspec.Struct, frozen=True):
    value: float | None = None
    count: int | None = None
    sum: float | None = None
    bounds: tuple[float, ...] = ()
    buckets: tuple[int, ...] = ()


def points(
    body: bytes, source: Source, bounds: Bounds, *, json: bool
) -> Iterator[MetricPoint | Refused]:
    def read(group: Group, metric: Any, whose: Whose) -> Iterator[Any]:
        return _points(group, metric, whose, source, bounds)

    yield from each(body, "metrics", read, source, json=json)


def _points(
    group: Group, metric: Any, whose: Whose, source: Source, bounds: Bounds
) -> Iterator[MetricPoint | Refused]:
    wire = group.wire
    name = text(metric.name or "")[:NAME_CHARACTERS_MAX]
    kind = wire.one_of(metric, _KINDS)
    if not name or not kind:
        raise NotTaken("a metric without a name or without data")
    data = getattr(metric, kind)
    temporal = kind in ("sum", "histogram", "exponential_histogram")
    for point in data.data_points or ():
        if (point.flags or 0) & _NO_VALUE_FLAG:
            continue  # it says that there is nothing to say
        try:
            at_ns = wire.integer(point.time_unix_nano)
            bounds.check(at_ns)
            attributes = bounded_attributes(wire, point.attributes)
            owner = told(source, attributes, whose)
            values = _values(wire, kind, point)
        except (NotTaken, OverflowError) as reason:
            yield reason if isinstance(reason, NotTaken) else NotTaken("a scale without bounds")
            continue
        yield MetricPoint(
            tenant=source.tenant,
            at_ns=at_ns,
            started_ns=min(at_ns, max(0, wire.integer(point.start_time_unix_nano))),
            origin=source.origin,
            name=name,
            unit=text(metric.unit or "")[:64],
            kind=_kept_as(kind),
            monotonic=bool(data.is_monotonic) if kind == "sum" else False,
            delta=temporal and wire.enum(data.aggregation_temporality, _TEMPORALITIES) == _DELTA,
            value=values.value,
            count=values.count,
            sum=values.sum,
            bounds=values.bounds,
            buckets=values.buckets,
            attributes=attributes,
            resource=group.resource,
            agent_id=owner.agent_id,
            session_id=owner.session_id,
        )


def _kept_as(kind: str) -> Literal["gauge", "sum", "histogram"]:
    return "gauge" if kind == "gauge" else "sum" if kind == "sum" else "histogram"


def _values(wire: Wire, kind: str, point: Any) -> _Values:
    if kind in ("gauge", "sum"):
        return _Values(value=_number(wire, point))
    count = _count(wire, point.count)
    total = wire.number(point.sum)
    if not math.isfinite(total):
        raise NotTaken("a sum that is no number")
    if kind == "summary":
        return _Values(count=count, sum=total)
    if kind == "histogram":
        bounds = tuple(wire.number(each) for each in point.explicit_bounds or ())
        buckets = tuple(_count(wire, each) for each in point.bucket_counts or ())
    else:
        bounds, buckets = _exponential(wire, point)
    if len(buckets) > _BUCKETS_MAX or len(buckets) not in (0, len(bounds) + 1):
        raise NotTaken("a histogram whose buckets do not fit its bounds")
    if not all(map(math.isfinite, bounds)) or list(bounds) != sorted(bounds):
        raise NotTaken("a histogram whose bounds do not rise")
    return _Values(count=count, sum=total, bounds=bounds, buckets=buckets)


def _number(wire: Wire, point: Any) -> float:
    kind = wire.one_of(point, ("as_double", "as_int"))
    if not kind:
        raise NotTaken("a point without a value")
    value = wire.number(point.as_double) if kind == "as_double" else wire.integer(point.as_int)
    if not math.isfinite(value):
        raise NotTaken("a value that is no number")
    return float(value)


def _count(wire: Wire, raw: Any) -> int:
    count = wire.integer(raw)
    if not 0 <= count <= _INTEGER_MAX:
        raise NotTaken("a count that is none")
    return count


def _exponential(wire: Wire, point: Any) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Bucket i is (base^i, base^(i+1)], base = 2^(2^-scale). What is not above zero is one bucket
    below them all."""
    positive, negative = point.positive, point.negative
    counts = [_count(wire, each) for each in (positive.bucket_counts or ())] if positive else []
    below = _count(wire, point.zero_count)
    if negative:
        below += sum(_count(wire, each) for each in negative.bucket_counts or ())
    if len(counts) > _BUCKETS_MAX:
        raise NotTaken(f"a histogram of more than {_BUCKETS_MAX} buckets")
    offset, scale = wire.integer(positive.offset) if positive else 0, wire.integer(point.scale)
    if not -10 <= scale <= 20:
        raise NotTaken("a scale that no histogram has")
    bounds = [2.0 ** (2.0**-scale * (offset + i)) for i in range(len(counts) + 1)]
    if not counts:
        return (0.0,), (below, 0)
    # The last upper bound is left out: what is above the last but one is the last bucket.
    return tuple(bounds[:-1]), (below, *counts)
