"""scripts/install-gvisor.sh where it cannot install: it says so and is no obstacle."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "install-gvisor.sh"


def run(tmp_path: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    as_nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    return subprocess.run(
        ["sh", "-s", "--", "--to", str(tmp_path / "runsc"), *options],
        input=SCRIPT.read_text(),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
        **as_nobody,
    )


def test_without_root_it_says_so_in_one_line_and_ends_well(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "as root" in done.stderr


def test_where_it_is_required_it_fails(tmp_path: Path) -> None:
    assert run(tmp_path, "--required").returncode == 1


def test_an_unknown_option_is_refused(tmp_path: Path) -> None:
    assert run(tmp_path, "--please").returncode == 2


@pytest.mark.skipif(not Path("/usr/local/bin/runsc").exists(), reason="none is installed")
def test_one_that_is_there_is_left_alone() -> None:
    before = Path("/usr/local/bin/runsc").stat()
    done = subprocess.run(["sh", SCRIPT], capture_output=True, text=True, timeout=60, check=True)
    assert "runsc version" in done.stdout
    assert Path("/usr/local/bin/runsc").stat().st_mtime_ns == before.st_mtime_ns
