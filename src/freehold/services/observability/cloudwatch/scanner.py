"""A query's text, token by token. Whether a `/` divides or begins a pattern, the reader knows."""

import re
from typing import NamedTuple, NoReturn

from freehold.services.observability.cloudwatch.failures import MalformedQuery

_SPACE = re.compile(r"(?:\s+|#[^\n]*)+")
_TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<duration>\d+(?:ms|mo|[smhdwqy])(?![\w.]))
    |(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w]))
    |`(?P<quoted>[^`]+)`
    |(?P<name>[@A-Za-z_][\w@]*(?:\.[\w@]+)*)
    |(?P<sign>!=|<=|>=|=~|[=<>()\[\],|+*/%^-])""",
    re.VERBOSE | re.DOTALL,
)
_PATTERN = re.compile(r"/((?:[^/\\\n]|\\.)+)/(i?)")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


class Token(NamedTuple):
    """`kind`: text, duration, number, name, quoted (a name in backticks), sign, or end."""

    kind: str
    value: str
    start: int
    end: int


class Scanner:
    def __init__(self, query: str) -> None:
        self.query = query
        self._at = 0
        self._next: Token | None = None

    def peek(self) -> Token:
        if self._next is None:
            self._next = self._read()
        return self._next

    def take(self) -> Token:
        token = self.peek()
        self._next, self._at = None, token.end
        return token

    def word(self, *words: str) -> str | None:
        """Takes one of these keywords, whatever its case, where it stands next."""
        token = self.peek()
        if token.kind == "name" and token.value.lower() in words:
            self.take()
            return token.value.lower()
        return None

    def sign(self, *signs: str) -> str | None:
        token = self.peek()
        if token.kind == "sign" and token.value in signs:
            self.take()
            return token.value
        return None

    def expect(self, sign: str) -> None:
        if self.sign(sign) is None:
            self.fail(f"expected {sign}")

    def field(self, what: str = "the name of a field") -> str:
        token = self.peek()
        if token.kind not in ("name", "quoted"):
            self.fail(f"expected {what}")
        return self.take().value

    def text(self, what: str) -> str:
        token = self.peek()
        if token.kind != "text":
            self.fail(f"expected {what}, in quotes")
        return self.take().value

    def pattern(self) -> str | None:
        """Takes a regular expression between slashes, where one stands next."""
        at = self._skipped()
        if self.query[at : at + 1] != "/":
            return None
        matched = _PATTERN.match(self.query, at)
        if matched is None:
            self.fail("a regular expression ends with /", at, len(self.query))
        self._next, self._at = None, matched.end()
        body = matched[1].replace("\\/", "/")
        return f"(?i){body}" if matched[2] else body

    def fail(self, why: str, start: int | None = None, end: int | None = None) -> NoReturn:
        token = self.peek() if start is None else Token("", "", start, end or start)
        near = self.query[token.start : token.end][:40]
        raise MalformedQuery(f"{why} at `{near}`" if near else why, token.start, token.end)

    def _skipped(self) -> int:
        space = _SPACE.match(self.query, self._at)
        return space.end() if space else self._at

    def _read(self) -> Token:
        at = self._skipped()
        if at >= len(self.query):
            return Token("end", "", at, at)
        matched = _TOKEN.match(self.query, at)
        if matched is None or matched.lastgroup is None:
            raise MalformedQuery(f"unexpected symbol `{self.query[at]}`", at, at + 1)
        kind, value = matched.lastgroup, matched[matched.lastgroup]
        if kind == "text":
            value = _ESCAPED.sub(lambda m: _ESCAPES.get(m[1], m[1]), value[1:-1])
        return Token(kind, value, at, matched.end())
