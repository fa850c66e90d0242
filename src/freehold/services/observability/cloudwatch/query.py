"""A query of CloudWatch Logs Insights: what of its language is understood here, and what it does.

fields, display, filter, parse (texts with *), stats, sort, dedup, limit; all else is refused.
"""

import re
from collections.abc import Callable, Sequence
from typing import NoReturn

from freehold.services.observability.cloudwatch.aggregates import Stats, named, read_stats
from freehold.services.observability.cloudwatch.expressions import Evaluate, Expressions
from freehold.services.observability.cloudwatch.rows import Entry, Row
from freehold.services.observability.cloudwatch.scanner import Scanner, Token
from freehold.services.observability.cloudwatch.values import holds, order, text

ROWS_MAX = 10_000
"""Of an answer."""
_COMMANDS_MAX = 50
_COMMANDS = ("fields", "display", "filter", "parse", "stats", "sort", "dedup", "limit")
_DEFAULT_FIELDS = ("@timestamp", "@message")

Step = Callable[[list[Row]], list[Row]]
Line = list[tuple[str, str]]
"""One row of an answer: names and values."""


class Query:
    """`must` and `mentions` narrow what has to be read: see expressions.py. `test` is what an entry
    has to pass before any step that needs them all."""

    def __init__(self, source: str) -> None:
        self.must: dict[str, str] = {}
        self.mentions: list[str] = []
        self._tests: list[Evaluate] = []
        self._steps: list[Step] = []
        self._fields: list[str] = []
        self._shown: list[str] | None = None
        self._counted = False
        self._sorted = False
        self._read(Scanner(source))

    def passes(self, entry: Entry) -> bool:
        """The filters at the query's beginning, so that what fails them is never held."""
        row = Row(entry)
        return all(holds(test(row)) for test in self._tests)

    def answer(self, entries: Sequence[Entry], *, limit: int = ROWS_MAX) -> list[Line]:
        """Of entries that passed. Newest first where the query does not say."""
        rows = [Row(entry) for entry in entries]
        if not self._sorted:
            rows.sort(key=lambda row: row.entry.at_ns if row.entry else 0, reverse=True)
        for step in self._steps:
            rows = step(rows)
        return [self._line(row) for row in rows[:limit]]

    def _line(self, row: Row) -> Line:
        names = self._shown or self._fields or list(_DEFAULT_FIELDS)
        line = [(name, text(row.get(name))) for name in names if row.get(name) is not None]
        return [*line, ("@ptr", row.entry.pointer)] if row.entry is not None else line

    # -- reading

    def _read(self, scanner: Scanner) -> None:
        for _ in range(_COMMANDS_MAX):
            self._command(scanner)
            if scanner.peek().kind == "end":
                return
            if scanner.sign("|") is None:
                scanner.fail("expected | and the next command")
        scanner.fail(f"a query has at most {_COMMANDS_MAX} commands")

    def _command(self, scanner: Scanner) -> None:
        token = scanner.peek()
        name = scanner.word(*_COMMANDS)
        if name is None:
            _unknown(scanner, token)
        match name:
            case "fields":
                self._fields_command(scanner)
            case "display":
                self._shown = self._listed(scanner)
            case "filter":
                self._filter(scanner)
            case "parse":
                self._steps.append(_parse(scanner))
            case "stats":
                self._stats(read_stats(scanner))
            case "sort":
                self._sorted = True
                self._steps.append(_sort(scanner))
            case "dedup":
                self._steps.append(_dedup(self._listed(scanner)))
            case "limit":
                self._limit(scanner)

    def _fields_command(self, scanner: Scanner) -> None:
        while True:
            found = Expressions(scanner).read()
            name = named(scanner, found.source)
            if name not in self._fields:
                self._fields.append(name)
            if name != found.field:
                self._steps.append(_computing(name, found.evaluate))
            if not scanner.sign(","):
                return

    def _listed(self, scanner: Scanner) -> list[str]:
        names = [scanner.field()]
        while scanner.sign(","):
            names.append(scanner.field())
        return names

    def _filter(self, scanner: Scanner) -> None:
        found = Expressions(scanner).read()
        if self._steps:
            test = found.evaluate
            self._steps.append(lambda rows: [row for row in rows if holds(test(row))])
            return
        self._tests.append(found.evaluate)
        self.must.update(found.must)
        self.mentions += found.mentions

    def _stats(self, stats: Stats) -> None:
        self._counted = self._sorted = True
        self._fields, self._shown = stats.fields, None
        self._steps.append(stats)

    def _limit(self, scanner: Scanner) -> None:
        token = scanner.peek()
        if token.kind != "number" or not token.value.isdigit() or len(token.value) > 9:
            scanner.fail("expected a number of rows")
        count = min(int(scanner.take().value), ROWS_MAX)
        self._steps.append(lambda rows: rows[:count])


def _unknown(scanner: Scanner, token: Token) -> NoReturn:
    scanner.fail(f"expected one of the commands {', '.join(_COMMANDS)}", token.start, token.end)


def _computing(name: str, of: Evaluate) -> Step:
    def step(rows: list[Row]) -> list[Row]:
        for row in rows:
            value = of(row)
            if value is not None:
                row.computed[name] = value
        return rows

    return step


def _sort(scanner: Scanner) -> Step:
    keys: list[tuple[Evaluate, bool]] = []
    while True:
        of = Expressions(scanner).read().evaluate
        keys.append((of, scanner.word("asc", "desc") == "desc"))
        if not scanner.sign(","):
            break

    def step(rows: list[Row]) -> list[Row]:
        for of, descending in reversed(keys):
            rows = sorted(rows, key=lambda row, of=of: order(of(row)), reverse=descending)  # type: ignore[misc]
        return rows

    return step


def _dedup(names: list[str]) -> Step:
    def step(rows: list[Row]) -> list[Row]:
        first: dict[tuple[str, ...], Row] = {}
        for row in rows:
            values = [row.get(name) for name in names]
            if None not in values:
                first.setdefault(tuple(text(value) for value in values), row)
        return list(first.values())

    return step


def _parse(scanner: Scanner) -> Step:
    """`parse FIELD "took * ms by *" as took, who`: the shortest text that fits each `*`."""
    name = "@message" if scanner.peek().kind == "text" else scanner.field()
    token = scanner.peek()
    if token.kind == "sign" and token.value == "/":
        scanner.fail("parse takes a text with *, and no regular expression")
    pieces = scanner.text("a text with *").split("*")
    if len(pieces) < 2:
        scanner.fail("parse takes a text with *", token.start, token.end)
    names: list[str] = []
    if not scanner.word("as"):
        scanner.fail("expected `as` and a name for each *")
    while not names or scanner.sign(","):
        names.append(scanner.field("a name"))
    if len(names) != len(pieces) - 1:
        scanner.fail("parse has a name for each *", token.start, token.end)

    def step(rows: list[Row]) -> list[Row]:
        for row in rows:
            value = row.get(name)
            values = None if value is None else _between(text(value), pieces)
            row.computed.update(zip(names, values, strict=True) if values else ())
        return rows

    return step


def _between(value: str, pieces: Sequence[str]) -> list[str] | None:
    """The texts between the pieces. None where they do not stand in it in this order."""
    at = value.find(pieces[0])
    if at < 0:
        return None
    at += len(pieces[0])
    found = []
    for place, piece in enumerate(pieces[1:], 2):
        # At the pattern's end a * takes all that is left.
        last = place == len(pieces) and not piece
        end = len(value) if last else value.find(piece, at)
        if end < 0:
            return None
        found.append(value[at:end])
        at = end + len(piece)
    return found


def session_like(value: str) -> bool:
    """Whether a text that messages mention may be an id, which stores find by an index."""
    return re.fullmatch(r"[\w.:-]{16,256}", value) is not None
