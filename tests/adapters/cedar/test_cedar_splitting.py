"""A file of several policies becomes single ones, and no file takes the process with it."""

import pytest

from freehold.adapters.cedar.engine import CedarEngine
from freehold.ports.policies import PolicyRefused

PERMIT = "permit (principal, action, resource);"


def split(text: str) -> list[tuple[str, str]]:
    return [(rule.id, rule.statement) for rule in CedarEngine().split(text)]


def refused(text: str) -> tuple[str, ...]:
    with pytest.raises(PolicyRefused) as caught:
        CedarEngine().split(text)
    return caught.value.problems


def test_each_is_called_by_its_annotation_or_its_place() -> None:
    text = f'// about\n@id("a")\n{PERMIT}\n\n{PERMIT} // after\n@id("c") {PERMIT}'
    assert [id for id, _ in split(text)] == ["a", "policy1", "c"]


def test_each_is_as_it_was_written() -> None:
    one = 'forbid (principal, action, resource) // why; "so\nwhen { "a;\\"//" == "b" };'
    assert split(f"{one}\n{PERMIT}") == [("policy0", one), ("policy1", PERMIT)]


def test_a_text_without_policies_has_none() -> None:
    assert split("") == []
    assert split("// nothing;\n\n") == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{PERMIT}\n\npermit (principal action, resource);", 3),
        (f"{PERMIT}\n{PERMIT[:-1]}", 2),
        (";", 1),
        (f'{PERMIT}\n"never closed;', 2),
        ("permit (principal == ?principal, action, resource);", 1),
        (f'@id("a") {PERMIT}\n@id("a") {PERMIT}', 2),
        (f'@id("a`b") {PERMIT}', 1),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line(text: str, line: int) -> None:
    (problem,) = refused(text)
    assert problem.startswith(f"line {line}: ")


def test_all_that_cannot_be_read_is_said_at_once() -> None:
    problems = refused(f"permit();\n{PERMIT}\nforbid();")
    assert [problem.partition(":")[0] for problem in problems] == ["line 1", "line 3"]


@pytest.mark.parametrize("pair", ["()", "[]"])
@pytest.mark.parametrize(
    "before", ["", "// a comment ends here\r", ")" * 500, '"', '"a\\"" == "'], ids=repr
)
def test_brackets_without_end_are_refused_before_the_parser_sees_them(
    pair: str, before: str
) -> None:
    """Its stack is the process's: at some 700 of them it would be gone, with all its requests."""
    deep = pair[0] * 5000 + "true" + pair[1] * 5000
    assert "brackets in brackets" in refused(f"{before}{deep}")[0]
    with pytest.raises(PolicyRefused, match="brackets in brackets"):
        CedarEngine().compile(f"permit (principal, action, resource) when {{ {deep} }};", "")


def test_a_hundred_brackets_are_none_too_many() -> None:
    assert len(split(f"{PERMIT[:-1]} when {{ {'(' * 90}true{')' * 90} }};")) == 1
