"""The kernel's calls that Python has no name for, and the few that it has only later.

Standard library only: the forker is a program of its own, and runs without site-packages.
"""

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
libc.ptrace.restype = ctypes.c_long
libc.syscall.restype = ctypes.c_long

NEW_NS, NEW_CGROUP, NEW_UTS, NEW_IPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
NEW_USER, NEW_PID, NEW_NET = 0x10000000, 0x20000000, 0x40000000

# The same numbers on every architecture; pivot_root is older.
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 428, 429, 430, 431, 432, 442
_PIVOT_ROOT_X86_64 = 155

AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, 0o2000000
_MOVE_MOUNT_F_EMPTY_PATH = 4
_SET_FLAG, _SET_STRING, _CMD_CREATE = 0, 1, 6
_MNT_DETACH = 2
_MS_REC, _MS_SLAVE = 16384, 1 << 19
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1

READ_ONLY, NO_SUID, NO_DEVICES, NO_EXEC = 1, 2, 4, 8


def checked(result: int, what: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _call(number: int, what: str, *arguments: int | bytes | None) -> int:
    return checked(
        libc.syscall(
            ctypes.c_long(number),
            *(ctypes.c_long(each) if isinstance(each, int) else each for each in arguments),
        ),
        what,
    )


def unshare(kinds: int) -> None:
    checked(libc.unshare(kinds), "unshare")


def enter(namespace: int, kind: int) -> None:
    checked(libc.setns(namespace, kind), "setns")


@contextlib.contextmanager
def opened(path: str, flags: int = os.O_RDONLY) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def copied_tree(path: str, attributes: int) -> int:
    """A detached copy of the mounts at `path`, all with these attributes."""
    tree = _call(
        _OPEN_TREE, f"open {path}", AT_FDCWD, os.fsencode(path),
        _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE,
    )  # fmt: skip
    try:
        set_attributes(tree, "", attributes, recursive=True)
    except OSError:
        os.close(tree)
        raise
    return tree


def set_attributes(at: int, path: str, attributes: int, *, recursive: bool = False) -> None:
    wanted = struct.pack("=QQQQ", attributes, 0, 0, 0)
    flags = (_AT_EMPTY_PATH if not path else 0) | (_AT_RECURSIVE if recursive else 0)
    _call(_MOUNT_SETATTR, f"set attributes of {path}", at, os.fsencode(path), flags, wanted, 32)


def made_filesystem(kind: str, attributes: int, **options: str) -> int:
    """A detached mount of a fresh instance."""
    context = _call(_FSOPEN, f"open {kind}", kind.encode(), 1)
    try:
        for name, value in options.items():
            _call(
                _FSCONFIG, f"{name}={value} of {kind}", context, _SET_STRING, name.encode(),
                value.encode(), 0,
            )  # fmt: skip
        _call(_FSCONFIG, f"create {kind}", context, _CMD_CREATE, None, None, 0)
        return _call(_FSMOUNT, f"mount {kind}", context, 1, attributes)
    finally:
        os.close(context)


def attach(mount: int, target: str) -> None:
    """Closes the descriptor of the mount."""
    try:
        _call(
            _MOVE_MOUNT, f"mount at {target}", mount, b"", AT_FDCWD, os.fsencode(target),
            _MOVE_MOUNT_F_EMPTY_PATH,
        )  # fmt: skip
    finally:
        os.close(mount)


def pivot_into(directory: str) -> None:
    """The mount at `directory` becomes the root of this mount namespace, for all within it."""
    os.chdir(directory)
    _call(_PIVOT_ROOT_X86_64, "pivot_root", b".", b".")
    checked(libc.umount2(b".", _MNT_DETACH), "unmount the old root")
    os.chdir("/")


def own_mounts() -> None:
    """A mount namespace of our own that still learns of the host's new mounts."""
    unshare(NEW_NS)
    flags = ctypes.c_ulong(_MS_REC | _MS_SLAVE)
    checked(libc.mount(None, b"/", None, flags, None), "make the mounts our own")


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH22x", b"lo", 0)
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request)
        flags = struct.unpack_from("16sH", answer)[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | _IFF_UP))
