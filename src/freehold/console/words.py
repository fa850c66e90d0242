"""Numbers, times and states in the words that pages show."""

import json
from datetime import UTC, datetime
from typing import Any

Moment = datetime | str | int | float | None
"""Times come as ISO 8601, or as seconds, milliseconds or nanoseconds since 1970: told apart by
their size."""

NOTHING = "\u2013"
"""Shown for what was not measured."""

_TONES = {
    "good": (
        "READY ACTIVE OK ALLOW ALLOWED RUNNING READY_FOR_USE SUCCESSFUL SUCCESS GRANTED ENABLED "
        "ENFORCE LIVE VERIFIED COMPLETED DONE APPROVED SYNCHRONIZED"
    ),
    "bad": (
        "FAILED ERROR CREATE_FAILED UPDATE_FAILED DELETE_FAILED DENY DENIED BLOCKED UNHEALTHY "
        "DELETE_UNSUCCESSFUL UPDATE_UNSUCCESSFUL SYNCHRONIZE_UNSUCCESSFUL REFUSED BROKEN DIVERGED"
    ),
    "warn": (
        "CREATING UPDATING DELETING PENDING QUARANTINED SYNCHRONIZING LOG_ONLY UNKNOWN WAITING "
        "DISABLED PENDING_AUTH STARTING UNDER_WAY CHANGED STOPPING INTERRUPTED"
    ),
}
_TONE_OF = {word: tone for tone, words in _TONES.items() for word in words.split()}


def tone(state: Any) -> str:
    """good, bad, warn, or "" for a state that is none of these."""
    return _TONE_OF.get(str(state).upper().replace(" ", "_").replace("-", "_"), "")


def moment(value: Moment) -> datetime | None:
    """None for nothing, and for what is no time."""
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    try:
        if not isinstance(value, str):
            return _since_1970(float(value))
        if value.replace(".", "", 1).isdigit():
            return _since_1970(float(value))
        return moment(datetime.fromisoformat(value.replace("Z", "+00:00")))
    except (ValueError, OverflowError, OSError):
        return None


def _since_1970(seconds: float) -> datetime:
    for size, scale in ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3)):
        if seconds >= size:
            seconds /= scale
            break
    return datetime.fromtimestamp(seconds, UTC)


def absolute(value: Moment) -> str:
    found = moment(value)
    return "" if found is None else found.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def clock(value: Moment) -> str:
    """The time of day, to the millisecond."""
    found = moment(value)
    return "" if found is None else found.astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]


def ago(value: Moment, now: datetime | None = None) -> str:
    found = moment(value)
    if found is None:
        return ""
    seconds = ((now or datetime.now(UTC)) - found).total_seconds()
    text = _span(abs(seconds))
    if text == "now":
        return "just now" if seconds >= 0 else "in a moment"
    return f"{text} ago" if seconds >= 0 else f"in {text}"


def _span(seconds: float) -> str:
    if seconds < 5:
        return "now"
    for unit, size, until in (
        ("s", 1, 60), ("min", 60, 3600), ("h", 3600, 86_400), ("d", 86_400, 86_400 * 60),
    ):  # fmt: skip
        if seconds < until:
            return f"{int(seconds // size)} {unit}"
    months = int(seconds // (86_400 * 30))
    return f"{months} months" if months < 24 else f"{months // 12} years"


def duration(ms: float | None) -> str:
    """From milliseconds."""
    if ms is None:
        return NOTHING
    if ms < 1:
        return f"{ms * 1000:.0f} µs" if ms > 0 else "0 ms"
    if ms < 1000:
        return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"


def number(value: float | None) -> str:
    """Short: 950, 1.2k, 3.4M."""
    if value is None:
        return NOTHING
    if abs(value) < 1000:
        return f"{value:g}" if float(value).is_integer() else f"{value:.3g}"
    for suffix, size in (("k", 1e3), ("M", 1e6), ("G", 1e9)):
        if abs(value) < size * 999.5:
            scaled = value / size
            return f"{scaled:.1f}{suffix}" if abs(scaled) < 100 else f"{scaled:.0f}{suffix}"
    return f"{value:.2e}"


def whole(value: float | None) -> str:
    """In full, with thin groups of three."""
    return NOTHING if value is None else f"{value:,.0f}".replace(",", "\u202f")


def dollars(value: float | None) -> str:
    if value is None:
        return NOTHING
    if value == 0:
        return "$0"
    if abs(value) < 0.01:
        return f"${value:.5f}".rstrip("0")
    return f"${value:,.4f}" if abs(value) < 1 else f"${value:,.2f}"


def size(value: float | None) -> str:
    if value is None:
        return NOTHING
    for suffix, scale in (("B", 1), ("KB", 1 << 10), ("MB", 1 << 20), ("GB", 1 << 30)):
        if value < scale * 1024 or suffix == "GB":
            return (
                f"{value / scale:.0f} {suffix}" if scale == 1 else f"{value / scale:.1f} {suffix}"
            )
    raise AssertionError("the last unit takes the rest")


def pretty(value: Any) -> str:
    """A value as text for reading: JSON with indents, text that is JSON likewise."""
    if isinstance(value, str):
        if not value.lstrip().startswith(("{", "[")):
            return value
        try:
            value = json.loads(value)
        except ValueError:
            return str(value)
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
