"""Rules that come and go one by one: what Cedar leaves open is closed here too."""

import time
from collections.abc import Sequence
from typing import Any

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.adapters.cedar import rules as cedar_rules
from freehold.adapters.cedar.engine import CedarEngine
from freehold.ports.policies import (
    CompiledRules,
    Decision,
    Effect,
    Entity,
    PolicyRefused,
    PolicyRequest,
    Rule,
    Uid,
)


def record(**attributes: str) -> dict[str, Any]:
    """A type's name, with `?` where it is optional."""
    return {
        "type": "Record",
        "attributes": {
            name: {"type": type.rstrip("?"), "required": not type.endswith("?")}
            for name, type in attributes.items()
        },
    }


def action(group: str, **inputs: str) -> dict[str, Any]:
    context = record()
    context["attributes"]["input"] = record(**inputs)
    return {
        "memberOf": [{"id": group}],
        "appliesTo": {"principalTypes": ["Keeper"], "resourceTypes": ["Zoo"], "context": context},
    }


SCHEMA: dict[str, Any] = {
    "Park": {
        "entityTypes": {
            "Keeper": {"shape": record(id="String"), "tags": {"type": "String"}},
            "Zoo": {"shape": record(id="String")},
            "Visitor": {},
        },
        "actions": {
            "All": {"memberOf": []},
            "Food": {"memberOf": [{"id": "All"}]},
            "Doors": {"memberOf": [{"id": "All"}]},
            "feed": action("Food", amount="Long", meal="String?"),
            "alarm": action("Doors", amount="Long"),
            "buy": action("Food", amount="Long"),
            "sell": action("Food", amount="Long"),
            "open": action("Doors", door="String"),
        },
    }
}
ANN, ZOO = Uid("Park::Keeper", "ann"), Uid("Park::Zoo", "zoo")
PERMIT_ALL = "permit (principal, action, resource);"
BUY = 'action == Park::Action::"buy"'
FAILS = "context.input.amount + 9223372036854775807 > 0"


def names(*actions: str) -> Sequence[Uid]:
    return [Uid("Park::Action", name) for name in actions]


def compiled(*statements: str, schema: Any = SCHEMA) -> CompiledRules:
    made = [Rule(id=f"rule-{n}", statement=each) for n, each in enumerate(statements)]
    return CedarEngine().compile_rules(made, schema)


def keeper(**tags: str) -> Entity:
    return Entity(uid=ANN, attributes={"id": "ann"}, tags=tags)


HERE = Entity(uid=ZOO, attributes={"id": "zoo"})


def ask(rules: CompiledRules, action: str = "buy", *, tags: Any = None, **input: Any) -> Decision:
    request = PolicyRequest(
        principal=ANN,
        action=Uid("Park::Action", action),
        resource=ZOO,
        context={"input": input or {"amount": 5}},
    )
    return rules.decide(request, [keeper(**tags or {}), HERE])


def shown(rules: CompiledRules, **tags: str) -> set[str]:
    could = rules.possible(keeper(**tags), HERE, names("feed", "buy", "open"))
    return {name for name, may in zip(("feed", "buy", "open"), could, strict=True) if may}


def test_a_rule_has_the_id_that_it_was_given_whatever_it_says_of_itself() -> None:
    rules = compiled('@id("mine") permit (principal, action, resource);')
    assert ask(rules) == Decision(Effect.ALLOW, ("rule-0",))


def test_reasons_are_what_the_annotations_say() -> None:
    rules = compiled('@reason("because") ' + PERMIT_ALL, "@reason " + PERMIT_ALL, PERMIT_ALL)
    assert rules.reasons == {"rule-0": "because"}


def test_without_rules_nothing_is_permitted_and_nothing_forbidden() -> None:
    assert ask(compiled()) == Decision(Effect.SILENT)
    assert shown(compiled()) == set()


@pytest.mark.parametrize(
    ("scope", "actions"),
    [
        ('action == Park::Action::"feed"', {"feed"}),
        ('action in Park::Action::"Food"', {"feed", "buy"}),
        ('action in [Park::Action::"Doors", Park::Action::"buy"]', {"open", "buy"}),
        ('action in Park::Action::"All"', {"feed", "buy", "open"}),
        ("action", {"feed", "buy", "open"}),
        ('action in Park::Action::"feed"', {"feed"}),
    ],
)
def test_a_rule_is_asked_for_the_actions_of_its_scope(scope: str, actions: set[str]) -> None:
    rules = compiled(f"permit (principal, {scope}, resource);")
    assert shown(rules) == actions
    for name, input in (("feed", {"amount": 1}), ("buy", {"amount": 1}), ("open", {"door": "x"})):
        assert ask(rules, name, **input).allowed is (name in actions)


def test_an_action_that_is_a_mere_group_cannot_be_done() -> None:
    rules = compiled(PERMIT_ALL)
    assert ask(rules, "Food").effect is Effect.FORBID
    assert rules.possible(keeper(), HERE, names("Food", "nowhere")) == [False, False]


def test_a_rule_for_exactly_a_group_does_not_reach_into_it() -> None:
    rules = compiled('permit (principal, action == Park::Action::"Food", resource);')
    assert rules.problems["rule-0"]
    assert not ask(rules).allowed
    forbid = 'forbid (principal, action == Park::Action::"Food", resource);'
    assert ask(compiled(PERMIT_ALL, forbid)).allowed


def test_an_action_that_the_schema_does_not_know_is_forbidden() -> None:
    assert ask(compiled(PERMIT_ALL), "fly").effect is Effect.FORBID


def test_one_statement_is_one_policy() -> None:
    for statement in ("", "// nothing", PERMIT_ALL * 2, "permit (principal", "nonsense"):
        with pytest.raises(PolicyRefused, match="rule-0"):
            compiled(statement)


def test_a_template_is_no_policy() -> None:
    with pytest.raises(PolicyRefused, match="template"):
        compiled("permit (principal == ?principal, action, resource);")


def test_all_that_cannot_be_parsed_is_named() -> None:
    with pytest.raises(PolicyRefused) as refused:
        compiled("permit (", PERMIT_ALL, "forbid )")
    assert [problem.partition(":")[0] for problem in refused.value.problems] == ["rule-0", "rule-2"]


def test_two_rules_cannot_have_one_id_and_an_id_has_no_backtick() -> None:
    """With a backtick it could not be found again in Cedar's errors."""
    for ids in (("a", "a"), ("a`b",)):
        with pytest.raises(PolicyRefused):
            CedarEngine().compile_rules([Rule(id=id, statement=PERMIT_ALL) for id in ids], SCHEMA)


@pytest.mark.parametrize(
    "schema", [{}, {"Park": {}}, {"Park": []}, {"Park": {"entityTypes": {}, "actions": {"a": 5}}},
               {"Park": {"entityTypes": {}, "actions": {"a": {"memberOf": [{"id": "b"}]}}}}],
)  # fmt: skip
def test_a_schema_that_is_none_is_refused_or_permits_nothing(schema: Any) -> None:
    try:
        rules = compiled(PERMIT_ALL, schema=schema)
    except PolicyRefused:
        return
    assert not ask(rules).allowed


def test_a_comment_at_the_end_of_one_rule_does_not_swallow_the_next() -> None:
    rules = compiled(
        "permit (principal, action, resource); // all",
        "forbid (principal, action, resource) when { context.input.nope == 1 };",
    )
    assert set(rules.problems) == {"rule-1"}


# Cedar's traps, by name.


def test_trap_a_forbid_that_fails_forbids() -> None:
    """Cedar skips it, and would allow."""
    forbid = f'forbid (principal, action == Park::Action::"buy", resource) when {{ {FAILS} }};'
    decision = ask(compiled(PERMIT_ALL, forbid), amount=1)
    assert decision.effect is Effect.FORBID
    assert decision.policies == ("rule-1",)
    assert "rule-1" in decision.errors[0]


def test_trap_a_permit_that_fails_permits_nothing_and_hinders_nothing() -> None:
    failing = f'permit (principal, action == Park::Action::"buy", resource) when {{ {FAILS} }};'
    assert ask(compiled(failing), amount=1).effect is Effect.SILENT
    assert ask(compiled(failing, PERMIT_ALL), amount=1).allowed


@pytest.mark.parametrize(
    "input",
    [
        {"amount": "5"}, {"amount": 5.5}, {"amount": None}, {"amount": 2**63}, {},
        {"amount": 5, "more": 1}, {"amount": [5]},
    ],
)  # fmt: skip
def test_trap_a_request_that_does_not_fit_the_schema_is_no_decision_and_denied(input: Any) -> None:
    """Floats, nulls and integers beyond 64 bits among them."""
    request = PolicyRequest(
        principal=ANN, action=Uid("Park::Action", "buy"), resource=ZOO, context={"input": input}
    )
    decision = compiled(PERMIT_ALL).decide(request, [keeper(), HERE])
    assert decision.effect is Effect.FORBID
    assert decision.errors


def test_trap_tool_input_never_becomes_an_entity() -> None:
    escape = {"__entity": {"type": "Park::Keeper", "id": "boss"}}
    rules = compiled(
        'permit (principal, action == Park::Action::"open", resource)'
        ' when { context.input.door == "x" || true };'
    )
    for input in (escape, {"door": escape}, {"door": {"__extn": {"fn": "ip", "arg": "10.0.0.1"}}}):
        assert not ask(rules, "open", **input).allowed


def test_trap_entities_that_do_not_fit_the_schema_deny_also_when_seen_again() -> None:
    rules = compiled(PERMIT_ALL)
    request = PolicyRequest(
        principal=ANN, action=names("buy")[0], resource=ZOO, context={"input": {"amount": 1}}
    )
    for _ in range(2):
        wrong = rules.decide(request, [Entity(uid=ANN, attributes={"id": 5}), HERE])
        assert wrong.effect is Effect.FORBID
    assert rules.decide(request, [keeper(), HERE]).allowed


def test_a_principal_of_a_type_that_the_action_does_not_take_is_forbidden() -> None:
    visitor = Uid("Park::Visitor", "v")
    request = PolicyRequest(
        principal=visitor, action=names("buy")[0], resource=ZOO, context={"input": {"amount": 1}}
    )
    rules = compiled(PERMIT_ALL)
    assert rules.decide(request, [Entity(uid=visitor), HERE]).effect is Effect.FORBID
    assert rules.possible(Entity(uid=visitor), HERE, names("buy")) == [False]


def test_a_decision_that_takes_too_long_is_forbidden() -> None:
    rules = CedarEngine(seconds_max=0).compile_rules([Rule(id="a", statement=PERMIT_ALL)], SCHEMA)
    assert ask(rules).effect is Effect.FORBID


def test_an_oversized_request_is_forbidden() -> None:
    rules = compiled(PERMIT_ALL)
    assert ask(rules, "feed", amount=1, meal="x" * (1 << 20)).effect is Effect.FORBID
    assert ask(rules, "feed", amount=1, meal="x" * (1 << 19)).allowed


def test_one_callers_tags_are_never_taken_for_anothers() -> None:
    rules = compiled(
        "permit (principal, action, resource)"
        ' when { principal.hasTag("role") && principal.getTag("role") == "boss" };'
    )
    for role, may in (("boss", True), ("clerk", False), ("boss", True)):
        assert ask(rules, tags={"role": role}).allowed is may
    assert not ask(rules).allowed


# Rules that do not fit the schema.


def test_a_permit_that_does_not_fit_permits_nothing() -> None:
    rules = compiled("permit (principal, action, resource) when { context.input.nope == 1 };")
    assert "nope" in rules.problems["rule-0"][0]
    assert "policy0" not in rules.problems["rule-0"][0]
    assert ask(rules).effect is Effect.SILENT
    assert shown(rules) == set()


def test_a_forbid_that_does_not_fit_forbids_all_that_its_scope_covers() -> None:
    rules = compiled(
        PERMIT_ALL,
        'forbid (principal, action in Park::Action::"Food", resource)'
        " when { context.input.nope == 1 };",
    )
    assert ask(rules) == Decision(Effect.FORBID, ("rule-1",))
    assert ask(rules, "open", door="x").allowed
    assert shown(rules) == {"open"}


def test_a_forbid_of_an_action_that_is_gone_hinders_no_other() -> None:
    rules = compiled(PERMIT_ALL, 'forbid (principal, action == Park::Action::"gone", resource);')
    assert set(rules.problems) == {"rule-1"}
    assert ask(rules).allowed


@pytest.mark.parametrize(
    ("condition", "scope", "good"),
    [
        ("context.input.amount > 5", "action", False),
        ("context.input has amount && context.input.amount > 5", "action", True),
        ("context.input.amount > 5", 'action in Park::Action::"Food"', True),
        ('context.input has meal && context.input.meal == "x"', "action", True),
        ('context.input.meal == "x"', 'action == Park::Action::"feed"', False),
        ('action == Park::Action::"open" && context.input.door == "x"', "action", True),
        ('action == Park::Action::"feed" && context.input.door == "x"', "action", False),
        ('context.input == {door: "x"}', "action", False),
        ('context.input == {door: "x"}', 'action in [Park::Action::"open"]', True),
        ("context.input == {amount: 5}", 'action in Park::Action::"Food"', False),
        ("context.input.amount > 5", 'action in [Park::Action::"feed", Park::Action::"buy"]', True),
        ("true", 'action in [Park::Action::"feed", Park::Action::"gone"]', False),
        ('action in Park::Action::"Food" && context.input.amount > 5', "action", True),
        ('action in Park::Action::"Doors" && context.input.amount > 5', "action", False),
        ('action in Park::Action::"Food" && context.input.nope > 5', "action", False),
        ('context == {input: {door: "x"}}', "action", False),
        ('context == {input: {door: "x"}}', 'action == Park::Action::"open"', True),
    ],
)
def test_a_rule_fits_where_cedar_itself_says_so_of_the_whole_schema(
    condition: str, scope: str, good: bool
) -> None:
    statement = f"permit (principal, {scope}, resource) when {{ {condition} }};"
    others = [
        f'permit (principal, action == Park::Action::"{name}", resource);'
        for name in ("buy", "open")
    ]
    whole = cedarpy.validate_policies(statement, SCHEMA).validation_passed
    assert whole is good
    assert (compiled(statement).problems == {}) is good
    assert (compiled(*others, statement, *others).problems == {}) is good


WORD = st.sampled_from(["amount", "meal", "door", "nope"])
CONDITIONS = st.recursive(
    st.one_of(
        WORD.map(lambda word: f"context.input has {word}"),
        WORD.map(lambda word: f"context.input.{word} == context.input.{word}"),
        WORD.map(lambda word: f'context.input.{word} == "x"'),
        WORD.map(lambda word: f"context.input.{word} > 5"),
        st.sampled_from([
            'action == Park::Action::"feed"', 'action in Park::Action::"Food"', "true", "false",
            "context.input == {amount: 1}", 'principal.hasTag("a")', 'principal.getTag("a") == "x"',
            "context has input", 'action == Park::Action::"gone"', 'action == Park::Action::"sell"',
            'action in [Park::Action::"buy", Park::Action::"Doors"]',
        ]),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(
            lambda each: f"({each[0]} {each[1]} {each[2]})"
        ),
        inner.map(lambda each: f"!({each})"),
        st.tuples(inner, inner, inner).map(
            lambda each: f"(if {each[0]} then {each[1]} else {each[2]})"
        ),
    ),
    max_leaves=6,
)  # fmt: skip
SCOPES = st.sampled_from(
    [
        "action", 'action == Park::Action::"feed"', 'action in Park::Action::"Food"',
        'action in [Park::Action::"open", Park::Action::"buy"]', 'action in Park::Action::"All"',
    ]
)  # fmt: skip
STATEMENTS = st.tuples(st.sampled_from(["permit", "forbid"]), SCOPES, CONDITIONS).map(
    lambda each: f"{each[0]} (principal, {each[1]}, resource) when {{ {each[2]} }};"
)
REQUESTS = st.sampled_from(
    [
        ("feed", {"amount": 1}), ("feed", {"amount": 9, "meal": "x"}), ("buy", {"amount": 1}),
        ("buy", {"amount": 9}), ("open", {"door": "x"}), ("open", {"door": "y"}),
    ]
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(st.lists(STATEMENTS, min_size=1, max_size=6))
def test_what_fits_is_what_cedar_says_of_each_rule_and_the_whole_schema(
    statements: list[str],
) -> None:
    """Though each is checked with a part of the schema, many at once."""
    found = compiled(*statements).problems
    for n, statement in enumerate(statements):
        whole = cedarpy.validate_policies(statement, SCHEMA)
        assert (f"rule-{n}" not in found) is whole.validation_passed


@settings(deadline=None, max_examples=150)
@given(st.lists(STATEMENTS, min_size=1, max_size=6), REQUESTS, st.dictionaries(
    st.just("a"), st.sampled_from(["x", "y"])
))  # fmt: skip
def test_slices_decide_as_cedar_does_with_all_rules_and_the_list_shows_no_less(
    statements: list[str], asked: tuple[str, dict[str, Any]], tags: dict[str, str]
) -> None:
    fitting = [each for each in statements if cedarpy.validate_policies(each, SCHEMA)]
    name, input = asked
    rules = compiled(*fitting)
    decision = ask(rules, name, tags=tags, **input)
    answer = cedarpy.is_authorized(
        {
            "principal": {"type": ANN.type, "id": ANN.id},
            "action": {"type": "Park::Action", "id": name},
            "resource": {"type": ZOO.type, "id": ZOO.id},
            "context": {"input": input},
        },
        "\n".join(fitting),
        [
            {
                "uid": {"type": ANN.type, "id": "ann"},
                "attrs": {"id": "ann"},
                "tags": tags,
                "parents": [],
            },
            {"uid": {"type": ZOO.type, "id": "zoo"}, "attrs": {"id": "zoo"}, "parents": []},
        ],
        SCHEMA,
    )
    assert decision.allowed is answer.allowed
    if decision.allowed:
        assert name in shown(rules, **tags)


# What a caller could do at all.


def test_what_depends_on_the_input_could_be_allowed() -> None:
    rules = compiled(f"permit (principal, {BUY}, resource) when {{ context.input.amount < 5 }};")
    assert shown(rules) == {"buy"}


@pytest.mark.parametrize(
    "condition",
    [
        'principal.hasTag("a") && principal.getTag("a") == "x" && context.input.amount < 5',
        'context.input.amount < 5 && principal.hasTag("a") && principal.getTag("a") == "x"',
        '(context.input.amount < 5 || context.input.amount > 9) && resource.id == "elsewhere"',
        'if context.input.amount < 5 then principal.id == "bob" else false',
        '!(context.input.amount < 5 || principal.id == "ann")',
    ],
)
def test_what_depends_on_the_caller_is_settled_before_the_input_is_known(condition: str) -> None:
    rules = compiled(
        f'permit (principal, action == Park::Action::"buy", resource) when {{ {condition} }};'
    )
    assert rules.problems == {}
    assert shown(rules) == set()


def test_a_forbid_that_holds_whatever_comes_hides() -> None:
    for condition in ('principal.id == "ann"', 'context.input.amount < 5 || principal.id == "ann"'):
        forbid = (
            f'forbid (principal, action == Park::Action::"buy", resource) when {{ {condition} }};'
        )
        assert shown(compiled(PERMIT_ALL, forbid)) == {"feed", "open"}


def test_a_forbid_that_depends_on_the_input_does_not_hide() -> None:
    forbid = f"forbid (principal, {BUY}, resource) when {{ context.input.amount > 5 }};"
    assert "buy" in shown(compiled(PERMIT_ALL, forbid))


def test_a_condition_on_the_action_itself_is_asked_for_each_action() -> None:
    rules = compiled(
        'permit (principal, action, resource) when { action in Park::Action::"Food" };',
        f"forbid (principal, action, resource) when {{ {BUY} }};",
    )
    assert shown(rules) == {"feed"}


def test_a_list_that_would_take_too_many_evaluations_shows_what_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules = compiled(
        'permit (principal, action, resource) when { action in Park::Action::"Food" };',
        f'permit (principal, {BUY}, resource) when {{ {BUY} && principal.id == "bob" }};',
        f"forbid (principal, action, resource) when {{ {BUY} }};",
    )
    monkeypatch.setattr(cedar_rules, "EVALUATIONS_MAX", 0)
    assert shown(rules) == {"feed", "buy", "open"}
    hidden = compiled(
        f'permit (principal, action, resource) when {{ {BUY} && principal.id == "bob" }};'
    )
    assert shown(hidden) == set()


@pytest.mark.parametrize(
    "id", ['q"uote', "back\\slash", "line\nbreak", "tab\t", "\u200bspace", "é", ""]
)
def test_a_name_of_any_characters_is_asked_of_too(id: str) -> None:
    odd = Entity(uid=Uid("Park::Keeper", id), attributes={"id": id}, tags={"role": "x"})
    rules = compiled(
        f"permit (principal, {BUY}, resource);",
        'forbid (principal, action, resource) when { principal.hasTag("none") };',
    )
    assert rules.possible(odd, HERE, names("buy"))[0] is True
    request = PolicyRequest(
        principal=odd.uid, action=names("buy")[0], resource=ZOO, context={"input": {"amount": 1}}
    )
    assert rules.decide(request, [odd, HERE]).allowed


@pytest.mark.parametrize(
    "answer",
    [
        ValueError("changed upstream"),
        TypeError("changed upstream"),
        cedarpy.PartialAuthzResult({"decision": "NoDecision"}),
        cedarpy.PartialAuthzResult({"residuals": {"other": {}}}),
        cedarpy.PartialAuthzResult(
            {
                "residuals": {"rule0": {}, "rule1": {}},
                "diagnostics": {"nontrivial_residuals": ["rule0"]},
            }
        ),
    ],
)
def test_where_partial_evaluation_answers_oddly_what_has_a_permit_is_possible(
    answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(*args: Any, **kwargs: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    rules = compiled(
        'permit (principal, action == Park::Action::"buy", resource);',
        "forbid (principal, action, resource);",
    )
    monkeypatch.setattr(cedarpy, "is_authorized_partial", odd)
    assert shown(rules) == {"buy"}


def test_of_what_fails_altogether_nothing_is_possible() -> None:
    wrong = Entity(uid=ANN, attributes={"id": 5})
    assert compiled(PERMIT_ALL).possible(wrong, HERE, names("buy", "open")) == [False, False]


# Sizes.


@pytest.mark.parametrize("chained", [60, 190])
def test_a_long_chain_of_conditions_decides_as_a_short_one(chained: int) -> None:
    """Longer than Cedar reads of its own JSON."""
    buy = 'action == Park::Action::"buy"'
    chain = " && ".join(["context.input.amount > 1"] * chained)
    rules = compiled(
        f"permit (principal, {buy}, resource) when {{ {chain} }};",
        f"forbid (principal, {buy}, resource) when {{ {chain.replace('> 1', '> 7')} }};",
    )
    assert ask(rules, amount=5) == Decision(Effect.ALLOW, ("rule-0",))
    assert ask(rules, amount=9) == Decision(Effect.FORBID, ("rule-1",))
    assert ask(rules, amount=0) == Decision(Effect.SILENT)
    assert "buy" in shown(rules)
    assert "open" not in shown(rules)


@pytest.mark.parametrize(
    "condition",
    [
        "true" + " && true" * 900,
        "!" * 3000 + "true",
        "(" * 900 + "true" + ")" * 900,
        "1" + "+1" * 4000 + " > 1",
        "context" + ".a" * 3000 + " == 1",
        "if true then " * 400 + "true" + " else false" * 400,
    ],
)
def test_conditions_without_end_are_refused_and_hurt_nobody(condition: str) -> None:
    with pytest.raises(PolicyRefused):
        compiled(f"permit (principal, action, resource) when {{ {condition} }};")


def test_slices_that_are_not_asked_for_any_more_are_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cedar_rules, "SLICED_RULES_MAX", 2)
    monkeypatch.setattr(cedar_rules, "ENTITIES_KEPT_MAX", 1)
    rules = compiled(
        PERMIT_ALL,
        *(f'permit (principal, action == Park::Action::"{n}", resource);' for n in ("buy", "feed")),
    )
    for _ in range(3):
        for name, input in (
            ("feed", {"amount": 1}),
            ("buy", {"amount": 1}),
            ("open", {"door": "x"}),
        ):
            for tags in ({"a": "b"}, {}):
                assert ask(rules, name, tags=tags, **input).allowed


def test_a_rule_that_speaks_of_all_actions_is_checked_once_for_those_that_look_alike() -> None:
    actions = {
        **SCHEMA["Park"]["actions"],
        **{f"t{n}": action("Food", amount="Long") for n in range(600)},
    }
    schema = {"Park": {**SCHEMA["Park"], "actions": actions}}
    said = 'context.input has amount && context.input.amount > {} && principal.hasTag("x")'
    statements = [
        f"forbid (principal, action, resource) when {{ {said.format(n)} }};" for n in range(200)
    ]
    started = time.thread_time()
    assert compiled(*statements, schema=schema).problems == {}
    assert time.thread_time() - started < 2  # 2.6 s a hundred rules otherwise
