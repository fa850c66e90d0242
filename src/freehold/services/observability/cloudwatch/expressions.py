"""Expressions of a query, from text to functions of a row."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jsonschema_rs

from freehold.services.observability.cloudwatch.functions import (
    ARITHMETIC,
    MILLISECONDS,
    SCALARS,
    binned,
)
from freehold.services.observability.cloudwatch.rows import Row
from freehold.services.observability.cloudwatch.scanner import Scanner, Token
from freehold.services.observability.cloudwatch.values import equal, holds, number, order, text

_DEPTH_MAX = 40
_PATTERN_SIZE_MAX = 1 << 20
_COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
_REGEX = "=~"

Evaluate = Callable[[Row], Any]


class Expression(NamedTuple):
    """`must` are fields that have to equal a text where it holds: who reads a log can begin there.
    `mentions` are texts that the whole message has to hold. `field`: it is just that field."""

    evaluate: Evaluate
    source: str
    field: str = ""
    literal: Any = None
    must: tuple[tuple[str, str], ...] = ()
    mentions: tuple[str, ...] = ()


class Expressions:
    """`or` binds weakest, then `and`, `not`, comparisons, sums, products."""

    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner
        self._depth = 0

    def read(self) -> Expression:
        """The source is what stands in the query: an answer's column is named by it."""
        start = self._scanner.peek().start
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            self._scanner.fail("too many parentheses")
        found = self._or()
        self._depth -= 1
        source = found.field or self._scanner.query[start : self._scanner.peek().start].strip()
        return found._replace(source=source)

    def _or(self) -> Expression:
        found = self._and()
        while self._scanner.word("or"):
            found = _either(found, self._and())
        return found

    def _and(self) -> Expression:
        found = self._not()
        while self._scanner.word("and"):
            found = _both(found, self._not())
        return found

    def _not(self) -> Expression:
        denied = False
        while self._scanner.word("not"):
            denied = not denied
        found = self._comparison()
        return _negated(found) if denied else found

    def _comparison(self) -> Expression:
        left = self._sum()
        scanner = self._scanner
        denied = scanner.word("not") is not None
        if scanner.word("like") or (not denied and scanner.sign(_REGEX)):
            found = self._like(left)
        elif scanner.word("in"):
            found = self._one_of(left)
        elif denied:
            scanner.fail("expected `like` or `in` after `not`")
        elif sign := scanner.sign(*_COMPARISONS):
            return _compared(left, sign, self._sum())
        else:
            return left
        return _negated(found) if denied else found

    def _like(self, left: Expression) -> Expression:
        start = self._scanner.peek().start
        pattern = self._scanner.pattern()
        of = left.evaluate
        if pattern is not None:
            matches = _matcher(pattern, self._scanner, start)
            return Expression(lambda row: _matched(matches, of(row)), "")
        part = self._scanner.text("a text or a /regular expression/")
        mentions = (part,) if left.field == "@message" else ()
        return Expression(lambda row: _contains(of(row), part), "", mentions=mentions)

    def _one_of(self, left: Expression) -> Expression:
        self._scanner.expect("[")
        choices = [self._literal()]
        while self._scanner.sign(","):
            choices.append(self._literal())
        self._scanner.expect("]")
        of = left.evaluate

        def test(row: Row) -> bool:
            value = of(row)
            return value is not None and any(equal(value, choice) for choice in choices)

        return Expression(test, "")

    def _literal(self) -> Any:
        value = self._sum()
        if value.literal is None:
            self._scanner.fail("expected a text or a number")
        return value.literal

    def _sum(self) -> Expression:
        found = self._product()
        while sign := self._scanner.sign("+", "-"):
            found = _computed(sign, found, self._product())
        return found

    def _product(self) -> Expression:
        found = self._unary()
        while sign := self._scanner.sign("*", "/", "%", "^"):
            found = _computed(sign, found, self._unary())
        return found

    def _unary(self) -> Expression:
        if self._scanner.sign("-"):
            found = self._primary()
            if isinstance(found.literal, int | float):
                return _constant(-found.literal)
            return _computed("-", _constant(0), found)
        return self._primary()

    def _primary(self) -> Expression:
        scanner = self._scanner
        if scanner.sign("("):
            found = self.read()
            scanner.expect(")")
            return found
        token = scanner.peek()
        if token.kind == "text":
            return _constant(scanner.take().value)
        if token.kind == "number":
            read = float(scanner.take().value)
            return _constant(int(read) if read.is_integer() else read)
        if token.kind == "quoted":
            return _field(scanner.take().value)
        if token.kind != "name":
            scanner.fail("expected a field, a value or a function")
        scanner.take()
        if scanner.peek().kind == "sign" and scanner.peek().value == "(":
            return self._call(token)
        return _field(token.value)

    def _call(self, token: Token) -> Expression:
        scanner, name = self._scanner, token.value.lower()
        scanner.expect("(")
        if name in ("bin", "datefloor"):
            return self._bin(name)
        function = SCALARS.get(name)
        if function is None:
            scanner.fail(f"there is no function {token.value} here", token.start, token.end)
        given: list[Evaluate] = []
        while not scanner.sign(")"):
            if given:
                scanner.expect(",")
            given.append(self.read().evaluate)
        if not function.least <= len(given) <= function.most:
            scanner.fail(f"{token.value} takes other arguments", token.start, token.end)
        act = function.act
        return Expression(lambda row: act(*[each(row) for each in given]), "")

    def _bin(self, name: str) -> Expression:
        scanner = self._scanner
        of: Evaluate = lambda row: row.get("@timestamp")  # noqa: E731
        if name == "datefloor":
            of = self.read().evaluate
            scanner.expect(",")
        token = scanner.peek()
        if token.kind != "duration":
            scanner.fail("expected a length of time such as 5m")
        scanner.take()
        digits = token.value.rstrip("abcdefghijklmnopqrstuvwxyz")
        unit = MILLISECONDS.get(token.value[len(digits) :])
        if unit is None or int(digits[:9]) == 0 or len(digits) > 9:
            scanner.fail("a length of time is in ms, s, m, h, d or w", token.start, token.end)
        width = int(digits) * unit
        scanner.expect(")")
        return Expression(lambda row: binned(of(row), width), "")


def _field(name: str) -> Expression:
    return Expression(lambda row: row.get(name), name, field=name)


def _constant(value: Any) -> Expression:
    return Expression(lambda _: value, "", literal=value)


def _computed(sign: str, left: Expression, right: Expression) -> Expression:
    act, one, other = ARITHMETIC[sign], left.evaluate, right.evaluate
    return Expression(lambda row: act(one(row), other(row)), "")


def _compared(left: Expression, sign: str, right: Expression) -> Expression:
    one, other = left.evaluate, right.evaluate
    if sign == "=":
        named = left.field and isinstance(right.literal, str)
        must = ((left.field, str(right.literal)),) if named else ()
        return Expression(lambda row: _equal(one(row), other(row)), "", must=must)
    if sign == "!=":
        return Expression(lambda row: not _equal(one(row), other(row)), "")

    def ordered(row: Row) -> bool:
        a, b = one(row), other(row)
        if a is None or b is None:
            return False
        if (number(a) is None) != (number(b) is None):
            return False
        low, high = order(a), order(b)
        return {"<": low < high, "<=": low <= high, ">": low > high, ">=": low >= high}[sign]

    return Expression(ordered, "")


def _equal(left: Any, right: Any) -> bool:
    """What is absent equals nothing."""
    return left is not None and right is not None and equal(left, right)


def _contains(value: Any, part: str) -> bool:
    return value is not None and part in text(value)


def _matched(matches: Callable[[str], bool], value: Any) -> bool:
    return value is not None and matches(text(value))


def _matcher(pattern: str, scanner: Scanner, start: int) -> Callable[[str], bool]:
    """In a time linear in the text's length, whatever the pattern: it comes from anybody."""
    try:
        validator = jsonschema_rs.validator_for(
            {"type": "string", "pattern": pattern},
            pattern_options=jsonschema_rs.RegexOptions(size_limit=_PATTERN_SIZE_MAX),
        )
    except jsonschema_rs.ValidationError:
        end = start + len(pattern) + 2
        scanner.fail("not a regular expression (without look-around and references)", start, end)
    return validator.is_valid


def _both(left: Expression, right: Expression) -> Expression:
    one, other = left.evaluate, right.evaluate
    return Expression(
        lambda row: holds(one(row)) and holds(other(row)), "",
        must=left.must + right.must, mentions=left.mentions + right.mentions,
    )  # fmt: skip


def _either(left: Expression, right: Expression) -> Expression:
    one, other = left.evaluate, right.evaluate
    return Expression(lambda row: holds(one(row)) or holds(other(row)), "")


def _negated(found: Expression) -> Expression:
    of = found.evaluate
    return Expression(lambda row: not holds(of(row)), "")
