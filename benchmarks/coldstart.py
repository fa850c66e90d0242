"""How long a new session takes to its first byte, beside two limits in the same run.

    .venv/bin/python benchmarks/coldstart.py [--rounds 10]

python -c pass: a bare interpreter. import: a bare interpreter that imports the same agent from the
same layer. freehold: InvokeAgentRuntime with a session id that is new, to the answer's first byte:
sandbox, interpreter, import, server, request.
"""

import argparse
import statistics
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from platform_under_test import AGENT, PlatformUnderTest, platform


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def new_session(under_test: PlatformUnderTest, arn: str) -> None:
    client = under_test.client("bedrock-agentcore")
    answer = client.invoke_agent_runtime(
        agentRuntimeArn=arn, runtimeSessionId=str(uuid.uuid4()), payload=b'{"prompt": "hi"}'
    )
    answer["response"].read(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    with platform() as under_test:
        arn = under_test.deploy("bench")
        layer = next((under_test.state / "builds" / "layers").iterdir())
        script = (
            f"import sys, site; site.addsitedir({str(layer)!r}); "
            f"sys.path.insert(0, {str(AGENT)!r}); import main"
        )
        new_session(under_test, arn)
        python = interpreter_of()
        rows: dict[str, list[float]] = {"python -c pass": [], "import": [], "freehold": []}
        for _ in range(rounds):
            rows["python -c pass"].append(
                timed(lambda: subprocess.run([python, "-ISc", "pass"], check=True))
            )
            rows["import"].append(
                timed(lambda: subprocess.run([python, "-ISc", script], check=True))
            )
            rows["freehold"].append(timed(lambda: new_session(under_test, arn)))
        tier = under_test.facts["tier"]
    base = statistics.median(rows["import"])
    print(f"tier {tier}, medians of {rounds} interleaved rounds\n")
    print("| | median ms | least | most | against import |\n|---|---|---|---|---|")
    for name, times in rows.items():
        middle = statistics.median(times)
        print(
            f"| {name} | {middle:.0f} | {min(times):.0f} | {max(times):.0f} | {middle / base:.2f} |"
        )


def interpreter_of() -> str:
    """The interpreter that the sessions run: read from one that lives."""
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"/opt/freehold/launcher.py" in words:
            place = words.index(b"/opt/freehold/launcher.py")
            return words[place - 1].decode()
    return "/usr/bin/python3"


if __name__ == "__main__":
    main()
