"""Constraints of the models: each is checked, and none can be made slow."""

import itertools
import re
import time
import unicodedata
from re import _parser as regex_parser
from typing import Any

import pytest
from shape_samples import Samples

from freehold.edges.aws import model
from freehold.edges.aws.model import Service, Shape
from freehold.edges.aws.readers import reader_of
from freehold.edges.aws.validate import Problems, check_of, compiled, pattern_chars_max

TOKEN = "[A-Za-z0-9-_=]+.[A-Za-z0-9-_=]+.[A-Za-z0-9-_=]+"
NAMESPACES = (
    "[a-zA-Z0-9][a-zA-Z0-9-_/]*(?::[a-zA-Z0-9-_/]+)*[a-zA-Z0-9-_/]*",
    "[a-zA-Z0-9/*][a-zA-Z0-9-_/*]*(?::[a-zA-Z0-9-_/*]+)*[a-zA-Z0-9-_/*]*",
)


def shape_of(**traits: Any) -> Shape:
    raw = {"metadata": {"signingName": "x"}, "operations": {}, "shapes": {"S": traits}}
    raw["shapes"]["Text"] = {"type": "string"}
    return Service("test", raw).shape({"shape": "S"})


def complaints(shape: Shape, value: Any) -> list[str]:
    problems = Problems()
    reader_of(shape)(value, (None, "it"), problems)
    return [violation.message.partition("constraint: ")[2] for violation in problems.found]


@pytest.mark.parametrize(
    ("traits", "good", "bad"),
    [
        ({"type": "string", "min": 2, "max": 3}, ["ab", "😀😀😀"], ["a", "abcd", 5, True, None]),
        ({"type": "string", "pattern": "[a-z]+"}, ["abc"], ["", "abc\n", "\nabc", "aBc"]),
        ({"type": "string", "pattern": r"\d+"}, ["12"], ["\u0661"]),
        ({"type": "string", "pattern": "a$|^b"}, ["a", "b"], ["ab", "a\n"]),
        ({"type": "string", "enum": ["A", "B"]}, ["A"], ["a", "C", ""]),
        ({"type": "integer", "min": -1, "max": 2}, [-1, 2], [-2, 3, 1.0, "1", True, 2**31]),
        ({"type": "long"}, [2**63 - 1, -(2**63)], [2**63, -(2**63) - 1]),
        ({"type": "double", "min": 0.5}, [0.5, 7], [0.4, "NaN", "1", False]),
        ({"type": "boolean"}, [True], [0, 1, "true", []]),
        ({"type": "blob", "max": 2}, ["", "YWI="], ["YWJj", "YWI", "Y\nWI=", "é", 7]),
        ({"type": "timestamp"}, [0, 1.5, -1], [1e300, [], "yesterday", True]),
        (
            {"type": "timestamp", "timestampFormat": "iso8601"},
            ["2026-08-22T12:30:45Z", "2026-08-22t12:30:45.123456789+02:00"],
            ["2026-08-22", "20260822T123045Z", "2026-13-22T12:30:45Z", 5, "2026-W01-1T00:00:00Z"],
        ),
        ({"type": "list", "member": {"shape": "Text"}, "min": 1}, [["a"]], [[], [None], [1], {}]),
        (
            {"type": "map", "key": {"shape": "Text"}, "value": {"shape": "Text"}, "max": 1},
            [{}, {"a": "b"}],
            [{"a": "b", "c": "d"}, {"a": None}, {"a": 1}, []],
        ),
    ],
)
def test_a_constraint_holds(traits: Any, good: list[Any], bad: list[Any]) -> None:
    shape = shape_of(**traits)
    for value in good:
        assert complaints(shape, value) == [], value
    for value in bad:
        assert len(complaints(shape, value)) == 1, value


def test_a_union_has_exactly_one_member() -> None:
    text = {"shape": "Text"}
    shape = shape_of(type="structure", union=True, members={"a": text, "b": text})
    assert complaints(shape, {"a": "x", "b": None, "unknown": 1}) == []
    for value in ({}, {"a": "x", "b": "y"}, {"unknown": 1}):
        assert complaints(shape, value) == ["Member must have exactly one of its fields set"]


def test_a_value_can_break_several_constraints() -> None:
    shape = shape_of(type="string", min=3, pattern="[a-z]+", enum=["abc"])
    assert len(complaints(shape, "1")) == 3


def test_a_violation_never_quotes_the_value() -> None:
    for traits in ({"type": "string", "pattern": "x"}, {"type": "integer"}, {"type": "blob"}):
        assert "hunter2!" not in str(complaints(shape_of(**traits), "hunter2!"))


def test_the_class_of_control_characters_is_unicodes() -> None:
    """Unassigned characters stay allowed: they may be assigned by the time a client sends them."""
    pattern = compiled(r"[\p{C}]")
    for code in range(0x110000):
        category = unicodedata.category(chr(code))
        if category != "Cn":
            assert bool(pattern.fullmatch(chr(code))) == category.startswith("C"), hex(code)


@pytest.mark.parametrize("pattern", [TOKEN, *NAMESPACES])
def test_a_pattern_made_linear_means_what_it_did(pattern: str) -> None:
    assert compiled(pattern).pattern != pattern
    original = re.compile(pattern, re.ASCII)
    for length in range(8):
        for characters in itertools.product("a:!\n" if length < 7 else "a:!", repeat=length):
            text = "".join(characters)
            assert bool(compiled(pattern).fullmatch(text)) == bool(original.fullmatch(text)), text


def string_shapes() -> dict[tuple[str, float], Shape]:
    """One shape for each pattern and the longest text it is tried on."""
    found = {}
    for service in model.services().values():
        seen: set[Shape] = set()
        for operation in service.operations.values():
            collect(operation.input, seen)
        for shape in seen:
            if shape.traits.get("pattern"):
                found[shape.traits["pattern"], pattern_chars_max(shape)] = shape
    return found


def collect(shape: Shape, seen: set[Shape]) -> None:
    if shape in seen:
        return
    seen.add(shape)
    for member in shape.members.values():
        collect(member.shape, seen)
    if shape.kind == "list":
        collect(shape.element, seen)
    if shape.kind == "map":
        collect(shape.key, seen)
        collect(shape.value, seen)


def test_no_pattern_can_be_made_slow() -> None:
    """Each is tried on its longest legal texts, made of repeated parts of a text that matches."""
    shapes = string_shapes()
    assert len(shapes) > 100
    samples = Samples(3, full=True)
    for (pattern, longest), shape in shapes.items():
        check = check_of(shape)
        assert check is not None
        parsed = regex_parser.parse(compiled(pattern).pattern, re.ASCII)
        length = int(min(longest, 100_000))
        base = samples._matching(parsed, repeats=2)[:80]
        slowest = 0.0
        for at in range(0, len(base) + 1, max(1, len(base) // 12)):
            for part in {base[at : at + 1], base[at : at + 2], base[at:], base} - {""}:
                text = (base[:at] + part * (length // len(part) + 1))[: length - 1] + "\n"
                started = time.process_time()
                check(text, None, Problems())
                slowest = max(slowest, time.process_time() - started)
        assert slowest < 0.5, f"{pattern} took {slowest:.1f} s"
