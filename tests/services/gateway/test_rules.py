"""Rules of a gateway: the first that fits decides where a call goes."""

import time
from typing import Any

import pytest

from freehold.kernel.errors import ValidationFailed
from freehold.services.gateway import rules
from freehold.services.gateway.rules import Asked, Glob


def to(name: str, **more: Any) -> dict[str, Any]:
    return {"routeToTarget": {"staticRoute": {"targetName": name, **more}}}


def rule(priority: int, action: dict[str, Any], *conditions: dict[str, Any]) -> dict[str, Any]:
    return {"priority": priority, "actions": [action], "conditions": list(conditions)}


def paths(*patterns: str) -> dict[str, Any]:
    return {"matchPaths": {"anyOf": list(patterns)}}


def models(value: str, operator: str | None = None) -> dict[str, Any]:
    more = {"operator": operator} if operator else {}
    return {"matchModels": {"anyOf": [{"value": value, **more}]}}


def principal(arn: str, operator: str | None = None) -> dict[str, Any]:
    more = {"operator": operator} if operator else {}
    return {"matchPrincipals": {"anyOf": [{"iamPrincipal": {"arn": arn, **more}}]}}


def goes(made: rules.Rules, **asked: str) -> str | None:
    route = made.route(Asked(**{"path": "/x", **asked}))
    return None if route is None else route.steps[0].target


def test_the_lowest_priority_that_fits_decides() -> None:
    made = rules.compiled(
        [
            ("b", rule(20, to("everything"))),
            ("a", rule(10, to("inference"), paths("/inference/*"))),
        ]
    )
    assert goes(made, path="/inference/v1/messages") == "inference"
    assert goes(made, path="/other") == "everything"


def test_all_conditions_hold_together_and_any_of_one_is_enough() -> None:
    made = rules.compiled(
        [("a", rule(1, to("t"), paths("/a/*", "/b/?"), models("gpt-*"), principal("arn:ann")))]
    )
    fits = {"path": "/b/1", "model": "gpt-5", "principal": "arn:ann"}
    assert goes(made, **fits) == "t"
    for name, other in (("path", "/b/12"), ("model", "claude"), ("principal", "arn:bob")):
        assert goes(made, **{**fits, name: other}) is None
    assert goes(made, path="/a/b/c", model="gpt-5", principal="arn:ann") == "t"


@pytest.mark.parametrize(
    ("condition", "fits"),
    [
        (models("gpt-*"), True),
        (models("gpt-*", "StringEquals"), False),
        (principal("arn:aws:iam::*:role/r"), False),
        (principal("arn:aws:iam::*:role/r", "StringLike"), True),
    ],
)
def test_models_are_patterns_by_default_and_principals_are_not(
    condition: dict[str, Any], fits: bool
) -> None:
    made = rules.compiled([("a", rule(1, to("t"), condition))])
    found = goes(made, model="gpt-5", principal="arn:aws:iam::1:role/r")
    assert (found == "t") is fits


def test_nobody_is_no_principal_and_no_model_is_no_model() -> None:
    made = rules.compiled(
        [
            ("a", rule(1, to("t"), models("*"))),
            ("b", rule(2, to("u"), principal("*", "StringLike"))),
        ]
    )
    assert goes(made) is None


def test_weights_are_kept_by_chance_and_a_session_goes_the_same_way() -> None:
    split = [{"name": "a", "weight": 90, "targetName": "a"}, {"weight": 10, "targetName": "b"}]
    made = rules.compiled(
        [("r", rule(1, {"routeToTarget": {"weightedRoute": {"trafficSplit": split}}}))]
    )
    by_chance = {
        chance: made.route(Asked(path="/"), iter([chance]).__next__)
        for chance in (0.0, 0.89, 0.91, 0.999)
    }
    assert [route and route.steps[0].target for route in by_chance.values()] == ["a", "a", "b", "b"]
    by_session = [goes(made, session=f"s{n}") for n in range(2000)]
    assert 120 < by_session.count("b") < 280
    assert by_session == [goes(made, session=f"s{n}") for n in range(2000)]


def test_a_fallback_is_a_chain_with_triggers_of_each() -> None:
    made = rules.compiled(
        [
            (
                "r",
                rule(
                    1,
                    to(
                        "first",
                        model="m1",
                        fallback={
                            "firstByteTimeoutMilliseconds": 250,
                            "triggerOn": {"statusCodes": ["429", "5XX"]},
                            "targetFallback": [
                                {"targetName": "second", "model": "m2"},
                                {"targetName": "third", "triggerOn": {"statusCodes": ["4XX"]}},
                            ],
                        },
                    ),
                ),
            )
        ]
    )
    route = made.route(Asked(path="/"))
    assert route is not None
    first, second, third = route.steps
    assert route.breaker
    assert (first.model, first.first_byte_seconds, second.model) == ("m1", 0.25, "m2")
    assert [first.triggers.on_status(code) for code in (429, 500, 599, 400)] == [
        True,
        True,
        True,
        False,
    ]
    assert not first.triggers.on("CONNECTION_ERROR"), "only what is listed"
    assert second.triggers.on("CONNECTION_ERROR")
    assert second.triggers.on_status(503)
    assert not second.triggers.on_status(429)
    assert not third.triggers.on_status(404), "nobody comes after it"


def test_the_breaker_may_be_turned_off() -> None:
    fallback = {"circuitBreaker": {"mode": "DISABLED"}, "targetFallback": [{"targetName": "b"}]}
    made = rules.compiled([("r", rule(1, to("a", fallback=fallback)))])
    route = made.route(Asked(path="/"))
    assert route is not None
    assert not route.breaker


def test_configuration_bundles_are_passed_over_and_named() -> None:
    bundle = {"configurationBundle": {"staticOverride": {"bundleArn": "a", "bundleVersion": "1"}}}
    made = rules.compiled([("r", rule(1, bundle)), ("s", rule(2, to("t")))])
    assert goes(made) == "t"
    ((id, why),) = made.problems
    assert id == "r"
    assert "configuration bundles" in why
    with pytest.raises(ValidationFailed, match="configuration bundles"):
        rules.check(rule(1, bundle), lambda name: "http.passthrough")


KINDS = {"web": "http.passthrough", "llm": "inference.provider", "llm2": "inference.connector"}


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (to("absent"), "no target absent"),
        (to("web", model="m"), "no inference target"),
        (to("llm", fallback={"targetFallback": [{"targetName": "web"}]}), "no inference target"),
        (to("llm", fallback={"targetFallback": [{"targetName": "llm"}]}), "twice"),
        (
            to("llm", fallback={"targetFallback": [{"targetName": "llm2"}],
                                "triggerOn": {"statusCodes": ["200"]}}),
            "neither",
        ),
        (
            {"routeToTarget": {"weightedRoute": {"trafficSplit": [
                {"weight": 50, "targetName": "llm"}, {"weight": 40, "targetName": "web"}]}}},
            "sum to 100",
        ),
    ],
)  # fmt: skip
def test_a_rule_that_leads_nowhere_is_refused(action: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationFailed, match=words):
        rules.check(rule(1, action), KINDS.get)


def test_good_rules_are_not_refused() -> None:
    fallback = {"targetFallback": [{"targetName": "llm2"}, {"targetName": "llm", "model": "x"}]}
    rules.check(rule(1, to("llm", fallback=fallback)), KINDS.get)
    rules.check(rule(1, to("web")), KINDS.get)
    assert rules.known_targets([rule(1, to("llm", fallback=fallback))]) == {"llm", "llm2"}


@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        ("a*c", "abc", True), ("a*c", "ac", True), ("a*c", "abd", False), ("*", "", True),
        ("a?c", "abc", True), ("a?c", "ac", False), ("a.c", "abc", False), ("*b*", "abc", True),
        ("**a**", "xxaxx", True), ("a[b]c", "abc", False), ("", "", True), ("", "a", False),
        ("*ab", "aab", True),
    ],
)  # fmt: skip
def test_globs(pattern: str, value: str, matches: bool) -> None:
    assert Glob(pattern).matches(value) is matches


def test_no_pattern_takes_for_ever() -> None:
    began = time.perf_counter()
    assert not Glob("*a" * 200 + "b").matches("a" * 2000)
    assert time.perf_counter() - began < 2
