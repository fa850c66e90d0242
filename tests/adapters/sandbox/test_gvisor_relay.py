"""The relay of a restored session, run as it is outside any sandbox."""

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from freehold.adapters.sandbox.gvisor.guest import relay

SECONDS_MAX = 60
# The payload is a process that waits; pid 1 of the session is this program.
PROGRAM = """
import os, sys
sys.path.insert(0, sys.argv[2])
import relay
payload = os.fork()
if payload == 0:
    import signal
    signal.pause()
sys.exit(relay.serve(sys.argv[1], [], payload))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="freehold-relay-") as path:
        yield Path(path)


def listening(folder: Path) -> socket.socket:
    path = folder / "tunnel.sock"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    listener.setblocking(False)
    return listener


async def taken(listener: socket.socket) -> socket.socket:
    async with asyncio.timeout(SECONDS_MAX):
        return (await asyncio.get_running_loop().sock_accept(listener))[0]


async def test_who_comes_next_is_served_though_the_one_before_was_not_missed_yet(
    folder: Path,
) -> None:
    """Both news wait for a relay that did not run: that the first has gone, and who comes next.
    Signals are looked at before sockets, or after: it must not matter."""
    first = listening(folder)
    sources = str(Path(relay.__file__).parent)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, str(folder), sources
    )
    try:
        held = [await taken(first) for _ in range(4)]
        for _ in range(10):
            os.kill(child.pid, signal.SIGSTOP)
            for each in (*held, first):
                each.close()
            first = listening(folder)
            os.kill(child.pid, signal.SIGUSR1)
            os.kill(child.pid, signal.SIGCONT)
            held = [await taken(first) for _ in range(4)]
        for each in held:
            each.close()
    finally:
        first.close()
        child.terminate()
        async with asyncio.timeout(SECONDS_MAX):
            await child.wait()
