"""A second lock on a session's files: what was not put there for it, it cannot open.

The first lock is that nothing else is mounted. This one holds when a mount came in by mistake, or
a descriptor of a foreign folder. Standard library only: it runs in the forker.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

from freehold.adapters.sandbox.template.syscalls import checked, libc, opened

_CREATE_RULESET, _ADD_RULE = 444, 445  # the same on every architecture
_ASK_VERSION, _PATH_BENEATH = 1, 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_MAKE_DEVICES = 1 << 6 | 1 << 11
_UNTIL_REFER, _UNTIL_TRUNCATE = (1 << 14) - 1, (1 << 15) - 1
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE

READ = _EXECUTE | _READ_FILE | _READ_DIR
USE = READ | _WRITE_FILE | _TRUNCATE
CHANGE = _UNTIL_TRUNCATE & ~_MAKE_DEVICES
LIST = _READ_DIR

_VERSION_MIN = 2  # the first one forbids every rename from one folder to another
_VERSION_OF_TRUNCATE = 3


def version() -> int:
    """0: this kernel has none, or has it switched off."""
    return max(0, int(libc.syscall(_CREATE_RULESET, None, ctypes.c_long(0), _ASK_VERSION)))


def usable() -> bool:
    return version() >= _VERSION_MIN


def ruleset(rules: Iterable[tuple[str, int]]) -> int | None:
    """A descriptor, for `landlock_restrict_self`; None where the kernel cannot do it.

    Paths are looked up where the caller is. A rule goes for all below its path.
    """
    found = version()
    if found < _VERSION_MIN:
        return None
    handled = _UNTIL_TRUNCATE if found >= _VERSION_OF_TRUNCATE else _UNTIL_REFER
    attributes = struct.pack("=Q", handled)
    made = checked(
        int(libc.syscall(_CREATE_RULESET, attributes, ctypes.c_long(len(attributes)), 0)),
        "make a ruleset of Landlock's",
    )
    try:
        for path, access in rules:
            with opened(path, os.O_PATH) as place:
                is_folder = stat.S_ISDIR(os.fstat(place).st_mode)
                wanted = access & handled & (handled if is_folder else _OF_A_FILE)
                rule = struct.pack("=Qi", wanted, place)
                added = libc.syscall(_ADD_RULE, ctypes.c_long(made), _PATH_BENEATH, rule, 0)
                checked(int(added), f"allow {path}")
    except OSError:
        os.close(made)
        raise
    return made
