"""Where on this machine control groups may be made. Found by making one."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from freehold.adapters.sandbox.cgroups import Cgroups

_V1_CONTROLLERS = ("memory", "pids", "cpu", "cpuacct", "freezer")
_V2_CONTROLLERS = ("memory", "pids", "cpu")


class Hierarchy(msgspec.Struct, frozen=True):
    """A mounted cgroup file system, and the group that this process is in."""

    version: int
    controllers: tuple[str, ...]
    mount: Path
    own: Path


def discover(parent: str, mountinfo: str | None = None, membership: str | None = None) -> Cgroups:
    """`parent` names our group within the one that this process is in."""
    mountinfo = mountinfo or Path("/proc/self/mountinfo").read_text()
    membership = membership or Path("/proc/self/cgroup").read_text()
    parents: dict[str, Path] = {}
    unified: Path | None = None
    for hierarchy in mounted(mountinfo, membership):
        if hierarchy.version == 2:
            controllers, unified = _parent_v2(hierarchy, parent)
            if unified:
                parents.update(dict.fromkeys(controllers, unified))
        else:
            ours = [name for name in hierarchy.controllers if name in _V1_CONTROLLERS]
            directory = _parent_v1(hierarchy, parent) if ours else None
            if directory:
                parents.update(dict.fromkeys(ours, directory))
    return Cgroups(parents, unified)


def mounted(mountinfo: str, membership: str) -> Iterator[Hierarchy]:
    own: dict[str, str] = {}
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            own[controller] = path  # v2 has the empty name
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(), after.split()[:3]
        if kind not in ("cgroup", "cgroup2"):
            continue
        version = 2 if kind == "cgroup2" else 1
        names = tuple(name for name in options.split(",") if name in own) if version == 1 else ()
        group = own.get(names[0] if names else "") if names or version == 2 else None
        if group is not None:
            mount = Path(fields[4])
            yield Hierarchy(version, names, mount, mount / _below(group, root=fields[3]))


def _below(path: str, root: str) -> str:
    """A container sees its own group mounted as the root, but may read its full path."""
    if path == root or path.startswith(root.rstrip("/") + "/"):
        return path[len(root.rstrip("/")) :].lstrip("/")
    return "" if path.startswith("/..") else path.lstrip("/")


def _parent_v1(hierarchy: Hierarchy, name: str) -> Path | None:
    for base in dict.fromkeys((hierarchy.own, hierarchy.mount)):
        with contextlib.suppress(OSError):
            directory = base / name
            directory.mkdir(exist_ok=True)
            if os.access(directory / "cgroup.procs", os.W_OK):
                return directory
    return None


def _parent_v2(hierarchy: Hierarchy, name: str) -> tuple[list[str], Path | None]:
    """The controllers that groups under the parent will have, and the parent."""
    for base in dict.fromkeys((hierarchy.own, hierarchy.mount)):
        directory = base / name
        try:
            directory.mkdir(exist_ok=True)
            if not os.access(directory / "cgroup.procs", os.W_OK):
                continue
            available = (base / "cgroup.controllers").read_text().split()
            wanted = [each for each in _V2_CONTROLLERS if each in available]
            _hand_down(base, wanted, name)
            _hand_down(directory, wanted, name)
            return wanted, directory
        except OSError:
            with contextlib.suppress(OSError):
                directory.rmdir()
    return [], None


def _hand_down(base: Path, controllers: list[str], name: str) -> None:
    control = base / "cgroup.subtree_control"
    wanted = [each for each in controllers if each not in control.read_text().split()]
    if not wanted:
        return
    order = " ".join(f"+{each}" for each in wanted)
    try:
        control.write_text(order)
    except OSError as error:
        if error.errno != errno.EBUSY or not _is_delegated(base):
            raise
        # A group with processes of its own cannot limit groups below it, so that what is in a
        # group which was handed to us (a systemd service, a container) moves one level down.
        _move_processes(base, base / f"{name}-platform")
        control.write_text(order)


def _is_delegated(base: Path) -> bool:
    if os.geteuid() != 0:
        return True  # we were able to make a group in it
    if not (base / "cgroup.type").exists():
        return False  # the root of all groups
    for attribute in ("trusted.delegate", "user.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(base, attribute) == b"1":
                return True
    return Path("/proc/self/cgroup").read_text().endswith("::/\n")  # a container's own root


def _move_processes(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for pid in (source / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            (target / "cgroup.procs").write_text(pid)
