"""`ports.limits.RateLimiter` on one Postgres: what comes while a statement is under way goes in the
next one, together.

A statement whose end is not known is sent again: counted twice, a limit is stricter, never laxer.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Protocol

from freehold.adapters.limits import windows
from freehold.adapters.limits.windows import Group
from freehold.kernel.errors import FreeholdError, Unavailable
from freehold.ports.limits import Limit, Taken

log = logging.getLogger("freehold.limits")

_WAITING_MAX = 20_000
_GROUPS_MAX = 500
_LEASE_MAX = 128
_KEPT_CHARGES_MAX = 10_000
_PAUSE_SECONDS_MIN, _PAUSE_SECONDS_MAX = 0.02, 0.5

_ALLOWED = Taken()

_Rows = Sequence[tuple[bytes | None, ...]]
_Answer = tuple[int, float]
"""Which of the take's limits refuses (from 1, 0 for none), and for how many seconds."""


class Lane(Protocol):
    """A connection of one's own to Postgres, as adapters.postgres has it."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def run(self, statement: str, *values: bytes | None) -> _Rows: ...


class _Place:
    __slots__ = ("entered", "key", "lease", "most", "seconds")

    def __init__(self, key: bytes, lease: bytes, most: int = 0, seconds: float = 0.0) -> None:
        self.key, self.lease, self.most, self.seconds = key, lease, most, seconds
        self.entered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()


class PostgresRateLimiter:
    """One a worker: `start` before use, `close` after. While Postgres is away every take is
    Unavailable at once, and after `patience_seconds` where it does not even say so; charges are
    kept until it is back.
    """

    def __init__(
        self, lane: Lane, *, patience_seconds: float = 2.0, sweep_seconds: float = 60.0
    ) -> None:
        self._lane = lane
        self._patience_seconds, self._sweep_seconds = patience_seconds, sweep_seconds
        self._takes: dict[Group, list[asyncio.Future[_Answer]]] = {}
        self._charges: dict[tuple[Limit, ...], float] = {}
        self._charged: list[asyncio.Future[None]] = []
        self._enters: list[_Place] = []
        self._leaves: list[_Place] = []
        self._waiting = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._sweep_due = False
        self._away = False

    async def start(self) -> None:
        """Raises Unavailable."""
        await self._lane.open()
        self._task = asyncio.create_task(self._run(), name="rate limits")

    async def close(self) -> None:
        """What was charged is written first, if Postgres answers."""
        if self._task is not None:
            if self._charges and not self._away:
                await self._charged_by_now()
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._refuse_all()
        await self._lane.close()

    async def take(self, limits: Sequence[Limit], cost: float = 1.0) -> Taken:
        if not limits:
            return _ALLOWED
        wanted = tuple(limits)
        group = windows.group_of(wanted, cost)
        self._check()
        future: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        waiting = self._takes.get(group)
        if waiting is None:
            self._takes[group] = [future]
        else:
            waiting.append(future)
        self._waiting += 1
        self._wake.set()
        refused, wait = await future
        if not refused:
            return _ALLOWED
        return Taken(refused=wanted[refused - 1], retry_after=wait)

    async def charge(self, limits: Sequence[Limit], cost: float) -> None:
        """Returns when it is counted, or while Postgres is away, kept."""
        if not limits or cost <= 0:
            return
        wanted = tuple(limits)
        if wanted not in self._charges and len(self._charges) >= _KEPT_CHARGES_MAX:
            log.error("a charge of %g is lost to its limits: too many wait", cost)
            return
        self._charges[wanted] = self._charges.get(wanted, 0.0) + cost
        if not self._away:
            await self._charged_by_now()

    async def enter(self, key: str, most: int, *, lease: str, seconds: float) -> bool:
        """With a lease that is inside already its time begins anew."""
        if not 0 < len(lease) <= _LEASE_MAX or not lease.isascii() or not lease.isalnum():
            raise ValueError("a lease is a short word of letters and digits")
        self._check()
        place = _Place(windows.hashed(key), lease.encode(), most, seconds)
        self._enters.append(place)
        self._waiting += 1
        self._wake.set()
        return await place.entered

    async def leave(self, key: str, lease: str) -> None:
        """Asks nobody to wait; a place that could not be given back ends with its time."""
        if self._task is not None and not self._away:
            self._leaves.append(_Place(windows.hashed(key), lease.encode()))
            self._wake.set()

    def _check(self) -> None:
        if self._away or self._task is None or self._waiting >= _WAITING_MAX:
            raise _unavailable()

    async def _charged_by_now(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._charged.append(future)
        self._wake.set()
        await future

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                if self._sweep_due:
                    await self._swept()
                while self._takes or self._charges or self._enters or self._leaves:
                    await self._once()
                    self._sweep_later()
            except Unavailable:
                await self._come_back()
            except FreeholdError as error:
                # The statement itself was refused, and would be again: for these alone.
                log.error("limits: %s", error.message)
                self._charges.clear()
                self._refuse_all()

    async def _once(self) -> None:
        if self._takes or self._charges:
            await self._count()
        if self._leaves:
            leaves, self._leaves = sorted(self._leaves, key=_by_key), []
            await self._ask(
                windows.LEAVE,
                windows.array(place.key for place in leaves),
                windows.array(place.lease for place in leaves),
            )
        if self._enters:
            await self._admit()

    async def _count(self) -> None:
        """Charges stand first, so that a take after a charge knows of it."""
        taken = self._takes
        if len(taken) > _GROUPS_MAX:
            taken = {group: self._takes.pop(group) for group in list(taken)[:_GROUPS_MAX]}
        else:
            self._takes = {}
        charges, self._charges = self._charges, {}
        charged, self._charged = self._charged, []
        groups = [(windows.charge_of(limits, cost), 1) for limits, cost in charges.items()]
        groups += [(group, len(futures)) for group, futures in taken.items()]
        try:
            rows = await self._ask(windows.TAKE, *windows.statement(groups))
        except BaseException:
            self._takes = taken | self._takes
            for limits, cost in charges.items():
                self._charges[limits] = self._charges.get(limits, 0.0) + cost
            self._charged = charged + self._charged
            raise
        _settle(charged)
        for futures, row in zip(taken.values(), rows[len(charges) :], strict=True):
            passed, refused, wait = (float(value or 0) for value in row)
            self._waiting -= len(futures)
            for number, future in enumerate(futures):
                if not future.done():
                    future.set_result((0, 0.0) if number < passed else (int(refused), wait))

    async def _admit(self) -> None:
        places = sorted(self._enters[:_GROUPS_MAX], key=_by_key)
        rows = await self._ask(
            windows.ENTER,
            windows.array(place.key for place in places),
            windows.array(b"%d" % place.most for place in places),
            windows.array(place.lease for place in places),
            windows.array(b"%f" % place.seconds for place in places),
        )
        del self._enters[: len(places)]
        self._waiting -= len(places)
        for place, (entered,) in zip(places, rows, strict=True):
            if not place.entered.done():
                place.entered.set_result(entered == b"t")
            elif entered == b"t":  # whoever asked was cancelled
                self._leaves.append(place)

    async def _ask(self, statement: str, *values: bytes) -> _Rows:
        """Once more over a new connection, where this one was lost meanwhile."""
        try:
            async with asyncio.timeout(self._patience_seconds):
                try:
                    return await self._lane.run(statement, *values)
                except Unavailable:
                    await self._lane.open()
                    return await self._lane.run(statement, *values)
        except TimeoutError:
            raise _unavailable() from None

    async def _come_back(self) -> None:
        """Until Postgres answers again. Nobody waits meanwhile."""
        self._away = True
        log.warning("limits: the store does not answer")
        self._refuse_all()
        pause = _PAUSE_SECONDS_MIN
        while True:
            try:
                async with asyncio.timeout(self._patience_seconds):
                    await self._lane.open()
                    await self._lane.run("SELECT 1")
                break
            except (Unavailable, TimeoutError):
                await asyncio.sleep(pause)
                pause = min(2 * pause, _PAUSE_SECONDS_MAX)
        self._away = False
        log.warning("limits: the store answers again")
        if self._charges:
            self._wake.set()

    def _refuse_all(self) -> None:
        waiting: list[asyncio.Future[_Answer] | asyncio.Future[bool]] = [
            *(future for futures in self._takes.values() for future in futures),
            *(place.entered for place in self._enters),
        ]
        for future in waiting:
            if not future.done():
                future.set_exception(_unavailable())
        self._takes, self._enters, self._leaves, self._waiting = {}, [], [], 0
        _settle(self._charged)
        self._charged = []

    def _sweep_later(self) -> None:
        """Only what is used leaves something behind: where nothing is left there is no timer."""
        if self._sweep is None:
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(self._sweep_seconds, self._sweep_now)

    def _sweep_now(self) -> None:
        self._sweep = None
        self._sweep_due = True
        self._wake.set()

    async def _swept(self) -> None:
        """What is over. Then again, as long as something is left that will be."""
        self._sweep_due = False
        ((gone, left),) = await self._ask(windows.SWEEP)
        if int(gone or 0) >= windows.SWEPT_MAX:
            self._sweep_due = True  # more of it, with takes in between
            self._wake.set()
        elif left == b"t":
            self._sweep_later()


def _by_key(place: _Place) -> bytes:
    """In one order everywhere: who waits for whom is never a ring."""
    return place.key


def _settle(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def _unavailable() -> Unavailable:
    return Unavailable("rate limits cannot be counted just now; try again shortly")
