"""Records of ours as OTLP's messages: attributes, events, links, resource, scope as they came."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import msgspec
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from freehold.ports.spans import SpanRecord
from freehold.ports.telemetry import LogRecord, MetricPoint

T = TypeVar("T", SpanRecord, LogRecord, MetricPoint)

_INTEGERS = range(-(2**63), 2**63)
_SAMPLED = 1
_DELTA = metrics_pb2.AGGREGATION_TEMPORALITY_DELTA
_CUMULATIVE = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE


def spans_request(spans: Sequence[SpanRecord]) -> bytes:
    request = ExportTraceServiceRequest()
    for resource, scopes in _grouped(spans, lambda s: (s.scope, s.scope_version)):
        of_resource = request.resource_spans.add(resource=_resource(resource))
        for (name, version), held in scopes.items():
            of_resource.scope_spans.add(
                scope=InstrumentationScope(name=name, version=version), spans=map(_span, held)
            )
    return bytes(request.SerializeToString())


def logs_request(records: Sequence[LogRecord]) -> bytes:
    request = ExportLogsServiceRequest()
    for resource, scopes in _grouped(records, lambda r: (r.scope, "")):
        of_resource = request.resource_logs.add(resource=_resource(resource))
        for (name, _), held in scopes.items():
            of_resource.scope_logs.add(
                scope=InstrumentationScope(name=name), log_records=map(_log, held)
            )
    return bytes(request.SerializeToString())


def points_request(points: Sequence[MetricPoint]) -> bytes:
    request = ExportMetricsServiceRequest()
    for resource, scopes in _grouped(points, lambda _: ("", "")):
        of_resource = request.resource_metrics.add(resource=_resource(resource))
        for held in scopes.values():
            of_resource.scope_metrics.add(metrics=map(_metric, held))
    return bytes(request.SerializeToString())


def _grouped(
    items: Iterable[T], scope: Callable[[T], tuple[str, str]]
) -> Iterable[tuple[Mapping[str, Any], dict[tuple[str, str], list[T]]]]:
    """By resource, then by scope, in the order in which they come."""
    found: dict[bytes, tuple[Mapping[str, Any], dict[tuple[str, str], list[T]]]] = {}
    for item in items:
        key = msgspec.msgpack.encode(item.resource)
        _, scopes = found.setdefault(key, (item.resource, {}))
        scopes.setdefault(scope(item), []).append(item)
    return found.values()


def _resource(attributes: Mapping[str, Any]) -> Resource:
    return Resource(attributes=_pairs(attributes))


def _span(span: SpanRecord) -> trace_pb2.Span:
    return trace_pb2.Span(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_id),
        flags=_SAMPLED,
        name=span.name,
        kind=cast("Any", span.kind),
        start_time_unix_nano=span.started_ns,
        end_time_unix_nano=span.ended_ns,
        attributes=_pairs(span.attributes),
        events=[
            trace_pb2.Span.Event(
                time_unix_nano=event.at_ns, name=event.name, attributes=_pairs(event.attributes)
            )
            for event in span.events
        ],
        links=[
            trace_pb2.Span.Link(
                trace_id=bytes.fromhex(link.trace_id),
                span_id=bytes.fromhex(link.span_id),
                attributes=_pairs(link.attributes),
            )
            for link in span.links
        ],
        status=trace_pb2.Status(code=cast("Any", span.status), message=span.message),
    )


def _log(record: LogRecord) -> logs_pb2.LogRecord:
    return logs_pb2.LogRecord(
        time_unix_nano=record.at_ns,
        observed_time_unix_nano=record.at_ns,
        severity_number=cast("Any", record.severity),
        severity_text=record.severity_text,
        body=None if record.body is None else _value(record.body),
        attributes=_pairs(record.attributes),
        trace_id=bytes.fromhex(record.trace_id),
        span_id=bytes.fromhex(record.span_id),
        event_name=record.event,
    )


def _metric(point: MetricPoint) -> metrics_pb2.Metric:
    common: dict[str, Any] = {
        "time_unix_nano": point.at_ns,
        "start_time_unix_nano": point.started_ns,
        "attributes": _pairs(point.attributes),
    }
    metric = metrics_pb2.Metric(name=point.name, unit=point.unit)
    temporality = _DELTA if point.delta else _CUMULATIVE
    if point.kind == "histogram":
        metric.histogram.aggregation_temporality = temporality
        metric.histogram.data_points.add(
            count=point.count or 0, sum=point.sum,
            explicit_bounds=point.bounds, bucket_counts=point.buckets, **common,
        )  # fmt: skip
    elif point.kind == "sum":
        metric.sum.aggregation_temporality = temporality
        metric.sum.is_monotonic = point.monotonic
        metric.sum.data_points.add(as_double=point.value or 0.0, **common)
    else:
        metric.gauge.data_points.add(as_double=point.value or 0.0, **common)
    return metric


def _pairs(attributes: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in attributes.items()]


def _value(value: Any) -> AnyValue:
    """What OTLP has no value for, such as a number of more than 64 bits, is text."""
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        held = value in _INTEGERS
        return AnyValue(int_value=value) if held else AnyValue(string_value=str(value))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    found = AnyValue()
    if isinstance(value, Mapping):
        found.kvlist_value.values.extend(_pairs({str(k): v for k, v in value.items()}))
        found.kvlist_value.SetInParent()
    elif isinstance(value, list | tuple):
        found.array_value.values.extend([_value(each) for each in value])
        found.array_value.SetInParent()
    return found
