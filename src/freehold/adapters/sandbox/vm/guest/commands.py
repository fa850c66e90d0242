"""Further programs in the cell, each beside the agent's command and as confined as that is."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import resource
import signal
import struct
import termios

from freehold.adapters.sandbox.vm.guest import cell, frames
from freehold.adapters.sandbox.vm.guest import kernel_calls as k
from freehold.adapters.sandbox.vm.guest.line import IN, OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from freehold.adapters.sandbox.vm.guest.line import Line, Poll

_CREDIT_STEP_BYTES = frames.WINDOW_BYTES // 4
_REASON_BYTES_MAX = 4096
_TERMINALS = f"{cell.ROOT}/dev/pts/ptmx"  # the cell's own, where its programs look for theirs
_TIOCSPTLCK, _TIOCGPTPEER = 0x40045431, 0x5441
_END_OF_INPUT = b"\x04"  # as it is typed
_NAMESPACES = k.CLONE_NEWNS | k.CLONE_NEWIPC | k.CLONE_NEWUTS | k.CLONE_NEWCGROUP | k.CLONE_NEWPID
_DEFAULT_AGAIN = (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ)


class Commands:
    """Each has the number of a stream that the host opened."""

    def __init__(self, poll: Poll, line: Line) -> None:
        self._poll = poll
        self._line = line
        self._commands: dict[int, Command] = {}

    def execute(self, number: int, place: cell.Cell | None, told: dict[str, Any]) -> None:
        def send(kind: int, payload: bytes = b"") -> None:
            self._line.send(kind, number, payload)

        if place is None:
            send(frames.NOT_STARTED, b'{"reason": "nothing runs any more"}')
            return
        try:
            made = Command(self._poll, send, lambda: self._commands.pop(number, None), place, told)
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
            send(frames.NOT_STARTED, json.dumps({"reason": reason}).encode())
            return
        self._commands[number] = made

    def received(self, kind: int, number: int, payload: bytes) -> bool:
        """Whether it was for one of these."""
        command = self._commands.get(number)
        if command:
            command.received(kind, payload)
        return command is not None

    def close_all(self) -> None:
        for command in list(self._commands.values()):
            command.close()


class Command:
    """Its pipes, or its terminal, at this end; and its first process."""

    def __init__(
        self,
        poll: Poll,
        send: Callable[..., None],
        forget: Callable[[], object],
        place: cell.Cell,
        told: dict[str, Any],
    ) -> None:
        self._poll = poll
        self._send = send
        self._forget = forget
        self._terminal = told["terminal"] is not None
        self._input = -1
        self._outputs: dict[int, int] = {}
        """The frames that carry what is read of each."""
        self._left: set[int] = set()  # outputs that nobody reads any more
        self._inbox = bytearray()
        self._read_of_inbox = 0  # and not yet told to the host
        self._no_more_input = False
        self._allowance = frames.WINDOW_BYTES
        theirs = self._open_terminal(told["terminal"]) if self._terminal else self._open_pipes()
        self._problem, problem_end = os.pipe()
        os.set_blocking(self._problem, False)
        try:
            self.pid = cell.forked(
                lambda: _enter(place), lambda: _become(place, told, theirs, problem_end)
            )
        except OSError:
            os.close(self._problem)
            self._close_ends()
            raise
        finally:
            for each in {*theirs, problem_end}:
                os.close(each)
        self._pidfd = os.pidfd_open(self.pid)
        poll.watch(self._problem, IN, self._on_begun)
        poll.watch(self._pidfd, IN, self._on_exit)

    def _open_pipes(self) -> tuple[int, int, int]:
        stdin, self._input = os.pipe()
        out, stdout = os.pipe()
        errors, stderr = os.pipe()
        self._outputs = {out: frames.DATA, errors: frames.ERRORS}
        for ours in (self._input, out, errors):
            os.set_blocking(ours, False)
        for each in (stdin, stdout, stderr):
            os.fchown(each, cell.UID, cell.UID)  # programs open /dev/stderr by name
        return stdin, stdout, stderr

    def _open_terminal(self, size: list[int]) -> tuple[int, int, int]:
        flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
        self._input = os.open(_TERMINALS, flags | os.O_NONBLOCK)
        self._outputs = {self._input: frames.DATA}
        fcntl.ioctl(self._input, _TIOCSPTLCK, struct.pack("i", 0))
        self._resize(*size)
        theirs = fcntl.ioctl(self._input, _TIOCGPTPEER, flags)
        os.fchown(theirs, cell.UID, cell.UID)
        return theirs, theirs, theirs

    def _resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._input, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def received(self, kind: int, payload: bytes) -> None:
        if kind == frames.DATA:
            self._inbox += payload
            self._deliver()
        elif kind == frames.EOF:
            self._no_more_input = True
            self._inbox += _END_OF_INPUT if self._terminal else b""
            self._deliver()
        elif kind == frames.CREDIT:
            self._allowance += frames.NUMBER.unpack(payload)[0]
            if self._pidfd < 0:
                self._read_all()
        elif kind == frames.RESIZE and self._terminal and self._input >= 0:
            self._resize(*frames.SIZE.unpack(payload))
        elif kind == frames.HANG_UP:
            self._signal(signal.SIGHUP)
        elif kind == frames.ABORT:
            self.close()
        self._update()

    def close(self) -> None:
        self._signal(signal.SIGKILL)
        self._close_ends()
        self._forget()

    def _signal(self, number: int) -> None:
        """To its group, for as long as it runs: what it has left belongs to the session."""
        if self._pidfd < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:  # so young that it has no group yet
                signal.pidfd_send_signal(self._pidfd, number)

    def _on_begun(self, events: int) -> None:
        """Its end of this pipe is closed when it has become the program."""
        try:
            reason = os.read(self._problem, _REASON_BYTES_MAX)
        except BlockingIOError:
            return
        self._poll.forget(self._problem)
        os.close(self._problem)
        if reason:
            self._send(frames.NOT_STARTED, json.dumps({"reason": reason.decode()}).encode())
            self.close()
        else:
            self._send(frames.OPENED)
            self._update()

    def _on_exit(self, events: int) -> None:
        """It is waited for at once: the cell's first process cannot end before."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return
        self._poll.forget(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        code = os.waitstatus_to_exitcode(status)
        said = {"code": code if code >= 0 else 128 - code}
        self._send(frames.EXITED, json.dumps(said).encode())
        self._read_all()
        self._update()

    def _update(self) -> None:
        """What to wait for now."""
        for end in {self._input, *self._outputs} - {-1}:
            reads = end in self._outputs and self._allowance > 0
            writes = end == self._input and self._inbox
            self._poll.watch(end, (IN if reads else 0) | (OUT if writes else 0), self._ready(end))

    def _ready(self, end: int) -> Callable[[int], None]:
        def ready(events: int) -> None:
            if end == self._input and self._inbox:
                self._deliver()
            if end in self._outputs and events & ~OUT:
                self._read(end)
            self._update()

        return ready

    def _read_all(self) -> None:
        for end in list(self._outputs):
            self._read(end)

    def _read(self, end: int) -> None:
        """All that is there now. When the program has ended, that is all there is."""
        try:
            while self._allowance > 0:
                data = os.read(end, min(frames.CHUNK_BYTES_MAX, self._allowance))
                if not data:
                    break
                self._allowance -= len(data)
                self._send(self._outputs[end], data)
            else:
                return
        except BlockingIOError:
            if self._pidfd < 0:
                self._end_output(end)
            return
        except OSError as error:
            if error.errno != errno.EIO:  # nobody has the terminal open any more
                raise
        self._end_output(end)
        if not self._terminal:  # which would hang up on a program that is about to end
            self._drop(end)

    def _end_output(self, end: int) -> None:
        """It may stay open: what the program has left running may still write to it."""
        self._poll.forget(end)
        del self._outputs[end]
        self._left.add(end)
        if not self._outputs:
            self._send(frames.EOF)

    def _deliver(self) -> None:
        try:
            while self._inbox and self._input >= 0:
                self._took(os.write(self._input, self._inbox))
        except BlockingIOError:
            return
        except OSError:  # nobody reads it any more
            self._drop(self._input)
        if self._input < 0:
            self._took(len(self._inbox))
        elif self._no_more_input and not self._inbox and not self._terminal:
            self._drop(self._input)

    def _took(self, count: int) -> None:
        del self._inbox[:count]
        self._read_of_inbox += count
        if self._read_of_inbox >= _CREDIT_STEP_BYTES:
            self._send(frames.CREDIT, frames.NUMBER.pack(self._read_of_inbox))
            self._read_of_inbox = 0

    def _drop(self, end: int) -> None:
        self._poll.forget(end)
        os.close(end)
        if end == self._input:
            self._input = -1
        self._outputs.pop(end, None)
        self._left.discard(end)

    def _close_ends(self) -> None:
        for end in {self._input, *self._outputs, *self._left} - {-1}:
            self._drop(end)


def _enter(place: cell.Cell) -> None:
    cell.join_group()
    k.enter(place.pidfd, _NAMESPACES)


def _become(
    place: cell.Cell, told: dict[str, Any], ends: tuple[int, int, int], problem: int
) -> None:
    """In a process of the cell's namespaces. Never returns."""
    command: list[str] = told["command"]
    workdir = told["workdir"] or place.about["workdir"]
    session = place.about["environment"]
    environment = {**told["defaults"], **session, "PWD": workdir, **told["environment"]}
    what = command[0]
    try:
        os.setsid()
        for number, end in enumerate(ends):
            os.dup2(end, number)
        if told["terminal"] is not None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        for each in _DEFAULT_AGAIN:
            signal.signal(each, signal.SIG_DFL)
        files = place.about["open_files_max"]
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        cell.give_up_power(place.filter)
        what = f"working directory {workdir}"
        os.chdir(workdir)
        what = command[0]
        os.execvpe(what, command, environment)  # noqa: S606
    except FileNotFoundError as error:
        reason = "no such program in the sandbox" if what == command[0] else error.strerror
        os.write(problem, f"{what}: {reason}".encode())
    except OSError as error:
        os.write(problem, f"{what}: {error.strerror}".encode())
    finally:
        os._exit(127)
