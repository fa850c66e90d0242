"""What is shown of a decision's inputs: nothing that was not meant to be."""

from typing import Any

import pytest

from freehold.kernel.errors import ValidationFailed
from freehold.services.policy.redaction import HIDDEN, DecisionView, Redaction, check

INPUT: dict[str, Any] = {
    "amount": 1200,
    "to": {"name": "Berta", "iban": "DE02"},
    "express": True,
    "memo": None,
    "items": [{"price": 1.5, "what": "tea"}, {"price": 2, "what": "cups"}],
    "card_number": "4111",
    "card_name": "Anna",
}
MASKED = {
    "amount": "(number)",
    "to": {"name": "(string)", "iban": "(string)"},
    "express": "(boolean)",
    "memo": "(null)",
    "items": [{"price": "(number)", "what": "(string)"}] * 2,
    "card_number": "(string)",
    "card_name": "(string)",
}


def shown(value: Any = INPUT, root: str = "input", **view: Any) -> Any:
    return Redaction(DecisionView(**view)).shown(root, value)


def test_by_default_names_and_types_are_shown_and_no_value() -> None:
    assert shown() == MASKED


def test_all_is_all_and_none_is_nothing() -> None:
    assert shown(show="all") == INPUT
    assert shown(show="none") is None
    assert shown(None, show="all") is None


def test_what_is_revealed_is_shown_with_all_that_is_below_it() -> None:
    revealed = shown(reveal=("input.amount", "input.to"))
    assert revealed == MASKED | {"amount": 1200, "to": INPUT["to"]}
    assert shown(show="none", reveal=("input.amount", "input.to.name")) == {
        "amount": 1200,
        "to": {"name": "Berta"},
    }


def test_what_is_hidden_is_hidden_though_it_is_revealed() -> None:
    seen = shown(show="all", reveal=("input", "input.to.iban"), hide=("input.to.iban",))
    assert seen == INPUT | {"to": {"name": "Berta", "iban": HIDDEN}}
    assert shown(show="all", hide=("input.to",))["to"] == HIDDEN
    assert shown(show="all", hide=("input",)) == HIDDEN
    assert shown(show="none", reveal=("input.to",), hide=("input.to.iban",)) == {
        "to": {"name": "Berta", "iban": HIDDEN}
    }


def test_a_star_is_any_one_name_or_a_part_of_one() -> None:
    assert shown(reveal=("input.items.*.price",))["items"] == [
        {"price": 1.5, "what": "(string)"},
        {"price": 2, "what": "(string)"},
    ]
    assert shown(reveal=("input.items.1",))["items"][1] == INPUT["items"][1]
    hidden = shown(show="all", hide=("input.card_*", "*.amount"))
    assert hidden == INPUT | {"card_number": HIDDEN, "card_name": HIDDEN, "amount": HIDDEN}
    assert shown(reveal=("*.*",), show="none") == INPUT
    assert shown(reveal=("input.c*_name", "input.card_name*me"))["card_name"] == "Anna"
    assert shown(reveal=("input.card_na*name",))["card_name"] == "(string)"


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"SSN": "x"}, "input.ssn"),
        ({"a.b": "x"}, "input.a.b"),
        ({"a": {"b.c": "x"}}, "input.a.b.c"),
        ({"items": [{"price": "x"}]}, "input.items.price"),
        ({"items": [["x"]]}, "input.items.*.*"),
        ({"items": [{"a.b": "x"}]}, "input.items.*.a.b"),
        ({"ssn": "x"}, "Input.SSN"),
    ],
)
def test_what_was_meant_to_be_hidden_is_hidden(value: Any, path: str) -> None:
    assert '"x"' not in repr(shown(value, show="all", hide=(path,))).replace("'", '"')


def test_a_name_with_a_dot_is_not_revealed_for_two_names() -> None:
    assert shown({"a.b": "x"}, reveal=("input.a.b",)) == {"a.b": "(string)"}


def test_what_does_not_look_like_a_name_is_masked_as_a_value_is() -> None:
    by_address = {"shares": {"anna@example.com": 3, "berta": 4, "x" * 80: 5}}
    masked = {"(name 0)": "(number)", "berta": "(number)", "(name 2)": "(number)"}
    assert shown(by_address) == {"shares": masked}
    assert shown(by_address, reveal=("input.shares",)) == by_address
    claims = {"https://example.com/groups": ["a"], "cognito:user": {"a b": 1}}
    assert shown(claims, "claims") == {
        "https://example.com/groups": ["(string)"],
        "cognito:user": {"(name 0)": "(number)"},
    }


def test_each_root_has_its_own_paths() -> None:
    view = {"reveal": ("claims.email",), "hide": ("context.source",)}
    claims = {"email": "a@example.com", "sub": "anna"}
    assert shown(claims, "claims", **view) == {"email": "a@example.com", "sub": "(string)"}
    assert shown(claims, "input", **view) == {"email": "(string)", "sub": "(string)"}
    assert shown({"source": {"x": "10.0.0.1"}}, "context", **view) == {"source": HIDDEN}


def test_without_end_or_very_deep_is_no_trouble() -> None:
    deep: Any = "x"
    for _ in range(500):
        deep = {"a": deep}
    assert "'x'" not in repr(shown(deep, show="all"))


def test_errors_say_which_policy_and_repeat_no_value() -> None:
    said = [
        "error while evaluating policy `p-1`: `canary` is no number",
        "policy p-2: canary is no number",
        "input.canary: a number is needed",
    ]
    assert Redaction(DecisionView()).errors(said) == [
        "policy p-1 failed",
        "policy p-2 failed",
        "the decision failed",
    ]
    hiding = Redaction(DecisionView(show="all", hide=("input.x",)))
    assert not set(hiding.errors(said)) & set(said)
    assert Redaction(DecisionView(show="all")).errors(said) == said
    smuggled = ["the request does not fit: policy `canary`: no"]
    assert Redaction(DecisionView()).errors(smuggled) == ["the decision failed"]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("amount", "begins with"),
        ("", "expected names"),
        ("input..amount", "expected names"),
        ("input.", "expected names"),
        ("input.a\0", "expected names"),
        ("input." + "a" * 300, "expected names"),
        ("input.*a*", "one"),
    ],
)
def test_a_path_that_could_mean_nothing_is_refused(path: str, why: str) -> None:
    for view in (DecisionView(reveal=(path,)), DecisionView(hide=(path,))):
        with pytest.raises(ValidationFailed, match=why):
            check(view)


def test_more_paths_than_a_limit_are_refused() -> None:
    check(DecisionView(hide=("input.a",) * 100))
    with pytest.raises(ValidationFailed, match="100"):
        check(DecisionView(hide=("input.a",) * 101))
