"""A policy is encoded once for the tools that look the same to it, and only for those."""

import pytest
from proofs_ground import GATEWAY, LONG, STRING, optional, record, schema

from freehold.adapters.smt import proofs
from freehold.ports.policies import Rule
from freehold.ports.reasoning import Property


def everywhere(condition: str, *, effect: str = "permit") -> Rule:
    return Rule(
        id="all",
        statement=f"{effect} (principal, action, resource == {GATEWAY}) when {{ {condition} }};",
    )


TOOLS = schema(
    required=record(amount=LONG, payee=record(name=STRING)),
    may=record(amount=optional(LONG), payee=record(name=STRING, bank=optional(STRING))),
    absent=record(other=LONG, payee=optional(record(name=STRING))),
    nothing=record(),
)


def found(rule: Rule, kind: Property) -> set[str]:
    """The actions of which it is true."""
    return {
        action
        for finding in proofs.analyse([rule], TOOLS).findings
        if finding.property is kind and not finding.policy
        for action in finding.actions
    }


@pytest.mark.parametrize(
    ("condition", "never"),
    [
        ("context.input has amount && context.input.amount > 5", {"absent", "nothing"}),
        ("!(context.input has amount)", {"required"}),
        ("context.input has payee.bank", {"required", "absent", "nothing"}),
        ("context.input has payee && context has session", {"nothing"}),
        ('action == AgentCore::Action::"may"', {"required", "absent", "nothing"}),
        (
            'action in AgentCore::Action::"Bank" && context.input has other',
            {"required", "may", "nothing"},
        ),
    ],
)
def test_what_a_tool_has_decides_what_is_never_allowed(condition: str, never: set[str]) -> None:
    assert found(everywhere(condition), Property.ALLOW_NONE) == never


def test_what_a_tool_has_decides_what_is_always_allowed() -> None:
    has = everywhere("context.input has amount")
    assert found(has, Property.ALLOW_ALL) == {"required"}


def test_each_tool_has_an_example_of_its_own_that_fits_its_schema() -> None:
    comparison = proofs.compare([], [everywhere('principal.id == "ann"')], TOOLS)
    inputs = {
        each.action: set(each.example.request.context["input"]) for each in comparison.differences
    }
    assert inputs == {
        "required": {"amount", "payee"},
        "may": {"payee"},
        "absent": {"other"},
        "nothing": set(),
    }


def test_tools_that_look_the_same_cost_no_further_questions() -> None:
    one = schema(t0=record(amount=LONG))
    many = schema(
        **{f"t{n}": record(amount=LONG, own=record(**{f"x{n}": LONG})) for n in range(200)}
    )
    rule = everywhere("context.input.amount > 5 && context.input.amount < 3", effect="forbid")
    asked: dict[str, int] = {}
    for name, tools in (("one", one), ("many", many)):
        questions: list[str] = []
        proofs.analyse([rule], tools, record=lambda text, _, to=questions: to.append(text))
        asked[name] = len(questions)
    assert asked["many"] == asked["one"]
