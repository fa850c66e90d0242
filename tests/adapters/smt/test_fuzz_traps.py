"""Odd names, odd characters, borders: the encoding and the engine agree on each of them."""

import itertools
import json
from typing import Any

import cedarpy
import pytest
from cedar_judge import Judge
from cedar_worlds import (
    BOOL,
    DATETIME,
    DECIMAL,
    IP,
    LONG,
    STRING,
    Act,
    EntityKind,
    Field,
    Type,
    World,
    record,
)

from freehold.adapters.smt import proofs
from freehold.ports.policies import Entity, PolicyRequest, Rule, Uid

WORDS = Type("Set", element=STRING)
WORLD = World(
    "Odd",
    {
        "Odd::User": EntityKind(("u",), (Field("tag", LONG), Field("in", BOOL, False)), STRING),
        "Odd::Thing": EntityKind(("t",)),
    },
    {
        "act": Act(
            ("Odd::User",),
            ("Odd::Thing",),
            record(
                Field("a", record(Field("b", STRING), Field("c", LONG, False))),
                Field("a.b", STRING), Field("x", LONG, False), Field("x?", BOOL),
                Field('quote"d', STRING), Field("Ünï", LONG), Field("s", WORDS),
                Field("s contains", BOOL), Field("", LONG), Field("at", DATETIME),
                Field("from", IP), Field("part", DECIMAL), Field("|", LONG), Field("pairs", Type(
                    "Set", element=record(Field("k", STRING), Field("v", LONG))
                )),
            ),
        )
    },
    {},
)  # fmt: skip

TEXTS = [
    "",
    "a",
    "\\u{41}",
    "A",
    "\n",
    "\0",
    "é",
    "e\u0301",
    "😀",
    '"',
    "a*b",
    "a.b",
    "%",
    "x" * 300,
]


def context(text: str, other: str, number: int, **more: Any) -> dict[str, Any]:
    return {
        "a": {"b": text}, "a.b": other, "x?": True, 'quote"d': other, "Ünï": number,
        "s": [text, other, other], "s contains": False, "": -number, "|": 7,
        "at": {"__extn": {"fn": "datetime", "arg": "1969-12-31T23:59:59.999Z"}},
        "from": {"__extn": {"fn": "ip", "arg": "127.0.0.1/4"}},
        "part": {"__extn": {"fn": "decimal", "arg": "-0.0001"}},
        "pairs": [{"k": text, "v": 5}, {"k": other, "v": number}],
        **more,
    }  # fmt: skip


CONDITIONS = [
    'context.a.b == context["a.b"]',
    'context has "x?" && context["x?"] && !(context has x)',
    "context has x && context.x == 0",
    'context["quote\\"d"] == context["a.b"]',
    'context["Ünï"] > 4 || context[""] + context["|"] == 2',
    'context.s.contains(context.a.b) && !context["s contains"]',
    'context.s == [context.a.b, context["a.b"]]',
    'context.s == [context["a.b"]]',
    'context.s.containsAll([context.a.b, "a"])',
    'context.s.containsAny(["\\u{41}", "\\0"])',
    'context.a.b == "\\u{41}"',
    'context.a.b == "\\\\u{41}"',
    'context.a.b like "*\\u{41}*"',
    'context.a.b like "*\\\\u*"',
    'context.a.b like "a\\*b"',
    'context.a.b like "a*b"',
    'context.a.b like "**"',
    'context.a.b like ""',
    'context.a.b like "*e*"',
    'context.a.b like "?" || context.a.b like "."',
    'context.a.b like "*\\"*" || context.a.b like "*\\n*"',
    'principal.tag == 3 && (principal has "in" && principal["in"])',
    'principal.hasTag(context.a.b) && principal.getTag(context.a.b) == context["a.b"]',
    'principal.hasTag("tag")',
    'context["Ünï"] * context["Ünï"] * context["Ünï"] > 100',
    'context["Ünï"] - -9223372036854775808 > 0',
    '-context["Ünï"] < 0',
    'context["Ünï"] + 1 > context["Ünï"] && false',
    'false && context["Ünï"] + 1 > 0',
    'true || context["Ünï"] + 1 > 0',
    'context["Ünï"] + 1 > 0 || true',
    'if context["Ünï"] + 1 > 0 then true else true',
    'context["x?"] || context["Ünï"] + 1 > 0',
    '!context["x?"] && context["Ünï"] + 1 > 0',
    '!(context["s contains"] || !(context["Ünï"] + 1 > 0))',
    'if context["x?"] then true else context["Ünï"] + 1 > 0',
    '[context["Ünï"] + 1, 5].contains(5)',
    '{"a": context["Ünï"] + 1, "b": 5}.b == 5',
    '{"a": context["Ünï"] + 1} has a',
    'context.at.toDate() == datetime("1969-12-31")',
    'context.at.toTime() == duration("86399999ms")',
    'context.at.durationSince(datetime("1970-01-01")).toSeconds() == 0',
    'context.at.durationSince(datetime("1970-01-03")).toDays() == -2',
    'context.at.offset(duration("9223372036854775807ms")) > context.at',
    'context.at.offset(duration("9223372036854775000ms")).durationSince(datetime("1900-01-01"))'
    ' > duration("0ms")',
    'context.at.offset(duration("-9223372036854775808ms")) < context.at',
    'context.at.offset(duration("-9223372036854775807ms")).toDate() < context.at',
    "context.from.isLoopback() || context.from.isMulticast()",
    'context.from.isInRange(ip("127.0.0.1/4")) && context.from.isInRange(ip("112.9.9.9/4"))',
    'context.from == ip("127.0.0.1/4") && context.from != ip("127.0.0.1")',
    'context.from.isInRange(ip("0.0.0.0/0")) && !context.from.isInRange(ip("::/0"))',
    'context.part.lessThan(decimal("0.0")) && context.part == decimal("-0.0001")',
    'context.pairs.contains({"k": context.a.b, "v": 5})',
    "context.pairs.isEmpty() || context.a has c",
    "context.a == context.a && context == context",
    'principal is Odd::User && action == Odd::Action::"act" && !(resource is Odd::User)',
    "principal == resource || action == principal",
    'context has a.c && context.a.c == 1',
    'context has nothing && context.nothing.at.all',
]  # fmt: skip


def requests() -> list[PolicyRequest]:
    pairs = [(a, b) for a, b in itertools.product(TEXTS, ["a", "\\u{41}", "é"])]
    numbers = itertools.cycle([2**63 - 1, -5, 2_100_000])
    extra = itertools.cycle([{}, {"x": 0}, {"a": {"b": "A", "c": 1}}, {"pairs": []}])
    return [
        PolicyRequest(
            principal=Uid("Odd::User", "u"),
            action=Uid("Odd::Action", "act"),
            resource=Uid("Odd::Thing", "t"),
            context=context(a, b, number, **more),
        )
        for (a, b), number, more in zip(pairs, numbers, extra, strict=False)
    ]


ENTITIES = [
    Entity(
        uid=Uid("Odd::User", "u"),
        attributes={"tag": 3, "in": True},
        tags={"a": "a", "": "é", "\\u{41}": "a", "\0": "\\u{41}"},
    ),
    Entity(uid=Uid("Odd::Thing", "t")),
]


@pytest.mark.parametrize(("place", "condition"), list(enumerate(CONDITIONS)))
def test_the_encoding_and_the_engine_agree(place: int, condition: str) -> None:
    rule = Rule(id="p", statement=f"permit(principal, action, resource) when {{ {condition} }};")
    judge, schema = Judge([rule], WORLD.schema()), WORLD.schema()
    assert cedarpy.validate_policies(rule.statement, json.dumps(schema)).validation_passed
    for request in requests()[place % 3 :: 13]:
        verdict = judge.of(request, ENTITIES)
        claim = proofs.claim(rule, schema, request, ENTITIES)
        assert not claim.invalid and not claim.unsupported, claim
        assert (claim.satisfied, claim.errs) == ("p" in verdict.satisfied, "p" in verdict.erred)


def test_values_whose_names_look_alike_are_told_apart() -> None:
    statement = 'permit(principal, action, resource) when { context.a.b != context["a.b"] };'
    analysis = proofs.analyse([Rule(id="p", statement=statement)], WORLD.schema())
    assert not [each for each in analysis.findings if each.policy]
