"""How long a new session takes to its first byte, per tier, beside two limits in the same run.

    .venv/bin/python benchmarks/coldstart.py [--rounds 20] [--tier container] [--agent strands]

python -c pass: a bare interpreter. import: a bare interpreter that imports the same agent from the
same layer. The rest is InvokeAgentRuntime through boto3 with a session id that is new, to the first
byte of the answer: `cold` without anything that was prepared, then as sessions usually start here,
then out of the sandboxes that an endpoint keeps waiting (freehold:warm). Memory is that of all
processes of a session after its answer, when idle: `own` (Uss) and `fair` (Pss).

The agents are ordinary ones on BedrockAgentCoreApp; their models are in the same process. Their
frameworks are installed by the platform's build. --emulated-vm adds the vm tier under emulation.
"""

import argparse
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coldstart_driver import AGENTS
from platform_under_test import PlatformUnderTest, platform
from sessions_memory import Memory, groups, memory_of

PYTHON = f"/usr/bin/python3.{sys.version_info.minor}"
PROMPT = b'{"prompt": "seven-and-a-half"}'
SETTLE_SECONDS = 1.0
PREPARE_SECONDS_MAX = 240
WARM = 2


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


class Agent:
    def __init__(self, under_test: PlatformUnderTest, name: str, tier: str) -> None:
        requirements, code = AGENTS[name]
        self.under_test, self.tier = under_test, tier
        self.client = under_test.client("bedrock-agentcore")
        with tempfile.TemporaryDirectory() as path:
            folder = Path(path)
            (folder / "main.py").write_text(code)
            (folder / "requirements.txt").write_text("\n".join(requirements))
            self.arn = under_test.deploy(f"{name}_{tier}", folder, tags={"freehold:tier": tier})

    def first_byte(self, session: str, qualifier: str = "DEFAULT") -> None:
        answer = self.client.invoke_agent_runtime(
            agentRuntimeArn=self.arn, qualifier=qualifier, runtimeSessionId=session, payload=PROMPT
        )
        first = answer["response"].read(1)
        if b"seven-and-a-half" not in first + answer["response"].read():
            sys.exit(f"{self.arn} did not answer as it should")

    def record(self, session: str) -> dict[str, Any]:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = self.under_test.own("/sessions", sessionId=session)["sessions"][0]
            if found["status"] != "STARTING":
                return dict(found)
            time.sleep(0.05)
        sys.exit(f"session {session} did not start")

    def round(self, qualifier: str = "DEFAULT") -> tuple[str, float, Memory]:
        """(how it started, ms, memory when idle); the session is gone after it."""
        session = str(uuid.uuid4())
        took = timed(lambda: self.first_byte(session, qualifier))
        time.sleep(SETTLE_SECONDS)
        record = self.record(session)
        memory = memory_of(self.under_test.state, self.tier, record["sandboxId"], groups())
        self.client.stop_runtime_session(
            agentRuntimeArn=self.arn, runtimeSessionId=session, qualifier=qualifier
        )
        return record["start"], took, memory

    def keep_warm(self, count: int) -> None:
        control = self.under_test.client("bedrock-agentcore-control")
        control.create_agent_runtime_endpoint(
            agentRuntimeId=self.arn.rpartition("/")[2], name="warm",
            tags={"freehold:warm": str(count)},
        )  # fmt: skip


def first_prepared(agent: Agent) -> tuple[float, Memory]:
    """The first, cold session; returns when the next one starts better than that."""
    deadline = time.monotonic() + PREPARE_SECONDS_MAX
    _, took, memory = agent.round()
    while agent.round()[0] == "cold" and time.monotonic() < deadline:
        time.sleep(1)
    return took, memory


def measured(under_test: PlatformUnderTest, name: str, tier: str, rounds: int) -> None:
    agent = Agent(under_test, name, tier)
    rows: dict[str, list[float]] = defaultdict(list)
    memories: dict[str, list[Memory]] = defaultdict(list)
    took, memory = first_prepared(agent)
    rows["cold (once)"].append(took)
    memories["cold (once)"].append(memory)
    agent.keep_warm(WARM)
    time.sleep(SETTLE_SECONDS * 2)
    for bare in bare_interpreters(under_test, name):
        rows[bare[0]].append(timed(bare[1]))  # not counted: it fills the caches of the disk
        rows[bare[0]].clear()
    for _ in range(rounds):
        for label, run in bare_interpreters(under_test, name):
            rows[label].append(timed(run))
        for qualifier in ("DEFAULT", "warm"):
            start, took, memory = agent.round(qualifier)
            rows[start].append(took)
            memories[start].append(memory)
    base = statistics.median(rows["import"])
    for label, times in rows.items():
        middle = statistics.median(times)
        if found := memories.get(label):
            own, fair = (statistics.median(each) for each in zip(*found, strict=True))
            size = f"{own:.1f} | {fair:.1f}"
        else:
            size = " | "
        print(
            f"| {name} | {tier} | {label} | {len(times)} | {middle:.0f} | {min(times):.0f} |"
            f" {percentile(times, 0.9):.0f} | {middle / base:.2f} | {size} |",
            flush=True,
        )


def bare_interpreters(
    under_test: PlatformUnderTest, name: str
) -> list[tuple[str, Callable[[], object]]]:
    layer = layer_with(under_test.state / "builds" / "layers", name)
    code = under_test.state / f"bare-{name}"
    code.mkdir(exist_ok=True)
    (code / "main.py").write_text(AGENTS[name][1])
    script = (
        f"import sys, site; site.addsitedir({str(layer)!r});"
        f" sys.path.insert(0, {str(code)!r}); import main"
    )
    run = functools.partial(subprocess.run, check=True)
    return [
        ("python -c pass", lambda: run([PYTHON, "-ISc", "pass"])),
        ("import", lambda: run([PYTHON, "-ISc", script])),
    ]


def layer_with(layers: Path, name: str) -> Path:
    module = {"plain": "bedrock_agentcore"}.get(name, name)
    found = [path for path in layers.iterdir() if (path / module).is_dir()]
    return min(found, key=lambda path: len(list(path.iterdir())))


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def tiers_here() -> list[str]:
    import asyncio

    from freehold.processes.examination import examine
    from freehold.settings import load

    found = asyncio.run(examine(load({}))).findings
    usable = {f.name.removeprefix("tier ") for f in found if f.status == "ok"}
    return [tier for tier in ("container", "gvisor", "vm") if tier in usable]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tier", action="append")
    parser.add_argument("--agent", action="append", choices=AGENTS)
    parser.add_argument("--emulated-vm", action="store_true")
    options = parser.parse_args()
    tiers = options.tier or tiers_here() + (["vm"] if options.emulated_vm else [])
    load = os.getloadavg()[0]
    print(f"{options.rounds} interleaved rounds, load {load:.1f} on {os.cpu_count()} processors\n")
    print(
        "| agent | tier | start | rounds | p50 ms | least | p90 | against import | own MiB |"
        " fair MiB |\n|---|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    os.environ["FREEHOLD_VM_EMULATION"] = str(options.emulated_vm).lower()
    with platform() as under_test:
        for name in options.agent or AGENTS:
            for tier in dict.fromkeys(tiers):
                measured(under_test, name, tier, options.rounds)


if __name__ == "__main__":
    main()
