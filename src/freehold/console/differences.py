"""Two texts side by side, as fork_parts.html shows them."""

import msgspec

from freehold.console import words
from freehold.kernel.side_by_side import Line, around_differences, side_by_side

_CHARS_MAX = 20_000


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """`lines`: a number stands for so many that are the same. `cut`: the texts are longer."""

    lines: list[Line | int]
    same: bool
    cut: bool


def difference(recorded: str | None, fork: str | None) -> Difference:
    """JSON is compared by its parts."""
    left, right = words.pretty(recorded or ""), words.pretty(fork or "")
    lines = side_by_side(left[:_CHARS_MAX], right[:_CHARS_MAX])
    return Difference(
        lines=around_differences(lines),
        same=left == right,
        cut=max(len(left), len(right)) > _CHARS_MAX,
    )
