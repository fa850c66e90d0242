"""Host users that sandboxes run as: where we are root, numbers that nobody else has."""

import os
import secrets
from collections.abc import Collection
from pathlib import Path


def mapped(wanted: range) -> range:
    """`wanted`, or where root is itself confined to few users, the upper half of those."""
    extents = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    known = [range(int(first), int(first) + int(count)) for first, _, count in extents]
    if any(wanted[0] in extent and wanted[-1] in extent for extent in known):
        return wanted
    widest = max(known, key=len)
    return widest[len(widest) // 2 :] if len(widest) > 1 else range(0)


def free(uids: range, taken: Collection[int | None]) -> int | None:
    """Picked at random; None where sandboxes run as the user that we are."""
    if os.geteuid() != 0 or not uids:
        return None
    while (uid := secrets.choice(uids)) in taken:
        pass
    return uid
