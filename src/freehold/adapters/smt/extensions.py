"""Cedar's own types: decimal, ip, datetime and duration."""

from collections.abc import Callable
from typing import Any

from freehold.adapters.smt import literals
from freehold.adapters.smt.outcomes import FAILURE, Outcome
from freehold.adapters.smt.terms import (
    FALSE,
    Term,
    Unsupported,
    both,
    choose,
    folded,
    negation,
    number,
    out_of_range,
    same,
    z3,
)
from freehold.adapters.smt.types import BOOL, DATETIME, DECIMAL, DURATION, LONG, Type
from freehold.adapters.smt.values import (
    ADDRESS_BITS,
    PREFIX_BITS,
    Network,
    Scalar,
    Value,
    network,
)

_DAY = 86_400_000
_ONES = (1 << ADDRESS_BITS) - 1
_ONES_V4 = (1 << 32) - 1


def _decimal(text: str) -> Value:
    return Scalar(DECIMAL, number(literals.decimal(text)))


def _datetime(text: str) -> Value:
    return Scalar(DATETIME, number(literals.instant(text)))


def _duration(text: str) -> Value:
    return Scalar(DURATION, number(literals.duration(text)))


def _ip(text: str) -> Value:
    return network(literals.address(text))


CONSTRUCTORS: dict[str, Callable[[str], Value]] = {
    "decimal": _decimal,
    "datetime": _datetime,
    "duration": _duration,
    "ip": _ip,
}


def constructed(name: str, operands: list[Any]) -> Value | None:
    """None where the text is none of the kind, which fails."""
    held = operands[0].get("Value") if len(operands) == 1 else None
    if not isinstance(held, str):
        raise Unsupported(f"{name}(...) of what is not constant")
    try:
        return CONSTRUCTORS[name](held)
    except ValueError:
        return None


def _compared(type: Type, compare: Callable[[Term, Term], Term]) -> Callable[..., Outcome]:
    def evaluate(left: Value, right: Value) -> Outcome:
        a, b = _term(left, type), _term(right, type)
        if a is None or b is None:
            return FAILURE
        return Outcome(Scalar(BOOL, folded(compare(a, b))))

    return evaluate


def _term(value: Value, type: Type) -> Term | None:
    return value.term if isinstance(value, Scalar) and value.type == type else None


def _offset(moment: Value, by: Value) -> Outcome:
    start, length = _term(moment, DATETIME), _term(by, DURATION)
    if start is None or length is None:
        return FAILURE
    end = folded(start + length)
    return Outcome(Scalar(DATETIME, end), out_of_range(end))


def _duration_since(later: Value, earlier: Value) -> Outcome:
    end, start = _term(later, DATETIME), _term(earlier, DATETIME)
    if end is None or start is None:
        return FAILURE
    length = folded(end - start)
    return Outcome(Scalar(DURATION, length), out_of_range(length))


def _to_date(moment: Value) -> Outcome:
    value = _term(moment, DATETIME)
    if value is None:
        return FAILURE
    midnight = folded(folded(value / _DAY) * _DAY)
    return Outcome(Scalar(DATETIME, midnight), out_of_range(midnight))


def _to_time(moment: Value) -> Outcome:
    value = _term(moment, DATETIME)
    return FAILURE if value is None else Outcome(Scalar(DURATION, folded(value % _DAY)))


def _whole(unit: int) -> Callable[..., Outcome]:
    """Rounded towards zero, where the solver's division rounds down."""

    def evaluate(length: Value) -> Outcome:
        value = _term(length, DURATION)
        if value is None:
            return FAILURE
        if unit == 1:
            return Outcome(Scalar(LONG, value))
        up, down = folded(value / unit), folded(-folded(folded(-value) / unit))
        return Outcome(Scalar(LONG, choose(folded(value >= 0), up, down)))

    return evaluate


def _of_address(holds: Callable[[Network], Term]) -> Callable[..., Outcome]:
    def evaluate(value: Value) -> Outcome:
        if not isinstance(value, Network):
            return FAILURE
        return Outcome(Scalar(BOOL, z3.simplify(holds(value))))

    return evaluate


def _within(value: Network, v4: tuple[int, int], v6: tuple[int, int]) -> Term:
    """Whether all of the network lies in the one of its version: bits, and length of the prefix."""

    def lies(bits: int, prefix: int, width: int) -> Term:
        mask = ((1 << prefix) - 1) << (width - prefix)
        return both(
            z3.UGE(value.prefix, prefix),
            value.bits & z3.BitVecVal(mask, ADDRESS_BITS) == z3.BitVecVal(bits, ADDRESS_BITS),
        )

    return choose(value.v6, lies(*v6, ADDRESS_BITS), lies(*v4, 32))


def _is_in_range(value: Value, whole: Value) -> Outcome:
    if not (isinstance(value, Network) and isinstance(whole, Network)):
        return FAILURE
    shift = z3.ZeroExt(ADDRESS_BITS - PREFIX_BITS, whole.prefix)
    ones = choose(
        whole.v6,
        z3.BitVecVal(_ONES, ADDRESS_BITS),
        z3.BitVecVal(_ONES_V4, ADDRESS_BITS),
    )
    mask = z3.simplify(~z3.LShR(ones, shift))
    lies = both(
        same(value.v6, whole.v6),
        z3.UGE(value.prefix, whole.prefix),
        value.bits & mask == z3.simplify(whole.bits & mask),
    )
    return Outcome(Scalar(BOOL, z3.simplify(lies)), FALSE)


FUNCTIONS: dict[str, Callable[..., Outcome]] = {
    "lessThan": _compared(DECIMAL, lambda a, b: a < b),
    "lessThanOrEqual": _compared(DECIMAL, lambda a, b: a <= b),
    "greaterThan": _compared(DECIMAL, lambda a, b: a > b),
    "greaterThanOrEqual": _compared(DECIMAL, lambda a, b: a >= b),
    "offset": _offset,
    "durationSince": _duration_since,
    "toDate": _to_date,
    "toTime": _to_time,
    "toMilliseconds": _whole(1),
    "toSeconds": _whole(1_000),
    "toMinutes": _whole(60_000),
    "toHours": _whole(3_600_000),
    "toDays": _whole(_DAY),
    "isIpv4": _of_address(lambda value: negation(value.v6)),
    "isIpv6": _of_address(lambda value: value.v6),
    "isLoopback": _of_address(lambda value: _within(value, (127 << 24, 8), (1, 128))),
    "isMulticast": _of_address(lambda value: _within(value, (0xE0 << 24, 4), (0xFF << 120, 8))),
    "isInRange": _is_in_range,
}
