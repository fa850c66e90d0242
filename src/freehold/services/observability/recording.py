"""The platform's own spans on their way to the store: nobody waits, and what cannot be kept is
dropped and counted."""

import asyncio
import logging
import math
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from freehold.kernel import tracing
from freehold.kernel.errors import FreeholdError, Throttled, Unavailable
from freehold.ports.signals import NoSignals, Signals
from freehold.ports.spans import SpanRecord
from freehold.services.observability.content_names import without_content

log = logging.getLogger("freehold.telemetry")

_WAITING_MAX = 20_000
_BATCH_MAX = 2000
_UNNAMED_TRAILS_MAX = 500
_UNNAMED_SPANS_MAX = 200
_GATHER_SECONDS = 0.05
_ATTEMPTS_MAX = 8
_BACKOFF_SECONDS = 0.1
_CLOSE_SECONDS_MAX = 10.0
_RESOURCE = {"service.name": "freehold"}
_SCOPE = "freehold"
_QUEUE, _ITEMS = "freehold_telemetry_queue_items", "freehold_telemetry_items_total"
_SIGNAL = "platform"  # which is where they are from


class OwnSpans:
    """Implements kernel.tracing's Recorder; `take` stores a batch."""

    def __init__(
        self,
        take: Callable[[Sequence[SpanRecord]], Awaitable[None]],
        *,
        gather_seconds: float = _GATHER_SECONDS,
        waiting_max: int = _WAITING_MAX,
        signals: Signals | None = None,
    ) -> None:
        self._take, self._gather_seconds, self._waiting_max = take, gather_seconds, waiting_max
        self._signals = signals or NoSignals()
        self._waiting: deque[tracing.Span] = deque()
        self._storing = 0
        self._unnamed: OrderedDict[int, tuple[tracing.Trail, list[tracing.Span]]] = OrderedDict()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self.dropped = 0

    def record(self, span: tracing.Span) -> None:
        if len(self._waiting) >= self._waiting_max or self._closed:
            self._drop(1, "too many wait" if not self._closed else "the worker is stopping")
            return
        self._waiting.append(span)
        self._tell()
        if self._task is not None and not self._task.done():
            return
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:  # in a thread of a step's
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._wake)
            return
        self._wake()

    async def close(self) -> None:
        """What waits is stored, or counted as dropped."""
        self._closed = True
        try:
            async with asyncio.timeout(_CLOSE_SECONDS_MAX):
                if self._task is not None:
                    await asyncio.wait({self._task})
                await self._store_waiting()
        except TimeoutError:
            if self._task is not None:
                self._task.cancel()
            self._drop(len(self._waiting), "the store did not answer before the worker stopped")

    def _wake(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._soon(), name="own-spans")

    async def _soon(self) -> None:
        while self._waiting and not self._closed:
            await asyncio.sleep(self._gather_seconds)  # many spans, and all of a request's
            await self._store_waiting()

    async def _store_waiting(self) -> None:
        while self._waiting:
            spans: list[tracing.Span] = []
            while self._waiting and len(spans) < _BATCH_MAX:
                spans.append(self._waiting.popleft())
            if records := [_record(each) for each in self._named(spans)]:
                self._storing = len(records)
                try:
                    await self._store(records)
                finally:
                    self._storing = 0
            self._tell()

    def _named(self, spans: Sequence[tracing.Span]) -> list[tracing.Span]:
        """Those of a trail with a tenant. Others wait for it; who is let in nowhere never has one,
        and the oldest of them are forgotten."""
        named: list[tracing.Span] = []
        for span in spans:
            trail = span.trail
            if trail.tenant:
                named += self._unnamed.pop(id(trail), (trail, []))[1]
                named.append(span)
                continue
            _, held = self._unnamed.setdefault(id(trail), (trail, []))
            if len(held) < _UNNAMED_SPANS_MAX:
                held.append(span)
            if len(self._unnamed) > _UNNAMED_TRAILS_MAX:
                self._unnamed.popitem(last=False)
        for key in [key for key, (trail, _) in self._unnamed.items() if trail.tenant]:
            named += self._unnamed.pop(key)[1]
        return named

    async def _store(self, records: list[SpanRecord]) -> None:
        for attempt in range(_ATTEMPTS_MAX):
            try:
                await self._take(records)
            except (Throttled, Unavailable) as error:
                why = error.message
                await asyncio.sleep(_BACKOFF_SECONDS * 2**attempt)
            except FreeholdError as error:
                why = error.message
                break
            else:
                return
        self._drop(len(records), why)

    def _tell(self) -> None:
        waiting = len(self._waiting) + self._storing
        self._signals.set(_QUEUE, waiting, signal=_SIGNAL)

    def _drop(self, count: int, why: str) -> None:
        """Said when it begins, and at each doubling: not for each span."""
        before, self.dropped = self.dropped, self.dropped + count
        self._signals.add(_ITEMS, count, signal=_SIGNAL, outcome="dropped")
        if count and before.bit_length() != self.dropped.bit_length():
            log.warning("%d of the platform's own spans were dropped: %s", self.dropped, why)


def _record(span: tracing.Span) -> SpanRecord:
    trail, attributes = span.trail, span.attributes
    if not trail.content:
        attributes = without_content(attributes)
    return SpanRecord(
        tenant=trail.tenant,
        trace_id=span.context.trace_id,
        span_id=span.context.span_id,
        parent_id=span.parent_id,
        name=_plain(span.name),
        started_ns=span.started_ns,
        ended_ns=span.ended_ns,
        origin="platform",
        kind=int(span.kind),
        status=int(span.status),
        message=_plain(span.message),
        attributes={key: _plain(value) for key, value in attributes.items()},
        resource=_RESOURCE,
        scope=_SCOPE,
        agent_id=trail.agent_id,
        agent_version=trail.agent_version,
        endpoint=trail.endpoint,
        session_id=trail.session_id,
        user=trail.user,
    )


def _plain(value: Any) -> Any:
    """As JSON has it, whatever a step put there."""
    if isinstance(value, str):
        return str(value).replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    return str(value)
