"""What the sandbox suites stand on: a driver, sandboxes of Python code, and a look at the host."""

import asyncio
import contextlib
import itertools
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sandbox_restored import RestoringDriver
from sandbox_templated import TemplatedDriver
from sandbox_vm_restored import RestoringVmDriver

from freehold.adapters.sandbox.container import ContainerDriver
from freehold.adapters.sandbox.gvisor import GvisorDriver
from freehold.adapters.sandbox.process import ProcessDriver
from freehold.adapters.sandbox.vm import VmDriver
from freehold.ports.sandbox import Exit, Limits, Sandbox, SandboxDriver, SandboxSpec

CGROUP = f"freehold-test-{os.getpid()}"
TAG = f"freehold-test-{os.getpid()}"  # in the command line of every process that we start
SECONDS_MAX = 180  # an emulated machine is slow, and more so beside others
PYTHON = next(
    path
    for path in (f"/usr/bin/python3.{sys.version_info.minor}", "/usr/bin/python3", sys.executable)
    if Path(path).exists()
)
SITE_PACKAGES = next(path for path in sys.path if path.endswith("site-packages"))

GVISOR = ("gvisor", "restored")
ISOLATING = ("container", "template", *GVISOR)
TIERS = (*ISOLATING, "process")
VM = ("vm", "vm-restored")
# Restored sandboxes are gVisor's: what holds for those by another way to start is in the slow lane.
_LATER = pytest.param("restored", marks=pytest.mark.slow)
ISOLATING_FIRST = tuple(_LATER if tier == "restored" else tier for tier in ISOLATING)
TIERS_FIRST = (*ISOLATING_FIRST, "process")
SLOW_TIERS = tuple(
    pytest.param(tier, marks=[pytest.mark.slow, pytest.mark.timeout(900)]) for tier in VM
)
# Kernels and disks of virtual machines, which are the same in every run.
VM_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "freehold-tests", "vm")

_numbers = itertools.count()


def make_driver(tier: str, directory: Path) -> SandboxDriver:
    if tier == "container":
        return ContainerDriver(directory=directory, cgroup=CGROUP)
    if tier == "template":
        return TemplatedDriver(directory=directory, cgroup=CGROUP)
    if tier == "gvisor":
        return GvisorDriver(directory=directory, cgroup=CGROUP)
    if tier == "restored":
        return RestoringDriver(directory=directory, cgroup=CGROUP)
    if tier in VM:
        kind = VmDriver if tier == "vm" else RestoringVmDriver
        return kind(directory=directory, cache=VM_CACHE, emulation=True, cgroup=CGROUP)
    return ProcessDriver(directory=directory)


@dataclass
class Running:
    sandbox: Sandbox
    spec: SandboxSpec

    @property
    def output(self) -> str:
        return Path(self.spec.output).read_text(errors="replace")

    async def end(self) -> Exit:
        async with asyncio.timeout(SECONDS_MAX):
            return await self.sandbox.wait()

    async def reachable(self, port: int = 8080) -> socket.socket:
        """Connected, as soon as something listens."""
        async with asyncio.timeout(SECONDS_MAX):
            while True:
                try:
                    return await self.sandbox.connect(port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.005)

    async def says(self, text: str) -> str:
        """The output, as soon as `text` is in it."""
        async with asyncio.timeout(SECONDS_MAX):
            while text not in self.output:
                await asyncio.sleep(0.005)
        return self.output

    async def http(self, path: str, body: bytes | None = None, port: int = 8080) -> bytes:
        """The body of the answer to one request."""
        reader, writer = await asyncio.open_connection(sock=await self.reachable(port))
        method = "GET" if body is None else "POST"
        head = f"{method} {path} HTTP/1.0\r\nhost: agent\r\n"
        length = f"content-type: application/json\r\ncontent-length: {len(body or b'')}\r\n\r\n"
        async with asyncio.timeout(SECONDS_MAX):
            writer.write((head + length).encode() + (body or b""))
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
        return answer.partition(b"\r\n\r\n")[2]


class Ground:
    def __init__(self, tier: str, root: Path) -> None:
        self.tier = tier
        self.root = root
        self.driver = make_driver(tier, root / "driver")
        (root / "boxes").mkdir()
        self._running: list[Running] = []

    def spec(self, code: str = "", **options: Any) -> SandboxSpec:
        name = options.pop("id", f"box-{next(_numbers)}")
        output = self.root / f"{name}.log"
        if "output" not in options:
            output.touch()
        options.setdefault("command", (PYTHON, "-u", "-c", f"# {TAG}\n{code}"))
        options.setdefault("environment", {})
        options.setdefault("output", str(output))
        options.setdefault("limits", Limits(memory_bytes_max=256 << 20, scratch_bytes_max=32 << 20))
        return SandboxSpec(id=name, directory=str(self.root / "boxes" / name), **options)

    async def start(self, code: str = "", **options: Any) -> Running:
        spec = self.spec(code, **options)
        running = Running(await self.driver.start(spec), spec)
        self._running.append(running)
        return running

    async def run(self, code: str, **options: Any) -> tuple[Exit, str]:
        """To its own end."""
        running = await self.start(code, **options)
        end = await running.end()
        await running.sandbox.stop()
        return end, running.output

    async def replace_driver(self) -> None:
        """As a new process of the platform would: nothing is known but what was written down."""
        await self.driver.close()
        self.driver = make_driver(self.tier, self.root / "driver")

    async def close(self) -> None:
        for running in self._running:
            await running.sandbox.stop()
        await self.driver.sweep(set())
        await self.driver.close()


@contextlib.asynccontextmanager
async def ground_of(tier: str, root: Path) -> AsyncIterator[Ground]:
    root.chmod(0o711)
    made = Ground(tier, root)
    try:
        yield made
    finally:
        await made.close()
        shutil.rmtree(root)


@dataclass(frozen=True)
class HostView:
    """What a sandbox could leave behind."""

    processes: frozenset[tuple[int, str]]
    mounts: tuple[str, ...]
    groups: frozenset[str]
    files: frozenset[str]
    descriptors: int

    @classmethod
    def of(cls, root: Path) -> "HostView":
        return cls(
            processes=frozenset(_processes()),
            mounts=tuple(Path("/proc/self/mountinfo").read_text().splitlines()),
            groups=frozenset(_groups()),
            files=frozenset(str(path) for path in root.rglob("*") if path.suffix != ".log"),
            descriptors=len(list(Path("/proc/self/fd").iterdir())),
        )


def nothing_is_left(before: HostView, root: Path) -> bool:
    """Descriptors may be fewer by now: those that earlier tests left to the garbage collector."""
    after = HostView.of(root)
    assert after.descriptors <= before.descriptors, "descriptors are left"
    assert replace(after, descriptors=0) == replace(before, descriptors=0)
    return True


def _processes() -> list[tuple[int, str]]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            groups = (entry / "cgroup").read_text()  # gVisor hides the payload's command line
            if TAG in line or (line and f"/{CGROUP}/" in groups):  # without one: dead, not reaped
                found.append((int(entry.name), line + groups))
    return found


def _groups() -> list[str]:
    return [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if f"/{CGROUP}/" in folder]
