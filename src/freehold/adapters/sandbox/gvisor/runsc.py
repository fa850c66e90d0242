"""gVisor's program: which one, and how it is called inside the outer namespaces."""

import os
import shutil
import subprocess
from functools import cache
from typing import Literal

INSTALL = (
    "install gVisor's runsc of 2024 or later: sudo sh scripts/install-gvisor.sh, or on Debian 13"
    " apt-get install runsc"
)
PROGRAM = "/runsc"
"""Where the outer namespaces see it, and nothing of the sandbox does."""

STATE = "/state"
IMAGE = "/image"
"""A checkpoint: written when one is taken, read when one is restored."""

_STATE_BYTES_MAX = 16 << 20
_NAME_MAX = 64
_BUNDLE = "/bundle"
CONFIGURATION = f"{_BUNDLE}/config.json"
ROOT = "/rootfs"

_FLAGS = (
    f"--root={STATE}",
    "--platform=systrap",  # needs neither hardware nor ptrace
    "--ignore-cgroups",  # all of it is in a group of ours
    "--oci-seccomp",  # inside, by gVisor's kernel: see refusals.py
    "--overlay2=none",  # what is read-only stays so, and nothing is written beside a file
)
# The sockets of the network namespace around it, which is empty but for a loopback. No checkpoint
# can be taken of those; of gVisor's own stack, which then has nothing but a loopback either, it
# can. What leaves it there goes through unix sockets in a folder: see guest/relay.py.
_NETWORKS = {"host": ("--network=host",), "own": ("--network=none", "--host-uds=open")}


def installed() -> str | None:
    return shutil.which("runsc", path=os.environ.get("PATH", os.defpath) + ":/usr/local/bin")


@cache
def version(program: str) -> str:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return said.stdout.partition("\n")[0].removeprefix("runsc version ").strip()


@cache
def too_old(program: str) -> str | None:
    """What an old runsc lacks that cannot be done without; None when nothing."""
    flags = subprocess.run([program, "flags"], capture_output=True, text=True, check=False)
    if "systrap" in flags.stdout + flags.stderr:
        return None
    return f"{program} is too old: {INSTALL}"


def container(sandbox_id: str) -> str:
    """runsc's own name of it, for people who look at a process list: a socket's is made of it."""
    return sandbox_id[:_NAME_MAX]


def run(sandbox_id: str, network: Literal["host", "own"] = "host") -> tuple[str, ...]:
    """Stays while the sandbox runs, and ends with its exit code."""
    return _called(network, "run", "--bundle", _BUNDLE, container(sandbox_id))


def restore(sandbox_id: str) -> tuple[str, ...]:
    """As `run`, from the checkpoint in IMAGE."""
    options = ("--bundle", _BUNDLE, "--image-path", IMAGE)
    return _called("own", "restore", *options, container(sandbox_id))


def checkpoint(sandbox_id: str) -> tuple[str, ...]:
    """Into IMAGE; ends the sandbox. Uncompressed it is twice as fast to restore."""
    options = ("--compression=none", "--image-path", IMAGE)
    return _called("own", "checkpoint", *options, container(sandbox_id))


def _called(network: str, *arguments: str) -> tuple[str, ...]:
    return (PROGRAM, *_FLAGS, *_NETWORKS[network], *arguments)


def own_files(program: str) -> list[str]:
    """bubblewrap's arguments: what runsc itself needs around it."""
    state = ("--size", str(_STATE_BYTES_MAX), "--perms", "0700", "--tmpfs", STATE)
    return ["--ro-bind", program, PROGRAM, *state, "--perms", "0700", "--dir", _BUNDLE]
