"""OTLP over HTTP, as far as every edge that takes it has it in common.

Source: opentelemetry.io/docs/specs/otlp, "OTLP/HTTP".
"""

from collections.abc import Mapping

import msgspec

from freehold.kernel.errors import FreeholdError, ValidationFailed
from freehold.ports.exports import Signal, Taken

SIGNALS: Mapping[str, Signal] = {
    "/v1/traces": "traces", "/v1/metrics": "metrics", "/v1/logs": "logs",
}  # fmt: skip

PROTOBUF = "application/x-protobuf"
JSON = "application/json"

_GRPC_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 413: 8, 415: 3, 429: 8, 501: 12, 503: 14}
_GRPC_INTERNAL = 13
_RETRY_AFTER_SECONDS = {429: 1, 503: 3}
_REJECTED: Mapping[Signal, str] = {
    "traces": "rejectedSpans", "metrics": "rejectedDataPoints", "logs": "rejectedLogRecords",
}  # fmt: skip
_MESSAGE_BYTES_MAX = 1000


def content_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", PROTOBUF).partition(";")[0].strip().lower()


def checked_type(headers: Mapping[str, str]) -> str:
    """Raises ValidationFailed for what is neither encoding."""
    kind = content_type(headers)
    if kind not in (PROTOBUF, JSON):
        raise ValidationFailed(f"content-type must be {PROTOBUF} or {JSON}")
    return kind


def taken(signal: Signal, outcome: Taken | None, kind: str) -> bytes:
    """An Export...ServiceResponse; empty where all was taken."""
    if outcome is None or not (outcome.rejected or outcome.message):
        return b"" if kind == PROTOBUF else b"{}"
    if kind == PROTOBUF:
        partial = b"\x08" + _varint(outcome.rejected) + _text(0x12, outcome.message)
        return b"\x0a" + _varint(len(partial)) + partial
    partial_success = {
        _REJECTED[signal]: str(outcome.rejected), "errorMessage": outcome.message
    }  # fmt: skip
    return msgspec.json.encode({"partialSuccess": partial_success})


def refusal(error: FreeholdError, kind: str) -> tuple[bytes, str]:
    """A `google.rpc.Status` in the encoding of the request, and that encoding."""
    code = _GRPC_CODES.get(error.status, _GRPC_INTERNAL)
    if kind == PROTOBUF:
        return b"\x08" + _varint(code) + _text(0x12, error.message), PROTOBUF
    return msgspec.json.encode({"code": code, "message": error.message}), JSON


def retry_headers(error: FreeholdError) -> dict[str, str]:
    """When to send it again, where that may help."""
    seconds = _RETRY_AFTER_SECONDS.get(error.status)
    return {} if seconds is None else {"retry-after": str(seconds)}


def _text(tag: int, text: str) -> bytes:
    # Cut between characters: what is not UTF-8 no client can parse.
    encoded = text.encode()[:_MESSAGE_BYTES_MAX].decode(errors="ignore").encode()
    return bytes([tag]) + _varint(len(encoded)) + encoded


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
