"""What comes back from a machine's writable mount, of which nothing is believed."""

import io
import os
from pathlib import Path

import pytest

from freehold.adapters.sandbox.vm.guest import tree
from freehold.adapters.sandbox.vm.returned import ReturnFailed, replace_content, size_of

BYTES_MAX = 1 << 20
END = tree.HEADER.pack(tree.END, 0, 0, 0)


def entry(kind: int, name: bytes, content: bytes = b"", mode: int = 0o644) -> bytes:
    return tree.HEADER.pack(kind, mode, len(name), len(content)) + name + content


@pytest.fixture
def target(tmp_path: Path) -> Path:
    made = tmp_path / "target"
    made.mkdir()
    (made / "old").write_text("before")
    return made


def take_back(target: Path, stream: bytes, bytes_max: int = BYTES_MAX) -> None:
    replace_content(str(target), io.BytesIO(stream), bytes_max)


def test_a_whole_tree_takes_the_place_of_what_was_there(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "source"
    (source / "a" / "b").mkdir(parents=True)
    (source / "a" / "b" / "file").write_bytes(os.urandom(200_000))
    (source / "program").write_text("#!/bin/sh\n")
    (source / "program").chmod(0o4755)
    (source / "link").symlink_to("/etc/passwd")
    os.mkfifo(source / "fifo")
    stream = io.BytesIO()
    tree.write(str(source), stream)
    take_back(target, stream.getvalue())
    assert sorted(path.name for path in target.iterdir()) == ["a", "link", "program"]
    assert (target / "a" / "b" / "file").read_bytes() == (source / "a" / "b" / "file").read_bytes()
    assert (target / "link").readlink() == Path("/etc/passwd")
    assert (target / "program").stat().st_mode & 0o7777 == 0o755
    assert size_of(str(target)) >= 200_000


OUTSIDE = {
    "upwards": entry(tree.FILE, b"../escaped", b"x"),
    "upwards inside": entry(tree.FOLDER, b"a") + entry(tree.FILE, b"a/../../escaped", b"x"),
    "absolute": entry(tree.FILE, b"/escaped", b"x"),
    "through a link": entry(tree.LINK, b"way", b"..") + entry(tree.FILE, b"way/escaped", b"x"),
    "onto a link": entry(tree.LINK, b"way", b"../escaped") + entry(tree.FILE, b"way", b"x"),
    "twice": entry(tree.FILE, b"one", b"x") * 2,
    "nothing": entry(tree.FILE, b"", b"x"),
    "itself": entry(tree.FOLDER, b"."),
    "a zero byte": entry(tree.FILE, b"a\0b", b"x"),
    "no kind": entry(77, b"a"),
    "a long link": entry(tree.LINK, b"a", b"x" * 5000),
    "a folder that is missing": entry(tree.FILE, b"missing/file", b"x"),
}


@pytest.mark.parametrize("what", OUTSIDE)
def test_what_leads_elsewhere_is_refused_and_changes_nothing(
    tmp_path: Path, target: Path, what: str
) -> None:
    with pytest.raises(ReturnFailed):
        take_back(target, OUTSIDE[what] + END)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert (target / "old").read_text() == "before"


def test_more_than_the_limit_is_refused_before_it_is_read(target: Path) -> None:
    big = tree.HEADER.pack(tree.FILE, 0o644, 1, 1 << 60) + b"a" + bytes(1 << 21)
    with pytest.raises(ReturnFailed, match="limits"):
        take_back(target, big)
    assert [path.name for path in target.iterdir()] == ["old"]


@pytest.mark.parametrize("count", [1, 20, 200])
def test_a_stream_that_breaks_off_changes_nothing(target: Path, count: int) -> None:
    whole = entry(tree.FOLDER, b"a") + entry(tree.FILE, b"a/file", b"x" * 300) + END
    with pytest.raises(ReturnFailed, match="ended before"):
        take_back(target, whole[:-count])
    assert [path.name for path in target.iterdir()] == ["old"]
