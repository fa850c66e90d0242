"""Group commit: lines that come together are one statement and one commit.

A writer numbers its lines and commits them in order, so that a statement whose end is not known
(the connection was lost) can be sent again and is done once.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence

from freehold.kernel.errors import FreeholdError, Unavailable
from freehold.ports.audit import AuditEvent
from freehold.services.audit import store
from freehold.services.audit.model import canonical
from freehold.services.audit.ports import Lane

log = logging.getLogger("freehold.audit")

_GROUP_LINES_MAX = 500
_WAITING_LINES_MAX = 20_000
_LATE_LINES_MAX = 10_000
_PAUSE_SECONDS_MIN, _PAUSE_SECONDS_MAX = 0.02, 0.5

_Waiting = tuple[bytes, "asyncio.Future[None] | None", str, str]
"""A line, who waits for it, its phase and its call."""


class AuditWriter:
    """Implements `ports.audit.CallAudit`. `start` before use, `close` after.

    While Postgres is away a line waits `patience_seconds` at most; then it is Unavailable at once
    until Postgres is back, and what could not be written is written late.
    """

    def __init__(self, lane: Lane, *, name: str, patience_seconds: float = 5.0) -> None:
        self._lane = lane
        self._name = name
        self._patience_seconds = patience_seconds
        self._waiting: deque[_Waiting] = deque()
        self._late: deque[_Waiting] = deque(maxlen=_LATE_LINES_MAX)
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._open_calls: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._away = False
        self._next = 1
        self.id = 0
        self.written: Callable[[], None] = lambda: None
        """Told after each commit."""

    @property
    def open_from(self) -> int:
        """No call that is under way has an intent with a lower number."""
        return next(iter(self._open_calls.values()), self._next)

    async def start(self) -> None:
        await self._lane.open()
        await self._register()
        self._task = asyncio.create_task(self._run(), name="audit writer")

    async def close(self) -> None:
        """What waits is written first, if Postgres answers."""
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience_seconds):
                    await self._idle.wait()
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self._lane.close()

    async def write(self, event: AuditEvent) -> None:
        future = asyncio.get_running_loop().create_future()
        self._take((canonical(event), future, event.phase, event.call_id))
        await future

    def note(self, event: AuditEvent) -> None:
        with contextlib.suppress(Unavailable):
            self._take((canonical(event), None, event.phase, event.call_id))

    def _take(self, line: _Waiting) -> None:
        if self._away or self._task is None or len(self._waiting) >= _WAITING_LINES_MAX:
            self._put_off([line])
            raise Unavailable("the audit cannot be written just now; try again shortly")
        self._waiting.append(line)
        self._idle.clear()
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._late or self._waiting:
                source = self._late or self._waiting
                group = [source.popleft() for _ in range(min(len(source), _GROUP_LINES_MAX))]
                await self._commit(group)
            self._idle.set()

    async def _commit(self, group: Sequence[_Waiting]) -> None:
        """Ends when the group is durable, however long that takes."""
        lines = b"[" + b",".join(line for line, *_ in group) + b"]"
        patience = asyncio.get_running_loop().call_later(
            self._patience_seconds, self._give_up, group
        )
        try:
            await self._insert(lines, len(group))
        except FreeholdError as error:
            # Not for want of a connection: the statement itself was refused, and would be again.
            log.error("%d lines of the audit could not be written: %s", len(group), error)
            _refuse(group)
            return
        finally:
            patience.cancel()
        self._away = False
        for number, (_, future, phase, call_id) in enumerate(group, self._next):
            if phase == "intent":
                self._open_calls[call_id] = number
            elif phase == "outcome":
                self._open_calls.pop(call_id, None)
            if future is not None and not future.done():
                future.set_result(None)
        self._next += len(group)
        self.written()

    async def _insert(self, lines: bytes, count: int) -> None:
        pause = _PAUSE_SECONDS_MIN
        while True:
            try:
                await self._lane.run(store.INSERT, b"%d" % self.id, b"%d" % self._next, lines)
                return
            except Unavailable:
                log.warning("the audit's %d lines wait for Postgres", count)
            while True:
                try:
                    if await self._again(lines):
                        return
                    break
                except Unavailable:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _PAUSE_SECONDS_MAX)

    async def _again(self, lines: bytes) -> bool:
        """Connected anew; whether these lines had been committed before the connection was lost."""
        await self._lane.open()
        me = b"%d" % self.id
        await self._lane.run(store.LOCK_WRITER, me)
        if await self._lane.run(store.STILL_OURS, me):
            # Sent again under the same numbers, what is there already stays as it is.
            return False
        # Another process took us for dead and closed our account: begin a new one.
        first = await self._lane.run(store.SAME_LINE, me, b"%d" % self._next, lines)
        await self._register()
        return bool(first)

    async def _register(self) -> None:
        rows = await self._lane.run(store.NEW_WRITER, self._name.encode())
        self.id = int(rows[0][0] or 0)
        self._next = 1
        self._open_calls.clear()

    def _give_up(self, group: Sequence[_Waiting]) -> None:
        """Callers wait no longer; the lines are still written as soon as it can be done."""
        self._away = True
        _refuse([*group, *self._waiting])
        self._put_off(self._waiting)
        self._waiting.clear()

    def _put_off(self, lines: Sequence[_Waiting] | deque[_Waiting]) -> None:
        lost = max(0, len(self._late) + len(lines) - _LATE_LINES_MAX)
        if lost:
            log.error("%d lines of refused calls are lost to the audit: too many wait", lost)
        self._late.extend((line, None, phase, call) for line, _, phase, call in lines)
        self._idle.clear()
        self._wake.set()


def _refuse(group: Sequence[_Waiting]) -> None:
    for _, future, *_ in group:
        if future is not None and not future.done():
            future.set_exception(
                Unavailable("the audit cannot be written just now; try again shortly")
            )
