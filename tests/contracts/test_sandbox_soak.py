"""Sessions come and go by the thousand, and the machine is as it was."""

import asyncio
import itertools
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sandbox_ground import SECONDS_MAX, HostView, ground_of
from sandbox_workshop import Workshop

from freehold.adapters.sandbox.container import ContainerDriver
from freehold.adapters.sandbox.template.template import ContainerTemplate
from freehold.ports.sandbox import Limits, Mount

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not shutil.which("bwrap"), reason="needs bubblewrap"),
]

SESSIONS = 2000
WARMING = 40  # sessions after which everything that is opened or cached once has been
AT_ONCE = 4
SPARES = 2
SERVER = """
import dependency, os, socket
open("/tmp/scratch", "wb").write(bytes(1 << 20))
open("/out/made", "a").write("x")
if os.fork() == 0:
    os.setsid()
    while True: os.read(os.pipe()[0], 1)
server = socket.create_server(("127.0.0.1", 8080))
connection, _ = server.accept()
with connection:
    asked = connection.recv(10)
    connection.sendall(asked.upper())
if asked == b"leave": os._exit(3)
if asked == b"burst": memory = bytearray(b"x") * (300 << 20)
connection, _ = server.accept()
"""


@dataclass(frozen=True)
class ForkerView:
    """The process that lives as long as the driver does, and has a hand in every session."""

    descriptors: int
    mounts: int
    children: int

    @classmethod
    def of(cls, pid: int) -> "ForkerView":
        folder = Path(f"/proc/{pid}")
        return cls(
            descriptors=len(list((folder / "fd").iterdir())),
            mounts=len((folder / "mountinfo").read_text().splitlines()),
            children=len((folder / f"task/{pid}/children").read_text().split()),
        )

    @staticmethod
    def memory_bytes(pid: int) -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


async def test_two_thousand_sessions_leave_the_machine_as_it_was() -> None:
    root = Path(tempfile.mkdtemp(prefix="freehold-soak-"))
    async with ground_of("container", root) as ground:
        if not (probe := await ground.driver.probe()).available:
            pytest.skip(probe.detail)
        untouched = HostView.of(root / "boxes")
        workshop = Workshop(ground)
        agent = workshop.agent("import json, ssl", SERVER)
        agent["limits"] = Limits(memory_bytes_max=128 << 20)
        template = await workshop.template(agent, spares=SPARES)
        assert isinstance(ground.driver, ContainerDriver)
        forker = ground.driver._templates.forker_pid
        assert forker
        ends: Counter[str] = Counter()
        await _sessions(workshop, agent, template, WARMING, ends)
        await _settled(ground.driver, template.id)
        before, forker_before = HostView.of(root), ForkerView.of(forker)
        memory_before = ForkerView.memory_bytes(forker)
        await _sessions(workshop, agent, template, SESSIONS, ends)
        await _settled(ground.driver, template.id)
        after = HostView.of(root)
        assert len(after.processes) == len(before.processes)  # the spares are others
        assert len(after.groups) == len(before.groups)
        assert len(after.files) == len(before.files)
        assert after.mounts == before.mounts
        assert after.descriptors <= before.descriptors
        assert ForkerView.of(forker) == forker_before
        assert ForkerView.memory_bytes(forker) < memory_before + (4 << 20)
        assert sum(ends.values()) == SESSIONS + WARMING
        assert {"stopped by the platform", "ended with exit code 3"} < ends.keys()
        assert len(ends) == 3, ends  # and what became of those that took too much memory
        await template.close()
        async with asyncio.timeout(SECONDS_MAX):
            while Path(template.spec.directory).exists():  # a spare may have been dying
                await asyncio.sleep(0.01)
        left = HostView.of(root / "boxes")
        assert replace(left, descriptors=0) == replace(untouched, descriptors=0)


async def _sessions(
    workshop: Workshop,
    agent: dict[str, Any],
    template: ContainerTemplate,
    count: int,
    ends: Counter[str],
) -> None:
    """AT_ONCE of them at a time. Some are stopped, some exit, some take too much memory."""
    numbers = itertools.count()

    async def one_after_another() -> None:
        while (number := next(numbers)) < count:
            out = workshop.ground.root / f"out-{number}"
            out.mkdir()
            mounts = (*agent["mounts"], Mount(str(out), "/out", writable=True))
            running = await workshop.start(agent | {"mounts": mounts}, template)
            workshop.ground._running.remove(running)
            assert running.sandbox.record.template, running.sandbox.ordinary_because
            word = b"burst" if number % 20 == 0 else (b"leave", b"stay!")[number % 2]
            with await running.reachable() as stream:
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(stream, word)
                async with asyncio.timeout(SECONDS_MAX):
                    assert await loop.sock_recv(stream, 10) == word.upper()
            if word != b"stay!":
                await running.end()
            await running.sandbox.stop()
            ends[(await running.end()).reason] += 1
            assert (out / "made").read_text() == "x"
            shutil.rmtree(out)
            Path(running.spec.output).unlink()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_another())


async def _settled(driver: ContainerDriver, template_id: str) -> None:
    """With as many spares as there are to be."""
    async with asyncio.timeout(SECONDS_MAX):
        while len(driver._templates.spares(template_id)) < SPARES:
            await asyncio.sleep(0.01)
