"""`ports.web.Web` whose requests are spans, and say so to whom they go to (W3C Trace Context)."""

from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from freehold.kernel import tracing
from freehold.kernel.tracing import Kind, Span
from freehold.ports.web import Unreachable, Web, WebAnswer, WebStream

_OURS = frozenset({"traceparent", "tracestate"})


class TracedWeb:
    """Over another one. Where nothing is traced it changes nothing."""

    def __init__(self, web: Web) -> None:
        self._web = web

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        bytes_max: int = 1 << 20,
        seconds_max: float = 10.0,
    ) -> WebAnswer:
        span = _begun(method, url)
        if span is not None:
            headers = _carrying(span, headers)
        try:
            answer = await self._web.ask(
                method, url, headers=headers, body=body, bytes_max=bytes_max,
                seconds_max=seconds_max,
            )  # fmt: skip
        except BaseException as error:
            _broke(span, error)
            raise
        if span is not None:
            _answered(span, answer.status)
            span.end()
        return answer

    async def open(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
        seconds_max: float = 30.0,
        idle_seconds_max: float = 300.0,
    ) -> WebStream:
        span = _begun(method, url)
        if span is not None:
            headers = _carrying(span, headers)
        try:
            stream = await self._web.open(
                method, url, headers=headers, body=body, seconds_max=seconds_max,
                idle_seconds_max=idle_seconds_max,
            )  # fmt: skip
        except BaseException as error:
            _broke(span, error)
            raise
        if span is None:
            return stream
        _answered(span, stream.status)
        return _TracedStream(stream, span)


class _TracedStream:
    """Its span ends when it is closed, as every stream is by whoever opened it."""

    def __init__(self, stream: WebStream, span: Span) -> None:
        self._stream, self._span = stream, span
        self.status, self.headers = stream.status, stream.headers

    def chunks(self) -> AsyncIterator[bytes]:
        return self._stream.chunks()

    async def read(self, bytes_max: int) -> bytes:
        return await self._stream.read(bytes_max)

    def close(self) -> None:
        self._stream.close()
        self._span.end()


def _begun(method: str, url: str) -> Span | None:
    around = tracing.current()
    if around is None:
        return None
    parts = urlsplit(url)
    host = parts.hostname or parts.scheme
    attributes: dict[str, Any] = {"http.request.method": method, "server.address": host}
    if parts.port is not None:
        attributes["server.port"] = parts.port
    # No path and no query: what stands there may be a secret.
    return around.child(f"{method} {host}", kind=Kind.CLIENT, attributes=attributes)


def _carrying(span: Span, headers: Mapping[str, str] | None) -> dict[str, str]:
    carried = {n: v for n, v in (headers or {}).items() if n.lower() not in _OURS}
    carried["traceparent"] = span.context.traceparent
    if span.context.state:
        carried["tracestate"] = span.context.state
    return carried


def _answered(span: Span, status: int) -> None:
    span.attributes["http.response.status_code"] = status
    if status >= 400:
        span.fail(str(status))


def _broke(span: Span | None, error: BaseException) -> None:
    if span is None:
        return
    timed_out = isinstance(error, Unreachable) and error.timed_out
    span.fail("timed out" if timed_out else type(error).__name__)
    span.end()
