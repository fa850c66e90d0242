"""A folder becomes the same zip every time, without what does not belong in it."""

import io
import os
import zipfile
from pathlib import Path

import pytest

from freehold.cli import bundle
from freehold.cli.failure import CliError
from freehold.cli.ignore import Ignore


def packed(directory: Path, *exclude: str) -> tuple[bundle.Bundle, dict[str, zipfile.ZipInfo]]:
    target = io.BytesIO()
    made = bundle.write(directory, exclude, target)
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        return made, {entry.filename: entry for entry in archive.infolist()}


def make(directory: Path, *paths: str) -> Path:
    for path in paths:
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(path)
    return directory


def test_the_same_files_make_the_same_zip(tmp_path: Path) -> None:
    one = make(tmp_path / "one", "main.py", "lib/a.py", "lib/b.py")
    other = make(tmp_path / "other", "lib/b.py", "lib/a.py", "main.py")
    os.utime(other / "main.py", (0, 10**9))
    (other / "lib" / "a.py").chmod(0o600)
    first, second = packed(one)[0], packed(other)[0]
    assert first == second
    assert first.files == 3
    (other / "main.py").write_text("changed")
    assert packed(other)[0].sha256 != first.sha256


def test_a_file_that_may_be_run_stays_so(tmp_path: Path) -> None:
    make(tmp_path, "main.py", "tool")
    (tmp_path / "tool").chmod(0o700)
    entries = packed(tmp_path)[1]
    assert entries["tool"].external_attr >> 16 & 0o777 == 0o755
    assert entries["main.py"].external_attr >> 16 & 0o777 == 0o644


def test_secrets_caches_and_environments_stay_out(tmp_path: Path) -> None:
    make(
        tmp_path,
        "main.py",
        ".env",
        ".env.production",
        ".git/config",
        ".venv/bin/python",
        "lib/__pycache__/a.pyc",
        "web/node_modules/x/index.js",
        "lib/a.py",
    )
    assert set(packed(tmp_path)[1]) == {"main.py", "lib/a.py"}


def test_nothing_takes_a_secret_back_in(tmp_path: Path) -> None:
    make(tmp_path, "main.py", ".env")
    (tmp_path / ".gitignore").write_text("!.env\n")
    assert set(packed(tmp_path, "!.env")[1]) == {"main.py"}


def test_gitignore_counts_unless_there_is_a_freeholdignore(tmp_path: Path) -> None:
    make(tmp_path, "main.py", "notes.txt", "model.bin")
    (tmp_path / ".gitignore").write_text("# big\n*.bin\n")
    assert set(packed(tmp_path)[1]) == {"main.py", "notes.txt"}
    (tmp_path / ".freeholdignore").write_text("notes.txt\n")
    assert set(packed(tmp_path)[1]) == {"main.py", "model.bin"}


def test_exclude_of_the_project_adds_to_it(tmp_path: Path) -> None:
    make(tmp_path, "main.py", "data/a.csv", "tests/test_a.py")
    assert set(packed(tmp_path, "data/", "/tests")[1]) == {"main.py"}


@pytest.mark.parametrize(
    ("pattern", "path", "folder", "ignored"),
    [
        ("*.log", "a.log", False, True),
        ("*.log", "deep/er/a.log", False, True),
        ("*.log", "a.log.txt", False, False),
        ("build/", "build", True, True),
        ("build/", "build", False, False),
        ("/top.txt", "top.txt", False, True),
        ("/top.txt", "sub/top.txt", False, False),
        ("sub/*.txt", "sub/a.txt", False, True),
        ("sub/*.txt", "sub/b/a.txt", False, False),
        ("sub/**/a.txt", "sub/a.txt", False, True),
        ("sub/**/a.txt", "sub/b/c/a.txt", False, True),
        ("**/a.txt", "x/a.txt", False, True),
        ("sub/**", "sub/x/y", False, True),
        ("file?.py", "file1.py", False, True),
        ("file?.py", "file/.py", False, False),
        ("[ab].py", "a.py", False, True),
        ("[!ab].py", "a.py", False, False),
        ("[!ab].py", "c.py", False, True),
        ("a.b", "axb", False, False),
        ("\\#x", "#x", False, True),
        ("#x", "#x", False, False),
        ("trailing  ", "trailing", False, True),
    ],
)
def test_patterns_mean_what_they_mean_to_git(
    pattern: str, path: str, folder: bool, ignored: bool
) -> None:
    assert Ignore([pattern]).matches(path, folder=folder) is ignored


def test_the_last_pattern_that_matches_decides() -> None:
    ignore = Ignore(["*.py", "!main.py", "", "   "])
    assert ignore.matches("a.py", folder=False)
    assert not ignore.matches("main.py", folder=False)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "agent", "main.py")
    (tmp_path / "secret").write_text("x")
    (folder / "data").symlink_to(tmp_path / "secret")
    with pytest.raises(CliError, match="data is a link that leads out of"):
        packed(folder)
    assert set(packed(folder, "data")[1]) == {"main.py"}


def test_a_link_within_the_folder_becomes_a_file(tmp_path: Path) -> None:
    make(tmp_path, "main.py", "lib/a.py")
    (tmp_path / "b.py").symlink_to("lib/a.py")
    assert packed(tmp_path)[1]["b.py"].file_size == len("lib/a.py")


def test_links_to_folders_and_to_nothing_and_pipes_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "main.py", "lib/a.py")
    (tmp_path / "again").symlink_to("lib")
    with pytest.raises(CliError, match="again is a link to a folder"):
        packed(tmp_path)
    (tmp_path / "again").unlink()
    (tmp_path / "gone").symlink_to("nowhere")
    with pytest.raises(CliError, match="gone is a link to nothing"):
        packed(tmp_path)
    (tmp_path / "gone").unlink()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CliError, match="pipe is no regular file"):
        packed(tmp_path)


def test_what_is_too_large_is_refused_with_the_way_to_leave_files_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "main.py")
    (tmp_path / "zeros").write_bytes(bytes(3 << 20))
    monkeypatch.setattr(bundle, "UNPACKED_BYTES_MAX", 2 << 20)
    with pytest.raises(CliError, match="larger than 2 MB unpacked") as caught:
        packed(tmp_path)
    assert "exclude" in (caught.value.hint or "")
    monkeypatch.setattr(bundle, "UNPACKED_BYTES_MAX", 4 << 20)
    monkeypatch.setattr(bundle, "ZIP_BYTES_MAX", 1 << 10)
    with pytest.raises(CliError, match="zipped"):
        packed(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="nothing to deploy"):
        packed(tmp_path)
