"""Durations counted in slots whose bounds grow by 8%, so that a slot's middle is at most 4% off.

Stored, a histogram is one number: twelve decimal digits for each slot, the lowest last. So adding
two is adding numbers, which Postgres does many times faster than arrays, and by its own sum().
"""

import math
import struct
from collections.abc import Mapping

_RATIO = 1.08
_PER_LOG = 1 / math.log(_RATIO)
_NS_MAX = 365 * 86_400 * 10**9
SLOTS_MAX = int(math.log(_NS_MAX) * _PER_LOG) + 1


def slot(duration_ns: int) -> int:
    """The number of the slot, of `SLOTS_MAX`."""
    if duration_ns <= 1:
        return 0
    return int(math.log(min(duration_ns, _NS_MAX)) * _PER_LOG)


def packed(counts: Mapping[int, int]) -> str:
    """As text for `numeric`. Not empty."""
    low, high = min(counts), max(counts)
    digits = "".join([f"{counts.get(number, 0):012}" for number in range(high, low - 1, -1)])
    return f"{digits}e{low * 12}"


def unpacked(sent: bytes) -> dict[int, int]:
    """Of what `numeric_send` makes of it: so many digits of four decimals, the place of the first
    one (3 to a slot), sign and scale, then the digits."""
    digits, place = struct.unpack_from("!hh", sent)
    counts: dict[int, int] = {}
    for digit in struct.unpack_from(f"!{digits}H", sent, 8):
        if digit:
            slot, part = divmod(place, 3)
            counts[slot] = counts.get(slot, 0) + digit * 10_000**part
        place -= 1
    return counts


def percentiles_ms(counts: Mapping[int, int], *parts: float) -> list[float | None]:
    """`counts` by slot; `parts` ascending, such as 0.5: of all, how many are at most that long."""
    total = sum(counts.values())
    if not total:
        return [None] * len(parts)
    found: list[float | None] = []
    passed = 0
    slots = iter(sorted(counts.items()))
    number = 0
    for part in parts:
        rank = math.ceil(part * total)
        while passed < rank:
            number, count = next(slots)
            passed += count
        found.append(_RATIO ** (number + 0.5) / 1e6)
    return found
