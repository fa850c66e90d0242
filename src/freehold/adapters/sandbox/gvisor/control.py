"""A word with gVisor's kernel, in place of `runsc kill` and the like.

It listens on a unix socket that only the outer namespaces hold, and is asked in JSON: 2 ms, and no
process that has to start in there.
"""

import asyncio
import os
import signal
import socket
import stat
from collections.abc import Sequence
from typing import Any

import msgspec

from freehold.adapters.sandbox.gvisor import runsc

_SECONDS_MAX = 5.0
_ANSWER_BYTES_MAX = 64 << 10
_CROWDED_PAUSE_SECONDS = 0.005


class Answer(msgspec.Struct, frozen=True):
    success: bool
    err: str = ""
    result: Any = None


class Control:
    """`folder` is where runsc keeps its state. Everything may raise ConnectionError."""

    def __init__(self, folder: str, sandbox_id: str) -> None:
        self._folder = folder
        self._container = runsc.container(sandbox_id)

    @classmethod
    def within(cls, init: int, sandbox_id: str) -> "Control":
        """Of the sandbox whose namespaces' pid 1 is `init`."""
        return cls(f"/proc/{init}/root{runsc.STATE}", sandbox_id)

    async def signal(self, number: signal.Signals) -> None:
        """To the payload."""
        target = {"CID": self._container, "Signo": int(number), "PID": 0, "Mode": 0}
        await self._call("containerManager.Signal", target)

    async def pause(self) -> None:
        await self._call("containerManager.Pause", None)

    async def resume(self) -> None:
        await self._call("containerManager.Resume", None)

    async def execute(
        self, command: list[str], *, user: int, environment: list[str], descriptors: list[int]
    ) -> int:
        """A further process, under the limits of the payload; `descriptors` are 0, 1, and so on.
        Its pid."""
        nothing = ("Permitted", "Inheritable", "Effective", "Bounding", "Ambient")
        wanted = {
            "ContainerID": self._container,
            "argv": command,
            "envv": environment,
            "wd": "/",
            "KUID": user,
            "KGID": user,
            "Capabilities": {f"{kind}Caps": 0 for kind in nothing},
            "NoNewPrivileges": True,
            "GuestFDs": list(range(len(descriptors))),
        }
        answer = await self._call("containerManager.ExecuteAsync", wanted, descriptors)
        return int(answer.result)

    async def forget(self, pid: int) -> None:
        """Of a process that was executed, when it has ended."""
        await self._call("containerManager.WaitPID", {"CID": self._container, "PID": pid})

    async def _call(self, method: str, argument: Any, descriptors: Sequence[int] = ()) -> Answer:
        loop = asyncio.get_running_loop()
        question = msgspec.json.encode({"method": method, "arg": argument})
        try:
            async with asyncio.timeout(_SECONDS_MAX):
                with socket.socket(socket.AF_UNIX) as stream:
                    stream.setblocking(False)
                    with _Found(self._folder, f"runsc-{self._container}.sock") as path:
                        await _connect(stream, path)
                    if descriptors:
                        sent = socket.send_fds(stream, [question], descriptors)
                        question = question[sent:]
                    await loop.sock_sendall(stream, question)
                    answer = await _answer(stream)
        except TimeoutError as error:
            raise ConnectionError(f"gVisor did not answer {method}") from error
        except OSError as error:
            raise ConnectionError(f"gVisor cannot be asked {method}: {error}") from error
        if not answer.success:
            raise ConnectionError(f"gVisor refused {method}: {answer.err}")
        return answer


async def _connect(stream: socket.socket, path: str) -> None:
    while True:
        try:
            return stream.connect(path)
        except BlockingIOError:  # many ask at once; the kernel has no event for that
            await asyncio.sleep(_CROWDED_PAUSE_SECONDS)


async def _answer(stream: socket.socket) -> Answer:
    """One JSON document, without a length before it."""
    loop = asyncio.get_running_loop()
    received = b""
    while len(received) < _ANSWER_BYTES_MAX:
        chunk = await loop.sock_recv(stream, _ANSWER_BYTES_MAX)
        if not chunk:
            break
        received += chunk
        try:
            return msgspec.json.decode(received, type=Answer)
        except msgspec.ValidationError:
            break
        except msgspec.DecodeError:
            continue  # not all of it is here
    raise ConnectionError("gVisor's answer is not one")


class _Found:
    """A path to connect to. No link in it is followed: what is inside may be hostile."""

    def __init__(self, folder: str, name: str) -> None:
        self._folder = folder
        self._name = name
        self._socket = -1

    def __enter__(self) -> str:
        folder = os.open(self._folder, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
            self._socket = os.open(self._name, flags, dir_fd=folder)
        finally:
            os.close(folder)
        if not stat.S_ISSOCK(os.fstat(self._socket).st_mode):
            self.__exit__()
            raise ConnectionError(f"{self._name} is no socket")
        return f"/proc/self/fd/{self._socket}"

    def __exit__(self, *_: object) -> None:
        os.close(self._socket)
