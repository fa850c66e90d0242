"""Turns of a session: what they ask and answer, kept in their spans where texts are captured."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable

from freehold.kernel import tracing
from freehold.kernel.body import Body, BytesBody
from freehold.ports.content_capture import CONTENT_BYTES_MAX
from freehold.ports.exchanges import raw_contents


class Turn:
    """One invocation: the beginnings of both sides are held, and what passes is not held up."""

    def __init__(self, span: tracing.Span, request_type: str) -> None:
        self._span, self._request_type = span, request_type
        self._request, self._response = _Beginning(), _Beginning()
        self._content_type = ""

    @classmethod
    def begun(cls, content_type: str | None) -> "Turn | None":
        """After the span was told the agent. None where nothing is to be kept: the agent's texts
        are not captured, or the call is a step of something else, such as a function."""
        span = tracing.current()
        if span is None or not span.trail.content:
            return None
        if span.attributes.get("gen_ai.operation.name") != "invoke_agent":
            return None
        return cls(span, content_type or "application/json")

    async def asked(self, body: Body) -> Body:
        """To be sent in its place."""
        if isinstance(body, BytesBody):
            self._request.add(await body.read())
            return body
        return _Noted(body, self._request)

    def answering(self, content_type: str) -> None:
        self._content_type = content_type

    def heard(self, chunk: bytes) -> None:
        self._response.add(chunk)

    def tell(self) -> None:
        """At its end, however it ended. Once or more often."""
        request, response = self._request, self._response
        self._span.attributes |= raw_contents(
            bytes(request.held),
            bytes(response.held),
            self._content_type,
            request_type=self._request_type,
            cut=request.cut or response.cut,
        )


class AnswerStream:
    """An answer's bytes, which `turn` hears. `end` is called once, be it read to its end, in part,
    or not at all: a generator that nobody began would never come to its `finally`.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[bytes, None],
        *,
        turn: Turn | None,
        end: Callable[[], None],
    ) -> None:
        self._chunks, self._turn, self._end = chunks, turn, end
        self._ended = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await anext(self._chunks)
        except BaseException:
            self._end_once()
            raise
        if self._turn is not None:
            self._turn.heard(chunk)
        return chunk

    async def aclose(self) -> None:
        try:
            await self._chunks.aclose()
        finally:
            self._end_once()

    def _end_once(self) -> None:
        if not self._ended:
            self._ended = True
            self._end()


class _Beginning:
    def __init__(self) -> None:
        self.held = bytearray()
        self.cut = False

    def add(self, chunk: bytes) -> None:
        left = CONTENT_BYTES_MAX - len(self.held)
        self.held += chunk[:left]
        self.cut = self.cut or len(chunk) > left


class _Noted:
    """A body on its way, of which the beginning is kept."""

    def __init__(self, body: Body, beginning: _Beginning) -> None:
        self._body, self._beginning = body, beginning

    @property
    def size_bytes(self) -> int | None:
        return self._body.size_bytes

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._body.chunks():
            self._beginning.add(chunk)
            yield chunk

    async def read(self) -> bytes:
        whole = await self._body.read()
        self._beginning.add(whole)
        return whole
