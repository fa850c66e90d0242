"""The driver's side of the forker: one child process, its requests and its news."""

import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import freehold
from freehold.ports.sandbox import SandboxFailed

_PACKET_BYTES_MAX = 1 << 20
_ANSWER_SECONDS_MAX = 15.0
_REQUESTS_MAX = 8  # at once: it works on one at a time, and its socket holds a few dozen
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop());"
    " from freehold.adapters.sandbox.template import forker; forker.main()"
)


class TemplateLost(SandboxFailed):
    """Nothing can be forked off this template. An ordinary start still can be made."""


class ForkServer:
    """Started at first need, and again if it dies; with it die its templates, and no session.

    `on_news` hears what becomes of templates: the message of the forker, or None for all of them.
    """

    def __init__(self, on_news: Callable[[dict[str, Any] | None], None]) -> None:
        self._on_news = on_news
        self._child: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._starting = asyncio.Lock()
        self._numbers = itertools.count()
        self._answers: dict[int, asyncio.Queue[dict[str, Any] | None]] = {}
        self._places = asyncio.Semaphore(_REQUESTS_MAX)

    async def request(self, do: str, descriptors: Sequence[int] = (), **what: Any) -> "Answers":
        """Raises TemplateLost, also while the answers are waited for."""
        async with self._starting:
            if self._control is None:
                await self._start()
        await self._places.acquire()
        number = next(self._numbers)
        answers = Answers(self._close_answers, number)
        self._answers[number] = answers.queue
        message = json.dumps({"do": do, "number": number, **what}).encode()
        try:
            if self._control is None:
                raise TemplateLost("the process that forks templates ended")
            socket.send_fds(self._control, [message], list(descriptors))
        except OSError as error:
            answers.close()
            raise TemplateLost(f"the process that forks templates: {error}") from error
        except BaseException:
            answers.close()
            raise
        return answers

    def _close_answers(self, number: int) -> None:
        if self._answers.pop(number, None) is not None:
            self._places.release()

    async def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        source = str(Path(freehold.__file__).parents[1])
        with theirs:
            self._child = subprocess.Popen(  # noqa: ASYNC220 - a vfork, once
                [sys.executable, "-I", "-S", "-c", _PROGRAM, str(theirs.fileno()), source],
                pass_fds=[theirs.fileno()],
                env={"PATH": os.environ.get("PATH", os.defpath)},
                cwd="/",
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the platform, which then closes this
            )
        ours.setblocking(False)
        hello = b""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS_MAX):
                hello = await asyncio.get_running_loop().sock_recv(ours, _PACKET_BYTES_MAX)
        except TimeoutError:
            pass
        said = json.loads(hello) if hello else {"error": "its process did not start"}
        self._control = ours
        if "error" in said:
            self.close()
            raise TemplateLost(f"templates cannot be had here: {said['error']}")
        asyncio.get_running_loop().add_reader(ours, self._on_packet)

    def _on_packet(self) -> None:
        assert self._control
        try:
            packet = self._control.recv(_PACKET_BYTES_MAX)
        except BlockingIOError:
            return
        except ConnectionResetError:
            packet = b""
        if not packet:
            self.close()
            self._on_news(None)
            return
        message = json.loads(packet)
        number = message.pop("number", None)
        if number is None:
            self._on_news(message)
        elif number in self._answers:
            self._answers[number].put_nowait(message)

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def close(self) -> None:
        if self._control:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
            self._control = None
        if self._child:
            self._child.kill()
            self._child.wait()
            self._child = None
        for queue in self._answers.values():
            queue.put_nowait(None)


class Answers:
    """To one request. A context: what is left unread is thrown away."""

    def __init__(self, closed: Callable[[int], None], number: int) -> None:
        self.queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._closed = closed
        self.number = number

    def __enter__(self) -> "Answers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._closed(self.number)

    async def next(self) -> dict[str, Any]:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS_MAX):
                answer = await self.queue.get()
        except TimeoutError:
            raise TemplateLost("the process that forks templates does not answer") from None
        if answer is None:
            raise TemplateLost("the process that forks templates ended")
        if "error" in answer:
            raise TemplateLost(answer["error"])
        return answer
