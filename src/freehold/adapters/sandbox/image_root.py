"""The root of a sandbox that is an unpacked image's, with what it writes kept beside it, in memory.

An overlay of the image and a tmpfs, made in a mount namespace of its own before bubblewrap starts:
it goes with the sandbox's last process, and nothing has to be unmounted. As root it is root's, so
that the image itself stays closed to the sandbox's user; else it is made in a user namespace.
The folder's shape is that of `ports/images.py`.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from freehold.ports.sandbox import SandboxFailed, SandboxSpec

_INSTALL = "images need unshare, setpriv and mount: apt-get install util-linux mount"
_SEARCH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin"
# Relative names: whatever the state directory is called, a ':' or ',' in it means nothing here.
_SCRIPT = """
cd "$1" || exit 125
{mount} -n -t tmpfs -o "size=$2,mode=0755,nosuid,nodev" tmpfs session || exit 125
{mkdir} session/upper session/work session/root && {chmod} 0757 session/upper || exit 125
{mount} -n -t overlay -o \
"nosuid,nodev,lowerdir=closed/rootfs,upperdir=session/upper,workdir=session/work$3" \
overlay session/root || exit 125
cd /
shift 3
exec "$@"
"""
OWN_FILES = ("hosts", "hostname", "resolv.conf")
RUN_BYTES_MAX = 16 << 20


def view(folder: str) -> str:
    """Where what is started by `around` sees the files."""
    return f"{folder}/session/root"


def files(folder: str) -> str:
    """The image's own, for whoever copies them."""
    path = Path(folder, "closed", "rootfs")
    if not path.is_dir():
        raise SandboxFailed(f"the unpacked image {folder} is not there")
    return str(path)


def around(spec: SandboxSpec) -> tuple[str, ...]:
    """What is to be run in place of bubblewrap, before its own line."""
    assert spec.root is not None
    files(spec.root)
    programs = {name: shutil.which(name, path=_SEARCH) for name in ("mount", "mkdir", "chmod")}
    unshare, shell = shutil.which("unshare", path=_SEARCH), shutil.which("sh", path=_SEARCH)
    if not (unshare and shell and all(programs.values()) and shutil.which("setpriv")):
        raise SandboxFailed(_INSTALL)
    own_user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    options = "" if os.geteuid() == 0 else ",userxattr"
    script = _SCRIPT.format(**programs)
    return (
        *(unshare, *own_user, "--mount", "--propagation", "private", "--"),
        *(shell, "-c", script, "freehold"),
        *(spec.root, str(spec.limits.scratch_bytes_max), options),
    )


def bindings(folder: str, etc: Path, root: str = "") -> list[str]:
    """bubblewrap's arguments: the image's files, with names and addresses that are true here."""
    result = ["--bind", view(folder), root or "/"]
    for name in OWN_FILES:
        result += ["--ro-bind", str(etc / name), f"{root}/etc/{name}"]
    return result


def run_folder() -> Iterable[str]:
    return ("--size", str(RUN_BYTES_MAX), "--perms", "1777", "--tmpfs", "/run")
