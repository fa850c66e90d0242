"""Two texts side by side on a terminal; for a pipe, or where it is narrow, one below the other.

Lines that are the same are left out but for a few around what differs.
"""

import contextlib
import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence

import click

from freehold.cli.output import Output
from freehold.cli.trace import shown
from freehold.kernel.side_by_side import Line, Piece, around_differences, side_by_side

_WIDE_ENOUGH = 80
_WIDTH_MAX = 200
_LINES_MAX = 60
_BETWEEN = " │ "
_LEFT_OUT = "..."

Pieces = Sequence[Piece]


def tell(
    output: Output,
    recorded: str | None,
    fork: str | None,
    *,
    full: bool = False,
    indent: int = 0,
    lines_max: int = _LINES_MAX,
) -> None:
    for line in lines(
        readable(recorded), readable(fork), width=_width(indent), full=full, lines_max=lines_max
    ):
        output.say((" " * indent + line).rstrip())


def lines(
    recorded: str, fork: str, *, width: int | None, full: bool = False, lines_max: int = _LINES_MAX
) -> list[str]:
    """Styled. `width` is that of both columns together; None: one below the other."""
    found: list[str] = []
    both = side_by_side(recorded, fork)
    for line in both if full else around_differences(both):
        if isinstance(line, int):
            found.append(click.style(_LEFT_OUT, dim=True))
        elif width is None:
            found += _stacked(line)
        else:
            found += _beside(line, (width - len(_BETWEEN)) // 2)
    if full or len(found) <= lines_max:
        return found
    left = len(found) - lines_max
    return [
        *found[:lines_max],
        click.style(f"{_LEFT_OUT} ({left} more; --full shows all)", dim=True),
    ]


def readable(text: str | None) -> str:
    """JSON with a line for each of its parts; nothing in it steers a terminal."""
    said = text or ""
    if said.lstrip().startswith(("{", "[")):
        with contextlib.suppress(ValueError):  # cut, or none: as it is
            said = json.dumps(json.loads(said), indent=2, ensure_ascii=False)
    return shown.safe(said).expandtabs(4)


def _width(indent: int) -> int | None:
    columns = shutil.get_terminal_size().columns
    if not sys.stdout.isatty() or columns < _WIDE_ENOUGH:
        return None
    return min(columns, _WIDTH_MAX) - indent


def _stacked(line: Line) -> Iterator[str]:
    if line.same and line.fork is not None:
        yield "  " + _styled(line.fork, None)
        return
    if line.recorded is not None:
        yield click.style("- ", fg="red") + _styled(line.recorded, "red")
    if line.fork is not None:
        yield click.style("+ ", fg="green") + _styled(line.fork, "green")


def _beside(line: Line, width: int) -> Iterator[str]:
    from rich.cells import cell_len

    sides = []
    for pieces, color in ((line.recorded, "red"), (line.fork, "green")):
        sides.append([] if pieces is None else list(_wrapped(pieces, width, color)))
    for at in range(max(len(side) for side in sides)):
        left, right = (side[at] if at < len(side) else "" for side in sides)
        yield left + " " * (width - cell_len(click.unstyle(left))) + _BETWEEN + right


def _wrapped(pieces: Pieces, width: int, color: str) -> Iterator[str]:
    """Pieces in rows of at most `width` cells; each keeps what it differs in."""
    from rich.cells import chop_cells

    text = "".join(piece.text for piece in pieces)
    wrapped = textwrap.wrap(
        text, width, drop_whitespace=False, replace_whitespace=False, break_on_hyphens=False
    )
    rows = [part for row in wrapped or [""] for part in (chop_cells(row, width) or [""])]
    left = list(pieces)
    for row in rows:
        taken: list[Piece] = []
        room = len(row)
        while left and room:
            piece = left.pop(0)
            taken.append(Piece(piece.text[:room], piece.differs))
            if len(piece.text) > room:
                left.insert(0, Piece(piece.text[room:], piece.differs))
            room -= len(taken[-1].text)
        yield _styled(taken, color)


def _styled(pieces: Pieces, color: str | None) -> str:
    return "".join(
        click.style(piece.text, fg=color) if color and piece.differs else piece.text
        for piece in pieces
    )
