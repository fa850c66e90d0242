"""What commands print: the result on standard output, all else on standard error.

With `--json` the result is JSON and nothing is said on standard error, except an error.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console


class Output:
    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    @property
    def on_terminal(self) -> bool:
        """Whether what is noted beside the result is seen by somebody as it comes."""
        return sys.stderr.isatty()

    def document(self, value: Any) -> None:
        """The result, for programs. Times become ISO 8601 in UTC."""
        click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=_plain))

    def line(self, value: Any) -> None:
        """One JSON object on a line of its own, for results that come one by one."""
        click.echo(json.dumps(value, ensure_ascii=False, default=_plain))

    def say(self, text: str) -> None:
        """A line of the result, for people."""
        if not self.as_json:
            click.echo(text)

    def note(self, text: str) -> None:
        """A remark beside the result."""
        if not self.as_json:
            click.echo(text, err=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A column whose name starts with `>` is aligned to the right."""
        if self.as_json:
            return
        console = _console(stderr=False)
        if not console.is_terminal:
            # A pipe has no width: never cut or fold what a program may read.
            click.echo("\n".join(_columns(columns, rows)))
            return
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in columns:
            table.add_column(
                name.lstrip(">"),
                justify="right" if name.startswith(">") else "left",
                overflow="fold",
            )
        for row in rows:
            table.add_row(*(_unstyled(cell) for cell in row))
        console.print(table)

    @contextmanager
    def progress(self, text: str) -> Iterator["Progress"]:
        """A spinner while something lasts; only for people, only on a terminal."""
        if self.as_json:
            yield Progress(None, silent=True)
            return
        console = _console(stderr=True)
        if not console.is_terminal:
            click.echo(text, err=True)
            yield Progress(None, silent=False)
            return
        with console.status(_unstyled(text)) as status:
            yield Progress(status, silent=False)


class Progress:
    """Changes what a spinner says, and prints lines above it."""

    def __init__(self, status: Any, *, silent: bool) -> None:
        self._status = status
        self._silent = silent
        self._last = ""

    def update(self, text: str) -> None:
        if self._status is not None:
            self._status.update(_unstyled(text))
        elif not self._silent and text != self._last:
            click.echo(text, err=True)
        self._last = text

    def line(self, text: str) -> None:
        if self._status is not None:
            self._status.console.print(_unstyled(text), style="dim", highlight=False)
        elif not self._silent:
            click.echo(text, err=True)


def _console(*, stderr: bool) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=False)


def _columns(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    lines = [[name.lstrip(">") for name in columns], *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    for line in lines:
        cells = (
            cell.rjust(width) if name.startswith(">") else cell.ljust(width)
            for name, cell, width in zip(columns, line, widths, strict=True)
        )
        yield "  ".join(cells).rstrip()


def _unstyled(text: str) -> Any:
    """Text that rich shows as it is: a name such as `[red]` is no style."""
    from rich.text import Text

    return Text(text)


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)


def when(value: datetime | str | None) -> str:
    """A time for people, in their own time zone, to the second."""
    if not value:
        return "-"
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return str(value)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def number(value: float | None, digits: int) -> str:
    """A measured number; what was not measured is a dash, never zero."""
    return "-" if value is None else f"{value:,.{digits}f}"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
