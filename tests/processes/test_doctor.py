"""`freehold doctor`: what it says of this machine is so, and nothing of its trials stays."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from freehold.adapters.sandbox.container import driver as container
from freehold.adapters.sandbox.gvisor.driver import GvisorDriver
from freehold.adapters.sandbox.process.driver import ProcessDriver
from freehold.adapters.sandbox.vm.driver import VmDriver
from freehold.ports.sandbox import Probe
from freehold.processes import examination
from freehold.settings import load
from running import RunningPlatform

NAMES = [
    "python", "user", "state", "disk", "tier container", "tier process", "tier gvisor", "tier vm",
    "cgroups", "postgres", "interpreters", "search by meaning",
]  # fmt: skip


def doctor(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "freehold.cli", "doctor", *arguments],
        env={**{k: v for k, v in os.environ.items() if not k.startswith("FREEHOLD_")},
             **environment},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def told(findings: list[dict[str, str]]) -> Mapping[str, dict[str, str]]:
    return {finding["name"]: finding for finding in findings}


def test_people_and_programs_are_told_the_same() -> None:
    people, programs = doctor(), doctor("--json")
    assert people.returncode == programs.returncode == 0
    assert people.stderr == programs.stderr == ""
    answer = json.loads(programs.stdout)
    assert answer["sessions"] is True
    assert [finding["name"] for finding in answer["findings"]] == NAMES
    for finding in answer["findings"]:
        assert finding["name"] in people.stdout
        assert finding["status"] in ("ok", "limited", "missing")
        if finding["status"] == "missing":
            assert finding["advice"], "what is missing comes with a way to get it"
        assert "\n" not in finding["detail"] + finding["advice"]


def test_what_it_says_of_this_machine_is_so() -> None:
    found = told(json.loads(doctor("--json").stdout)["findings"])
    minor = sys.version_info.minor
    assert found["python"]["detail"].startswith(f"3.{minor}.")
    assert f"PYTHON_3_{minor}" in found["interpreters"]["detail"]
    assert found["postgres"]["detail"].startswith("embedded 1")
    if shutil.which("bwrap") and os.geteuid() == 0:
        assert found["tier container"]["detail"].startswith("one was run: bubblewrap")
    if not Path("/dev/kvm").exists():
        assert "there is no /dev/kvm" in found["tier vm"]["detail"]


def test_nothing_of_its_trials_stays() -> None:
    before = set(Path(tempfile.gettempdir()).glob("freehold-doctor-*"))
    assert doctor().returncode == 0
    assert set(Path(tempfile.gettempdir()).glob("freehold-doctor-*")) <= before
    groups = [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if "freehold-doctor" in folder]
    assert groups == []


def test_it_knows_a_state_with_a_platform(platform: RunningPlatform) -> None:
    found = told(json.loads(doctor("--json", "--state", str(platform.state)).stdout)["findings"])
    assert f"a platform runs on it (process {platform.facts['pid']})" in found["state"]["detail"]
    assert platform.own("/health")["status"] == "ok"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's sandboxes are other users")
def test_a_state_that_sandboxes_cannot_reach_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    found = told(json.loads(doctor("--json", "--state", str(tmp_path / "s")).stdout)["findings"])
    assert found["state"]["status"] == "missing"
    assert str(tmp_path) in found["state"]["detail"]
    assert "/var/lib/freehold" in found["state"]["advice"]


async def _examined(monkeypatch: pytest.MonkeyPatch, **probes: Probe) -> Any:
    async def answer(self: Any) -> Probe:
        return probes[self.tier]

    for driver in (container.ContainerDriver, GvisorDriver, VmDriver, ProcessDriver):
        if driver.tier in probes:
            monkeypatch.setattr(driver, "probe", answer)
    return await examination.examine(load())


async def test_without_the_container_tier_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = Probe(False, "install bubblewrap: apt-get install bubblewrap")
    examined = await _examined(monkeypatch, container=missing)
    (tier,) = (f for f in examined.findings if f.name == "tier container")
    assert (tier.status, tier.advice) == ("missing", missing.detail)
    assert examined.sessions, "the process tier is left"


async def test_where_nothing_runs_sessions_that_is_the_outcome(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    none = Probe(False, "not here")
    probes = dict.fromkeys(("container", "gvisor", "vm", "process"), none)
    assert not (await _examined(monkeypatch, **probes)).sessions


async def test_a_tier_below_the_operators_minimum_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    works = Probe(True, "as it should")
    monkeypatch.setenv("FREEHOLD_SANDBOX_TIER_MIN", "gvisor")
    examined = await _examined(monkeypatch, container=works, gvisor=works)
    found = {f.name: f for f in examined.findings}
    assert found["tier container"].status == "limited"
    assert "FREEHOLD_SANDBOX_TIER_MIN is gvisor" in found["tier container"].advice
    assert found["tier gvisor"].status == "ok"


async def test_missing_binaries_of_postgres_come_with_two_ways_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(examination.binaries, "_in_wheel", list)
    examined = await examination.examine(load({"FREEHOLD_STATE": str(tmp_path)}))
    (postgres,) = (f for f in examined.findings if f.name == "postgres")
    assert postgres.status == "missing"
    assert "--database-url" in postgres.advice
