"""One live session: its sandbox, from the start to the end."""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

from freehold.adapters.placement.local.egress import EGRESS_PORT, EgressGate
from freehold.adapters.placement.local.logs import SessionLog, tail
from freehold.adapters.placement.local.meter import Meter
from freehold.adapters.placement.local.probe import Health, ping
from freehold.kernel import frames
from freehold.kernel.clock import now
from freehold.kernel.errors import RuntimeClientFailed
from freehold.ports.egress import SessionEgress
from freehold.ports.placement import Launch, Lease, SessionKey, SessionUsage
from freehold.ports.sandbox import Sandbox, SandboxSpec

log = logging.getLogger(__name__)

DOORWAY_PORT = 7400
_PING_SECONDS_MAX = 5.0
_LOG_LINES_SHOWN = 20


class EndedWhileStarting(RuntimeClientFailed):
    """The agent never answered. `after` is how it ended."""

    def __init__(self, message: str, after: str) -> None:
        super().__init__(message)
        self.after = after


TakeDoorway = Callable[["LiveSession", socket.socket], Awaitable[None]]


class LiveSession:
    """Single-threaded state: everything here happens on the node's loop.

    `holders` are the links whose workers use it; while there is one it is not idle. One that waits
    for somebody to be given to has a key with an empty session id, and is in nobody's record.
    """

    def __init__(
        self,
        *,
        key: SessionKey,
        sandbox_id: str,
        runtime_arn: str,
        user: str | None,
        version: int,
        port: int,
        protocol: str = "HTTP",
        idle_seconds: int,
        lifetime_seconds: int,
        directory: Path,
        session_log: SessionLog,
    ) -> None:
        self.key, self.sandbox_id, self.version = key, sandbox_id, version
        self.runtime_arn, self.user = runtime_arn, user
        self.port, self.protocol = port, protocol
        self.idle_seconds, self.lifetime_seconds = idle_seconds, lifetime_seconds
        self.directory, self.log = directory, session_log
        self.tier = ""
        self.egress = SessionEgress()
        self.spec: SandboxSpec | None = None
        self.sandbox: Sandbox | None = None
        self.start = "cold"
        self.start_note = ""
        self.is_up = False
        """The agent has answered."""
        self.meter = Meter()
        self.cpu_share = 0.0
        """Of one CPU, in the last second or so."""
        self.holders: dict[object, int] = {}
        self.invocations = 0
        self.busy = False
        self.recorded = False
        self.started_at: datetime = now()
        self.last_used_at = self.started_at
        self.stirred_at = self.started_at
        """When it last did something that keeps it from being frozen."""
        self.frozen = False
        self._ice = asyncio.Lock()
        self.end_reason: str | None = None
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Its end is written down, and its key may be taken again."""
        self.beginning = asyncio.Lock()
        """Held while the sandbox comes to be: an end that comes meanwhile waits, and ends it."""
        self.metered_at = time.monotonic()
        self.doomed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._doorway: asyncio.Task[None] | None = None
        self._egress: asyncio.Task[None] | None = None
        self._gate: EgressGate | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._released: asyncio.Future[None] | None = None

    def lease(self) -> Lease:
        assert self.sandbox is not None
        return Lease(
            key=self.key,
            sandbox_id=self.sandbox_id,
            tier=self.sandbox.tier,
            version=self.version,
            started_at=self.started_at,
            user=self.user,
            start=self.start,
            start_note=self.start_note,
        )

    def assign(self, launch: Launch) -> None:
        """From here on it is this session, to the doorway, the log and the record."""
        self.key, self.user, self.start = launch.key, launch.user, "warm"
        self.started_at = self.last_used_at = self.stirred_at = now()
        if self.sandbox is not None:
            # What it took to wait is nobody's; the peak of its memory begins anew as well.
            self.meter = Meter(cpu_before=self.sandbox.usage().cpu_seconds or 0.0)
        self.metered_at = time.monotonic()

    def open_doorway(self, take: TakeDoorway) -> None:
        """Hand on each connection that the agent makes to its loopback port."""
        assert self.sandbox is not None
        listener = self.sandbox.listeners.get(DOORWAY_PORT)
        if listener is not None:
            self._doorway = asyncio.create_task(self._accept(listener, take))

    def open_egress(self, gate: EgressGate) -> None:
        """Hand on each connection that the agent makes to the network, with what it may reach."""
        assert self.sandbox is not None
        listener = self.sandbox.listeners.get(EGRESS_PORT)
        if listener is None:
            return

        async def take(session: LiveSession, connection: socket.socket) -> None:
            await gate.take(session.sandbox_id, session.egress, connection)

        self._gate = gate
        self._egress = asyncio.create_task(self._accept(listener, take))

    async def _accept(self, listener: socket.socket, take: TakeDoorway) -> None:
        try:
            async for connection in frames.accepted(listener):
                with connection:
                    self.stirred_at = now()
                    await self.thaw()
                    await take(self, connection)
        except OSError as error:
            log.warning("doorway of %s: %s", self.sandbox_id, error)

    async def until_ready(self, *, seconds_max: float) -> None:
        """Until the agent answers HTTP. Raises RuntimeClientFailed with its last words."""
        assert self.sandbox is not None
        exited = asyncio.ensure_future(self.sandbox.wait())
        probing = asyncio.ensure_future(self._probe_until_healthy())
        try:
            done, _ = await asyncio.wait(
                (exited, probing), timeout=seconds_max, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in (exited, probing):
                if not task.done():
                    task.cancel()
        if exited in done:  # whatever it answered before: nobody can use it
            after = exited.result().reason
            failure = self.client_failure(f"the agent ended while starting: {after}")
            raise EndedWhileStarting(failure.message, after)
        if probing in done:
            await probing
            return
        raise self.client_failure(
            f"the agent did not answer GET /ping on port {self.port} within {seconds_max:.0f} s "
            f"(its serverProtocol is {self.protocol})"
        )

    async def _probe_until_healthy(self) -> None:
        pause = 0.002  # a forked agent is up within milliseconds
        while not self.is_up:
            with contextlib.suppress(ConnectionError, TimeoutError):
                # MCP has no /ping: whatever the answer is, the server is up.
                if await self.ping() is not Health.UNHEALTHY or self.protocol == "MCP":
                    self.is_up = True
                    return
            await asyncio.sleep(pause)
            pause = min(pause * 1.25, 0.1)

    async def ping(self) -> Health:
        assert self.sandbox is not None
        sock = await self.sandbox.connect(self.port)
        return await ping(sock, seconds_max=_PING_SECONDS_MAX)

    async def connect(self, port: int) -> socket.socket:
        """A stream to the port inside; a frozen session is thawed first."""
        if self.sandbox is None:
            raise ConnectionError("the session has not begun")
        self.stirred_at = now()
        await self.thaw()
        return await self.sandbox.connect(port)

    async def freeze(self) -> None:
        """Not when somebody has come for it meanwhile."""
        async with self._ice:
            if self.holders or self.ending or self.frozen or self.sandbox is None:
                return
            self.frozen = True
            await self.sandbox.freeze()

    async def thaw(self) -> None:
        if not self.frozen:  # set before the first process stands still
            return
        async with self._ice:
            if self.frozen and self.sandbox is not None:
                await self.sandbox.thaw()
                self.frozen = False

    def client_failure(self, reason: str) -> RuntimeClientFailed:
        self.log.take_what_is_there()
        lines = tail(self.log.path, _LOG_LINES_SHOWN)
        said = [line.partition(" ")[2] for line in lines]
        words = "\n".join(said).strip()
        return RuntimeClientFailed(reason + (f". Its log ends:\n{words}" if words else ""))

    def sample(self) -> None:
        """Read the meter; called about once a second."""
        if self.sandbox is None:
            return
        at, before = time.monotonic(), self.meter.cpu_seconds
        seconds = at - self.metered_at
        self.meter.read(self.sandbox.usage(), seconds=seconds)
        self.metered_at = at
        if before is not None and self.meter.cpu_seconds is not None and seconds > 0:
            self.cpu_share = (self.meter.cpu_seconds - before) / seconds

    def usage(self) -> SessionUsage:
        """Nobody is told of a live session that it used nothing, since nobody has looked yet."""
        if not self.meter.was_read and not self.ended.done():
            with contextlib.suppress(OSError, ValueError):
                self.sample()
        known = self.meter.was_read or self.ended.done()
        return SessionUsage(
            sandbox_id=self.sandbox_id,
            status="ENDED" if self.ended.done() else self.status,
            last_used_at=now() if self.holders else self.last_used_at,
            invocations=self.invocations,
            cpu_seconds=self.meter.cpu_seconds if known else None,
            memory_gb_seconds=self.meter.memory_gb_seconds if known else None,
            start=self.start if self.ready.done() else "",
            start_note=self.start_note,
        )

    @property
    def status(self) -> str:
        if not self.ready.done():
            return "STARTING"
        if self.frozen:
            return "FROZEN"
        return "BUSY" if self.busy else "READY"

    @property
    def ending(self) -> bool:
        return self.end_reason is not None

    def doom(self, reason: str) -> None:
        """The end begins: from here on nobody new may have it."""
        self.end_reason = reason
        self.doomed.set_result(reason)
        if self._timer is not None:
            self._timer.cancel()

    async def released_within(self, seconds: float) -> bool:
        """Whether every holder has let go, at the end of that time or before."""
        self._released = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait([self._released], timeout=seconds)
        return bool(done)

    def let_go(self) -> None:
        """Nobody holds it now."""
        if self._released is not None and not self._released.done():
            self._released.set_result(None)

    def wake_up(self, seconds: float, due: "Callable[[LiveSession], None]") -> None:
        """One alarm a session: the new one takes the place of the old."""
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = None if self.ending else loop.call_later(max(0.0, seconds), due, self)

    def expires_at(self) -> datetime:
        return self.started_at + timedelta(seconds=self.lifetime_seconds)

    def idle_until(self) -> datetime:
        return self.last_used_at + timedelta(seconds=self.idle_seconds)

    async def tear_down(self, *, grace_seconds: float) -> None:
        """Nothing of the sandbox is left but its log and its record."""
        await self.clear(grace_seconds=grace_seconds)
        self.log.close()

    async def clear(self, *, grace_seconds: float = 0) -> None:
        """Nothing of the sandbox is left; another may take its place."""
        if self._doorway is not None:
            self._doorway.cancel()
        if self._egress is not None:
            self._egress.cancel()
        if self.sandbox is not None:
            with contextlib.suppress(OSError, ValueError):
                self.sample()
            await self.sandbox.stop(grace_seconds)
        if self._gate is not None:
            await self._gate.cut(self.sandbox_id)
