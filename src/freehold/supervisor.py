"""`freehold up`: Postgres, the node and the API workers, each watched and restarted alone."""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

log = logging.getLogger("freehold.supervisor")

_RESTART_PAUSE_SECONDS_MAX = 5.0
_STEADY_SECONDS = 10.0


class AlreadyRunning(Exception):
    """Another `freehold up` holds this state directory."""


class DidNotStart(Exception):
    """A process of ours ended before it was ready; its own words are on standard error."""


class StateLock:
    """One platform for each state directory: the kernel frees the lock whenever its holder dies."""

    def __init__(self, state: Path) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self._path = state / "lock"
        self._file = self._path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise AlreadyRunning(
                f"Freehold runs on {state} already (process {holder}). "
                "Stop it first, or choose another directory with --state."
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        self._file.truncate(0)
        self._file.close()


class Child:
    """One process of the platform. It says that it is ready by closing a pipe with a byte in it."""

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
        self._watching: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Until it is ready; from then on it is restarted whenever it ends by itself."""
        await self._launch()
        self._watching = asyncio.create_task(self._watch())

    async def _launch(self) -> None:
        reading, writing = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "freehold.app", *self._arguments, "--ready", str(writing),
                env=dict(self._environment), pass_fds=(*self._descriptors, writing),
                stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(writing)
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            if not await _says_ready(pipe.fileno(), self._start_seconds_max):
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()
                raise DidNotStart(f"the {self.name} process did not start")

    async def _watch(self) -> None:
        pause = 0.1
        while True:
            assert self._process is not None
            started = time.monotonic()
            code = await self._process.wait()
            if self._stopping:
                return
            log.error("the %s process ended (%s): starting it again", self.name, _how(code))
            if time.monotonic() - started > _STEADY_SECONDS:
                pause = 0.1
            while True:
                try:
                    await self._launch()
                    break
                except DidNotStart as error:
                    log.error("%s; trying again in %.1f s", error, pause)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _RESTART_PAUSE_SECONDS_MAX)

    async def stop(self, seconds_max: float) -> None:
        """SIGTERM, then patience, then SIGKILL."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(seconds_max):
                    await process.wait()
            except TimeoutError:
                log.warning("the %s process did not stop in %.0f s", self.name, seconds_max)
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching


async def _says_ready(descriptor: int, seconds_max: float) -> bool:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        async with asyncio.timeout(seconds_max):
            await readable.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, 1) == b"1"


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


def listening_socket(host: str, port: int) -> socket.socket:
    """Bound before any worker starts and shared by all: a restarted worker loses no connection."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise DidNotStart(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another --port, or 0"
        ) from None
    sock.listen(2048)
    sock.setblocking(False)
    return sock


async def until_stopped() -> str:
    """The name of the signal that asked for the end."""
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[str] = loop.create_future()

    def ask(name: str) -> None:
        if not asked.done():
            asked.set_result(name)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask, number.name)
    return await asked


def end_with_parent(number: signal.Signals) -> None:
    """Have the kernel send us this signal when the process that started us dies (Linux)."""
    if sys.platform != "linux":
        return
    import ctypes

    parent = os.getppid()
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, int(number), 0, 0, 0)
    if os.getppid() != parent or parent == 1:
        os.kill(os.getpid(), number)
