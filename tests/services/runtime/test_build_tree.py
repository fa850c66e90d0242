"""The build root: what untrusted code left is made harmless, and crashes leave nothing for good."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from freehold.services.runtime.build.log import BuildLog
from freehold.services.runtime.build.tree import (
    BuildTree,
    Resolved,
    TooLarge,
    measure,
    remove,
    seal,
)

LARGE = {"bytes_max": 1 << 20, "entries_max": 100}


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    staged = tmp_path / "staged"
    (staged / "package").mkdir(parents=True)
    (staged / "package/module.py").write_text("x = 1")
    return staged


def test_what_leads_out_or_is_no_file_goes(staged: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("secret")
    outside.chmod(0o640)
    (staged / "absolute").symlink_to(outside)
    (staged / "package/up").symlink_to("../../outside")
    (staged / "loop").symlink_to("loop")
    (staged / "directory").symlink_to(tmp_path)
    (staged / "good").symlink_to("package/module.py")
    os.mkfifo(staged / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(staged / "socket"))
    seal(staged, **LARGE)
    assert {str(path.relative_to(staged)) for path in staged.rglob("*")} - {"loop"} == {
        *("good", "package", "package/module.py")
    }
    assert outside.stat().st_mode & 0o777 == 0o640
    assert outside.read_text() == "secret"


def test_modes_lose_all_but_reading_and_running(staged: Path) -> None:
    for name, mode in (("suid", 0o6755), ("closed", 0o000), ("open", 0o777), ("plain", 0o666)):
        (staged / name).write_text(name)
        (staged / name).chmod(mode)
    (staged / "shut").mkdir()
    (staged / "shut/inner").write_text("x")
    (staged / "shut").chmod(0o000)
    seal(staged, **LARGE)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in staged.rglob("*")}
    assert modes == {
        **{"suid": 0o555, "closed": 0o444, "open": 0o555, "plain": 0o444, "module.py": 0o444},
        **{"shut": 0o555, "inner": 0o444, "package": 0o555},
    }


def test_the_digest_is_of_everything_inside_and_of_nothing_else(tmp_path: Path) -> None:
    def digest(name: str, **files: str) -> str:
        tree = tmp_path / name
        tree.mkdir()
        for path, text in files.items():
            (tree / path).write_text(text)
        return seal(tree, **LARGE)

    first = digest("first", a="1", b="2")
    assert digest("same", b="2", a="1") == first
    others = [digest("x", a="1", b="3"), digest("y", a="1", c="2"), digest("z", a="1"), digest("w")]
    assert len({first, *others}) == 5


@pytest.mark.parametrize("limits", [{"bytes_max": 3}, {"entries_max": 1}])
def test_a_tree_that_is_too_large_is_refused(staged: Path, limits: dict[str, int]) -> None:
    with pytest.raises(TooLarge):
        seal(staged, **{**LARGE, **limits})
    assert measure(staged)[1] == 2


def test_a_published_tree_appears_whole_and_a_second_one_changes_nothing(tmp_path: Path) -> None:
    tree = BuildTree(tmp_path / "root")
    work = tree.stage()
    for name in ("one", "two"):
        (work.path / name).mkdir()
        (work.path / name / "who").write_text(name)
        seal(work.path / name, **LARGE)
        tree.publish(work.path / name, tree.layer("key"))
    tree.unstage(work)
    assert (tree.layer("key") / "who").read_text() == "one"
    assert tree.layer("key").stat().st_mode & 0o777 == 0o555
    assert list((tmp_path / "root/tmp").iterdir()) == []


def test_what_was_remembered_is_known_again_and_a_damaged_note_is_not(tmp_path: Path) -> None:
    tree = BuildTree(tmp_path / "root")
    assert tree.resolved("1", "k") is None
    tree.remember("1", "k", Resolved("layer", 5.0))
    assert BuildTree(tmp_path / "root").resolved("1", "k") == Resolved("layer", 5.0)
    assert tree.resolved("2", "k") is None
    (tmp_path / "root/resolved/1/k.json").write_text("{")
    assert tree.resolved("1", "k") is None


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "x\0"])
def test_a_name_that_is_no_name_never_becomes_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(AssertionError):
        BuildTree(tmp_path).log_path(name)


DIES = """
import os, signal, sys
from pathlib import Path
from freehold.services.runtime.build.tree import BuildTree
staged = BuildTree(Path(sys.argv[1])).stage()
(staged.path / "closed").mkdir()
(staged.path / "closed/half.py").write_text("half")
(staged.path / "closed").chmod(0o000)
print("staged", flush=True)
if sys.argv[2] == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.read()
"""


async def test_a_sweep_removes_what_a_killed_process_left_and_spares_the_living(
    tmp_path: Path,
) -> None:
    tree = BuildTree(tmp_path / "root")
    processes = []
    for fate in ("dies", "lives"):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", DIES, str(tmp_path / "root"), fate),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        processes.append(process)
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 20) == b"staged\n"
    dead, living = processes
    assert await asyncio.wait_for(dead.wait(), 20) == -signal.SIGKILL
    mine = tree.stage()
    assert len(list((tmp_path / "root/tmp").glob("*.lock"))) == 3
    tree.sweep()
    assert len(list((tmp_path / "root/tmp").glob("*.lock"))) == 2
    assert len([path for path in (tmp_path / "root/tmp").iterdir() if path.is_dir()]) == 2
    living.kill()
    await living.wait()
    tree.sweep()
    tree.unstage(mine)
    assert list((tmp_path / "root/tmp").iterdir()) == []


def deep(top: Path, name: str) -> None:
    """As code does that goes in as it makes them: no path leads there."""
    at = os.open(top, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir(name, dir_fd=at)
        inner = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)


@pytest.mark.parametrize("name", ["a", "long" * 50])
def test_a_tree_that_is_too_deep_is_refused_and_removed(staged: Path, name: str) -> None:
    deep(staged, name)
    with pytest.raises(TooLarge):
        seal(staged, bytes_max=1 << 30, entries_max=10_000)
    with pytest.raises(TooLarge):
        measure(staged)
    remove(staged)
    assert not staged.exists()


def test_removing_follows_no_link(staged: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o750)
    (kept / "file").touch()
    (staged / "link").symlink_to(kept)
    remove(staged)
    assert not staged.exists()
    assert (kept / "file").exists()
    assert kept.stat().st_mode & 0o777 == 0o750


def test_a_log_hides_secrets_in_whatever_pieces_they_come(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with BuildLog(path, bytes_max=1000) as log:
        log.hide(("canary", "canary-and-more", ""))
        log.feed(b"one can")
        log.feed(b"ary here\nand canary-and-more")
        log.note("canary")
        assert log.tail == ("one **** here", "[build] ****")
    assert path.read_text() == "one **** here\n[build] ****\nand ****\n"


def test_a_log_is_bounded_in_size_and_in_lines_and_harmless_to_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with BuildLog(path, bytes_max=5_000) as log:
        log.feed(b"\x1b[31mred\x1b[0m \xff\r\n")
        log.feed(b"x" * 1_000_000 + b"\n")
        log.feed(b"".join(b"line %d\n" % n for n in range(10_000)))
    lines = path.read_text().splitlines()
    assert lines[0] == "�[31mred�[0m �"
    assert max(len(line) for line in lines) < 2_100
    assert lines[-1] == "line 9999"
    assert any(line.endswith("lines left out]") for line in lines)
    assert path.stat().st_size < 8_000
