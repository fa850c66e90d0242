"""Requests of the platform's own say which trace they are a part of, and nothing else new."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from freehold.adapters.web.traced import TracedWeb
from freehold.kernel import tracing
from freehold.kernel.tracing import Context, Kind, Span, Status, Trail
from freehold.ports.web import Unreachable, WebAnswer, WebStream
from kept_spans import KeptSpans

URL = "https://api.example.com:8443/pets?key=a-secret"


class Stream:
    """Implements ports.web.WebStream."""

    def __init__(self) -> None:
        self.status: int = 200
        self.headers: Mapping[str, str] = {"x-answer": "1"}
        self.closed = False

    async def chunks(self) -> AsyncIterator[bytes]:
        yield b"one"

    async def read(self, bytes_max: int) -> bytes:
        return b"one"

    def close(self) -> None:
        self.closed = True


class Scripted:
    """Implements ports.web.Web: remembers the headers, and answers or fails."""

    def __init__(self, failure: Exception | None = None, status: int = 200) -> None:
        self.headers: list[dict[str, str]] = []
        self.stream, self._failure, self._status = Stream(), failure, status

    async def ask(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, **_: Any
    ) -> WebAnswer:
        self._heard(headers)
        return WebAnswer(status=self._status, headers={}, body=b"")

    async def open(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, **_: Any
    ) -> WebStream:
        self._heard(headers)
        return self.stream

    def _heard(self, headers: Mapping[str, str] | None) -> None:
        self.headers.append(dict(headers or {}))
        if self._failure is not None:
            raise self._failure


@pytest.fixture
def kept() -> KeptSpans:
    return KeptSpans()


def step(kept: KeptSpans) -> Span:
    parent = Context("a" * 32, "b" * 16, state="vendor=1")
    return Span(Trail(kept), "a step", kind=Kind.INTERNAL, parent=parent)


async def test_a_request_is_a_span_that_its_target_is_told_of(kept: KeptSpans) -> None:
    web = Scripted()
    given = {"Traceparent": "of the client", "accept": "*/*"}
    with tracing.within(step(kept)) as around:
        await TracedWeb(web).ask("POST", URL, headers=given)
    [sent] = web.headers
    span = kept.one("POST ")
    assert sent == {
        "accept": "*/*", "traceparent": span.context.traceparent, "tracestate": "vendor=1",
    }  # fmt: skip
    assert (span.name, span.kind) == ("POST api.example.com", Kind.CLIENT)
    assert span.parent_id == around.context.span_id
    assert span.attributes["http.response.status_code"] == 200
    assert "a-secret" not in repr((span.name, span.attributes, span.message))


async def test_a_stream_is_under_way_until_it_is_closed(kept: KeptSpans) -> None:
    web = Scripted()
    with tracing.within(step(kept)):
        stream = await TracedWeb(web).open("POST", URL)
        assert [chunk async for chunk in stream.chunks()] == [b"one"]
        assert kept.spans == []
        stream.close()
        stream.close()
    assert web.stream.closed
    assert kept.one("POST ").attributes["http.response.status_code"] == 200


@pytest.mark.parametrize(
    ("failure", "said"),
    [(Unreachable("no"), "Unreachable"), (Unreachable("late", timed_out=True), "timed out")],
)
async def test_what_was_not_reached_has_failed(
    kept: KeptSpans, failure: Exception, said: str
) -> None:
    web = TracedWeb(Scripted(failure))
    with tracing.within(step(kept)):
        with pytest.raises(Unreachable):
            await web.ask("GET", URL)
        with pytest.raises(Unreachable):
            await web.open("GET", URL)
    assert [(s.status, s.message) for s in kept.named("GET ")] == [(Status.ERROR, said)] * 2


async def test_a_refusal_of_the_target_is_a_failure(kept: KeptSpans) -> None:
    with tracing.within(step(kept)):
        await TracedWeb(Scripted(status=503)).ask("GET", URL)
    assert kept.one("GET ").message == "503"


async def test_outside_of_a_trace_nothing_is_changed(kept: KeptSpans) -> None:
    web = Scripted()
    given = {"traceparent": "of the client"}
    await TracedWeb(web).ask("GET", URL, headers=given)
    assert await TracedWeb(web).open("GET", URL, headers=given) is web.stream
    assert web.headers == [given, given]
    assert kept.spans == []
