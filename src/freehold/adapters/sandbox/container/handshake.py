"""What bubblewrap and the driver tell each other while a sandbox is set up."""

import asyncio
import contextlib
import os
from collections.abc import Iterator

from freehold.adapters.sandbox.container import bubblewrap
from freehold.adapters.sandbox.processes import Watch
from freehold.ports.sandbox import SandboxFailed


@contextlib.contextmanager
def pipes() -> Iterator[tuple[int, int, int]]:
    """(what bubblewrap tells, its end of that, what it waits for)."""
    info, info_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        with gate() as block:
            yield info, info_end, block
    finally:
        os.close(info)
        os.close(info_end)


@contextlib.contextmanager
def gate() -> Iterator[int]:
    """What bubblewrap waits at until a byte is written."""
    read, write = os.pipe2(os.O_CLOEXEC)
    # Both directions in one descriptor: bubblewrap holds a writer itself, and never takes our
    # death for the signal to go on without limits.
    block = os.open(f"/proc/self/fd/{read}", os.O_RDWR | os.O_CLOEXEC)
    os.close(read)
    os.close(write)
    try:
        yield block
    finally:
        os.close(block)


async def child_pid(info: int, monitor: Watch) -> int:
    """Of the process that becomes pid 1 inside."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[int] = loop.create_future()
    message = bytearray()

    def read() -> None:
        chunk = os.read(info, 4096)
        message.extend(chunk)
        pid = bubblewrap.child_pid(bytes(message))
        if pid is not None and not found.done():
            found.set_result(pid)
        if not chunk or pid is not None:
            loop.remove_reader(info)

    loop.add_reader(info, read)
    try:
        either: list[asyncio.Future[int] | asyncio.Future[int | None]] = [found, monitor.exited]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_reader(info)
    if not found.done():
        raise SandboxFailed("bubblewrap could not set up the sandbox; its output says why")
    return found.result()
