"""The driver's side of the starter: one child process, and the programs that it starts."""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

import freehold
from freehold.adapters.sandbox.execution.command import RunningCommand, StarterReins, Stream
from freehold.adapters.sandbox.execution.standard import Standard
from freehold.adapters.sandbox.execution.surroundings import SEALED
from freehold.adapters.sandbox.readiness import readable
from freehold.ports.sandbox import SandboxFailed

_START_SECONDS_MAX = 10.0
_ANSWER_BYTES_MAX = 4096
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop());"
    " from freehold.adapters.sandbox.execution import starter_child;"
    " starter_child.main(int(sys.argv[1]), int(sys.argv[2]))"
)


@contextlib.contextmanager
def _file_of(content: bytes) -> Iterator[int]:
    """A descriptor to be read from its beginning."""
    descriptor = os.memfd_create("freehold", os.MFD_CLOEXEC)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


class Birth(msgspec.Struct, frozen=True, kw_only=True):
    """What the starter is told. `namespaces` are those to join, of the process `first`; `user` is
    the one inside. `confined`: without any power, under the filter of system calls.
    """

    command: tuple[str, ...]
    environment: dict[str, str]
    workdir: str
    terminal: tuple[int, int] | None
    limits: dict[str, int]
    groups: list[str] = []
    namespaces: int = 0
    user: int = 0
    leave_groups: bool = False
    confined: bool = False


class Starter:
    """Started at first need, and again if it dies; with it die the programs that it started.

    `filter_program` makes the seccomp program that confined ones come under.
    """

    def __init__(self, filter_program: Callable[[], bytes] = bytes) -> None:
        self._filter_program = filter_program
        self._child: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._image = -1

    async def start(
        self, birth: Birth, *, first: int | None = None, owner: int | None = None
    ) -> RunningCommand:
        """`first`: a pidfd. `owner` of the pipes on the host. Raises SandboxFailed."""
        with contextlib.ExitStack() as theirs:
            request = theirs.enter_context(_file_of(msgspec.json.encode(birth)))
            standard = Standard.pipes(owner) if birth.terminal is None else Standard()
            theirs.callback(standard.close_theirs)
            reply, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            theirs.enter_context(end)
            reply.setblocking(False)
            descriptors = [end.fileno(), request]
            descriptors += [first] if first is not None else []
            try:
                await self._send([*descriptors, *standard.theirs])
                theirs.close()
                master = await _started(reply)
            except BaseException:
                standard.close_ours()
                reply.close()  # whatever became of it is killed
                raise
        if master is not None:
            os.set_blocking(master, False)
            reins = StarterReins(reply, terminal=master)
            return RunningCommand(reins, stdin=master, outputs={"stdout": master})
        stdin, stdout, stderr = standard.ours
        outputs: dict[Stream, int] = {"stdout": stdout, "stderr": stderr}
        return RunningCommand(StarterReins(reply), stdin=stdin, outputs=outputs)

    async def _send(self, descriptors: Sequence[int]) -> None:
        control = self._running()
        try:
            socket.send_fds(control, [b"start"], descriptors)
        except BlockingIOError as error:
            raise SandboxFailed("too many programs are being started just now") from error
        except (BrokenPipeError, ConnectionResetError):
            if control is self._control:
                self.close()  # it died; another request may have found out first
            socket.send_fds(self._running(), [b"start"], descriptors)

    def _running(self) -> socket.socket:
        if self._control is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs, _file_of(self._filter_program()) as filter_file:
                self._child = self._spawned(theirs.fileno(), filter_file)
            ours.setblocking(False)
            self._control = ours
        return self._control

    def _spawned(self, control: int, filter_file: int) -> "subprocess.Popen[bytes]":
        source = str(Path(freehold.__file__).parents[1])
        numbers = (str(control), str(filter_file))
        executable, handed = sys.executable, [control, filter_file]
        environment: dict[str, str] = {}
        if os.geteuid() != 0:
            executable, environment = self._copied_interpreter()
            handed.append(self._image)
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, *numbers, source],
            executable=executable,
            pass_fds=handed,
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the platform, which then closes this
        )

    def _copied_interpreter(self) -> tuple[str, dict[str, str]]:
        """A sealed copy of Python in memory. What is about to become a sandbox's program can be
        made to run its own old executable, `#!/proc/self/exe`, and so get hold of it: a file of
        the user that we all are, which could be written to."""
        real = Path(sys.executable).resolve()
        if self._image < 0:
            copy = os.memfd_create("python", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            with real.open("rb") as source, os.fdopen(copy, "wb") as target:
                shutil.copyfileobj(source, target)
                target.flush()
                fcntl.fcntl(copy, fcntl.F_ADD_SEALS, SEALED)
                # Another descriptor, for reading alone: else it could not be executed.
                self._image = os.open(f"/proc/self/fd/{copy}", os.O_RDONLY | os.O_CLOEXEC)
        libraries = str(real.parents[1] / "lib")
        return f"/proc/self/fd/{self._image}", {"LD_LIBRARY_PATH": libraries}

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def close(self) -> None:
        if self._control:
            self._control.close()
            self._control = None
        if self._child:
            self._child.kill()
            self._child.wait()
            self._child = None
        if self._image >= 0:
            os.close(self._image)
            self._image = -1


async def _started(reply: socket.socket) -> int | None:
    """The master of its terminal, if it has one."""
    try:
        async with asyncio.timeout(_START_SECONDS_MAX):
            await readable(reply.fileno())
    except TimeoutError as error:
        raise SandboxFailed("the program was not started in time: is the session busy?") from error
    try:
        message, descriptors, _, _ = socket.recv_fds(
            reply, _ANSWER_BYTES_MAX, 1, socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError:
        message, descriptors = b"", []
    said = json.loads(message) if message else {"failed": "the process that starts programs ended"}
    if "started" in said:
        return descriptors[0] if descriptors else None
    raise SandboxFailed(said["failed"])
