"""Finding Pythons and Nodes, and making those in closed directories visible."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from freehold.adapters.sandbox.container import ContainerDriver
from freehold.adapters.sandbox.interpreters import NODES, PYTHONS, InstalledInterpreters
from freehold.ports.sandbox import Limits, Mount, SandboxSpec

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root needs copies")


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="freehold-interpreters-") as path:
        Path(path).chmod(0o711)
        yield Path(path)


def make_node(folder: Path, version: str, counter: Path | None = None) -> Path:
    folder.mkdir(parents=True)
    program = folder / "node"
    count = f"echo ran >> {counter}\n" if counter else ""
    program.write_text(f"#!/bin/sh\n{count}echo v{version}\n")
    program.chmod(0o755)
    return program


def test_what_this_machine_has_runs_and_is_what_it_says(place: Path) -> None:
    usual = (Path("/usr/bin"), Path("/usr/local/bin"))
    found = InstalledInterpreters(place, search=usual).discover()
    assert set(found) <= set(PYTHONS) | set(NODES)
    for name, interpreter in found.items():
        flag = "-V" if name in PYTHONS else "--version"
        said = subprocess.run(
            [interpreter.executable, flag], capture_output=True, text=True, check=True
        ).stdout
        assert interpreter.version in said
        assert interpreter.name == name


def test_each_program_is_run_once_and_remembered(place: Path) -> None:
    counter = place / "count"
    folder = place / "node-22" / "bin"
    node = make_node(folder, "22.9.1", counter)
    for _ in range(2):
        found = InstalledInterpreters(place / "kept", search=(folder,)).discover()
        assert found["NODE_22"].version == "22.9.1"
    assert counter.read_text() == "ran\n"
    node.write_text(node.read_text().replace("22.9.1", "22.10.0"))  # an upgrade is noticed
    found = InstalledInterpreters(place / "kept", search=(folder,)).discover()
    assert found["NODE_22"].version == "22.10.0"


def test_versions_nobody_asks_for_and_broken_programs_are_passed_over(place: Path) -> None:
    old = make_node(place / "old", "18.0.0").parent
    broken = make_node(place / "broken", "22.0.0").parent
    (broken / "node").write_text("#!/bin/sh\nexit 1\n")
    assert InstalledInterpreters(place / "kept", search=(old, broken)).discover() == {}


def test_the_newest_patch_is_preferred(place: Path) -> None:
    folders = tuple(
        make_node(place / version / "bin", version).parent for version in ("22.9.0", "22.10.0")
    )
    found = InstalledInterpreters(place / "kept", search=folders).discover()
    assert found["NODE_22"].version == "22.10.0"


@AS_ROOT
def test_one_that_everybody_can_reach_is_preferred_to_a_newer_one(place: Path) -> None:
    closed = make_node(place / "closed" / "n" / "bin", "22.99.0").parent
    (place / "closed").chmod(0o700)
    opened = make_node(place / "open" / "bin", "22.1.0").parent
    found = InstalledInterpreters(place / "kept", search=(closed, opened)).discover()
    assert found["NODE_22"].version == "22.1.0"
    assert found["NODE_22"].mounts == (Mount(str(place / "open"), str(place / "open")),)


@AS_ROOT
@pytest.mark.skipif(not shutil.which("bwrap"), reason="needs bubblewrap")
async def test_a_python_in_a_closed_home_is_copied_and_runs_in_a_sandbox(place: Path) -> None:
    """A whole prefix is imitated: /usr's own Python would need no copy."""
    home = place / "home"
    prefix = home / ".pythons" / "one"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "lib" / "test").mkdir(parents=True)
    (prefix / "lib" / "kept.txt").write_text("kept")
    (prefix / "lib" / "kept.txt").chmod(0o600)
    node = prefix / "bin" / "node"
    node.write_text('#!/bin/sh\nif [ "$1" = --version ]; then echo v22.0.0; else cat $1; fi\n')
    node.chmod(0o700)
    home.chmod(0o700)

    (place / "state").mkdir(mode=0o711)
    interpreters = InstalledInterpreters(place / "state" / "i", search=(prefix / "bin",)).discover()
    node_22 = interpreters["NODE_22"]
    (mount,) = node_22.mounts
    assert (mount.target, node_22.executable) == (str(prefix), str(node))
    assert Path(mount.source).is_relative_to(place / "state")
    assert not (Path(mount.source) / "lib" / "test").exists()

    driver = ContainerDriver(
        directory=place / "state" / "d",
        interpreters=interpreters,
        cgroup=f"freehold-test-{os.getpid()}",
    )
    sandbox = await driver.start(
        SandboxSpec(
            id="one",
            command=(node_22.executable, f"{prefix}/lib/kept.txt"),
            environment={},
            directory=str(place / "box"),
            output=str(place / "log"),
            limits=Limits(),
        )
    )
    end = await sandbox.wait()
    await sandbox.stop()
    await driver.close()
    assert (end.code, (place / "log").read_text()) == (0, "kept")
