"""Terms of the solver, folded as they are built: what is constant stays visibly constant.

The only module that imports z3, which has no types of its own.
"""

import re
from collections.abc import Iterable
from typing import Any, TypeAlias

import z3  # type: ignore[import-untyped]

Term: TypeAlias = Any
"""A z3 expression."""

TRUE: Term = z3.BoolVal(True)
FALSE: Term = z3.BoolVal(False)

LONG_MIN = -(1 << 63)
LONG_MAX = (1 << 63) - 1
CODE_POINT_MAX = 0x2FFFF
"""Beyond it SMT-LIB has no characters."""

__all__ = ["FALSE", "TRUE", "Term", "z3"]

_ESCAPED = re.compile(r"\\u\{([0-9a-fA-F]+)\}|\\u([0-9a-fA-F]{4})")


_TRUE_AST = TRUE.ast.value
_FALSE_AST = FALSE.ast.value


class Unsupported(Exception):
    """What the encoding does not cover; the message says what, for the policy's author."""


def is_true(term: Term) -> bool:
    """Equal terms are one object to the solver: its address is quicker to compare than to ask."""
    return bool(term.ast.value == _TRUE_AST)


def is_false(term: Term) -> bool:
    return bool(term.ast.value == _FALSE_AST)


def both(*terms: Term) -> Term:
    return conjunction(terms)


def either(*terms: Term) -> Term:
    return disjunction(terms)


def conjunction(terms: Iterable[Term]) -> Term:
    kept: list[Term] = []
    for term in terms:
        if is_false(term):
            return FALSE
        if not is_true(term):
            kept.append(term)
    if not kept:
        return TRUE
    return kept[0] if len(kept) == 1 else _joined(z3.Z3_mk_and, kept)


def disjunction(terms: Iterable[Term]) -> Term:
    kept: list[Term] = []
    for term in terms:
        if is_true(term):
            return TRUE
        if not is_false(term):
            kept.append(term)
    if not kept:
        return FALSE
    return kept[0] if len(kept) == 1 else _joined(z3.Z3_mk_or, kept)


def _joined(make: Any, terms: list[Term]) -> Term:
    """As z3.And and z3.Or do, without what they look at first, which takes most of their time."""
    context = TRUE.ctx
    array = (z3.Ast * len(terms))(*(term.ast for term in terms))
    return z3.BoolRef(make(context.ref(), len(terms), array), context)


def negation(term: Term) -> Term:
    if is_true(term):
        return FALSE
    if is_false(term):
        return TRUE
    return term.arg(0) if z3.is_not(term) else z3.Not(term)


def implies(left: Term, right: Term) -> Term:
    return either(negation(left), right)


def choose(condition: Term, then: Term, otherwise: Term) -> Term:
    if is_true(condition) or then.eq(otherwise):
        return then
    if is_false(condition):
        return otherwise
    return z3.If(condition, then, otherwise)


def is_literal(term: Term) -> bool:
    return bool(
        z3.is_string_value(term)
        or z3.is_int_value(term)
        or z3.is_bv_value(term)
        or z3.is_true(term)
        or z3.is_false(term)
    )


def same(left: Term, right: Term) -> Term:
    if left.eq(right):
        return TRUE
    if is_literal(left) and is_literal(right):
        return FALSE
    return left == right


def number(value: int) -> Term:
    return z3.IntVal(value)


def boolean(value: bool) -> Term:
    return TRUE if value else FALSE


def text(value: str) -> Term:
    """The backslash too is escaped: the solver would read `\\u{41}` in the text as an `A`."""
    written = []
    for character in value:
        code = ord(character)
        if code > CODE_POINT_MAX:
            raise Unsupported(f"the character U+{code:X}, which the solver has not")
        plain = 32 <= code < 127 and character != "\\"
        written.append(character if plain else f"\\u{{{code:x}}}")
    return z3.StringVal("".join(written))


def text_of(literal: Term) -> str:
    """Raises ValueError where the solver chose what no string of Cedar holds: a surrogate."""
    plain = _ESCAPED.sub(lambda found: chr(int(found[1] or found[2], 16)), literal.as_string())
    plain.encode("utf-8")
    return plain


def out_of_range(value: Term) -> Term:
    if z3.is_int_value(value):
        return boolean(not LONG_MIN <= value.as_long() <= LONG_MAX)
    return z3.Or(value < LONG_MIN, value > LONG_MAX)


def folded(value: Term) -> Term:
    """Arithmetic on literals, done at once; all else as it is."""
    return z3.simplify(value) if all(is_literal(part) for part in value.children()) else value
