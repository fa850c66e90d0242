"""`stats`: rows in groups, and one row of each."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from freehold.services.observability.cloudwatch.expressions import (
    Evaluate,
    Expression,
    Expressions,
)
from freehold.services.observability.cloudwatch.functions import AGGREGATES, percentile
from freehold.services.observability.cloudwatch.rows import Row
from freehold.services.observability.cloudwatch.scanner import Scanner
from freehold.services.observability.cloudwatch.values import number, order, text

_GROUPS_MAX = 10_000
_COLUMNS_MAX = 50


class Column(NamedTuple):
    name: str
    of: Callable[[Sequence[Row]], Any]


class Stats:
    """`stats count(*) as n, pct(durationNano, 95) by bin(5m), name`"""

    def __init__(self, columns: Sequence[Column], by: Sequence[tuple[str, Evaluate]]) -> None:
        self._columns, self._by = columns, by
        self.fields = [name for name, _ in by] + [column.name for column in columns]

    def __call__(self, rows: Sequence[Row]) -> list[Row]:
        groups: dict[tuple[str, ...], list[Row]] = {}
        keys: dict[tuple[str, ...], list[Any]] = {}
        for row in rows:
            values = [of(row) for _, of in self._by]
            key = tuple(text(value) for value in values)
            if key not in groups:
                if len(groups) >= _GROUPS_MAX:
                    continue
                groups[key], keys[key] = [], values
            groups[key].append(row)
        if not self._by and not groups:
            groups[()], keys[()] = [], []
        return [self._row(keys[key], found) for key, found in groups.items()]

    def _row(self, key: Sequence[Any], rows: Sequence[Row]) -> Row:
        computed = {
            name: value for (name, _), value in zip(self._by, key, strict=True) if value is not None
        }
        for column in self._columns:
            value = column.of(rows)
            if value is not None:
                computed[column.name] = value
        return Row(None, computed)


def read_stats(scanner: Scanner) -> Stats:
    columns = [_column(scanner)]
    while scanner.sign(","):
        columns.append(_column(scanner))
    by: list[tuple[str, Evaluate]] = []
    if scanner.word("by"):
        by.append(_key(scanner))
        while scanner.sign(","):
            by.append(_key(scanner))
    if len(columns) + len(by) > _COLUMNS_MAX:
        scanner.fail("too many columns")
    return Stats(columns, by)


def named(scanner: Scanner, source: str) -> str:
    return scanner.field("a name") if scanner.word("as") else source


def _key(scanner: Scanner) -> tuple[str, Evaluate]:
    found = Expressions(scanner).read()
    return named(scanner, found.source), found.evaluate


def _column(scanner: Scanner) -> Column:
    token = scanner.peek()
    name = scanner.field("a function such as count(*)").lower()
    if name not in AGGREGATES and name not in ("pct", "earliest", "latest"):
        scanner.fail("stats has no such function", token.start, token.end)
    scanner.expect("(")
    of = _counted(scanner) if name == "count" else _of(scanner, name)
    end = scanner.peek().end
    scanner.expect(")")
    return Column(named(scanner, scanner.query[token.start : end]), of)


def _counted(scanner: Scanner) -> Callable[[Sequence[Row]], Any]:
    if scanner.sign("*") or (scanner.peek().kind == "sign" and scanner.peek().value == ")"):
        return len
    return _over(Expressions(scanner).read(), "count")


def _of(scanner: Scanner, name: str) -> Callable[[Sequence[Row]], Any]:
    found = Expressions(scanner).read()
    if name == "pct":
        scanner.expect(",")
        percent = number(Expressions(scanner).read().literal)
        if percent is None or not 0 <= percent <= 100:
            scanner.fail("expected a percentage from 0 to 100")
        of, share = found.evaluate, percent
        return lambda rows: percentile([of(row) for row in rows], share)
    if name in ("earliest", "latest"):
        return _at_an_end(found.evaluate, last=name == "latest")
    return _over(found, name)


def _over(found: Expression, name: str) -> Callable[[Sequence[Row]], Any]:
    of, aggregate = found.evaluate, AGGREGATES[name]
    return lambda rows: aggregate([of(row) for row in rows])


def _at_an_end(of: Evaluate, *, last: bool) -> Callable[[Sequence[Row]], Any]:
    pick = max if last else min

    def value(rows: Sequence[Row]) -> Any:
        present = [row for row in rows if of(row) is not None]
        if not present:
            return None
        return of(pick(present, key=lambda row: order(row.get("@timestamp"))))

    return value
