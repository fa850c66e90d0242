"""One model call on its way: what was asked, and what became of it, as its span tells it."""

import time
from collections.abc import Mapping
from typing import Any

from starlette.types import Scope

from freehold.edges.doorway.request import RequestBody
from freehold.edges.doorway.wires import Target, Wire
from freehold.kernel import tracing
from freehold.kernel.session import DoorwaySession
from freehold.ports.content_capture import CONTENT_BYTES_MAX
from freehold.ports.exchanges import contents, wire_of_operation
from freehold.ports.model_spans import PROVIDERS, usage_attributes
from freehold.ports.usage import UsageReader

_STREAMS = ("text/event-stream", "application/vnd.amazon.eventstream")


class Passage:
    """`span` is the call's own; None where nothing is traced. What is captured of an answer is
    its beginning."""

    def __init__(
        self, wire: Wire, target: Target, session: DoorwaySession, scope: Scope, body: RequestBody
    ) -> None:
        self.wire = wire
        self.target = target
        self.session = session
        self.scope = scope
        self.body = body
        self.span: tracing.Span | None = None
        self._reader: UsageReader | None = None
        self._content_type = ""
        self._captured: bytearray | None = None
        self._cut = False
        self._first_byte_ms: float | None = None
        self._began = 0.0
        self._replay: dict[str, Any] = {}

    def begin(self) -> None:
        """Once it is admitted."""
        self.span, self._began = tracing.current(), time.perf_counter()
        if tracing.captures() and self.target.operation != "Embeddings":
            self._captured = bytearray()

    def answering(self, content_type: str, reader: UsageReader | None = None) -> None:
        """Without a reader it took no tokens."""
        self._content_type, self._reader = content_type, reader

    def replayed(self, attributes: Mapping[str, Any]) -> None:
        """What its span is to say of that, besides what was said."""
        self._replay |= attributes

    def heard(self, chunk: bytes) -> None:
        if self._first_byte_ms is None:
            self._first_byte_ms = (time.perf_counter() - self._began) * 1e3
        if self._reader is not None:
            self._reader.feed(chunk)
        if self._captured is not None and not self._cut:
            self._captured += chunk[: CONTENT_BYTES_MAX + 1 - len(self._captured)]
            self._cut = len(self._captured) > CONTENT_BYTES_MAX

    def tell(self) -> None:
        """At its end, however it ended."""
        span = self.span
        if span is None:
            return
        operation, model = span.name, self.target.model or self.body.model
        span.attributes |= {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": PROVIDERS[self.wire.kind],
            "freehold.metered": True,
            "freehold.streamed": self._content_type.startswith(_STREAMS),
            **self._replay,
        }
        if model:
            span.name = f"{operation} {model}"
            span.attributes["gen_ai.request.model"] = model
        if self._first_byte_ms is not None:
            span.attributes["freehold.first_byte_ms"] = round(self._first_byte_ms, 3)
        if self._reader is not None:
            span.attributes |= usage_attributes(self._reader.usage())
            if answered_by := self._reader.model():
                span.attributes["gen_ai.response.model"] = answered_by
        if self._captured is not None:
            span.attributes |= contents(
                wire_of_operation(self.target.operation),
                self.body.seen,
                bytes(self._captured),
                self._content_type,
                cut=self._cut or self.body.unseen,
            )
