"""One command in a sandbox: its output to the log, its way out through the proxy, its end."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from freehold.ports.egress import Destination, Egress
from freehold.ports.sandbox import Exit, Limits, Mount, Sandbox, SandboxDriver, SandboxSpec
from freehold.services.runtime.build.log import BuildLog
from freehold.services.runtime.build.model import BuildFailed
from freehold.services.runtime.build.tree import TooLarge, measure

_PROXY_PORT = 3128
_MEASURE_SECONDS = 2.0
_PIPE_BYTES = 64 << 10


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """`work` is a directory on the host that the task writes to, seen inside at `work_inside`."""

    command: tuple[str, ...]
    environment: dict[str, str]
    mounts: tuple[Mount, ...]
    work: Path
    work_inside: str
    destinations: frozenset[Destination]
    limits: Limits
    seconds_max: float
    bytes_max: int
    entries_max: int


async def run(
    task: Task, *, driver: SandboxDriver, egress: Egress, staged: Path, log: BuildLog
) -> Exit:
    """Nothing of it runs on when this returns or raises. Raises BuildFailed at a limit."""
    proxy = f"http://127.0.0.1:${{LOOPBACK_{_PROXY_PORT}}}"
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), proxy)
    identifier = f"build-{secrets.token_hex(8)}"
    output = staged / f"{identifier}.output"
    async with _output_to(log, output):
        sandbox = await driver.start(
            SandboxSpec(
                id=identifier,
                command=task.command,
                environment={"LANG": "C.UTF-8", **proxies, **task.environment},
                mounts=(*task.mounts, Mount(str(task.work), task.work_inside, writable=True)),
                workdir=task.work_inside,
                directory=str(staged / identifier),
                output=str(output),
                limits=task.limits,
                loopback_ports=(_PROXY_PORT,),
            )
        )
        try:
            listener = sandbox.listeners[_PROXY_PORT]
            async with egress.serve(listener, task.destinations, refused=log.note):
                return await _end(sandbox, task)
        finally:
            await asyncio.shield(sandbox.stop())


async def _end(sandbox: Sandbox, task: Task) -> Exit:
    end = asyncio.create_task(sandbox.wait())
    growth = asyncio.create_task(_outgrown(task))
    try:
        await asyncio.wait(
            {end, growth}, timeout=task.seconds_max, return_when=asyncio.FIRST_COMPLETED
        )
        if end.done():
            return end.result()
        if growth.done():
            raise BuildFailed(growth.result())
        raise BuildFailed(f"the build took longer than {task.seconds_max:.0f} s")
    finally:
        for each in (end, growth):
            each.cancel()
        await asyncio.gather(end, growth, return_exceptions=True)


async def _outgrown(task: Task) -> str:
    """Returns when the disk was filled too far. No file system here limits a directory, so that
    this looks, now and then, while somebody else's code may be writing.
    """
    while True:
        await asyncio.sleep(_MEASURE_SECONDS)
        try:
            bytes_total, entries = await asyncio.to_thread(measure, task.work)
        except TooLarge:
            return "the build made directories that are too deep"
        if bytes_total > task.bytes_max:
            return f"the build wrote more than {task.bytes_max >> 20} MiB"
        if entries > task.entries_max:
            return f"the build wrote more than {task.entries_max} files"


@contextlib.asynccontextmanager
async def _output_to(log: BuildLog, path: Path) -> AsyncIterator[None]:
    """A FIFO at `path` whose readers we are."""
    os.mkfifo(path, 0o600)
    # Both directions: a FIFO without a writer is at its end, and there is none yet.
    pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    loop = asyncio.get_running_loop()

    def read() -> bool:
        try:
            log.feed(os.read(pipe, _PIPE_BYTES))
        except BlockingIOError:
            return False
        return True

    loop.add_reader(pipe, read)
    try:
        yield
    finally:
        loop.remove_reader(pipe)
        for _ in range(1024):  # a pipe holds less; whoever could fill it again is gone
            if not read():
                break
        os.close(pipe)
        log.flush()
        path.unlink(missing_ok=True)
