"""The API worker's side: sessions of this machine, through the node."""

import asyncio
import contextlib
import itertools
import logging
import socket
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec

from freehold.adapters.placement.local import remote_command, wire
from freehold.kernel import errors, frames
from freehold.kernel.errors import FreeholdError, PlatformFailed, Unavailable
from freehold.ports.placement import KeptWarm, Launch, Lease, PlacedCommand, SessionKey, SessionLine
from freehold.ports.sandbox import CommandSpec

log = logging.getLogger(__name__)

LINGER_SECONDS = 5.0
"""How long an unused lease is kept: the next request within it costs the node nothing."""

REPORT_SECONDS = 0.5
_CONNECT_PAUSE_SECONDS = 0.02
_RETRY_SECONDS_MAX = 0.2
_NODE_WAIT_SECONDS = 10.0
_ASK_ATTEMPTS = 3
_BY_CODE: dict[str, type[FreeholdError]] = {
    c.code: c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, FreeholdError)
}


class _NodeLost(Unavailable):
    """The node died before it answered. All that is asked of it may be asked again."""


class _Held:
    """A lease this worker has from the node, and how it is used here."""

    def __init__(self, lease: Lease, *, linger_seconds: float) -> None:
        self.lease = lease
        self.linger_seconds = linger_seconds
        self.users = 0
        self.used_at = time.monotonic()
        self.invocations = 0
        self.timer: asyncio.TimerHandle | None = None

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()


class LocalPlacement:
    """Implements ports.placement.Placement over the node's two unix sockets."""

    def __init__(self, run: Path, *, doorway: Path) -> None:
        self._run, self._doorway = run, doorway
        self._held: dict[SessionKey, _Held] = {}
        self._out: dict[int, _Held] = {}
        """By the identity of its lease, while anybody uses it: also when it is over."""
        self._owed: dict[str, int] = {}
        """Invocations that the node does not know of, since it was away."""
        self._warm: list[KeptWarm] = []
        self._acquiring: dict[SessionKey, asyncio.Task[_Held]] = {}
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._logs: dict[int, asyncio.Queue[wire.LogLines | None]] = {}
        self._ids = itertools.count(1)
        self._writer: asyncio.StreamWriter | None = None
        self._reporting: asyncio.TimerHandle | None = None
        self._linked = asyncio.Event()
        self._link_task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._link_task = asyncio.create_task(self._keep_linked())

    async def close(self) -> None:
        for held in self._held.values():
            self._let_go(held)
        if self._writer is not None:
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()
            self._writer.close()
        if self._link_task is not None:
            self._link_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._link_task

    # -- the link

    async def _keep_linked(self) -> None:
        pause = 0.01
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._run / "node.sock"))
            except OSError:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _RETRY_SECONDS_MAX)
                continue
            pause = 0.01
            self._introduce(writer)
            try:
                while message := await frames.read(reader, wire.ToWorker):
                    self._heard(message)
            except (ValueError, msgspec.DecodeError):
                log.exception("the node sent what is no message")
            self._lost()
            writer.close()

    def _introduce(self, writer: asyncio.StreamWriter) -> None:
        """To a node that may be new: what we use of what it adopted, and what we have counted."""
        self._writer = writer
        messages: list[wire.ToNode] = [wire.Hello(str(self._doorway))]
        messages += [wire.Hold(held.lease.sandbox_id) for held in self._out.values()]
        messages += [wire.Used(id, count) for id, count in self._owed.items()]
        self._owed.clear()
        if self._warm:
            messages.append(wire.KeepWarm(self._warm))
        writer.writelines([frames.pack(message) for message in messages])
        self._linked.set()

    def _lost(self) -> None:
        """The node is gone. It adopts its sessions when it is back: leases are asked for anew."""
        self._linked.clear()
        self._writer = None
        for held in self._held.values():
            held.stop_timer()
            if held.users == 0:
                self._owe(held)
        self._held.clear()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(_NodeLost("the node of this machine went away; try again"))
        self._waiting.clear()
        for queue in self._logs.values():
            queue.put_nowait(None)

    def _heard(self, message: wire.ToWorker) -> None:
        match message:
            case wire.Granted():
                self._resolve(message.id, message.lease)
            case wire.Answer():
                self._resolve(message.id, message.value)
            case wire.Refused():
                future = self._waiting.pop(message.id, None)
                if future and not future.done():
                    kind = _BY_CODE.get(message.code, PlatformFailed)
                    future.set_exception(kind(message.message))
            case wire.Ended():
                self._ended(message.sandbox_id)
            case wire.LogLines():
                if queue := self._logs.get(message.id):
                    queue.put_nowait(message)

    def _ended(self, sandbox_id: str) -> None:
        """No new use of it; those under way are still counted."""
        for key, held in list(self._held.items()):
            if held.lease.sandbox_id == sandbox_id:
                del self._held[key]
                if held.users == 0:
                    self._let_go(held)

    def _resolve(self, id: int, value: Any) -> None:
        future = self._waiting.pop(id, None)
        if future and not future.done():
            future.set_result(value)

    async def _until_linked(self) -> None:
        try:
            async with asyncio.timeout(_NODE_WAIT_SECONDS):
                await self._linked.wait()
        except TimeoutError:
            raise Unavailable("the node of this machine is not there; try again") from None

    async def _send(self, message: wire.ToNode) -> None:
        await self._until_linked()
        assert self._writer is not None
        self._writer.write(frames.pack(message))

    async def _ask(self, message: wire.Question) -> Any:
        """The answer; of a node that died meanwhile, the next one's."""
        for attempt in range(1, _ASK_ATTEMPTS + 1):
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            await self._send(message)
            self._waiting[message.id] = future
            try:
                return await future
            except _NodeLost:
                if attempt == _ASK_ATTEMPTS:
                    raise
            finally:
                self._waiting.pop(message.id, None)
        raise AssertionError("the last attempt returns or raises")

    # -- leases

    async def acquire(self, launch: Launch) -> Lease:
        held = self._held.get(launch.key)
        if held is None:
            held = await self._acquire(launch)
        held.users += 1
        held.used_at = time.monotonic()
        self._out[id(held.lease)] = held
        return held.lease

    async def _acquire(self, launch: Launch) -> _Held:
        """However many ask at once for one key, the node is asked once."""
        task = self._acquiring.get(launch.key)
        if task is None:
            task = asyncio.create_task(self._ask_for_lease(launch))
            self._acquiring[launch.key] = task
            task.add_done_callback(lambda t: self._acquired(launch.key, t))
        return await asyncio.shield(task)

    def _acquired(self, key: SessionKey, task: "asyncio.Task[_Held]") -> None:
        self._acquiring.pop(key, None)
        if not task.cancelled():
            task.exception()

    async def _ask_for_lease(self, launch: Launch) -> _Held:
        lease: Lease = await self._ask(wire.Acquire(next(self._ids), launch))
        linger_seconds = min(LINGER_SECONDS, launch.idle_seconds / 2)
        held = self._held[launch.key] = _Held(lease, linger_seconds=linger_seconds)
        held.timer = asyncio.get_running_loop().call_later(
            linger_seconds, self._perhaps_let_go, held
        )
        return held

    def release(self, lease: Lease) -> None:
        held = self._out[id(lease)]
        held.users -= 1
        held.invocations += 1
        held.used_at = time.monotonic()
        if self._reporting is None:
            self._reporting = asyncio.get_running_loop().call_later(
                REPORT_SECONDS, self._report_uses
            )
        if held.users == 0:
            del self._out[id(lease)]
            if self._held.get(lease.key) is not held:
                self._let_go(held)

    def _report_uses(self) -> None:
        """Tell the node of invocations since the last report: many requests, one message."""
        self._reporting = None
        for held in (*self._held.values(), *self._out.values()):
            used = wire.Used(held.lease.sandbox_id, held.invocations)
            if held.invocations and self._told(used):
                held.invocations = 0

    def _perhaps_let_go(self, held: _Held) -> None:
        unused = time.monotonic() - held.used_at
        if held.users > 0 or unused < held.linger_seconds:
            pause = held.linger_seconds - (0 if held.users else unused)
            held.timer = asyncio.get_running_loop().call_later(pause, self._perhaps_let_go, held)
            return
        if self._held.get(held.lease.key) is held:
            del self._held[held.lease.key]
            self._let_go(held)

    def _let_go(self, held: _Held) -> None:
        held.stop_timer()
        release = wire.Release(
            held.lease.sandbox_id,
            idle_seconds=time.monotonic() - held.used_at,
            invocations=held.invocations,
        )
        if not self._told(release):
            self._owe(held)

    def _told(self, message: Any) -> bool:
        """False when the node is away, or about to be."""
        if self._writer is None or self._writer.is_closing():
            return False
        self._writer.write(frames.pack(message))
        return True

    def _owe(self, held: _Held) -> None:
        if held.invocations:
            owed = self._owed.get(held.lease.sandbox_id, 0)
            self._owed[held.lease.sandbox_id] = owed + held.invocations

    # -- the rest of the port

    def keep_warm(self, wanted: list[KeptWarm]) -> None:
        if wanted == self._warm:
            return
        self._warm = wanted
        self._told(wire.KeepWarm(wanted))

    async def connect(self, sandbox_id: str, port: int) -> socket.socket:
        """Through a node that is just coming back, too."""
        give_up = time.monotonic() + _NODE_WAIT_SECONDS
        while True:
            try:
                answer, descriptor = await self._connected(wire.Connect(sandbox_id, port))
                break
            except OSError as error:
                if time.monotonic() > give_up:
                    raise ConnectionRefusedError("the node of this machine is away") from error
            await asyncio.sleep(_CONNECT_PAUSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(give_up - time.monotonic()):
                    await self._linked.wait()
        if descriptor is None:
            raise ConnectionRefusedError(answer.error)
        inside = socket.socket(fileno=descriptor)
        inside.setblocking(False)
        return inside

    async def _connected(self, message: wire.Connect) -> tuple[wire.Connected, int | None]:
        """OSError: there is no node."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, str(self._run / "connect.sock"))
            frames.send_now(sock, message, None)
            return await frames.receive_with_descriptor(sock, wire.Connected)

    async def execute(
        self, sandbox_id: str, spec: CommandSpec, *, name: str | None = None
    ) -> PlacedCommand:
        await self._until_linked()
        try:
            wanted = wire.Execute(sandbox_id, spec, name or "")
            answer, command = await remote_command.started(self._run, wanted)
        except OSError as error:
            raise Unavailable("the node of this machine is away; try again") from error
        if command is None:
            raise _BY_CODE.get(answer.code, PlatformFailed)(answer.message)
        return command

    async def end_command(self, sandbox_id: str, name: str) -> bool:
        ended: bool = await self._ask(wire.EndCommand(next(self._ids), sandbox_id, name))
        return ended

    async def why_ended(self, sandbox_id: str) -> str | None:
        reason: str | None = await self._ask(wire.WhyEnded(next(self._ids), sandbox_id))
        return reason

    async def stop(self, key: SessionKey, reason: str) -> bool:
        self._report_uses()
        stopped: bool = await self._ask(wire.Stop(next(self._ids), key, reason))
        return stopped

    async def stop_runtime(self, tenant: str, runtime_id: str, reason: str) -> int:
        message = wire.StopRuntime(next(self._ids), tenant, runtime_id, reason)
        count: int = await self._ask(message)
        return count

    async def read_log(
        self, tenant: str, runtime_id: str, sandbox_id: str, *, tail: int, follow: bool
    ) -> AsyncGenerator[str, None]:
        async with contextlib.aclosing(
            self._read(tenant, runtime_id, sandbox_id, tail=tail, follow=follow)
        ) as batches:
            async for batch in batches:
                for line in batch.lines:
                    yield line

    async def follow_logs(
        self, tenant: str, runtime_id: str, *, tail: int
    ) -> AsyncGenerator[SessionLine, None]:
        async with contextlib.aclosing(
            self._read(tenant, runtime_id, "", tail=tail, follow=True)
        ) as batches:
            async for batch in batches:
                for line in batch.lines:
                    yield SessionLine(batch.session_id, line)

    async def _read(
        self, tenant: str, runtime_id: str, sandbox_id: str, *, tail: int, follow: bool
    ) -> AsyncGenerator[wire.LogLines, None]:
        id = next(self._ids)
        queue: asyncio.Queue[wire.LogLines | None] = asyncio.Queue()
        self._logs[id] = queue
        try:
            await self._send(wire.ReadLog(id, tenant, runtime_id, sandbox_id, tail, follow))
            while (batch := await queue.get()) is not None:
                yield batch
                if batch.ended:
                    return
        finally:
            del self._logs[id]
            if follow:
                self._told(wire.StopReading(id))
