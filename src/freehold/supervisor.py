"""`freehold up`: Postgres, the node and the API workers, each watched and restarted alone."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

log = logging.getLogger("freehold.supervisor")

_RESTART_PAUSE_SECONDS_MAX = 5.0
_STEADY_SECONDS = 10.0
_WORDS_BYTES_MAX = 4096


class DidNotStart(Exception):
    """A part of the platform did not come up; the message says why, for people."""


class Child:
    """One process of the platform, with two pipes.

    Through one it gets its orders (a line) and later, when that pipe closes, learns that we died.
    Through the other it says that it is ready ("1"), or why it cannot be ("0" and words).
    """

    def __init__(
        self,
        name: str,
        arguments: list[str],
        *,
        environment: Mapping[str, str],
        descriptors: tuple[int, ...] = (),
        start_seconds_max: float = 60,
    ) -> None:
        self.name = name
        self._arguments, self._environment = arguments, environment
        self._descriptors, self._start_seconds_max = descriptors, start_seconds_max
        self._process: asyncio.subprocess.Process | None = None
        self._orders = b""
        self._orders_pipe = self._ready_pipe = -1
        self._watching: asyncio.Task[None] | None = None

    async def launch(self) -> None:
        """It loads its code, and waits for its orders."""
        theirs, self._orders_pipe = os.pipe()
        self._ready_pipe, ready = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "freehold.app", *self._arguments,
                "--orders", str(theirs), "--ready", str(ready),
                env=dict(self._environment), pass_fds=(*self._descriptors, theirs, ready),
                stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(theirs)
            os.close(ready)

    async def start(self, orders: bytes) -> None:
        """Until it is ready; from then on it is restarted whenever it ends by itself."""
        assert self._process is not None, "launch comes first"
        self._orders = orders
        await self._until_ready()
        self._watching = asyncio.create_task(self._watch())

    async def _until_ready(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._orders_pipe, self._orders + b"\n")
        said = await _heard(self._ready_pipe, self._start_seconds_max)
        if said == b"1":
            os.close(self._ready_pipe)
            self._ready_pipe = -1
            return
        await self._end(signal.SIGKILL, 5)
        why = said[1:].decode(errors="replace").strip() if said else "its own words are above"
        raise DidNotStart(f"the {self.name} process did not start: {why}")

    async def _watch(self) -> None:
        pause = 0.1
        while True:
            assert self._process is not None
            started = time.monotonic()
            code = await self._process.wait()
            self._close_pipes()
            log.error("the %s process ended (%s): starting it again", self.name, _how(code))
            if time.monotonic() - started > _STEADY_SECONDS:
                pause = 0.1
            while True:
                try:
                    await self.launch()
                    await self._until_ready()
                    break
                except (DidNotStart, OSError) as error:
                    log.error("%s; trying again in %.1f s", error, pause)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _RESTART_PAUSE_SECONDS_MAX)

    async def stop(self, seconds_max: float, hurry: "asyncio.Future[str] | None" = None) -> None:
        """SIGTERM, then patience (none any more once `hurry` is done), then SIGKILL."""
        await cancelled(self._watching)
        await self._end(signal.SIGTERM, seconds_max, hurry)

    async def _end(
        self,
        number: signal.Signals,
        seconds_max: float,
        hurry: "asyncio.Future[str] | None" = None,
    ) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            exited = asyncio.ensure_future(process.wait())
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            either: list[asyncio.Future[Any]] = [exited] if hurry is None else [exited, hurry]
            await asyncio.wait(either, timeout=seconds_max, return_when=asyncio.FIRST_COMPLETED)
            if not exited.done():
                log.warning("the %s process is ended by force", self.name)
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await exited
        self._close_pipes()

    def _close_pipes(self) -> None:
        for pipe in (self._orders_pipe, self._ready_pipe):
            if pipe >= 0:
                os.close(pipe)
        self._orders_pipe = self._ready_pipe = -1


async def _heard(pipe: int, seconds_max: float) -> bytes:
    """All that is said until the other end closes; b"" when nothing is said in time."""
    loop = asyncio.get_running_loop()
    said = bytearray()
    ended = asyncio.Event()

    def read() -> None:
        data = os.read(pipe, _WORDS_BYTES_MAX)
        said.extend(data)
        if not data or len(said) > _WORDS_BYTES_MAX:
            ended.set()

    loop.add_reader(pipe, read)
    try:
        async with asyncio.timeout(seconds_max):
            await ended.wait()
    except TimeoutError:
        return b"0it was not ready in %d s" % seconds_max
    finally:
        loop.remove_reader(pipe)
    return bytes(said)


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


async def keep_running(
    name: str, wait: Callable[[], Awaitable[None]], start: Callable[[], Awaitable[object]]
) -> None:
    """Start something again each time that `wait` returns. Cancelled at the platform's stop."""
    pause = 0.1
    while True:
        await wait()
        log.error("%s ended: starting it again", name)
        started = time.monotonic()
        try:
            await start()
        except Exception:  # whatever stands in its way may pass: keep trying, and say so
            log.exception("%s did not start; trying again in %.1f s", name, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _RESTART_PAUSE_SECONDS_MAX)
        else:
            pause = 0.1 if time.monotonic() - started > _STEADY_SECONDS else pause


async def cancelled(task: "asyncio.Task[Any] | None") -> None:
    """Cancel, and wait until it is over."""
    if task is not None:
        task.cancel()
        await asyncio.wait([task])


def listening_socket(host: str, port: int) -> socket.socket:
    """Bound before any worker starts and shared by all: a restarted worker loses no connection."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        # Here, not at bind, is said that another process listens with the same option.
        sock.listen(2048)
    except (OSError, OverflowError) as error:
        sock.close()
        why = getattr(error, "strerror", None) or str(error)
        raise DidNotStart(
            f"cannot listen on {host}:{port} ({why}); choose another --port, or 0"
        ) from None
    sock.setblocking(False)
    return sock


class StopSignals:
    """SIGTERM and Ctrl-C: the first asks for the end, the second not to wait for it."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[str] = loop.create_future()
        self.second: asyncio.Future[str] = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask, number.name)

    def _ask(self, name: str) -> None:
        for asked in (self.first, self.second):
            if not asked.done():
                asked.set_result(name)
                return
