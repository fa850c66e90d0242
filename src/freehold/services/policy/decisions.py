"""The log of decisions is written here: what comes together is one statement and one commit."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Sequence

from freehold.kernel.errors import FreeholdError, Unavailable
from freehold.ports.secrets import Sealer
from freehold.services.policy import decision_store
from freehold.services.policy.decision_lines import line_of
from freehold.services.policy.model import Decided
from freehold.services.policy.ports import Lane

log = logging.getLogger("freehold.policy")

_GROUP_LINES_MAX = 500
_GROUP_BYTES_MAX = 4 << 20
_WAITING_LINES_MAX = 20_000
_WAITING_BYTES_MAX = 64 << 20
_PAUSE_SECONDS_MIN, _PAUSE_SECONDS_MAX = 0.02, 0.5

_Waiting = tuple[bytes, "asyncio.Future[None]", float]
"""A line, who waits for it, and since when by the loop's clock."""


class DecisionWriter:
    """Implements `ports.Decisions`. `start` before use, `close` after.

    While Postgres is away a decision waits `patience_seconds` at most; then it is Unavailable, and
    so is each that follows, at once, until Postgres is back. Of one that was refused so nothing is
    kept, or the whole line where the answer alone was lost. A line has an id of its own: sent
    again over a new connection, it is still stored once.
    """

    def __init__(self, lane: Lane, sealer: Sealer, *, patience_seconds: float = 5.0) -> None:
        self._lane = lane
        self._sealer = sealer
        self._patience_seconds = patience_seconds
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._away = False

    async def start(self) -> None:
        await self._lane.open()
        self._task = asyncio.create_task(self._run(), name="policy decisions")

    async def close(self) -> None:
        """What waits is written first, if Postgres answers."""
        task, self._task = self._task, None
        if task is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience_seconds):
                    await self._idle.wait()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._lane.close()

    async def record(self, decided: Decided) -> None:
        if self._away or self._task is None or self._full:
            raise _unavailable()
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        line = line_of(decided, self._sealer)
        self._waiting.append((line, future, loop.time()))
        self._waiting_bytes += len(line)
        self._idle.clear()
        self._wake.set()
        await future

    @property
    def _full(self) -> bool:
        return len(self._waiting) >= _WAITING_LINES_MAX or self._waiting_bytes >= _WAITING_BYTES_MAX

    async def _run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    await self._commit(self._group())
                self._idle.set()
        finally:
            # Also if this ends as it never should: nobody waits for what nobody does.
            self._task = None
            self._refuse_waiting()

    def _group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        size = 0
        while self._waiting and len(group) < _GROUP_LINES_MAX and size < _GROUP_BYTES_MAX:
            group.append(self._waiting.popleft())
            size += len(group[-1][0])
        self._waiting_bytes -= size
        return group

    async def _commit(self, group: Sequence[_Waiting]) -> None:
        """Ends when the group is durable, or was refused and Postgres is back."""
        patience = asyncio.get_running_loop().call_at(
            group[0][2] + self._patience_seconds, self._give_up, group
        )
        try:
            await self._store(group)
            self._away = False
        finally:
            patience.cancel()
            _refuse(group)  # whoever still waits: only where this was cut off

    async def _store(self, group: Sequence[_Waiting]) -> None:
        try:
            await self._insert(b"[" + b",".join(line for line, *_ in group) + b"]", len(group))
        except Unavailable:
            raise
        except FreeholdError as error:
            # Not for want of a connection: one of them was refused, and takes no other with it.
            if len(group) > 1:
                middle = len(group) // 2
                await self._store(group[:middle])
                await self._store(group[middle:])
                return
            log.error("a policy decision could not be written: %s", error)
            _refuse(group)
            return
        for _, future, _ in group:
            if not future.done():
                future.set_result(None)

    async def _insert(self, lines: bytes, count: int) -> None:
        pause = _PAUSE_SECONDS_MIN
        while True:
            try:
                await self._lane.run(decision_store.INSERT, lines)
                return
            except Unavailable:
                log.warning("%d policy decisions wait for Postgres", count)
            while True:
                try:
                    await self._lane.open()
                    break
                except Unavailable:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _PAUSE_SECONDS_MAX)
            if self._away:
                return  # nobody waits for these any more: their calls were refused

    def _give_up(self, group: Sequence[_Waiting]) -> None:
        self._away = True
        _refuse(group)
        self._refuse_waiting()

    def _refuse_waiting(self) -> None:
        _refuse(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0


def _unavailable() -> Unavailable:
    return Unavailable("policy decisions cannot be kept just now; try again shortly")


def _refuse(group: Sequence[_Waiting] | deque[_Waiting]) -> None:
    for _, future, _ in group:
        if not future.done():
            future.set_exception(_unavailable())
