"""How a sandbox's end is put into words."""

import signal

from freehold.ports.sandbox import Exit

_SIGNAL_BASE = 128  # as shells and bubblewrap report a death by signal


def described(code: int | None, *, stopped: bool, memory_kills: int, memory_max: int) -> Exit:
    """`code` as a shell gives it; None when the process was not our child."""
    if stopped:
        return Exit(code, "stopped by the platform")
    if memory_kills and code != 0:
        return Exit(code, f"ran out of memory (limit {_size(memory_max)})")
    if code is None:
        return Exit(None, "ended while the platform was away, or was adopted")
    if code > _SIGNAL_BASE:
        return Exit(code, f"died of {_signal_name(code - _SIGNAL_BASE)}")
    return Exit(code, "ended by itself" if code == 0 else f"ended with exit code {code}")


def _size(count: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count} bytes"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
