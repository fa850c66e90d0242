"""Holds one further program in a session: starts it, is told signals and sizes, says its end.

Descriptor 3 is for what is said, 4 for what is told.

gVisor starts processes in a sandbox on request, but not under its refusals, nor with a terminal of
the sandbox's own; so this stands in between. First it is told, with the size in front, what to
start (JSON); then words of five bytes, "S" and a signal for the program's process group, "R" and
the rows and columns of its terminal. It says "failed TEXT", or "started" and then "ended CODE".
When nobody is there to tell it anything any more, the program is killed.

Run by any Python from 3.10 on: standard library only. What is imported is all imported at once.
"""
# ruff: noqa: PTH123, S606

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import resource
import select
import signal
import struct
import termios

SAID, TOLD = 3, 4
WORD = struct.Struct(">cHH")
_CHUNK_BYTES = 1 << 16
_SET_DUMPABLE, _SET_SECCOMP, _SET_NO_NEW_PRIVS, _FILTER = 4, 22, 38, 2
_DESCRIPTORS_MAX = 4096


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0)
    wanted = json.loads(_exactly(int.from_bytes(_exactly(4), "big")))
    master = slave = -1
    if wanted["terminal"]:
        master, slave = os.openpty()
        _resize(slave, *wanted["terminal"])
    problem, problem_end = os.pipe()
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    child = os.fork()
    if child == 0:
        try:
            _begin(wanted, slave, problem_end, libc)
        except OSError as error:
            os.write(problem_end, (error.filename or error.strerror or "").encode())
        finally:
            os._exit(127)
    os.close(problem_end)
    if slave >= 0:
        os.close(slave)
    failed = b""
    while chunk := os.read(problem, _CHUNK_BYTES):
        failed += chunk
    if failed:
        os.write(SAID, b"failed " + failed)
        return
    os.write(SAID, b"started\n")
    if master < 0:
        _let_go_of_standard()
    code = _Holder(child, master, woken).run()
    os.write(SAID, b"ended %d\n" % (code if code >= 0 else 128 - code))


class _Holder:
    def __init__(self, child: int, master: int, woken: int) -> None:
        self._child, self._master, self._woken = child, master, woken
        self._words = b""
        self._typed = self._shown = b""
        self._reads_input = master >= 0

    def run(self) -> int:
        """How the program ended."""
        for descriptor in (0, 1, self._master):
            if self._master >= 0:
                os.set_blocking(descriptor, False)
        while True:
            ready = self._ready()
            if TOLD in ready:
                self._be_told()
            if self._master >= 0:
                self._carry(ready)
            if self._woken in ready:
                os.read(self._woken, _CHUNK_BYTES)
                pid, status = os.waitpid(self._child, os.WNOHANG)
                if pid:
                    self._show_the_rest()
                    return os.waitstatus_to_exitcode(status)

    def _ready(self) -> set[int]:
        poll = select.poll()
        poll.register(TOLD, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        if self._master >= 0:
            events = (0 if self._shown else select.POLLIN) | (select.POLLOUT if self._typed else 0)
            if events:
                poll.register(self._master, events)
            if self._shown:
                poll.register(1, select.POLLOUT)
            if self._reads_input and not self._typed:
                poll.register(0, select.POLLIN)
        return {descriptor for descriptor, _ in poll.poll()}

    def _be_told(self) -> None:
        chunk = os.read(TOLD, _CHUNK_BYTES)
        if not chunk:
            self._signal(signal.SIGKILL)
            os._exit(1)
        self._words += chunk
        while len(self._words) >= WORD.size:
            kind, one, other = WORD.unpack_from(self._words)
            self._words = self._words[WORD.size :]
            if kind == b"S":
                self._signal(one)
            elif kind == b"R" and self._master >= 0:
                _resize(self._master, one, other)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child, number)

    def _carry(self, ready: set[int]) -> None:
        with contextlib.suppress(BlockingIOError):
            if 0 in ready and not self._typed:
                self._typed = os.read(0, _CHUNK_BYTES)
                self._reads_input = bool(self._typed)
        if self._master in ready:
            with contextlib.suppress(OSError):  # nobody inside has it open any more
                self._typed = self._typed[os.write(self._master, self._typed) :]
        if self._master in ready and not self._shown:
            try:
                self._shown = os.read(self._master, _CHUNK_BYTES)
            except BlockingIOError:
                pass
            except OSError:
                self._lose_terminal()
        if 1 in ready or self._shown:
            with contextlib.suppress(BlockingIOError):
                self._shown = self._shown[os.write(1, self._shown) :]

    def _lose_terminal(self) -> None:
        os.close(self._master)
        self._master = -1

    def _show_the_rest(self) -> None:
        """What is in the terminal still."""
        if self._master < 0:
            return
        os.set_blocking(1, True)
        with contextlib.suppress(OSError):
            while True:
                if not self._shown:
                    self._shown = os.read(self._master, _CHUNK_BYTES)
                if not self._shown:
                    return
                self._shown = self._shown[os.write(1, self._shown) :]


def _begin(wanted: dict[str, object], slave: int, problem: int, libc: ctypes.CDLL) -> None:
    """Becomes the program. What goes wrong is an OSError whose file name says it."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o022)
    os.setsid()
    if slave >= 0:
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for target in range(3):
            os.dup2(slave, target)
    os.closerange(3, problem)
    os.closerange(problem + 1, _DESCRIPTORS_MAX)
    environment: dict[str, str] = wanted["environment"]  # type: ignore[assignment]
    if wanted["inherits"]:
        environment = {**_environment_in(str(wanted["inherits"])), **environment}
    try:
        os.chdir(str(wanted["workdir"]))
    except OSError as error:
        raise OSError(0, "", f"working directory {wanted['workdir']}: {error.strerror}") from None
    for name, limit in wanted["limits"].items():  # type: ignore[attr-defined]
        resource.setrlimit(getattr(resource, name), (limit, limit))
    program = bytes.fromhex(str(wanted["filter"]))
    content = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(content))
    libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(_SET_SECCOMP, _FILTER, ctypes.c_char_p(head), 0, 0):
        raise OSError(0, "", "its system calls cannot be filtered")
    _become(list(wanted["command"]), environment)  # type: ignore[call-overload]


def _become(command: list[str], environment: dict[str, str]) -> None:
    name = command[0]
    folders = [""] if "/" in name else environment.get("PATH", "/usr/bin:/bin").split(":")
    refused = f"{name}: no such program in the sandbox"
    for folder in folders:
        try:
            os.execve(f"{folder}/{name}" if folder else name, command, environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            refused = f"{name}: {error.strerror}"
            if error.errno != errno.EACCES:
                break
    raise OSError(0, "", refused)


def _environment_in(path: str) -> dict[str, str]:
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise OSError(0, "", f"the session's environment: {error.strerror}") from None
    with file:
        pairs = (os.fsdecode(entry).partition("=") for entry in file.read().split(b"\0"))
    return {name: value for name, sign, value in pairs if name and sign}


def _let_go_of_standard() -> None:
    """Those are the program's alone: who reads them sees when it has closed them."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for target in range(3):
        os.dup2(nothing, target)
    os.close(nothing)


def _resize(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _exactly(size: int) -> bytes:
    content = b""
    while len(content) < size:
        chunk = os.read(TOLD, size - len(content))
        if not chunk:
            os._exit(1)
        content += chunk
    return content


if __name__ == "__main__":
    main()
