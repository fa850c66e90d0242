"""One subprocess in the place of a sandbox."""

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import Callable

import msgspec

from freehold.adapters.sandbox import endings, processes, rlimits
from freehold.adapters.sandbox.execution import surroundings
from freehold.adapters.sandbox.execution.starter import Birth, Starter
from freehold.adapters.sandbox.process import listening
from freehold.adapters.sandbox.process.paths import Outside
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

_CONNECT_SECONDS_MAX = 5.0
_DEATH_SECONDS_MAX = 10.0
_UNIX_PATH_BYTES_MAX = 100


class ProcessSandbox:
    tier = "process"

    def __init__(
        self,
        *,
        record: Record,
        agent_ports: tuple[int, ...],
        forget: Callable[["ProcessSandbox"], None],
        starter: Starter,
    ) -> None:
        self.id = record.id
        self.record = record
        self.spec: SandboxSpec | None = None
        self.listeners: dict[int, socket.socket] = {}
        self._agent_ports = agent_ports
        self._forget = forget
        self._starter = starter
        self._main: Watch | None = None
        self._own_listeners: dict[int, listening.Held] = {}
        self._stopping = asyncio.Lock()
        self._stopped_by_us = False
        self._gone = False
        self._end: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    def hold(self, main: Watch) -> None:
        self._main = main
        main.exited.add_done_callback(self._on_exit)

    async def listen(self, ports: tuple[int, ...]) -> None:
        """On ports of the host that were free; after an adoption on the same ones again."""
        for port in ports:
            listener = socket.socket()
            self.listeners[port] = listener
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self.record.ports.get(port, 0)))
            listener.listen()
            listener.setblocking(False)
            self.record.ports[port] = listener.getsockname()[1]

    async def connect(self, port: int) -> socket.socket:
        if self._end.done() or self._gone:
            raise ConnectionError("the sandbox has ended")
        path = f"{self.record.directory}/port-{port}.sock"
        if os.path.exists(path):  # noqa: PTH110 - asked every few ms while an agent starts
            return await _connected_to_path(path)
        stream = await _connected(socket.socket(socket.AF_INET), ("127.0.0.1", port))
        # Never hands out a connection to another session's agent on the same port.
        if not await in_thread(self._listens_itself, port):
            stream.close()
            raise ConnectionRefusedError(_refusal(port))
        return stream

    def _listens_itself(self, port: int) -> bool:
        known = self._own_listeners.get(port)
        if known is None or not known.still:
            found = listening.held_by(processes.marked(self.record.mark), listening.sockets(port))
            self._own_listeners |= {port: found} if found else {}
            return found is not None
        return True

    async def wait(self) -> Exit:
        return await asyncio.shield(self._end)

    async def execute(self, spec: CommandSpec) -> Command:
        if self._end.done() or self._gone or not self._main or not self.spec:
            raise SandboxFailed("the session has ended")
        outside = Outside.of(self.spec)
        # The mark, by which it is found and ended with the session, is in that environment.
        session = surroundings.environment_of(self._main.process.pid)
        given = {name: outside.path_list(value) for name, value in spec.environment.items()}
        birth = Birth(
            command=tuple(outside.path(word) for word in spec.command),
            environment=surroundings.environment_for(
                msgspec.structs.replace(spec, environment=given), session
            ),
            workdir=outside.path(spec.workdir or self.spec.workdir),
            terminal=spec.terminal,
            limits=rlimits.wanted(self.spec.limits, memory=True, processes=False),
        )
        return await self._starter.start(birth)

    def usage(self) -> Usage:
        return Usage(None, None)

    async def freeze(self) -> None:
        await in_thread(processes.signal_marked, self.record.mark, signal.SIGSTOP)

    async def thaw(self) -> None:
        await in_thread(processes.signal_marked, self.record.mark, signal.SIGCONT)

    async def stop(self, grace_seconds: float = 0) -> None:
        async with self._stopping:
            if self._gone:
                return
            self._stopped_by_us = not self._end.done()
            if grace_seconds and self._stopped_by_us and self._main:
                self._main.send(signal.SIGTERM)
                self._main.send(signal.SIGCONT)
                await asyncio.wait([self._end], timeout=grace_seconds)
            await self._kill()
            for listener in self.listeners.values():
                listener.close()
            await in_thread(shutil.rmtree, self.record.directory, ignore_errors=True)
            if not self._end.done():
                self._end.set_result(_described(None, stopped=True))
            self._gone = True
        self._forget(self)

    async def _kill(self) -> None:
        if self._main:
            self._main.send(signal.SIGKILL)
            if not await self._main.gone(_DEATH_SECONDS_MAX):
                raise SandboxFailed(f"process {self._main.process.pid} of {self.id} does not die")
        await in_thread(processes.kill_marked, self.record.mark)

    def let_go(self) -> None:
        self._gone = True
        if self._main:
            self._main.close()
        for listener in self.listeners.values():
            listener.close()

    def _on_exit(self, exited: asyncio.Future[int | None]) -> None:
        if exited.cancelled() or self._end.done():
            return
        code = exited.result()
        end = _described(code, stopped=self._stopped_by_us)
        taken = self._taken_ports() if code and not self._stopped_by_us else []
        if taken:
            end = Exit(end.code, f"{end.reason}; {_refusal(taken[0])}")
        self._end.set_result(end)

    def _taken_ports(self) -> list[int]:
        return [port for port in self._agent_ports if listening.sockets(port)]


def _described(code: int | None, *, stopped: bool) -> Exit:
    shell_code = code if code is None or code >= 0 else 128 - code
    return endings.described(shell_code, stopped=stopped, memory_kills=0, memory_max=0)


def _refusal(port: int) -> str:
    return (
        f"port {port} of this machine belongs to another process: in the process tier only agents"
        f" on uvicorn run side by side, any other has one session at a time"
    )


async def _connected_to_path(path: str) -> socket.socket:
    if len(os.fsencode(path)) <= _UNIX_PATH_BYTES_MAX:
        return await _connected(socket.socket(socket.AF_UNIX), path)
    folder, _, name = path.rpartition("/")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return await _connected(socket.socket(socket.AF_UNIX), f"/proc/self/fd/{descriptor}/{name}")
    finally:
        os.close(descriptor)


async def _connected(stream: socket.socket, address: str | tuple[str, int]) -> socket.socket:
    stream.setblocking(False)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS_MAX):
            await asyncio.get_running_loop().sock_connect(stream, address)
    except TimeoutError as error:
        stream.close()
        raise ConnectionError("the agent does not accept connections") from error
    except FileNotFoundError as error:
        stream.close()
        raise ConnectionRefusedError("the agent's socket is gone") from error
    except BaseException:
        stream.close()
        raise
    return stream
