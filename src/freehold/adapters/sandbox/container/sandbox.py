"""One running bubblewrap sandbox."""

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from freehold.adapters.sandbox import endings, ownership, processes
from freehold.adapters.sandbox.cgroups import Group
from freehold.adapters.sandbox.execution.entrance import Entrance
from freehold.adapters.sandbox.opener import Opener
from freehold.adapters.sandbox.processes import Watch
from freehold.adapters.sandbox.records import Record
from freehold.kernel.threads import in_thread
from freehold.ports.sandbox import (
    Command,
    CommandSpec,
    Exit,
    SandboxFailed,
    SandboxSpec,
    Usage,
)

_SPARE_STREAMS = 4
_CONNECT_SECONDS_MAX = 5.0
_DEATH_SECONDS_MAX = 10.0
_FREEZE_STEPS_MAX = 1000
_FREEZE_STEP_SECONDS = 0.001


class ContainerSandbox:
    """Two processes of bubblewrap's hold it: the monitor on the host, and pid 1 inside ("init").

    Killing init ends everything inside. The monitor exits when init is dead, with the payload's
    code.
    """

    tier = "container"

    def __init__(
        self,
        *,
        record: Record,
        group: Group,
        memory_max: int,
        opener: Opener,
        forget: Callable[["ContainerSandbox"], None],
        entrance: Entrance | None = None,
    ) -> None:
        self.id = record.id
        self.record = record
        self.spec: SandboxSpec | None = None
        self.environment: dict[str, str] | None = None
        """Complete; None when an earlier process of ours started it."""
        self.listeners: dict[int, socket.socket] = {}
        self.ordinary_because: str | None = None
        """Why it was not forked off the template that was given for it."""
        self.group = group
        self._memory_max = memory_max
        self._opener = opener
        self._entrance = entrance
        self._forget = forget
        self._monitor: Watch | None = None
        self._init: Watch | None = None
        self._netns = -1
        self._spare: list[socket.socket] = []
        self._stopping = asyncio.Lock()
        self._stopped_by_us = False
        self._gone = False
        self._end: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    def hold(self, monitor: Watch, init: Watch | None = None) -> None:
        """Called with what is known, first the monitor alone."""
        if self._monitor is not monitor:
            self._monitor = monitor
            monitor.exited.add_done_callback(self._on_exit)
        self._init = init
        if init and self._netns < 0:
            self._netns = os.open(f"/proc/{init.process.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            if not init.alive:  # then the namespace may be a stranger's
                raise SandboxFailed("the sandbox ended at once")

    async def listen(self, ports: tuple[int, ...]) -> None:
        for port in ports:
            self.listeners[port] = await self._opener.listener(self._netns, port)

    async def connect(self, port: int) -> socket.socket:
        if self._end.done() or self._gone:
            raise ConnectionError("the sandbox has ended")
        if not self._spare:
            # A refused socket can be used again, and making several costs as much as one.
            self._spare = await self._opener.streams(self._netns, _SPARE_STREAMS)
        stream = self._spare.pop()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS_MAX):
                await _connect(stream, port)
        except ConnectionRefusedError:
            self._keep_spare(stream)
            raise
        except TimeoutError as error:
            stream.close()
            raise ConnectionError(f"port {port} inside does not accept connections") from error
        except BaseException:
            stream.close()
            raise
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return stream

    def _keep_spare(self, stream: socket.socket) -> None:
        if self._gone:
            stream.close()
        else:
            self._spare.append(stream)

    async def wait(self) -> Exit:
        return await asyncio.shield(self._end)

    async def execute(self, spec: CommandSpec) -> Command:
        if self._end.done() or self._gone or not self._init or not self._entrance:
            raise SandboxFailed("the session has ended")
        return await self._entrance.execute(spec, self, self._init)

    def usage(self) -> Usage:
        return Usage(self.group.cpu_seconds(), self.group.memory_peak_bytes())

    async def freeze(self) -> None:
        await self._set_frozen(True)

    async def thaw(self) -> None:
        await self._set_frozen(False)

    async def _set_frozen(self, frozen: bool) -> None:
        if not self.group.freezes:
            self._signal_everybody(signal.SIGSTOP if frozen else signal.SIGCONT)
            return
        self.group.freeze(frozen)
        for _ in range(_FREEZE_STEPS_MAX):  # the kernel gives no event that a loop could wait for
            if self.group.frozen() == frozen:
                return
            await asyncio.sleep(_FREEZE_STEP_SECONDS)

    def _signal_everybody(self, number: signal.Signals) -> None:
        """Without a control group: the tree below init, which init itself survives."""
        parents = [self._init.process.pid] if self._init else []
        while parents:
            parent = parents.pop()
            for child in processes.children(parent):
                processes.send_to_child(parent, child, number)
                parents.append(child)

    async def stop(self, grace_seconds: float = 0) -> None:
        async with self._stopping:
            if self._gone:
                return
            self._stopped_by_us = not self._end.done()
            if grace_seconds and self._stopped_by_us:
                await self._ask_to_end(grace_seconds)
            await self._kill()
            await self._clear_away()
            self._gone = True
        self._forget(self)

    async def _ask_to_end(self, grace_seconds: float) -> None:
        await self.thaw()
        init = self._init.process.pid if self._init else 0
        for payload in processes.children(init)[:1]:
            processes.send_to_child(init, payload, signal.SIGTERM)
        await asyncio.wait([self._end], timeout=grace_seconds)

    async def _kill(self) -> None:
        if not self.group.kill():
            # The v1 freezer holds back even SIGKILL.
            with contextlib.suppress(OSError):
                self.group.freeze(False)
        if self._init:
            self._init.send(signal.SIGKILL)
        elif self._monitor:
            self._monitor.send(signal.SIGKILL)
        for watch in (self._init, self._monitor):
            if watch and not await watch.gone(_DEATH_SECONDS_MAX):
                raise SandboxFailed(f"process {watch.process.pid} of {self.id} does not die")
        if not self._init:
            # Its start was cut short, or never written down: what bubblewrap may have forked.
            await in_thread(processes.kill_marked, self.record.mark)

    async def _clear_away(self) -> None:
        self._release()
        await in_thread(self._clear_files)
        if not self._end.done():
            self._end.set_result(
                endings.described(None, stopped=True, memory_kills=0, memory_max=self._memory_max)
            )

    def _clear_files(self) -> None:
        self.group.remove()
        if self.record.uid is not None:
            for source in self.record.writable:
                ownership.give(source, os.geteuid(), os.getegid())
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(Path(self.record.directory))

    def let_go(self) -> None:
        """The platform leaves; the sandbox goes on."""
        self._gone = True
        for watch in (self._init, self._monitor):
            if watch:
                watch.close()
        self._release()

    def _release(self) -> None:
        for each in (*self.listeners.values(), *self._spare):
            each.close()
        self._spare.clear()
        if self._netns >= 0:
            os.close(self._netns)
            self._netns = -1

    def _on_exit(self, exited: asyncio.Future[int | None]) -> None:
        if exited.cancelled() or self._end.done():
            return
        code = exited.result()
        self._end.set_result(
            endings.described(
                # Popen's -N is a death of the monitor itself; the payload's comes as 128+N.
                code if code is None or code >= 0 else 128 - code,
                stopped=self._stopped_by_us,
                memory_kills=self.group.out_of_memory_kills(),
                memory_max=self._memory_max,
            )
        )


async def _connect(stream: socket.socket, port: int) -> None:
    loop = asyncio.get_running_loop()
    try:
        try:
            await loop.sock_connect(stream, ("127.0.0.1", port))
        except ConnectionAbortedError:
            # Linux reports an earlier refusal once more before the socket can be used again.
            await loop.sock_connect(stream, ("127.0.0.1", port))
    except OSError as error:
        if error.errno == errno.ENETUNREACH:  # so young that its loopback is not up yet
            raise ConnectionRefusedError("the sandbox's network is not up yet") from error
        raise
