"""Forks programs into sandboxes, and tells how they end: run as a program by `starter.py`.

    python starter_child.py CONTROL FILTER      (descriptors)

Each request on CONTROL carries descriptors: the command's own end of a socket, a file with the
request (`birth.py` says what is in it), and those that are handed on. On the command's socket is
said that it started or why not, and how it ended; a number that comes there is a signal for its
process group, and the end of it means that nobody cares any more. FILTER is a seccomp program, or
empty. Standard library only.
"""

import contextlib
import json
import os
import select
import signal
import socket

from freehold.adapters.sandbox.execution import birth

DESCRIPTORS_MAX = 6
_MESSAGE_BYTES_MAX = 4096


class _Command:
    """`joiner` enters the namespaces and forks the command, which then is a child of ours."""

    def __init__(self, reply: socket.socket, report: socket.socket, joiner: int) -> None:
        self.reply = reply
        self.report = report
        self.joiner = joiner
        self.pid = 0
        self.problem = ""
        self.began = False
        self.abandoned = False
        self.terminal: list[int] = []

    @property
    def starting(self) -> bool:
        return self.report.fileno() >= 0

    def say(self, message: dict[str, object], descriptors: list[int]) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more
            socket.send_fds(self.reply, [json.dumps(message).encode()], descriptors)

    def signal(self, number: int) -> None:
        """The number is still the group's: we have not waited for its leader yet."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.pid and not self.starting:
                os.killpg(self.pid, number)
            elif self.pid or self.joiner:
                os.kill(self.pid or self.joiner, signal.SIGKILL)

    def close(self) -> None:
        self.reply.close()
        self.report.close()
        for descriptor in self.terminal:
            os.close(descriptor)
        self.terminal.clear()


class Starts:
    def __init__(self, control: socket.socket, program: bytes) -> None:
        self._control = control
        self._program = program
        self._poll = select.poll()
        self._commands: dict[int, _Command] = {}
        """By the numbers of its two sockets, as long as there is something to hear."""
        self._live: set[_Command] = set()
        self._woken, self._wake = socket.socketpair()
        for each in (self._woken, self._wake):
            each.setblocking(False)

    def run(self) -> None:
        """Until the driver has gone; then all that it started is killed (see `birth`)."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        self._poll.register(self._control, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)
        while True:
            for number, _ in self._poll.poll():
                if number == self._control.fileno():
                    if not self._take_request():
                        return
                elif number == self._woken.fileno():
                    self._woken.recv(_MESSAGE_BYTES_MAX)
                    self._reap()
                elif command := self._commands.get(number):
                    if number == command.report.fileno():
                        self._take_report(command)
                    else:
                        self._take_signal(command)

    def _take_request(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(
            self._control, 16, DESCRIPTORS_MAX, socket.MSG_CMSG_CLOEXEC
        )
        if not message:
            return False
        reply = socket.socket(fileno=descriptors[0])
        reply.setblocking(False)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            joiner = os.fork()
        except OSError as error:
            _Command(reply, ours, 0).say({"failed": f"no process can be made: {error}"}, [])
            reply.close()
            ours.close()
        else:
            if joiner == 0:
                birth.join(theirs, descriptors[1:], self._program)  # never returns
            command = _Command(reply, ours, joiner)
            self._live.add(command)
            for each in (reply, ours):
                self._commands[each.fileno()] = command
                self._poll.register(each, select.POLLIN)
        finally:
            theirs.close()
            for descriptor in descriptors[1:]:
                os.close(descriptor)
        return True

    def _take_report(self, command: _Command) -> None:
        """Of the joiner, then of the command itself, up to the moment when it is the program."""
        while command.starting:
            try:
                message, descriptors, _, _ = socket.recv_fds(
                    command.report, _MESSAGE_BYTES_MAX, 1, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError:  # it died while a word of ours was still unread
                message, descriptors = b"", []
            kind, _, rest = message.partition(b" ")
            if kind == birth.PID:
                command.pid = int(rest)
            elif kind == birth.TERMINAL:
                command.terminal += descriptors
            elif kind == birth.BEGINS:
                command.began = True
            elif kind == birth.PROBLEM:
                command.problem = rest.decode(errors="replace")
            elif not message:
                self._started(command)

    def _started(self, command: _Command) -> None:
        """Its end of the report is closed: it has become the program, or is dead."""
        self._forget(command.report)
        command.report.close()
        if command.problem or not command.began:
            command.say({"failed": command.problem or "it was ended while it was started"}, [])
        else:
            command.say({"started": True}, command.terminal)
        for descriptor in command.terminal:
            os.close(descriptor)
        command.terminal.clear()
        if not command.pid:
            self._drop(command)  # it never was born

    def _take_signal(self, command: _Command) -> None:
        try:
            message = command.reply.recv(16)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if message:
            command.signal(int(message))
        else:
            self._forget(command.reply)
            command.abandoned = True
            self._take_report(command)  # there may be a pid
            command.signal(signal.SIGKILL)

    def _reap(self) -> None:
        ended = []
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                ended.append(found)
        joiners = {each.joiner: each for each in self._live}
        codes = {pid: os.waitstatus_to_exitcode(status) for pid, status in ended}
        for pid in codes:
            if joined := joiners.get(pid):
                joined.joiner = 0
                self._joined(joined)
        for command in [each for each in self._live if each.pid in codes]:
            self._take_report(command)
            code = codes[command.pid]
            command.say({"ended": code if code >= 0 else 128 - code}, [])
            self._drop(command)

    def _joined(self, command: _Command) -> None:
        """Its joiner is gone: from here on the command is a child of ours."""
        self._take_report(command)
        if not command.starting:
            return
        if not command.pid:
            # Whatever was born hears no word to go on, and ends.
            command.say({"failed": "it was ended while it was started"}, [])
            self._drop(command)
        elif command.abandoned:
            command.signal(signal.SIGKILL)
        else:
            with contextlib.suppress(OSError):
                command.report.send(birth.GO)

    def _drop(self, command: _Command) -> None:
        for each in (command.reply, command.report):
            self._forget(each)
        command.close()
        self._live.discard(command)

    def _forget(self, end: socket.socket) -> None:
        if self._commands.pop(end.fileno(), None):
            self._poll.unregister(end)


def main(control: int, filter_file: int) -> None:
    os.closerange(3, min(control, filter_file))
    os.closerange(min(control, filter_file) + 1, max(control, filter_file))
    os.closerange(max(control, filter_file) + 1, 1 << 16)
    with open(filter_file, "rb") as file:
        program = file.read()
    os.set_inheritable(control, False)
    birth.prepare()
    Starts(socket.socket(fileno=control), program).run()
