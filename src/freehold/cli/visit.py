"""One visit to a shell in a session. Imported when there is one: asyncio is slow to come."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from freehold.cli.failure import CliError
from freehold.cli.platform import Platform

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

DETACH = b"\x1d"  # Ctrl-]
STDIN, STDOUT, STDERR, STATUS, RESIZE, CLOSE = 0, 1, 2, 3, 4, 0xFF
TAKEN_OVER = 4000

_PIECE_BYTES_MAX = 32 * 1024
_END_OF_INPUT = b"\x04"
_SAY_AGAIN_SECONDS = 0.5
_CLEAR = b"\x1b[H\x1b[2J"
_RETRIES = (0.1, 0.5, 1, 2, 4, 8, 15, 15, 15)
_SESSION_HEADER = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"


class Visit:
    """`run` gives the shell's exit code, or None: it was left running."""

    def __init__(
        self,
        platform: Platform,
        arn: str,
        session_id: str,
        qualifier: str | None,
        shell_id: str,
    ) -> None:
        self._platform, self._arn, self._session_id = platform, arn, session_id
        self._query = {"shellId": shell_id, **({"qualifier": qualifier} if qualifier else {})}
        self.shell_id = shell_id
        self._interactive = sys.stdin.isatty()
        self._typed: asyncio.Queue[bytes] = asyncio.Queue(4)

    def visited(self) -> int | None:
        return asyncio.run(self.run())

    async def run(self) -> int | None:
        threading.Thread(
            target=_read_input, args=(self._typed, asyncio.get_running_loop()), daemon=True
        ).start()
        ended = await self._once()
        while isinstance(ended, _Broken):
            ended = await self._again(ended)
        return ended

    async def _again(self, broken: "_Broken") -> "int | _Broken | None":
        """Raises CliError when it does not come back."""
        if not self._interactive:  # what is shown again would be read twice
            raise CliError(f"The connection broke: {broken}", code="ConnectionLost")
        for pause in _RETRIES:
            await asyncio.sleep(pause)
            try:
                return await self._once(_CLEAR)
            except CliError as error:
                if error.code not in ("NoPlatform", "ConnectionLost"):
                    raise
        raise CliError(
            f"The connection broke: {broken}",
            code="ConnectionLost",
            hint=f"The shell may go on: --session {self._session_id} --shell {self.shell_id}",
        )

    async def _once(self, first: bytes = b"") -> "int | _Broken | None":
        from freehold.cli.sockets import opened

        connection = self._platform.connection
        headers = {_SESSION_HEADER: self._session_id}
        async with opened(connection, self._arn, "/ws/shells", self._query, **headers) as socket:
            _write(sys.stdout, first)
            typing = asyncio.create_task(self._type(socket))
            showing = asyncio.create_task(_show(socket))
            with self._resizing(socket):
                await asyncio.wait((typing, showing), return_when=asyncio.FIRST_COMPLETED)
            if not showing.done():
                await asyncio.wait((showing,), timeout=0)
            for task in (typing, showing):
                task.cancel()
            await asyncio.wait((typing, showing))
            return showing.result() if not showing.cancelled() else None

    async def _type(self, socket: "ClientConnection") -> None:
        """Until the key that detaches."""
        from websockets.exceptions import ConnectionClosed

        with contextlib.suppress(ConnectionClosed):
            last = b""
            while data := await self._typed.get():
                if self._interactive and DETACH in data:
                    return
                await socket.send(bytes((STDIN,)) + data)
                last = data
            if not last.endswith(b"\n"):
                await socket.send(bytes((STDIN,)) + b"\n")
            # Said again until it is heard: a terminal that changes its mode, as the shell's does
            # around each command, loses it.
            while True:
                await socket.send(bytes((STDIN,)) + _END_OF_INPUT)
                await asyncio.sleep(_SAY_AGAIN_SECONDS)
        await asyncio.Event().wait()

    @contextlib.contextmanager
    def _resizing(self, socket: "ClientConnection") -> Iterator[None]:
        if not self._interactive:
            yield
            return
        loop = asyncio.get_running_loop()
        tasks = set()

        def tell() -> None:
            task = loop.create_task(_resize(socket))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        loop.add_signal_handler(signal.SIGWINCH, tell)
        try:
            tell()
            yield
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)


class _Broken(str):
    """Why a connection ended that should have gone on."""


async def _resize(socket: "ClientConnection") -> None:
    from websockets.exceptions import ConnectionClosed

    size = os.get_terminal_size(sys.stdin.fileno())
    document = json.dumps({"width": size.columns or 80, "height": size.lines or 24})
    with contextlib.suppress(ConnectionClosed):
        await socket.send(bytes((RESIZE,)) + document.encode())


async def _show(socket: "ClientConnection") -> int | _Broken:
    """Until the shell or the connection ends."""
    from websockets.exceptions import ConnectionClosed

    words = ""
    try:
        while True:
            message = await socket.recv()
            assert isinstance(message, bytes), "the platform sends binary messages alone"
            channel, payload = message[0], message[1:]
            if channel == STDOUT:
                _write(sys.stdout, payload)
            elif channel == STDERR:
                words = payload.decode(errors="replace").strip()
            elif channel == CLOSE:
                raise CliError(f"The shell is gone: {words}", code="SessionEnded")
            elif channel == STATUS and (code := _exit_code(json.loads(payload))) is not None:
                return code
    except ConnectionClosed as closed:
        if closed.rcvd is not None and closed.rcvd.code == TAKEN_OVER:
            raise CliError(
                "Another client has opened this shell, and has it now.", code="TakenOver"
            ) from closed
        return _Broken(closed.rcvd.reason if closed.rcvd is not None else "without a word")


def _exit_code(status: dict[str, Any]) -> int | None:
    """None for a status that tells of the beginning."""
    if status.get("metadata", {}).get("shellId"):
        return None
    if status.get("status") == "Success":
        return 0
    for cause in status.get("details", {}).get("causes", ()):
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise CliError(status.get("message", "the shell failed"), code="ShellFailed")


def _read_input(typed: "asyncio.Queue[bytes]", loop: asyncio.AbstractEventLoop) -> None:
    """In a thread: standard input may be a file, which no event loop can wait for."""
    with contextlib.suppress(RuntimeError, OSError):  # the loop has ended, and so does this
        while True:
            data = os.read(sys.stdin.fileno(), _PIECE_BYTES_MAX)
            asyncio.run_coroutine_threadsafe(typed.put(data), loop).result()
            if not data:
                return


@contextlib.contextmanager
def raw_terminal() -> Iterator[None]:
    """Every key goes to the session, Ctrl-C as well."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin, termios.TCSADRAIN)  # what was typed already counts
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _write(file: Any, data: bytes) -> None:
    file.buffer.write(data)
    file.buffer.flush()
