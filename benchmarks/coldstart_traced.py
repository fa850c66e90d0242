"""What traces add to a cold start: `opentelemetry-instrument main.py` beside `main.py`.

    .venv/bin/python benchmarks/coldstart_traced.py [--rounds 15] [--tier container]

The same agent of the same requirements twice, once started as it is, once instrumented: from
InvokeAgentRuntime with a session id that is new to the first byte of the answer, as sessions
usually start here. Beside it, from the same layer, a bare interpreter that runs
`opentelemetry-instrument` and then imports the agent. The rounds are interleaved.
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

from coldstart import PREPARE_SECONDS_MAX, PROMPT, PYTHON, percentile, timed
from coldstart_agents import AGENTS
from platform_under_test import PlatformUnderTest, platform

DISTRIBUTION = {
    "strands": ["aws-opentelemetry-distro"],
    "langgraph": [
        "opentelemetry-distro",
        "opentelemetry-exporter-otlp-proto-http",
        "opentelemetry-instrumentation-starlette",
        "openinference-instrumentation-langchain",
    ],
}
TRACED = ("opentelemetry-instrument", "main.py")


class Agent:
    def __init__(
        self, under_test: PlatformUnderTest, name: str, tier: str, entry_point: tuple[str, ...]
    ) -> None:
        self.under_test = under_test
        self.client = under_test.client("bedrock-agentcore")
        requirements, code = AGENTS[name]
        with tempfile.TemporaryDirectory() as path:
            folder = Path(path)
            (folder / "main.py").write_text(code)
            (folder / "requirements.txt").write_text(
                "\n".join([*requirements, *DISTRIBUTION[name]])
            )
            self.arn = under_test.deploy(
                f"{name}_{tier}_{len(entry_point)}", folder, entry_point,
                tags={"freehold:tier": tier},
            )  # fmt: skip

    def round(self) -> tuple[str, float]:
        """(how it started, ms); the session is gone after it."""
        session = str(uuid.uuid4())
        took = timed(lambda: self._first_byte(session))
        time.sleep(1)  # its spans are sent by then, and its record says how it began
        start = self.under_test.own("/sessions", sessionId=session)["sessions"][0]["start"]
        self.client.stop_runtime_session(agentRuntimeArn=self.arn, runtimeSessionId=session)
        return start, took

    def _first_byte(self, session: str) -> None:
        answer = self.client.invoke_agent_runtime(
            agentRuntimeArn=self.arn, runtimeSessionId=session, payload=PROMPT
        )
        first = answer["response"].read(1)
        if b"seven-and-a-half" not in first + answer["response"].read():
            sys.exit(f"{self.arn} did not answer as it should")

    def prepared(self) -> float:
        """ms of the first session; returns when the next one starts better than that."""
        deadline = time.monotonic() + PREPARE_SECONDS_MAX
        _, took = self.round()
        while self.round()[0] == "cold" and time.monotonic() < deadline:
            time.sleep(1)
        return took


def measured(under_test: PlatformUnderTest, name: str, tier: str, rounds: int) -> None:
    agents = {
        "untraced": Agent(under_test, name, tier, ("main.py",)),
        "traced": Agent(under_test, name, tier, TRACED),
    }
    rows: dict[str, list[float]] = defaultdict(list)
    for label, agent in agents.items():
        rows[f"{label}, cold (once)"].append(agent.prepared())
    bare = bare_interpreter(under_test, name)
    bare()  # not counted: it fills the caches of the disk
    for _ in range(rounds):
        rows["bare opentelemetry-instrument, import"].append(timed(bare))
        for label, agent in agents.items():
            start, took = agent.round()
            rows[f"{label}, {start}"].append(took)
    for label, times in rows.items():
        print(
            f"| {name} | {tier} | {label} | {len(times)} | {statistics.median(times):.0f} |"
            f" {min(times):.0f} | {percentile(times, 0.9):.0f} |",
            flush=True,
        )


def bare_interpreter(under_test: PlatformUnderTest, name: str) -> Callable[[], object]:
    """It ends as soon as the agent is imported: nothing is exported."""
    [layer] = [
        path
        for path in (under_test.state / "builds" / "layers").iterdir()
        if (path / name).is_dir() and (path / "bin" / TRACED[0]).exists()
    ]
    code = under_test.state / f"bare-{name}"
    code.mkdir(exist_ok=True)
    (code / "main.py").write_text(AGENTS[name][1])
    environment = {
        "PATH": f"{Path(PYTHON).parent}:/usr/bin:/bin",
        "PYTHONPATH": f"{code}:{layer}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "AWS_REGION": "us-east-1",
        "HOME": str(code),
    }
    instrument = "from opentelemetry.instrumentation.auto_instrumentation import run; run()"
    command = [PYTHON, "-c", instrument, PYTHON, "-c", "import os, main; os._exit(0)"]
    return functools.partial(subprocess.run, command, env=environment, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tier", action="append")
    parser.add_argument("--agent", action="append", choices=DISTRIBUTION)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{options.rounds} interleaved rounds, load {load:.1f} on {os.cpu_count()} processors\n")
    print("| agent | tier | start | rounds | p50 ms | least | p90 |\n|---|---|---|---|---|---|---|")
    with platform() as under_test:
        for name in options.agent or DISTRIBUTION:
            for tier in dict.fromkeys(options.tier or ["container"]):
                measured(under_test, name, tier, options.rounds)


if __name__ == "__main__":
    main()
