"""To stop the task that answers a request, for a reason that it then knows."""

import asyncio
from types import TracebackType


class Interruption:
    """Inside `async with`, `interrupt` cancels the running task; outside, that is no cancellation
    any more, and `why` says what it was. A cancellation from elsewhere stays one."""

    def __init__(self) -> None:
        self.why = ""
        self._active = False

    def interrupt(self, why: str) -> None:
        if self._active and not self.why:
            self.why = why
            self._task.cancel()

    async def __aenter__(self) -> "Interruption":
        task = asyncio.current_task()
        assert task is not None
        self._task, self._before, self._active = task, task.cancelling(), True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._active = False
        if not self.why:
            return False
        return self._task.uncancel() <= self._before and kind is asyncio.CancelledError
