"""The prover reads and writes the constants of Cedar's own types as the engine does."""

import random
from collections.abc import Callable
from typing import Any

import cedarpy
import pytest
from cedar_paths import quoted

from freehold.adapters.smt import literals

REQUEST = {"principal": 'A::"a"', "action": 'Action::"a"', "resource": 'A::"a"', "context": {}}


def holds(condition: str) -> bool | None:
    """None where the engine fails."""
    policy = f"permit(principal, action, resource) when {{ {condition} }};"
    answer = cedarpy.is_authorized(REQUEST, policy, [])
    return None if answer.diagnostics.errors else answer.allowed


def decimals(pick: random.Random) -> str:
    whole = pick.choice(["0", "00", "12", "922337203685477", "922337203685478", "", "+1", "\uff11"])
    part = pick.choice(
        [".0", ".5807", ".5808", ".5809", ".1", ".00010", "", ".", ".12345", ".9999"]
    )
    return pick.choice(["", "-", "--"]) + whole + part


def durations(pick: random.Random) -> str:
    units = pick.choice([["d", "h", "m", "s", "ms"], ["h", "s"], ["ms"], ["m", "d"], ["s", "s"]])
    sizes = ["0", "1", "23", "007", "1000", "106751991167", "9223372036854775807"]
    parts = "".join(pick.choice([*sizes, "9223372036854775808"]) + unit for unit in units)
    return pick.choice(["", "-", "+"]) + pick.choice([parts, parts, parts, "", "5"])


def instants(pick: random.Random) -> str:
    day = f"{pick.choice(['0000', '0001', '1900', '1969', '2024', '9999', '24'])}-"
    day += f"{pick.randint(0, 13):02d}-{pick.randint(0, 32):02d}"
    if pick.random() < 0.2:
        return day
    hour, minute = pick.choice([0, 11, 23, 24]), pick.choice([0, 59, 60])
    at = f"T{hour:02d}:{minute:02d}:{pick.choice([0, 59, 60]):02d}"
    part = pick.choice(["", "", ".123", ".000", ".12", ".1234"])
    zone = pick.choice(["Z", "Z", "z", "", "+0000", "-2359", "+2359", "+2400", "+0060", "+01:00"])
    return day + at + part + zone


def addresses(pick: random.Random) -> str:
    host = pick.choice([
        "10.0.0.1", "255.255.255.255", "010.0.0.1", "10.0.0", "::1", "::", "2001:DB8::1",
        "fe80::1%1", "224.0.0.0", "::ffff:1.2.3.4", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "1::2::3", "127.0.0.1", "256.0.0.1",
    ])  # fmt: skip
    return host + pick.choice(["", "", "/0", "/8", "/08", "/32", "/33", "/64", "/128", "/129", "/"])


def decimal_is(text: str, value: int) -> str:
    same = literals.decimal_text(value)
    return f'decimal({text}) == decimal("{same}")'


def duration_is(text: str, value: int) -> str:
    same = f'duration({text}) == duration("{literals.duration_text(value)}")'
    return f"{same} && duration({text}).toMilliseconds() == {value}"


def instant_is(text: str, value: int) -> str:
    since = f'datetime({text}).durationSince(datetime("1970-01-01")).toMilliseconds()'
    return f'{since} == {value} && datetime({text}) == datetime("{literals.instant_text(value)}")'


def address_is(text: str, value: literals.Address) -> str:
    return f'ip({text}) == ip("{literals.address_text(value)}")'


KINDS: dict[str, tuple[Callable[[random.Random], str], Callable[[str], Any], Any]] = {
    "decimal": (decimals, literals.decimal, decimal_is),
    "duration": (durations, literals.duration, duration_is),
    "datetime": (instants, literals.instant, instant_is),
    "ip": (addresses, literals.address, address_is),
}


@pytest.mark.parametrize("function", KINDS)
def test_a_constant_means_to_the_prover_what_it_means_to_the_engine(function: str) -> None:
    write, read, condition = KINDS[function]
    pick = random.Random(7)
    understood = refused = 0
    for _ in range(400):
        text = write(pick)
        engine_reads = holds(f"{function}({quoted(text)}) == {function}({quoted(text)})")
        try:
            value = read(text)
        except ValueError:
            assert engine_reads is None, f"the engine reads {text!r}"
            refused += 1
            continue
        assert holds(condition(quoted(text), value)), (text, value)
        understood += 1
    assert understood > 40 and refused > 40
