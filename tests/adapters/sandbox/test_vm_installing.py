"""scripts/install-vm.sh where it cannot install: it says so and is no obstacle."""

import os
import subprocess
from pathlib import Path

import pytest

from freehold.adapters.sandbox.vm import boot, images, qemu

SCRIPT = Path(__file__).parents[3] / "scripts" / "install-vm.sh"


def run(*options: str, as_nobody: bool = True) -> "subprocess.CompletedProcess[str]":
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    return subprocess.run(
        ["sh", "-s", "--", *options],
        input=SCRIPT.read_text(),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
        **(nobody if as_nobody and os.geteuid() == 0 else {}),
    )


def test_without_root_it_says_so_in_one_line_and_ends_well(tmp_path: Path) -> None:
    done = run("--to", str(tmp_path / "none"))
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "as root" in done.stderr


def test_where_it_is_required_it_fails(tmp_path: Path) -> None:
    assert run("--required", "--to", str(tmp_path / "none")).returncode == 1


def test_an_unknown_option_is_refused() -> None:
    assert run("--please").returncode == 2


@pytest.mark.skipif(
    bool(not qemu.installed() or images.missing() or boot.missing(boot.FOLDER)),
    reason="none is installed",
)
def test_what_is_there_is_left_alone() -> None:
    kernel = boot.FOLDER / "vmlinuz"
    before = kernel.stat()
    done = run(as_nobody=False)
    assert done.returncode == 0
    assert "QEMU emulator version" in done.stdout
    assert kernel.stat() == before
