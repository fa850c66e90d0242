"""Control groups: where they are found, and what is written on cgroup v2.

This runs on any machine: v2's files are plain ones here, laid out as the kernel does.
"""

from pathlib import Path

import pytest

from freehold.adapters.sandbox import hierarchies
from freehold.adapters.sandbox.cgroups import Cgroups, Group
from freehold.ports.sandbox import Limits

V2 = "30 24 0:26 / {mount} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "{n} 24 0:{n} {root} {mount} rw shared:9 - cgroup cgroup rw,{controllers}\n"


def v2_folder(folder: Path, controllers: str = "cpuset cpu io memory pids") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.controllers").write_text(controllers)
    (folder / "cgroup.subtree_control").write_text("")
    (folder / "cgroup.procs").write_text("")
    return folder


def filled(folder: Path) -> None:
    """The files that the kernel makes in a new group."""
    for name in ("memory.swap.max", "memory.oom.group", "cgroup.freeze", "cgroup.kill"):
        (folder / name).write_text("")
    (folder / "memory.events").write_text("low 0\nhigh 0\nmax 4\noom 1\noom_kill 2\n")
    (folder / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\nsystem_usec 2\n")
    (folder / "memory.peak").write_text("4096\n")
    (folder / "memory.current").write_text("1024\n")
    (folder / "cgroup.events").write_text("populated 1\nfrozen 1\n")


def test_v2_is_found_below_the_own_group_and_controllers_are_handed_down(tmp_path: Path) -> None:
    own = v2_folder(tmp_path / "user.slice" / "service")
    v2_folder(own / "ours")
    found = hierarchies.discover("ours", V2.format(mount=tmp_path), "0::/user.slice/service\n")
    assert found.missing == []
    assert (own / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    assert (own / "ours" / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"


def test_v2_without_controllers_limits_nothing_and_says_so(tmp_path: Path) -> None:
    v2_folder(tmp_path / "ours", controllers="")
    v2_folder(tmp_path, controllers="")
    found = hierarchies.discover("ours", V2.format(mount=tmp_path), "0::/\n")
    assert found.missing == ["memory", "pids", "cpu"]


def test_v1_is_found_in_each_hierarchy_below_the_own_group(tmp_path: Path) -> None:
    for name in ("memory/slice/ours", "cpu,cpuacct/ours"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "cgroup.procs").write_text("")
    mountinfo = V1.format(n=31, root="/", mount=tmp_path / "memory", controllers="memory")
    mountinfo += V1.format(
        n=32, root="/docker/me", mount=tmp_path / "cpu,cpuacct", controllers="cpu,cpuacct"
    )
    found = hierarchies.discover("ours", mountinfo, "4:memory:/slice\n3:cpu,cpuacct:/docker/me\n")
    assert found.missing == ["pids"]
    group = found.group("box")
    group.create(Limits(memory_bytes_max=1 << 20, cpus_max=0.5))
    assert (tmp_path / "memory/slice/ours/box/memory.limit_in_bytes").read_text() == "1048576"
    assert (tmp_path / "cpu,cpuacct/ours/box/cpu.cfs_quota_us").read_text() == "50000"


def test_where_nothing_is_mounted_everything_is_missing() -> None:
    found = hierarchies.discover("ours", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n", "0::/\n")
    assert found.missing == ["memory", "pids", "cpu"]
    group = found.group("box")
    group.create(Limits())
    assert (group.cpu_seconds(), group.memory_peak_bytes()) == (None, None)
    assert not group.freezes
    assert not group.kill()
    group.remove()


@pytest.fixture
def group(tmp_path: Path) -> Group:
    parents = dict.fromkeys(("memory", "pids", "cpu"), tmp_path)
    group = Cgroups(parents, tmp_path).group("box")
    (tmp_path / "box").mkdir()
    filled(tmp_path / "box")
    return group


def test_v2_limits(group: Group, tmp_path: Path) -> None:
    group.create(Limits(memory_bytes_max=1 << 28, cpus_max=1.5, processes_max=7))
    wanted = {
        "memory.max": str(1 << 28),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "cpu.max": "150000 100000",
        "pids.max": "7",
    }
    assert {name: (tmp_path / "box" / name).read_text() for name in wanted} == wanted


def test_v2_meters_and_switches(group: Group, tmp_path: Path) -> None:
    assert group.cpu_seconds() == 1.5
    assert group.memory_peak_bytes() == 4096
    assert group.out_of_memory_kills() == 2
    assert group.frozen()
    group.freeze(True)
    assert (tmp_path / "box" / "cgroup.freeze").read_text() == "1"
    assert group.kill()
    assert (tmp_path / "box" / "cgroup.kill").read_text() == "1"


def test_v2_before_peaks_could_be_reset_reads_what_is_used_now(
    group: Group, tmp_path: Path
) -> None:
    (tmp_path / "box" / "memory.peak").unlink()
    assert group.memory_peak_bytes() == 1024
