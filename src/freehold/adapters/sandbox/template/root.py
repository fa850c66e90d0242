"""What a forked session sees as its file system: the same that bubblewrap would give it.

Runs in the forker, with the session's process stopped: first what is opened on the host, then what
is mounted in the session's own namespace. No name is ever looked up in anything that a session or
a template could have written.
"""
# ruff: noqa: PTH102, PTH110, PTH112, PTH120, PTH211

import os
import stat
from collections.abc import Iterator

from freehold.adapters.sandbox.template import landlock, syscalls
from freehold.adapters.sandbox.template.syscalls import NO_DEVICES, NO_EXEC, NO_SUID, READ_ONLY

Step = tuple[str, str, str, str]
"""In the order in which they are made:

    "folder",  path, mode, ""
    "link",    name, what it leads to, ""
    "scratch", path, mode, bytes
    "bind",    path, source, "writable" or ""
"""


_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "core": "/proc/kcore",
    "ptmx": "pts/ptmx",
}
_ANY_FOLDER = "/opt"  # that the template's own root has, to stand on while roots are changed


class Root:
    """The parts of one session's root, as detached mounts."""

    def __init__(self, steps: list[Step], owner: int) -> None:
        """In the forker's own namespace. `owner`: of scratch space, as the forker counts users."""
        self._steps = steps
        self._held: list[int] = []
        self._parts: dict[str, int] = {}
        try:
            self._base = self._made("tmpfs", NO_SUID | NO_DEVICES, mode="0755")
            self._dev = self._made("tmpfs", NO_SUID | NO_DEVICES | NO_EXEC, mode="0755")
            self._pts = self._made("devpts", NO_SUID | NO_EXEC, ptmxmode="0666", mode="0620")
            for name in _DEVICES:
                self._parts[f"/dev/{name}"] = self._copied(f"/dev/{name}", NO_SUID | NO_EXEC)
            for kind, path, what, more in steps:
                if kind == "bind":
                    access = 0 if more else READ_ONLY
                    self._parts[path] = self._copied(what, NO_SUID | NO_DEVICES | access)
                elif kind == "scratch":
                    ids = {"uid": str(owner), "gid": str(owner)}
                    self._parts[path] = self._made(
                        "tmpfs", NO_SUID | NO_DEVICES, mode=what, size=more, **ids
                    )
        except OSError:
            self.close()
            raise

    def _made(self, kind: str, attributes: int, **options: str) -> int:
        self._held.append(syscalls.made_filesystem(kind, attributes, **options))
        return self._held[-1]

    def _copied(self, source: str, attributes: int) -> int:
        self._held.append(syscalls.copied_tree(source, attributes))
        return self._held[-1]

    def _attach(self, mount: int, target: str) -> None:
        self._held.remove(mount)
        syscalls.attach(mount, target)

    def close(self) -> None:
        for descriptor in self._held:
            os.close(descriptor)
        self._held.clear()

    def assemble(self, proc: int) -> int | None:
        """In the session's mount namespace, which has no file of its own yet; `proc` is its own.

        Returns Landlock's ruleset for what is there, where the kernel has it.
        """
        self._held.append(proc)
        self._attach(self._base, _ANY_FOLDER)
        syscalls.pivot_into(_ANY_FOLDER)
        self._make_devices()
        for kind, path, what, _ in self._steps:
            if kind == "folder":
                _folders(path, int(what, 8))
            elif kind == "link":
                os.symlink(what, path)
            else:
                _place_for(path, self._parts[path])
                self._attach(self._parts[path], path)
        _folders("/proc")
        self._attach(proc, "/proc")
        for sealed in ("/dev", "/"):
            syscalls.set_attributes(syscalls.AT_FDCWD, sealed, READ_ONLY)
        return landlock.ruleset(self._rules())

    def _rules(self) -> Iterator[tuple[str, int]]:
        yield "/", landlock.LIST
        yield "/proc", landlock.USE
        yield "/dev", landlock.USE
        for kind, path, _, writable in self._steps:
            if kind == "scratch" or (kind == "bind" and writable):
                yield path, landlock.CHANGE
            elif kind == "bind":
                yield path, landlock.READ

    def _make_devices(self) -> None:
        _folders("/dev")
        self._attach(self._dev, "/dev")
        for name in _DEVICES:
            _file(f"/dev/{name}")
            self._attach(self._parts[f"/dev/{name}"], f"/dev/{name}")
        for name, target in _DEVICE_LINKS.items():
            os.symlink(target, f"/dev/{name}")
        os.mkdir("/dev/pts", 0o755)
        self._attach(self._pts, "/dev/pts")


def _folders(path: str, mode: int = 0o755) -> None:
    if path != "/" and not os.path.isdir(path):
        _folders(os.path.dirname(path))
        os.mkdir(path, mode)


def _file(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o444))


def _place_for(target: str, mount: int) -> None:
    if stat.S_ISDIR(os.stat(mount).st_mode):
        _folders(target)
    elif not os.path.exists(target):
        _folders(os.path.dirname(target))
        _file(target)
