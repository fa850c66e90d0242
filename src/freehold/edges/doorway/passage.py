"""One model call on its way: what was asked, and what became of it."""

import time

from starlette.types import Scope

from freehold.edges.doorway.request import RequestBody
from freehold.edges.doorway.usage import UsageReader
from freehold.edges.doorway.wires import Target, Wire
from freehold.kernel.clock import now
from freehold.kernel.session import DoorwaySession
from freehold.ports.models import ModelCall, Usage


class Passage:
    def __init__(
        self, wire: Wire, target: Target, session: DoorwaySession, scope: Scope, body: RequestBody
    ) -> None:
        self.wire = wire
        self.target = target
        self.session = session
        self.scope = scope
        self.body = body
        self.streamed = False
        self.reader: UsageReader | None = None
        self._first_byte_ms: float | None = None
        self._started_at = now()
        self._started = time.perf_counter()

    def first_byte(self) -> None:
        if self._first_byte_ms is None:
            self._first_byte_ms = self._elapsed_ms()

    def record(self, id: str, status: int) -> ModelCall:
        return ModelCall(
            id=id,
            session=self.session,
            provider=self.wire.kind,
            operation=self.target.operation,
            model=self.target.model or self.body.model,
            status=status,
            streamed=self.streamed,
            usage=self.reader.usage() if self.reader is not None else Usage(),
            started_at=self._started_at,
            first_byte_ms=self._first_byte_ms,
            latency_ms=self._elapsed_ms(),
        )

    def _elapsed_ms(self) -> float:
        return (time.perf_counter() - self._started) * 1e3
