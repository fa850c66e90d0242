"""`ports.collector.Collector` by OTLP over HTTP: protobuf, gzip, a bound on everything."""

import asyncio
import gzip
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import aiohttp
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from freehold.adapters.otlp.encoding import logs_request, points_request, spans_request
from freehold.kernel.threads import in_thread
from freehold.ports.collector import Never, NotNow, Outcome, Signal, Taken
from freehold.ports.spans import SpanRecord
from freehold.ports.telemetry import LogRecord, MetricPoint

T = TypeVar("T")

_ANSWER_BYTES_MAX = 64 * 1024
_WHY_CHARACTERS_MAX = 200
_CONNECT_SECONDS_MAX = 10.0
_REFUSED, _TOO_LARGE = 400, 413
_ANSWERS: dict[Signal, Any] = {
    "traces": ExportTraceServiceResponse,
    "logs": ExportLogsServiceResponse,
    "metrics": ExportMetricsServiceResponse,
}
_REJECTED = {
    "traces": "rejected_spans", "logs": "rejected_log_records", "metrics": "rejected_data_points",
}  # fmt: skip


class OtlpExporter:
    """`endpoint` is the base, to which `/v1/traces` and so on are added, as OTLP has it. `headers`
    are secrets. The operator named it: any host will do, this machine's too."""

    def __init__(
        self, endpoint: str, *, headers: Mapping[str, str] | None = None, seconds_max: float = 10.0
    ) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._headers = {
            **(headers or {}),
            "Content-Type": "application/x-protobuf", "Content-Encoding": "gzip",
        }  # fmt: skip
        self._seconds_max = seconds_max
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return "OtlpExporter()"

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send_spans(self, spans: Sequence[SpanRecord]) -> Outcome:
        return await self._send("traces", spans_request, spans)

    async def send_logs(self, records: Sequence[LogRecord]) -> Outcome:
        return await self._send("logs", logs_request, records)

    async def send_points(self, points: Sequence[MetricPoint]) -> Outcome:
        return await self._send("metrics", points_request, points)

    async def _send(
        self, signal: Signal, encode: Callable[[Sequence[T]], bytes], items: Sequence[T]
    ) -> Outcome:
        try:
            body = await in_thread(_packed, encode, items)
        except (ValueError, TypeError, OverflowError) as error:
            # Its text may hold what was in an attribute.
            return Never(f"it cannot be said in OTLP ({type(error).__name__})")
        try:
            async with asyncio.timeout(self._seconds_max):
                return await self._asked(signal, body)
        except TimeoutError:
            return NotNow(f"no answer within {self._seconds_max:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return NotNow(_reason(error))

    async def _asked(self, signal: Signal, body: bytes) -> Outcome:
        if self._session is None:
            # Neither proxies nor credentials of the environment.
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS_MAX),
            )  # fmt: skip
        async with self._session.post(
            f"{self._endpoint}/v1/{signal}", data=body, headers=self._headers,
            allow_redirects=False,
        ) as answer:  # fmt: skip
            content = await _bounded(answer)
            if answer.status // 100 == 2:
                return _taken(signal, answer.content_type, content)
            return _refused(answer.status, answer.headers)


def _packed(encode: Callable[[Sequence[T]], bytes], items: Sequence[T]) -> bytes:
    return gzip.compress(encode(items), compresslevel=1, mtime=0)


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    content = b""
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > _ANSWER_BYTES_MAX:
            answer.close()
            return b""
    return content


def _taken(signal: Signal, content_type: str, content: bytes) -> Taken:
    """An answer that is not OTLP's says nothing: it was 2xx all the same."""
    if not content or content_type != "application/x-protobuf":
        return Taken()
    try:
        partial = _ANSWERS[signal].FromString(content).partial_success
    except DecodeError:
        return Taken()
    why = _plain(str(partial.error_message))
    return Taken(max(0, int(getattr(partial, _REJECTED[signal]))), why)


def _refused(status: int, headers: Mapping[str, str]) -> Outcome:
    """What asks for other keys, or another address, is the operator's to repair: until then it
    waits. A body that is refused as such would be refused again."""
    if status in (_REFUSED, _TOO_LARGE):
        return Never(f"HTTP {status}", too_large=status == _TOO_LARGE)
    return NotNow(f"HTTP {status}", _after(headers.get("Retry-After", "")))


def _after(text: str) -> float | None:
    """Retry-After: seconds, or a date. None for neither."""
    if text.strip().isdigit() and len(text) < 10:
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _reason(error: Exception) -> str:
    """Without the URL, which may carry a key, and without headers."""
    cause = error.__cause__ or error
    detail = cause.strerror if isinstance(cause, OSError) and cause.strerror else ""
    return _plain(f"{type(error).__name__}: {detail}" if detail else type(error).__name__)


def _plain(text: str) -> str:
    """One line of the log, whatever a collector says."""
    return "".join(c if c.isprintable() else " " for c in text)[:_WHY_CHARACTERS_MAX]
