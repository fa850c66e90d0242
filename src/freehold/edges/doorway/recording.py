"""Model calls on their way to the recorder: no call waits for it, and none is lost at a stop."""

import asyncio
import logging

from freehold.ports.models import ModelCall, ModelCallRecorder

log = logging.getLogger("freehold.doorway")

WAITING_MAX = 10_000
_BATCH_MAX = 500
_ATTEMPTS_MAX = 5
_BACKOFF_SECONDS = 0.2


class ModelCallLog:
    """Batches what waits into one `record`. With 10,000 waiting a further call does wait."""

    def __init__(self, recorder: ModelCallRecorder, *, backoff_seconds: float = _BACKOFF_SECONDS):
        self._recorder = recorder
        self._backoff_seconds = backoff_seconds
        self._waiting: asyncio.Queue[ModelCall] = asyncio.Queue(WAITING_MAX)
        self._drain: asyncio.Task[None] | None = None

    async def add(self, call: ModelCall) -> None:
        await self._waiting.put(call)
        if self._drain is None or self._drain.done():
            self._drain = asyncio.create_task(self._drained(), name="model-call-log")

    async def close(self, timeout_seconds: float = 10) -> None:
        """Everything added is recorded, or named in the log as lost."""
        if self._drain is None:
            return
        await asyncio.wait({self._drain}, timeout=timeout_seconds)
        if not self._drain.done():
            self._drain.cancel()
            await asyncio.wait({self._drain})
        while not self._waiting.empty():
            self._lost([self._waiting.get_nowait()], "the platform stopped")

    async def _drained(self) -> None:
        while not self._waiting.empty():
            batch: list[ModelCall] = []
            while len(batch) < _BATCH_MAX and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            await self._record(batch)

    async def _record(self, batch: list[ModelCall]) -> None:
        for attempt in range(1, _ATTEMPTS_MAX + 1):
            try:
                return await self._recorder.record(batch)
            except asyncio.CancelledError:
                self._lost(batch, "the platform stopped")
                raise
            except Exception as error:  # noqa: BLE001 - a boundary: any recorder, any fault
                why = type(error).__name__
            if attempt < _ATTEMPTS_MAX:
                await asyncio.sleep(self._backoff_seconds * 2 ** (attempt - 1))
        self._lost(batch, why)
        return None

    def _lost(self, batch: list[ModelCall], why: str) -> None:
        for call in batch:
            log.error(
                "model call %s of %s not recorded (%s): %s %s %d, %s in, %s out",
                call.id,
                call.session.session_id,
                why,
                call.provider.value,
                call.model,
                call.status,
                call.usage.input_tokens,
                call.usage.output_tokens,
            )
