"""One running machine."""

import asyncio
import base64
import contextlib
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from freehold.adapters.sandbox import endings
from freehold.adapters.sandbox.cgroups import Group
from freehold.adapters.sandbox.container.sandbox import ContainerSandbox
from freehold.adapters.sandbox.opener import Opener
from freehold.adapters.sandbox.records import Record
from freehold.adapters.sandbox.vm import returned, sockets
from freehold.adapters.sandbox.vm.command import VmCommand
from freehold.adapters.sandbox.vm.guest import frames
from freehold.adapters.sandbox.vm.link import Link
from freehold.adapters.sandbox.vm.qmp import Qmp, QmpFailed
from freehold.kernel.threads import in_thread
from freehold.ports.sandbox import CommandSpec, Exit, Limits, SandboxFailed

CONTROL_SOCKET, QMP_SOCKET, LOG = "control.sock", "qmp.sock", "qemu.log"
_CONNECT_SECONDS_MAX = 20.0  # emulated machines are slow
_REFUSAL_SECONDS = 0.03
_ENTROPY_BYTES = 64
_CONSOLE_BYTES = 65536


class VmSandbox(ContainerSandbox):
    """QEMU in namespaces of bubblewrap's, held, metered and ended as they are.

    What happens inside is told by the machine's agent over its line. When the machine dies first,
    its end is what QEMU or the guest's kernel said last.
    """

    tier = "vm"

    def __init__(
        self,
        *,
        record: Record,
        group: Group,
        limits: Limits,
        opener: Opener,
        forget: Callable[["VmSandbox"], None],
    ) -> None:
        super().__init__(
            record=record,
            group=group,
            memory_max=limits.memory_bytes_max,
            opener=opener,
            forget=lambda _: forget(self),
        )
        self._limits = limits
        self._directory = Path(record.directory)
        self._link = Link(
            on_event=self._on_agent_event,
            on_lost=self._on_line_lost,
            on_accepted=self._on_accepted,
        )
        self.qmp = Qmp(self._on_machine_event)
        loop = asyncio.get_running_loop()
        self._said: dict[int, asyncio.Future[dict[str, Any]]] = {
            kind: loop.create_future() for kind in (frames.HELLO, frames.READY)
        }
        self._migrated: asyncio.Future[str] = loop.create_future()
        self._verdict: Exit | None = None
        self._frozen = False
        # Who asks over and over whether an agent listens, takes from it the time to begin.
        self._refused_until: dict[int, float] = {}
        self.notes: dict[str, Any] = {}
        self._returns_failed: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    # Setting up

    async def attach(self) -> None:
        """To QEMU. The agent answers when the machine is up; see `hello`."""
        try:
            await self.qmp.connect(self._directory / QMP_SOCKET)
            await self._link.connect(self._directory / CONTROL_SOCKET)
        except OSError as error:
            raise SandboxFailed(f"QEMU did not start{self.last_words()}") from error

    async def hello(self) -> str:
        """The agent's state."""
        said = await self._heard(frames.HELLO)
        return str(said["state"])

    async def do(self, job: dict[str, Any]) -> None:
        """All is made for the command, which waits. Raises SandboxFailed."""
        self._link.tell(frames.JOB, job)
        self.notes = await self._heard(frames.READY)

    def go(self, told: dict[str, Any]) -> None:
        self._link.tell(frames.GO, told)

    def refresh(self) -> None:
        """After a pause the machine's clock is behind; after a restore its randomness is known."""
        entropy = base64.b64encode(os.urandom(_ENTROPY_BYTES)).decode()
        self._link.tell(frames.CLOCK, {"time_ns": time.time_ns(), "entropy": entropy})

    async def save_state(self, descriptor: int) -> None:
        """Of everything but memory, to this file."""
        self._link.close()  # what is on its way would be in the snapshot
        # Not stopped before: QEMU does so at the end, and writes down that it ran.
        await self._leave_memory_out(events=True)
        await self.qmp.give("state", descriptor)
        await self.qmp.ask("migrate", uri="fd:state")
        if await self._migrated != "completed":
            raise SandboxFailed("the machine's state could not be saved")

    async def load_state(self, descriptor: int) -> None:
        """From such a file. The machine goes on by itself when all is read."""
        await self._leave_memory_out()
        await self.qmp.give("state", descriptor)
        await self.qmp.ask("migrate-incoming", uri="fd:state")

    async def _leave_memory_out(self, *, events: bool = False) -> None:
        """It is in a file of ours already."""
        names = ("x-ignore-shared", *(["events"] if events else []))
        wanted = [{"capability": name, "state": True} for name in names]
        await self.qmp.ask("migrate-set-capabilities", capabilities=wanted)

    async def _heard(self, kind: int) -> dict[str, Any]:
        either: list[asyncio.Future[Any]] = [self._said[kind], self._end]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._said[kind].done():
            raise SandboxFailed(f"the machine did not start: {self._end.result().reason}")
        return self._said[kind].result()

    async def listen(self, ports: tuple[int, ...]) -> None:
        """Also takes up the line to a machine that is adopted."""
        for port in ports:
            path = self._port_path(port)
            path.unlink(missing_ok=True)
            self.listeners[port] = sockets.listening(path)
            self.listeners[port].setblocking(False)
        if self._link.connected:
            return
        if self.group.freezes and self.group.frozen():
            await super()._set_frozen(False)  # QEMU may answer; the guest stays paused
        await self.attach()
        status = (await self.qmp.ask("query-status"))["status"]
        if status == "paused":
            self._frozen = True
            await self._set_frozen(True)
        elif status != "running" or await self.hello() not in ("running", "returning"):
            raise SandboxFailed("the machine has ended")

    # What the platform asks for

    async def connect(self, port: int) -> socket.socket:
        if self._end.done() or self._gone:
            raise ConnectionError("the sandbox has ended")
        now = asyncio.get_running_loop().time()
        if now < self._refused_until.get(port, 0):
            raise ConnectionRefusedError(f"port {port} inside refused a moment ago")
        try:
            async with asyncio.timeout(_CONNECT_SECONDS_MAX):
                return await self._link.open(port, expect_answer=not self._frozen)
        except ConnectionRefusedError:
            self._refused_until[port] = now + _REFUSAL_SECONDS
            raise
        except TimeoutError as error:
            raise ConnectionError(f"port {port} inside does not accept connections") from error

    async def execute(self, spec: CommandSpec) -> VmCommand:
        if self._end.done() or self._gone:
            raise SandboxFailed("the session has ended")
        if self._frozen:
            raise SandboxFailed("the session is frozen")
        return await VmCommand.begun(self._link, spec)

    async def _set_frozen(self, frozen: bool) -> None:
        """Stopped by QEMU its clock stands still, and by the group not even QEMU runs."""
        if frozen:
            self._frozen = True
            await self.qmp.ask("stop")
        if self.group.freezes:
            await super()._set_frozen(frozen)
        if not frozen and self._frozen:
            await self.qmp.ask("cont")
            self.refresh()
            self._frozen = False

    async def _ask_to_end(self, grace_seconds: float) -> None:
        with contextlib.suppress(ConnectionError):
            await self.thaw()
            self._link.send(frames.SIGNAL, signal.SIGTERM)
            await asyncio.wait([self._end], timeout=grace_seconds)

    def _release(self) -> None:
        super()._release()
        self._link.close()
        self.qmp.close()

    def _clear_files(self) -> None:
        self.group.remove()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._directory)

    # What the machine says

    def _on_agent_event(self, kind: int, said: dict[str, Any]) -> None:
        if kind == frames.FAILED:
            self._conclude(Exit(None, str(said["reason"])))
        elif kind == frames.ENDED or said.get("state") == "ended":
            self._on_ended(int(said["code"]), int(said["memory_kills"]), said.get("reason"))
        elif said.get("state") == "failed":
            self._conclude(Exit(None, str(said["reason"])))
        if kind in self._said and not self._said[kind].done():
            self._said[kind].set_result(said)

    def _on_ended(self, code: int, memory_kills: int, reason: str | None) -> None:
        end = self._described(code, memory_kills)
        if self._returns_failed and not self._stopped_by_us:
            end = Exit(code or 1, f"what it wrote was not taken back: {self._returns_failed[0]}")
        elif reason:
            end = Exit(code, reason)
        self._conclude(end)

    def _described(self, code: int | None, memory_kills: int) -> Exit:
        return endings.described(
            code,
            stopped=self._stopped_by_us,
            memory_kills=memory_kills,
            memory_max=self._limits.memory_bytes_max,
        )

    def _conclude(self, end: Exit) -> None:
        if self._verdict is None:
            self._verdict = end
            self._soon(self._end_machine())

    async def _end_machine(self) -> None:
        # What the command printed last is on its way through QEMU too: it has passed all that
        # came before when it answers. The guest is of no use any more, and its memory is.
        with contextlib.suppress(QmpFailed):
            await self.qmp.ask("query-status")
        self._finish()
        if self._init:
            self._init.send(signal.SIGKILL)

    def _finish(self) -> None:
        if not self._end.done():
            assert self._verdict
            self._end.set_result(self._verdict)

    def _on_machine_event(self, name: str, data: dict[str, Any]) -> None:
        if name == "SHUTDOWN":
            self._soon(self._explain_shutdown())
        elif name == "MIGRATION" and data.get("status") in ("completed", "failed"):
            self._migrated.set_result(data["status"])

    async def _explain_shutdown(self) -> None:
        """The guest's kernel gave up; its last words are on the console."""
        console = ""
        with contextlib.suppress(QmpFailed):
            console = await self.qmp.ask("ringbuf-read", device="console", size=_CONSOLE_BYTES)
        before, _, panic = console.partition("Kernel panic")
        words = f"kernel panic{panic.splitlines()[0]}" if panic else "no reason was given"
        agent = before.rstrip(" [.0123456789]\r\n").rpartition("\n")[2].strip()
        self._conclude(Exit(None, f"the machine stopped: {words[:300]} ({agent[-300:]})"))

    def _on_line_lost(self, reason: str) -> None:
        if not self._gone and not self._end.done() and "protocol" in reason:
            self._conclude(Exit(None, reason))

    def _on_exit(self, exited: asyncio.Future[int | None]) -> None:
        """QEMU is gone."""
        if exited.cancelled() or self._end.done():
            return
        if self._verdict is None:
            kills = self.group.out_of_memory_kills()
            if self._stopped_by_us or kills:
                self._verdict = self._described(None if self._stopped_by_us else 137, kills)
            else:
                self._verdict = Exit(None, f"the machine died{self.last_words()}")
        self._finish()

    def last_words(self) -> str:
        """What bubblewrap and QEMU complained of."""
        with contextlib.suppress(OSError):
            said = (self._directory / LOG).read_text(errors="replace").strip()
            return f": {said[-500:]}" if said else ""
        return ""

    def _on_accepted(self, kind: int, about: int) -> socket.socket | None:
        if kind == frames.RETURN:
            return self._take_back(about)
        if about not in self.listeners or self._gone:
            return None
        stream = socket.socket(socket.AF_UNIX)
        stream.setblocking(False)
        try:
            sockets.with_short_path(self._port_path(about), stream.connect)
        except OSError:  # full, or closing
            stream.close()
            return None
        return stream

    def _take_back(self, number: int) -> socket.socket | None:
        if number >= len(self.record.writable):
            return None
        ours, theirs = socket.socketpair()
        self._soon(self._replace(self.record.writable[number], ours))
        return theirs

    async def _replace(self, target: str, stream: socket.socket) -> None:
        def replace() -> None:
            with stream, stream.makefile("rb") as file:
                bytes_max = self._limits.scratch_bytes_max + returned.size_of(target)
                returned.replace_content(target, file, bytes_max)

        try:
            await in_thread(replace)
        except (returned.ReturnFailed, OSError) as error:
            self._returns_failed.append(str(error))

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _port_path(self, port: int) -> Path:
        return self._directory / f"port-{port}.sock"
