"""Constants of Cedar's own types: from the text in a policy or a request, and back.

What the engine's validator has passed is well formed; anything else is a ValueError.
"""

import ipaddress
import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from freehold.adapters.smt.terms import LONG_MAX, LONG_MIN

_DECIMAL = re.compile(r"(-?)(\d+)\.(\d{1,4})", re.ASCII)
_DURATION = re.compile(r"(-?)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII)
_INSTANT = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})(?:T(\d{2}):(\d{2}):(\d{2})(?:\.(\d{3}))?(?:Z|([+-])(\d{2})(\d{2})))?",
    re.ASCII,
)
_UNITS = (86_400_000, 3_600_000, 60_000, 1_000, 1)
_ZONE_MAX = (23 * 60 + 59) * 60_000
_YEAR = 366 * 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = -62_167_219_200_000
_LAST = 253_402_300_799_999
INSTANT_MIN = _FIRST - _ZONE_MAX
INSTANT_MAX = _LAST + _ZONE_MAX
"""What a datetime's text can say: the years 0 to 9999 in any zone."""


class Address(NamedTuple):
    v6: bool
    bits: int
    prefix: int


def decimal(text: str) -> int:
    """In ten-thousandths."""
    found = _DECIMAL.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no decimal")
    size = int(found[2]) * 10_000 + int(found[3].ljust(4, "0"))
    return _long(-size if found[1] else size)


def decimal_text(value: int) -> str:
    whole, part = divmod(abs(value), 10_000)
    digits = f"{part:04}".rstrip("0") or "0"
    return f"{'-' if value < 0 else ''}{whole}.{digits}"


def duration(text: str) -> int:
    """In milliseconds."""
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()[1:]):
        raise ValueError(f"{text!r} is no duration")
    size = sum(
        int(part) * unit for part, unit in zip(found.groups()[1:], _UNITS, strict=True) if part
    )
    return _long(-size if found[1] else size)


def duration_text(value: int) -> str:
    for unit, name in zip(_UNITS, ("d", "h", "m", "s", "ms"), strict=True):
        if value and value % unit == 0:
            return f"{value // unit}{name}"
    return "0ms"


def instant(text: str) -> int:
    """In milliseconds since 1970. The year 0, which Python has not, is told from the year 400."""
    found = _INSTANT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no datetime")
    year, month, day, hour, minute, second, part = (int(each or 0) for each in found.groups()[:7])
    moved = 146_097 * 86_400_000 if year == 0 else 0
    moment = datetime(year or 400, month, day, hour, minute, second, part * 1_000, tzinfo=UTC)
    value = (moment - _EPOCH) // timedelta(milliseconds=1) - moved
    if found[8]:
        hours, minutes = int(found[9]), int(found[10])
        if hours > 23 or minutes > 59:
            raise ValueError(f"{text!r} has no such zone")
        zone = (hours * 60 + minutes) * 60_000
        value += -zone if found[8] == "+" else zone
    return value


def instant_text(value: int) -> str:
    zone = "Z"
    if value > _LAST:
        value, zone = value - _ZONE_MAX, "-2359"
    elif value < _FIRST:
        value, zone = value + _ZONE_MAX, "+2359"
    early = value < _FIRST + _YEAR
    moment = _EPOCH + timedelta(milliseconds=value + (146_097 * 86_400_000 if early else 0))
    year = moment.year - (400 if early else 0)
    return f"{year:04}-{moment:%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}{zone}"


def address(text: str) -> Address:
    host, slash, prefix = text.partition("/")
    parsed = ipaddress.ip_address(host)
    if "%" in host or (parsed.version == 6 and "." in host):
        raise ValueError(f"{text!r} is no address to the engine")
    longest = parsed.max_prefixlen
    if slash and (not re.fullmatch(r"0|[1-9][0-9]{0,2}", prefix) or int(prefix) > longest):
        raise ValueError(f"{text!r} has no such prefix")
    return Address(parsed.version == 6, int(parsed), int(prefix) if slash else longest)


def address_text(value: Address) -> str:
    """IPv6 in groups without dots, which the engine does not read."""
    if value.v6:
        groups = [f"{value.bits >> shift & 0xFFFF:x}" for shift in range(112, -16, -16)]
        host, longest = ":".join(groups), 128
    else:
        host, longest = str(ipaddress.IPv4Address(value.bits)), 32
    return host if value.prefix == longest else f"{host}/{value.prefix}"


def _long(value: int) -> int:
    if not LONG_MIN <= value <= LONG_MAX:
        raise ValueError("out of the range of 64 bits")
    return value
