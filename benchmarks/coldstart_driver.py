"""How long the container tier takes from start() to the first byte of an agent's answer.

    .venv/bin/python benchmarks/coldstart_driver.py [--rounds 20] [--cache DIR] [--only NAME]
        [--python PYTHON_3_13]

Three agents on the ordinary BedrockAgentCoreApp: a plain one, one on Strands, one on LangGraph.
Each start answers one POST /invocations. In one run, interleaved: a bare interpreter, a bare
interpreter that imports the agent, an ordinary start, a start from a template. Memory is that of
all processes of the session after its answer, when idle: Pss, what it shares with nobody (Uss), and
what its control group is charged for, with page tables and the like.

Dependency layers are installed once, and kept in --cache.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import uvloop
from coldstart_agents import AGENTS

from freehold.adapters.sandbox.cgroups import Group
from freehold.adapters.sandbox.container import ContainerDriver
from freehold.adapters.sandbox.container.sandbox import ContainerSandbox
from freehold.adapters.sandbox.interpreters import InstalledInterpreters
from freehold.ports.sandbox import LAUNCHER, Mount, SandboxSpec, Template, TemplateSpec

REQUEST = b'{"prompt": "seven-and-a-half"}'
HEAD = (
    b"POST /invocations HTTP/1.1\r\nhost: agent\r\ncontent-type: application/json\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(REQUEST)
)
ENVIRONMENT = {
    "DOCKER_CONTAINER": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
LAUNCHED = (LAUNCHER, "--code", "/var/task", "--layer", "/opt/layers/0", "main.py")
RETRY_SECONDS = 0.001
SECONDS_MAX = 60
IDLE_SECONDS = 1.0


class Bench:
    def __init__(self, root: Path, cache: Path, python: str) -> None:
        self.root = root
        self.cache = cache / python
        self.cache.mkdir(parents=True, exist_ok=True)
        interpreters = InstalledInterpreters(root / "interpreters").discover()
        if python not in interpreters:
            sys.exit(f"{python} is not installed; there is {', '.join(interpreters)}")
        self.python = interpreters[python].executable
        self.driver = ContainerDriver(
            directory=root / "driver",
            interpreters=interpreters,
            cgroup=f"freehold-bench-{root.name}",
        )
        self.number = 0

    def agent(self, name: str) -> tuple[Path, Path]:
        """(code, layer), made when they are not there."""
        requirements, code = AGENTS[name]
        layer = self.cache / name
        if not layer.exists():
            fresh = Path(tempfile.mkdtemp(dir=self.cache))
            into = ["--quiet", "--python", self.python, "--target", str(fresh)]
            install = [sys.executable, "-m", "uv", "pip", "install", *into]
            subprocess.run([*install, *requirements], check=True)
            subprocess.run([self.python, "-m", "compileall", "-q", fresh], check=False)
            fresh.chmod(0o755)
            fresh.rename(layer)
        folder = self.root / f"code-{name}"
        folder.mkdir(exist_ok=True)
        (folder / "main.py").write_text(code)
        return folder, layer

    def spec(self, name: str) -> SandboxSpec:
        code, layer = self.agent(name)
        self.number += 1
        output = self.root / f"{name}-{self.number}.log"
        output.touch()
        return SandboxSpec(
            id=f"{name}-{self.number}",
            command=(self.python, *LAUNCHED),
            environment=ENVIRONMENT,
            mounts=(Mount(str(code), "/var/task"), Mount(str(layer), "/opt/layers/0")),
            workdir="/var/task",
            directory=str(self.root / f"box-{name}-{self.number}"),
            output=str(output),
            loopback_ports=(7400,),
        )

    async def template(self, name: str) -> Template:
        spec = self.spec(name)
        made = await self.driver.prepare(
            TemplateSpec(
                id=f"template-{name}",
                command=spec.command,
                environment=ENVIRONMENT,
                mounts=spec.mounts,
                directory=spec.directory,
                output=spec.output,
            )
        )
        if made.state != "ready":
            sys.exit(f"{name}: the template is {made.state}: {made.reason}")
        return made

    async def first_byte(self, name: str, template: Template | None) -> tuple[float, ...]:
        """(ms to the start, ms to the first byte, Pss MiB, Uss MiB, charged MiB)."""
        spec = self.spec(name)
        began = time.perf_counter()
        sandbox = await self.driver.start(spec, template)
        started = time.perf_counter()
        if template and sandbox.record.template is None:
            sys.exit(f"{name}: an ordinary start, because {sandbox.ordinary_because}")
        try:
            reader, writer = await asyncio.open_connection(sock=await reachable(sandbox))
            writer.write(HEAD + REQUEST)
            first = await reader.read(1)
            done = time.perf_counter()
            answer = first + await reader.read()
            writer.close()
            if b'"seven-and-a-half"' not in answer:
                sys.exit(f"{name} answered {answer!r}; it said: {Path(spec.output).read_text()}")
            await asyncio.sleep(IDLE_SECONDS if template else 0)
            held = memory(sandbox.group)
        finally:
            await sandbox.stop()
        return (started - began) * 1e3, (done - began) * 1e3, *held


async def reachable(sandbox: ContainerSandbox) -> socket.socket:
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                return await sandbox.connect(8080)
            await asyncio.sleep(RETRY_SECONDS)


def memory(group: Group) -> tuple[float, float, float]:
    fields: dict[str, int] = defaultdict(int)
    for pid in group.processes():
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, value, *_ = line.split()
            fields[name] += int(value)
    uss = fields["Private_Clean:"] + fields["Private_Dirty:"]
    charged = 0
    for folder in group.directories:
        for name in ("memory.current", "memory.usage_in_bytes"):
            with contextlib.suppress(FileNotFoundError):
                charged = max(charged, int(Path(folder, name).read_text()))
    return fields["Pss:"] / 1024, uss / 1024, charged / (1 << 20)


def timed(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True)
    return (time.perf_counter() - began) * 1e3


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


async def measured(bench: Bench, name: str, rounds: int) -> None:
    code, layer = bench.agent(name)
    script = (
        f"import sys, site; site.addsitedir({str(layer)!r});"
        f" sys.path.insert(0, {str(code)!r}); import main"
    )
    template = await bench.template(name)
    plain: dict[str, list[float]] = defaultdict(list)
    starts: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    modes: dict[str, Template | None] = {"ordinary start": None, "from a template": template}
    for _ in range(rounds):
        plain["python -c pass"].append(timed([bench.python, "-ISc", "pass"]))
        plain["python, import the agent"].append(timed([bench.python, "-ISc", script]))
        for mode, given in modes.items():
            starts[mode].append(await bench.first_byte(name, given))
    for mode, times in plain.items():
        middle = statistics.median(times)
        print(f"| {name} | {mode} | | {middle:.0f} | {percentile(times, 0.9):.0f} | | | |")
    for mode, rows in starts.items():
        begun, first, *held = (list(column) for column in zip(*rows, strict=True))
        memory_columns = " | ".join(f"{statistics.median(column):.1f}" for column in held)
        print(
            f"| {name} | {mode} | {statistics.median(begun):.1f} | {statistics.median(first):.1f} |"
            f" {percentile(first, 0.9):.1f} | {memory_columns} |"
        )
    await template.close()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir(), "freehold-layers")
    )
    minor = sys.version_info.minor
    parser.add_argument("--python", default=f"PYTHON_3_{minor}")
    parser.add_argument("--only", choices=AGENTS, action="append")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="freehold-bench-"))
    root.chmod(0o711)
    bench = Bench(root, options.cache, options.python)
    load = os.getloadavg()[0]
    machine = f"load {load:.1f} on {os.cpu_count()} processors"
    print(f"{options.python}, {options.rounds} interleaved rounds, {machine}\n")
    print("| agent | | start() p50 ms | first byte p50 ms | p90 ms | Pss MiB | Uss MiB | charged |")
    print("|---|---|---|---|---|---|---|---|")
    try:
        for name in options.only or AGENTS:
            await measured(bench, name, options.rounds)
    finally:
        await bench.driver.sweep(set())
        await bench.driver.close()
        shutil.rmtree(root)


if __name__ == "__main__":
    uvloop.run(main())
