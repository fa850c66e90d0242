"""Disks of folders: one for each content, made once."""

import os
import time
from pathlib import Path

import pytest

from freehold.adapters.sandbox.vm import images
from freehold.adapters.sandbox.vm.images import Images
from freehold.ports.sandbox import SandboxFailed

pytestmark = pytest.mark.skipif(images.missing() is not None, reason=str(images.missing()))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def folder(tmp_path: Path, name: str, **files: str) -> Path:
    made = tmp_path / name
    made.mkdir()
    for file, text in files.items():
        (made / file).write_text(text)
        os.utime(made / file, (0, 0))
    os.utime(made, (0, 0))
    return made


def disks(cache: Path) -> int:
    return len(list(cache.glob("*.erofs")))


def test_the_same_content_is_one_disk_wherever_it_is(tmp_path: Path, cache: Path) -> None:
    made = Images(cache, 1 << 30)
    one, same = folder(tmp_path, "one", a="x"), folder(tmp_path, "same", a="x")
    assert made.of(str(one)).serial == made.of(str(same)).serial
    assert disks(cache) == 1


def test_other_content_of_the_same_size_and_time_is_another_disk(
    tmp_path: Path, cache: Path
) -> None:
    """As archives without times unpack: nothing but the content tells two tenants' code apart."""
    made = Images(cache, 1 << 30)
    one, other = folder(tmp_path, "one", a="x"), folder(tmp_path, "other", a="y")
    assert made.of(str(one)).serial != made.of(str(other)).serial
    before = made.of(str(one)).serial
    (one / "a").write_text("z")
    os.utime(one / "a", (0, 0))
    assert made.of(str(one)).serial != before


def test_an_owner_is_part_of_it(tmp_path: Path, cache: Path) -> None:
    made = Images(cache, 1 << 30)
    source = str(folder(tmp_path, "one", a="x"))
    assert made.of(source).serial != made.of(source, 1000).serial


def test_a_later_process_finds_what_an_earlier_one_made(tmp_path: Path, cache: Path) -> None:
    source = str(folder(tmp_path, "one", a="x"))
    first = Images(cache, 1 << 30).of(source)
    made = Path(first.path).stat().st_ino
    assert Images(cache, 1 << 30).of(source) == first
    assert Path(first.path).stat().st_ino == made


def test_one_file_can_be_mounted(tmp_path: Path, cache: Path) -> None:
    source = folder(tmp_path, "one", note="x") / "note"
    assert Images(cache, 1 << 30).of(str(source)).file == "note"


def test_what_does_not_exist_is_named(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(SandboxFailed, match="missing is to be mounted, but does not exist"):
        Images(cache, 1 << 30).of(str(tmp_path / "missing"))


def test_when_there_is_too_much_the_least_used_goes(tmp_path: Path, cache: Path) -> None:
    made = Images(cache, 3 << 20)
    sources = [folder(tmp_path, name, a=name * (1 << 20)) for name in "abc"]
    kept = [made.of(str(source)) for source in sources[:2]]
    hour_ago = time.time() - 3600
    os.utime(kept[1].path, (hour_ago, hour_ago))
    made.of(str(sources[0]))
    made.of(str(sources[2]))
    assert Path(kept[0].path).exists()
    assert not Path(kept[1].path).exists()


def test_nobody_else_can_read_a_disk(tmp_path: Path, cache: Path) -> None:
    """It is opened for the machine that it belongs to, which runs as another user."""
    disk = Path(Images(cache, 1 << 30).of(str(folder(tmp_path, "one", marked="hello"))).path)
    assert b"hello" in disk.read_bytes()
    assert disk.stat().st_mode & 0o777 == 0o600
