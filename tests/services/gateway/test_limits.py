"""Rate limits of a gateway: which entry counts for a call, and in whose bucket."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import Unavailable, ValidationFailed
from freehold.ports.limits import Limit, Taken
from freehold.services.gateway import limits
from freehold.services.gateway.limits import Facts, LimitReached

ANN = Caller(
    tenant="1" * 12, principal="issuer|ann", kind=CallerKind.OAUTH_USER, user="issuer|ann",
    claims={"sub": "ann", "team": "red", "nested": {"plan": "gold"}, "https://x/y": "z"},
)  # fmt: skip
KEY = Caller(
    tenant="1" * 12, principal="arn:aws:iam::1:user/key", kind=CallerKind.ACCESS_KEY, user="bob"
)


def entry(*values: str, keys: Sequence[str] = (), **metrics: Any) -> dict[str, Any]:
    rates = {
        name: [{"rate": rate, "period": period}]
        for name, (rate, period) in (metrics or {"requests": (5, "second")}).items()
    }
    return {"dimensions": dict(zip(keys, values, strict=True)), **rates}


def rules(keys: Sequence[str], *entries: tuple[Any, ...]) -> limits.LimitRules:
    document = {
        "dimensionKeys": list(keys),
        "entries": [
            entry(*values, keys=keys, requests=(rate, "second")) for *values, rate in entries
        ],
    }
    limits.check(document)
    return limits.compiled("1|gate", [("limit", document)])


def amounts(made: limits.LimitRules, facts: Facts) -> list[float]:
    return [limit.amount for limit in made.for_call(facts).takes]


def keys_of(made: limits.LimitRules, facts: Facts) -> tuple[str, ...]:
    return tuple(limit.key for limit in made.for_call(facts).takes)


def test_the_most_exact_entry_counts_and_the_last_dimensions_give_way_first() -> None:
    made = rules(
        ("targetName", "toolName"),
        ("t", "t___a", 1), ("t", "*", 2), ("*", "*", 3),
    )  # fmt: skip
    assert amounts(made, Facts(caller=ANN, target="t", tool="t___a")) == [1]
    assert amounts(made, Facts(caller=ANN, target="t", tool="t___b")) == [2]
    assert amounts(made, Facts(caller=ANN, target="u", tool="t___a")) == [3]
    only = rules(("targetName",), ("t", 1))
    assert amounts(only, Facts(caller=ANN, target="u")) == []


def test_a_call_without_a_tool_is_not_limited_by_tools() -> None:
    made = rules(("toolName",), ("*", 1))
    assert not made.for_call(Facts(caller=ANN, target="t")).takes


def test_each_value_has_a_bucket_of_its_own_under_a_wildcard_too() -> None:
    made = rules(("$.context.jwt.sub",), ("*", 5))
    bob = Caller(tenant="1" * 12, principal="b", kind=CallerKind.OAUTH_USER, claims={"sub": "bob"})
    assert keys_of(made, Facts(caller=ANN)) != keys_of(made, Facts(caller=bob))


def test_an_agent_is_one_caller_in_all_of_its_sessions() -> None:
    agent = "arn:aws:bedrock-agentcore:us-east-1:111111111111:runtime/helper-aaaaaaaaaa"
    one, two = (
        Caller(tenant="1" * 12, principal=f"{agent}/session/{id}", kind=CallerKind.SESSION)
        for id in ("s1", "s2")
    )
    made = rules(("$.context.iam.principal",), (agent, 1), ("*", 9))
    assert amounts(made, Facts(caller=one)) == [1]
    assert keys_of(made, Facts(caller=one)) == keys_of(made, Facts(caller=two))


def test_leaving_out_what_is_asked_for_is_no_way_around_a_limit() -> None:
    made = rules(
        ("$.context.iam.principal", "$.context.request.header.X-Plan"),
        (KEY.principal, "gold", 9), (KEY.principal, "*", 2), ("*", "*", 1),
    )  # fmt: skip
    assert amounts(made, Facts(caller=KEY, headers={"x-plan": "gold"})) == [9]
    assert amounts(made, Facts(caller=KEY)) == [2]
    assert amounts(made, Facts(caller=ANN, headers={"x-plan": "gold"})) == [1]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("$.context.jwt.team", "red"),
        ("$.context.jwt.nested.plan", "gold"),
        ("$.context.jwt.https://x/y", "z"),
        ("qualifiedModelId", "gpt"),
    ],
)
def test_dimensions_are_read_from_the_call(key: str, value: str) -> None:
    made = rules((key,), (value, 1), ("*", 2))
    assert amounts(made, Facts(caller=ANN, model="gpt")) == [1]


def test_a_member_of_the_body_is_a_dimension() -> None:
    made = rules(
        ("$.context.jwt.sub", "$.context.request.body.metadata.tier"),
        ("ann", "batch", 1), ("ann", "7", 7), ("*", "*", 2),
    )  # fmt: skip
    assert made.reads_body
    assert amounts(made, Facts(caller=ANN, body={"metadata": {"tier": "batch"}})) == [1]
    assert amounts(made, Facts(caller=ANN, body={"metadata": {"tier": 7}})) == [7]
    assert amounts(made, Facts(caller=ANN, body=["no", "object"])) == [2]


def test_values_that_look_like_two_are_not_one() -> None:
    made = rules(("$.context.jwt.sub", "$.context.request.header.a"), ("*", "*", 1))

    def key(sub: str, a: str) -> tuple[str, ...]:
        caller = Caller(
            tenant="1" * 12, principal="p", kind=CallerKind.OAUTH_USER, claims={"sub": sub}
        )
        return keys_of(made, Facts(caller=caller, headers={"a": a}))

    assert key('x","y', "z") != key("x", 'y","z')


def test_metrics_become_limits() -> None:
    document = {
        "dimensionKeys": ["targetName"],
        "entries": [
            entry(
                "*", keys=["targetName"], requests=(0.25, "second"), tokens=(1000, "minute"),
                connections=(3, "second"),
            )
        ],
    }  # fmt: skip
    made = limits.compiled("1|gate", [("limit", document)])
    applied = made.for_call(Facts(caller=ANN, target="t", model="m"))
    assert [(limit.amount, limit.seconds, limit.cost) for limit in applied.takes] == [
        (1.0, 4.0, None), (1000.0, 60.0, 0),
    ]  # fmt: skip
    assert applied.tokens == applied.takes[1:]
    assert [place.most for place in applied.places] == [3]
    assert not made.for_call(Facts(caller=ANN, target="t")).tokens, "only models take tokens"


@pytest.mark.parametrize(
    ("keys", "entries", "words"),
    [
        (["nothing"], [], "nothing is not known"),
        (["$.context.jwt."], [], "is not known"),
        (["targetName", "targetName"], [], "once"),
        (["$.context.request.header.x"], [], "who calls"),
        (["targetName"], [{"dimensions": {"toolName": "x"}}], "exactly targetName"),
        (
            ["targetName", "toolName"],
            [{"dimensions": {"targetName": "*", "toolName": "x"}, "requests": [1]}],
            "last of them",
        ),
        (["targetName"], [{"dimensions": {"targetName": "x"}}], "must limit"),
        (
            ["targetName"],
            [{"dimensions": {"targetName": "x"}, "requests": [1]}] * 2,
            "before it has the same",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(
    keys: list[str], entries: list[Any], words: str
) -> None:
    with pytest.raises(ValidationFailed, match=words):
        limits.check({"dimensionKeys": keys, "entries": entries})


class Limiter:
    """Implements `RateLimiter`: allows `left` takes, or is away."""

    def __init__(self, left: int = 10, places: int = 10, *, away: bool = False) -> None:
        self.left, self.places, self.away = left, places, away
        self.inside: set[str] = set()
        self.charged = 0.0

    async def take(self, limits: Sequence[Limit], cost: float = 1.0) -> Taken:
        if self.away:
            raise Unavailable("away")
        if self.left == 0:
            return Taken(refused=limits[0], retry_after=4.2)
        self.left -= 1
        return Taken()

    async def charge(self, limits: Sequence[Limit], cost: float) -> None:
        self.charged += cost

    async def enter(self, key: str, most: int, *, lease: str, seconds: float) -> bool:
        if len(self.inside) >= self.places:
            return False
        self.inside.add(lease)
        return True

    async def leave(self, key: str, lease: str) -> None:
        self.inside.discard(lease)


def guarded(**tags: str) -> limits.LimitRules:
    keys = ["targetName"]
    document = {
        "dimensionKeys": keys,
        "entries": [entry("*", keys=keys, requests=(9, "second"), connections=(1, "second"))],
    }
    return limits.compiled("1|gate", [("limit", document)], tags)


async def test_who_is_refused_gives_back_the_place_and_hears_when_to_come_again() -> None:
    limiter = Limiter(left=0)
    with pytest.raises(LimitReached, match="9 calls in 1 seconds") as refused:
        await limits.admit(limiter, guarded(), Facts(caller=ANN, target="t"))
    assert refused.value.status == 429
    assert refused.value.fields["retry_after"] == 4.2
    assert not limiter.inside


async def test_a_place_is_kept_while_the_call_lasts() -> None:
    limiter = Limiter(places=1)
    facts = Facts(caller=ANN, target="t")
    async with limits.Admitted(limiter, guarded(), facts):
        with pytest.raises(LimitReached, match="1 calls at once"):
            await limits.admit(limiter, guarded(), facts)
    async with asyncio.timeout(5), limits.Admitted(limiter, guarded(), facts):
        assert limiter.inside
    assert not limiter.inside


async def test_while_limits_cannot_be_counted_a_gateway_denies_unless_it_says_otherwise() -> None:
    facts = Facts(caller=ANN, target="t")
    away = Limiter(away=True)
    with pytest.raises(Unavailable):
        await limits.admit(away, guarded(), facts)
    assert not away.inside
    await limits.admit(away, guarded(**{"freehold:limit-failure": "allow"}), facts)


async def test_a_call_that_no_limit_concerns_asks_nobody() -> None:
    admission = await limits.admit(
        Limiter(away=True), guarded(), Facts(caller=ANN, tool="none of a target")
    )
    await admission.spent(5)
    await admission.leave()
