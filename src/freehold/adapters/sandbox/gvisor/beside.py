"""Further programs in a gVisor sandbox: the host's side of `guest/beside.py`."""

import asyncio
import contextlib
import fcntl
import os
import signal
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from freehold.adapters.sandbox.container import bubblewrap
from freehold.adapters.sandbox.execution import surroundings
from freehold.adapters.sandbox.execution.command import KILLED, RunningCommand, Stream
from freehold.adapters.sandbox.execution.standard import Standard
from freehold.adapters.sandbox.gvisor import guest, refusals
from freehold.adapters.sandbox.gvisor.control import Control
from freehold.adapters.sandbox.gvisor.guest.beside import WORD
from freehold.adapters.sandbox.readiness import readable
from freehold.ports.sandbox import CommandSpec, Limits, SandboxFailed, SandboxSpec

_START_SECONDS_MAX = 15.0
_TOLD_BYTES_MAX = 1 << 20  # what a pipe holds at most for a normal user
_SYSTEM_PYTHON = "/usr/bin/python3"
_FIRST_WORDS = "import os; exec(os.read(4, int(os.read(4, 8))))"
"""Its source comes first: not in the arguments, which everybody sees who lists processes."""


class GuestReins:
    """Two pipes, to and from the process that holds the program inside."""

    def __init__(self, said: int, told: int, control: Control, pid: int, terminal: bool) -> None:
        self.is_terminal = terminal
        self.exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._said, self._told = said, told
        self._control, self._pid = control, pid
        self._words = b""
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        try:
            while chunk := await _read(self._said):
                self._words += chunk
            kind, _, code = self._words.partition(b"\n")[0].partition(b" ")
            # Without a last word it was killed, most likely with the sandbox.
            self._end(int(code) if kind == b"ended" else KILLED)
        finally:
            os.close(self._said)
            os.close(self._told)
            self._told = -1
        with contextlib.suppress(ConnectionError):
            await self._control.forget(self._pid)

    def _end(self, code: int) -> None:
        if not self.exit.done():
            self.exit.set_result(code)

    def signal(self, number: signal.Signals) -> None:
        self._tell(b"S", int(number), 0)

    def resize(self, rows: int, columns: int) -> None:
        self._tell(b"R", rows, columns)

    def _tell(self, kind: bytes, one: int, other: int) -> None:
        if self._told >= 0:
            with contextlib.suppress(OSError):  # it has ended, or is frozen and drowns in words
                os.write(self._told, WORD.pack(kind, one, other))

    def let_go(self) -> None:
        if not self.exit.done():
            self._listening.cancel()
            self._end(KILLED)


async def executed(
    spec: CommandSpec,
    session: SandboxSpec,
    control: Control,
    *,
    environment: dict[str, str] | str,
    uid: int | None,
    limits: dict[str, int],
) -> RunningCommand:
    """`environment` of the session, or the file inside that has it. Raises SandboxFailed."""
    known, kept = ({}, environment) if isinstance(environment, str) else (environment, None)
    wanted = {
        "command": spec.command,
        "environment": surroundings.environment_for(spec, known),
        "inherits": kept,
        "workdir": spec.workdir or session.workdir,
        "terminal": spec.terminal,
        "limits": limits,
        "filter": refusals.program().hex(),
    }
    streams, words = Standard.pipes(uid), Standard.pipes(uid, streams=2)
    try:
        _tell(words.ours[0], words.theirs[0], wanted)
        pid = await control.execute(
            _command(session),
            user=0 if uid is None else bubblewrap.INSIDE_UID,
            environment=["PATH=/usr/bin:/bin"],
            descriptors=[*streams.theirs, words.theirs[1], words.theirs[0]],
        )
        streams.close_theirs()
        words.close_theirs()
        await _started(words.ours[1])
    except BaseException as error:
        for each in (streams, words):
            each.close_ours()
            each.close_theirs()
        if isinstance(error, ConnectionError):
            raise SandboxFailed(f"the program was not started: {error}") from error
        raise
    told, said = words.ours
    reins = GuestReins(said, told, control, pid, spec.terminal is not None)
    stdin, stdout, stderr = streams.ours
    outputs: dict[Stream, int] = {"stdout": stdout, "stderr": stderr}
    return RunningCommand(reins, stdin=stdin, outputs=outputs)


def limits_inside(limits: Limits, *, memory: bool) -> dict[str, int]:
    """As gVisor's kernel keeps them: a checkpoint's own are wider."""
    wanted = {
        "RLIMIT_NOFILE": limits.open_files_max,
        "RLIMIT_NPROC": limits.processes_max,
        "RLIMIT_CORE": 0,
    }
    return wanted | ({"RLIMIT_AS": limits.memory_bytes_max} if memory else {})


def _command(session: SandboxSpec) -> list[str]:
    own = session.command[0]
    interpreter = own if "python" in Path(own).name else _SYSTEM_PYTHON
    return [interpreter, "-I", "-S", "-c", _FIRST_WORDS]


@cache
def _source() -> bytes:
    return Path(str(guest.__file__)).with_name("beside.py").read_bytes()


def _tell(end: int, theirs: int, wanted: dict[str, Any]) -> None:
    source, request = _source(), msgspec.json.encode(wanted)
    content = b"".join((b"%08d" % len(source), source, len(request).to_bytes(4, "big"), request))
    if len(content) > _TOLD_BYTES_MAX:
        raise SandboxFailed("the command and its environment are too big to be handed over")
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, max(len(content), 1 << 16))
    if os.write(end, content) != len(content):
        raise SandboxFailed("the command and its environment are too big to be handed over")


async def _started(said: int) -> None:
    words = b""
    try:
        async with asyncio.timeout(_START_SECONDS_MAX):
            while not words.startswith(b"started\n"):
                chunk = await _read(said, 1 if words[:1] == b"s" else len(b"started\n"))
                if not chunk:
                    break
                words += chunk
    except TimeoutError as error:
        raise SandboxFailed("the program was not started in time: is the session busy?") from error
    if words != b"started\n":
        reason = words.removeprefix(b"failed ").decode(errors="replace")
        raise SandboxFailed(reason or "it was ended while it was started")


async def _read(descriptor: int, size: int = 1 << 16) -> bytes:
    while True:
        try:
            return os.read(descriptor, size)
        except BlockingIOError:
            await readable(descriptor)
