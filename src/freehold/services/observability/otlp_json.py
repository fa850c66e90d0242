"""OTLP's messages in its JSON encoding, with the members that are read; unknown ones are ignored.

Members are named as in protobuf, so that one walk reads both encodings. Spans, log records and
metrics stay raw: each is decoded alone, and one that is broken takes no other with it.
Source: opentelemetry.io/docs/specs/otlp, "JSON Protobuf Encoding".
"""

from typing import Any

import msgspec

Integer = int | str | None
"""64 bits are a string of digits; numbers are accepted, as protobuf's JSON mapping has it."""
Number = float | str | None


class _Message(msgspec.Struct, frozen=True, rename="camel"):
    pass


class ArrayValue(_Message, frozen=True):
    values: list["AnyValue"] | None = None


class KeyValueList(_Message, frozen=True):
    values: list["KeyValue"] | None = None


class AnyValue(_Message, frozen=True):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: Integer = None
    double_value: Number = None
    array_value: ArrayValue | None = None
    kvlist_value: KeyValueList | None = None
    bytes_value: str | None = None


class KeyValue(_Message, frozen=True):
    key: str = ""
    value: AnyValue | None = None


class Resource(_Message, frozen=True):
    attributes: list[KeyValue] | None = None


class Scope(_Message, frozen=True):
    name: str | None = None
    version: str | None = None


class Event(_Message, frozen=True):
    time_unix_nano: Integer = None
    name: str | None = None
    attributes: list[KeyValue] | None = None


class Link(_Message, frozen=True):
    trace_id: str | None = None
    span_id: str | None = None
    attributes: list[KeyValue] | None = None


class Status(_Message, frozen=True):
    code: int | str | None = None
    message: str | None = None


class Span(_Message, frozen=True):
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    name: str | None = None
    kind: int | str | None = None
    start_time_unix_nano: Integer = None
    end_time_unix_nano: Integer = None
    attributes: list[KeyValue] | None = None
    events: list[Event] | None = None
    links: list[Link] | None = None
    status: Status | None = None


class LogRecord(_Message, frozen=True):
    time_unix_nano: Integer = None
    observed_time_unix_nano: Integer = None
    severity_number: int | str | None = None
    severity_text: str | None = None
    body: AnyValue | None = None
    attributes: list[KeyValue] | None = None
    trace_id: str | None = None
    span_id: str | None = None
    event_name: str | None = None


class Buckets(_Message, frozen=True):
    offset: Integer = None
    bucket_counts: list[int | str] | None = None


class DataPoint(_Message, frozen=True):
    """Of every kind: which members are there depends on it."""

    start_time_unix_nano: Integer = None
    time_unix_nano: Integer = None
    attributes: list[KeyValue] | None = None
    flags: int | None = None
    as_double: Number = None
    as_int: Integer = None
    count: Integer = None
    sum: Number = None
    bucket_counts: list[int | str] | None = None
    explicit_bounds: list[float | str] | None = None
    scale: Integer = None
    zero_count: Integer = None
    zero_threshold: Number = None
    positive: Buckets | None = None
    negative: Buckets | None = None


class Data(_Message, frozen=True):
    data_points: list[DataPoint] | None = None
    aggregation_temporality: int | str | None = None
    is_monotonic: bool | None = None


class Metric(_Message, frozen=True):
    name: str | None = None
    unit: str | None = None
    gauge: Data | None = None
    sum: Data | None = None
    histogram: Data | None = None
    exponential_histogram: Data | None = None
    summary: Data | None = None


class ScopeGroup(_Message, frozen=True):
    scope: Scope | None = None
    spans: list[msgspec.Raw] | None = None
    log_records: list[msgspec.Raw] | None = None
    metrics: list[msgspec.Raw] | None = None


class ResourceGroup(_Message, frozen=True):
    resource: Resource | None = None
    scope_spans: list[ScopeGroup] | None = None
    scope_logs: list[ScopeGroup] | None = None
    scope_metrics: list[ScopeGroup] | None = None


class Request(_Message, frozen=True):
    resource_spans: list[ResourceGroup] | None = None
    resource_logs: list[ResourceGroup] | None = None
    resource_metrics: list[ResourceGroup] | None = None


_REQUEST = msgspec.json.Decoder(Request)
_OF: dict[Any, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (Span, LogRecord, Metric)
}


def request(data: bytes) -> Request:
    """Raises msgspec.MsgspecError."""
    return _REQUEST.decode(data)


def item(raw: msgspec.Raw, kind: type[Any]) -> Any:
    """Raises msgspec.MsgspecError."""
    return _OF[kind].decode(raw)
