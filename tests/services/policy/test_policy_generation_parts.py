"""The parts of a generation by themselves: the examples that a model is shown, words of a text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.adapters.cedar.cleaning import CedarCleaning
from freehold.adapters.cedar.engine import CedarEngine
from freehold.ports.enforcement import GovernedGateway, GovernedTool
from freehold.ports.policies import Rule
from freehold.services.policy.generation_prompt import EXAMPLE_RULE, EXAMPLES, plain
from freehold.services.policy.generation_text import Span, find, sentences
from freehold.services.policy.schema import gateway_schema

TEXT = "Managers may pay. Staff, e.g. in Rome,\n  may not!  \n\n- Nobody pays 1,000.50"


def test_what_a_model_is_shown_as_an_example_is_right() -> None:
    properties = {"find": {}, "lend": {"days": {"type": "integer"}}, "reserve": {}}
    library = GovernedGateway(
        tenant="000000000000", id="library", arn="arn:library", name="library",
        authorizer="CUSTOM_JWT",
        tools=[
            GovernedTool(
                name=f"Library___{name}", target="Library",
                input_schema={
                    "type": "object", "properties": members, "required": list(members),
                },
            )
            for name, members in properties.items()
        ],
    )  # fmt: skip
    rules = [
        Rule(id=str(number), statement=example.statement)
        for number, example in enumerate(EXAMPLES)
        if example.statement
    ]
    assert len(rules) == 3
    compiled = CedarEngine().compile_rules(rules, gateway_schema(library).document)
    assert dict(compiled.problems) == {}
    for example in EXAMPLES:
        assert find(EXAMPLE_RULE, example.fragment) is not None
    read = [CedarCleaning().clean(rule.statement) for rule in rules]
    assert all(each.statement.exact for each in read)
    assert [set(each.annotations) for each in read] == [set(), {"reason"}, set()]


@pytest.mark.parametrize(
    ("quoted", "found"),
    [
        ("Managers may pay.", "Managers may pay."),
        ("managers MAY pay", "Managers may pay."),
        ('"Staff in Rome may not"', None),
        ("Staff, e.g. in Rome, may not!", "Staff, e.g. in Rome,\n  may not!"),
        ("pay. Staff", "pay. Staff"),
        ("Nobody pays 1 000 50", "Nobody pays 1,000.50"),
        ("obody pays", None),
        ("", None),
        ("...", None),
        ("Managers may pay. " * 50, None),
    ],
)
def test_quoted_words_are_found_where_they_stand_or_not_at_all(
    quoted: str, found: str | None
) -> None:
    span = find(TEXT, quoted)
    assert (None if span is None else TEXT[span.start : span.end]) == found


def test_sentences_and_lines_are_parts() -> None:
    parts = [TEXT[span.start : span.end] for span in sentences(TEXT)]
    assert parts == ["Managers may pay.", "Staff, e.g.", "in Rome,", "may not!", "- Nobody pays 1,000.50"]  # noqa: E501  # fmt: skip


@given(st.text(max_size=200))
def test_no_word_is_outside_the_sentences(text: str) -> None:
    spans = sentences(text)
    outside = text
    for span in spans:
        outside = outside[: span.start] + " " * (span.end - span.start) + outside[span.end :]
        assert find(text[span.start : span.end], text[span.start : span.end]) is not None
    assert not any(character.isalnum() for character in outside)


@given(st.text(max_size=100), st.text(max_size=20))
def test_what_is_found_is_of_the_text(text: str, quoted: str) -> None:
    span = find(text, quoted)
    assert span is None or Span(0, len(text)).touches(span)


def test_a_models_words_are_one_line_of_print() -> None:
    assert plain(" a\x1b[2J\n\u202eb  ") == "a [2J b"
    assert len(plain("x" * 1000)) == 300
