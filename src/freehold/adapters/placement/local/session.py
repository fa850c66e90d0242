"""One live session: its sandbox, from the start to the end."""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

from freehold.adapters.placement.local.logs import SessionLog, tail
from freehold.adapters.placement.local.meter import Meter
from freehold.adapters.placement.local.probe import Health, ping
from freehold.kernel import frames
from freehold.kernel.clock import now
from freehold.kernel.errors import RuntimeClientFailed
from freehold.ports.placement import Lease, SessionKey, SessionUsage
from freehold.ports.sandbox import Sandbox

log = logging.getLogger(__name__)

DOORWAY_PORT = 7400
_PING_SECONDS_MAX = 5.0
_LOG_LINES_SHOWN = 20

TakeDoorway = Callable[["LiveSession", socket.socket], Awaitable[None]]


class LiveSession:
    """Single-threaded state: everything here happens on the node's loop.

    `holders` are the links whose workers use it; while there is one it is not idle.
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
        self.sandbox: Sandbox | None = None
        self.meter = Meter()
        self.holders: dict[object, int] = {}
        self.invocations = 0
        self.busy = False
        self.recorded = False
        self.started_at: datetime = now()
        self.last_used_at = self.started_at
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
        )

    def open_doorway(self, take: TakeDoorway) -> None:
        """Hand on each connection that the agent makes to its loopback port."""
        assert self.sandbox is not None
        listener = self.sandbox.listeners.get(DOORWAY_PORT)
        if listener is not None:
            self._doorway = asyncio.create_task(self._accept(listener, take))

    async def _accept(self, listener: socket.socket, take: TakeDoorway) -> None:
        try:
            async for connection in frames.accepted(listener):
                with connection:
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
        if probing in done:
            await probing
            return
        if exited in done:
            raise self.client_failure(f"the agent ended while starting: {exited.result().reason}")
        raise self.client_failure(
            f"the agent did not answer GET /ping on port {self.port} within {seconds_max:.0f} s "
            f"(its serverProtocol is {self.protocol})"
        )

    async def _probe_until_healthy(self) -> None:
        pause = 0.01
        while True:
            with contextlib.suppress(ConnectionError, TimeoutError):
                # MCP has no /ping: whatever the answer is, the server is up.
                if await self.ping() is not Health.UNHEALTHY or self.protocol == "MCP":
                    return
            await asyncio.sleep(pause)
            pause = min(pause * 1.25, 0.1)

    async def ping(self) -> Health:
        assert self.sandbox is not None
        sock = await self.sandbox.connect(self.port)
        return await ping(sock, seconds_max=_PING_SECONDS_MAX)

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
        at = time.monotonic()
        self.meter.read(self.sandbox.usage(), seconds=at - self.metered_at)
        self.metered_at = at

    def usage(self) -> SessionUsage:
        return SessionUsage(
            sandbox_id=self.sandbox_id,
            status="ENDED" if self.ended.done() else self.status,
            last_used_at=now() if self.holders else self.last_used_at,
            invocations=self.invocations,
            cpu_seconds=self.meter.cpu_seconds,
            memory_gb_seconds=self.meter.memory_gb_seconds,
        )

    @property
    def status(self) -> str:
        if not self.ready.done():
            return "STARTING"
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
        if self._doorway is not None:
            self._doorway.cancel()
        if self.sandbox is not None:
            with contextlib.suppress(OSError, ValueError):
                self.sample()
            await self.sandbox.stop(grace_seconds)
        self.log.close()
