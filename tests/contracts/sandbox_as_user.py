"""Run as a normal user by test_sandbox_escape: start, connect, doorway, freeze, adopt, stop.

Under uvloop, so that the drivers are seen to work with its selector as well.
"""

import asyncio
import sys
from pathlib import Path

import uvloop
from sandbox_ground import SECONDS_MAX, VM, Ground, HostView, ground_of

from freehold.ports.sandbox import Limits, Mount

SERVER = """
import os, socket
socket.create_connection(("127.0.0.1", 7400)).sendall(b"knock")
open("/out/made", "w").write("x")
server = socket.create_server(("127.0.0.1", 8080))
while True:
    connection, _ = server.accept()
    connection.sendall(b"hello")
    connection.close()
"""
BOMB = """
import os, time
count = 0
try:
    while True:
        if os.fork() == 0: time.sleep(600)
        count += 1
except OSError: print(count, flush=True); os._exit(0)
"""


async def exercise(ground: Ground, out: Path) -> None:
    loop = asyncio.get_running_loop()
    probe = await ground.driver.probe()
    print(probe)
    assert probe.available
    assert "falls back to rlimits" in probe.detail or ground.tier in VM
    before = HostView.of(ground.root)
    mounts = (Mount(str(out), "/out", writable=True),)
    box = await ground.start(SERVER, loopback_ports=(7400,), mounts=mounts)
    stream, _ = await loop.sock_accept(box.sandbox.listeners[7400])
    with stream:
        assert await loop.sock_recv(stream, 10) == b"knock"
    for _ in range(6):
        with await box.reachable() as inside:
            assert await loop.sock_recv(inside, 10) == b"hello"
    assert box.sandbox.usage().cpu_seconds is None
    await box.sandbox.freeze()
    with await box.sandbox.connect(8080) as inside:
        try:
            await asyncio.wait_for(loop.sock_recv(inside, 10), 0.1)
            raise AssertionError("frozen, and yet it answered")
        except TimeoutError:
            await box.sandbox.thaw()
        assert await loop.sock_recv(inside, 10) == b"hello"
    await ground.replace_driver()
    found = await ground.driver.adopt(box.spec)
    assert found
    box.sandbox = found
    with await box.reachable() as inside:
        assert await loop.sock_recv(inside, 10) == b"hello"
    await found.stop(grace_seconds=20)
    assert (out / "made").read_text() == "x"
    _, output = await ground.run(BOMB, limits=Limits(processes_max=30))
    assert 10 < int(output) < 30, output
    full = "b = bytearray(b'x') * (99 << 20)"
    end, _ = await ground.run(full, limits=Limits(memory_bytes_max=64 << 20))
    assert end.code == (128 + 9 if ground.tier in VM else 1)
    await ground.driver.sweep(set())  # templates, where there are any
    left = HostView.of(ground.root)
    assert left.processes == before.processes, left.processes
    assert left.mounts == before.mounts
    assert left.files == before.files, left.files - before.files


async def main(tier: str, root: Path) -> None:
    out = root / "out"
    out.mkdir()
    place = root / "ground"
    place.mkdir()
    async with ground_of(tier, place) as ground:
        await asyncio.wait_for(exercise(ground, out), 3 * SECONDS_MAX)
    print("all well")


uvloop.run(main(sys.argv[1], Path(sys.argv[2])))
