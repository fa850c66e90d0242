"""A hundred sessions come and go, and nothing of them stays: no descriptor, process or file."""

import time
from pathlib import Path

import pytest
from test_many_sessions import all_at_once

from fault_ground import FaultyPlatform
from running import Agent, new_session, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

GROWTH_KIB_MAX = 12 * 1024
"""Of one process, for a hundred sessions: caches are bounded, and the heap has its own mind."""


class Traces:
    """What a platform has on the machine at one moment."""

    def __init__(self, platform: FaultyPlatform) -> None:
        processes = [*platform.pids("node"), *platform.pids("api")]
        self.descriptors = {pid: len(descriptors_of(pid)) for pid in processes}
        self.memory_kib = {pid: _resident_kib(pid) for pid in processes}
        # The database has its own, as many as its pools have connections just now.
        self.on_machine = [
            what for what in platform.remains() if "postgres" not in what and "PGSQL" not in what
        ]
        sandboxes = platform.state / "sandboxes" / "container" / "records"
        places = (platform.state / "sessions", sandboxes, platform.state / "spool")
        self.files = sorted(str(path) for place in places for path in place.rglob("*"))

    def grown_beyond(self, before: "Traces") -> list[str]:
        found = []
        for pid, count in self.descriptors.items():
            if count > before.descriptors[pid] + 8:  # connections that are kept for a while
                found.append(f"process {pid}: {before.descriptors[pid]} -> {count} descriptors")
        if len(self.on_machine) > len(before.on_machine):
            found += sorted(set(self.on_machine) - set(before.on_machine))
        return [*found, *sorted(set(self.files) - set(before.files))]


def descriptors_of(pid: int) -> list[str]:
    return [entry.name for entry in Path(f"/proc/{pid}/fd").iterdir()]


def _resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def nothing_grew(platform: FaultyPlatform, before: Traces) -> None:
    """In the end: kept connections and the dying are let go within seconds."""
    deadline = time.monotonic() + 20
    while found := Traces(platform).grown_beyond(before):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


def come_and_go(agent: Agent, *, rounds: int, at_once: int) -> None:
    for _ in range(rounds):
        sessions = [new_session() for _ in range(at_once)]
        all_at_once([lambda s=s: agent.invoke(session=s) for s in sessions])
        all_at_once([lambda s=s: agent.stop(s) for s in sessions])


def test_a_hundred_sessions_leave_nothing_behind(quiet: FaultyPlatform, victim: Agent) -> None:
    come_and_go(victim, rounds=3, at_once=10)  # until all pools and caches are there
    until(lambda: not quiet.session_directories())
    before = Traces(quiet)
    come_and_go(victim, rounds=10, at_once=8)
    come_and_go(victim, rounds=20, at_once=1)
    nothing_grew(quiet, before)
    after = Traces(quiet)
    for pid, kib in after.memory_kib.items():
        assert kib - before.memory_kib[pid] < GROWTH_KIB_MAX, "memory grows with every session"


def test_agents_that_die_by_themselves_leave_nothing_either(
    quiet: FaultyPlatform, victim: Agent
) -> None:
    come_and_go(victim, rounds=1, at_once=5)
    before = Traces(quiet)
    for _ in range(10):
        assert victim.refusal({"do": "die", "code": 3}).status == 424
    nothing_grew(quiet, before)
