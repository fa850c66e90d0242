"""How many idle sessions a GiB of memory holds.

    .venv/bin/python benchmarks/density.py [--sessions 500] [--tier container] [--agent plain]

So many sessions of one agent are begun, each answers once, and all stay. After a while (they are
frozen by then) it is measured what they take: `own` is what a session shares with nobody (Uss),
`fair` adds its part of what it shares (Pss), and
`machine` by how much the available memory of the whole machine went down since before the first,
the platform's own growth and the template included. At the end each answers again.
"""

import argparse
import os
import statistics
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from coldstart import AGENTS, Agent, first_prepared
from platform_under_test import platform
from sessions_memory import groups, memory_of

IDLE_SECONDS = 15
SAMPLED = 50
AT_ONCE = 4


def available_mib() -> float:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) / 1024
    raise SystemExit("no MemAvailable in /proc/meminfo")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--tier", default="container")
    parser.add_argument("--agent", default="plain", choices=AGENTS)
    options = parser.parse_args()
    os.environ["FREEHOLD_SESSIONS_MAX"] = str(options.sessions + 10)
    with platform() as under_test:
        agent = Agent(under_test, options.agent, options.tier)
        first_prepared(agent)
        sessions = [str(uuid.uuid4()) for _ in range(options.sessions)]
        before, began = available_mib(), time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(agent.first_byte, sessions))
        took = time.monotonic() - began
        time.sleep(IDLE_SECONDS)
        machine = before - available_mib()
        live = under_test.own("/sessions", limit="1000")["sessions"]
        known = groups()
        sample = live[:: max(1, len(live) // SAMPLED)]
        memories = [
            memory_of(under_test.state, options.tier, row["sandboxId"], known) for row in sample
        ]
        own, fair = (statistics.median(each) for each in zip(*memories, strict=True))
        frozen = sum(row["status"] == "FROZEN" for row in live)
        began = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(agent.first_byte, sessions))
        again = (time.monotonic() - began) / len(sessions) * 1e3
    each = machine / len(live)
    print(f"{len(live)} sessions of {options.agent} alive at once, tier {options.tier}")
    print(f"begun in {took:.0f} s ({AT_ONCE} at a time), {frozen} frozen when idle\n")
    print("| a session takes | MiB | sessions per GiB |\n|---|---|---|")
    for name, size in (("own", own), ("fair", fair), ("of the machine", each)):
        print(f"| {name} | {size:.1f} | {1024 / size:.0f} |")
    print(f"\nall of them answered again: {again:.0f} ms each")


if __name__ == "__main__":
    main()
