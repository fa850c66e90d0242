"""What a resource asks of a token beyond its signature, and what is remembered of tokens."""

import gc
import time
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest

from freehold.adapters.oidc import verifier as verifier_module
from freehold.adapters.oidc.claims import SKEW_SECONDS
from freehold.adapters.oidc.verifier import OidcVerifier
from freehold.adapters.web.client import CheckedWeb
from freehold.ports.tokens import ClaimRule, TokenRefused, TokenRules
from token_issuer import TokenIssuer

Operator = Literal["EQUALS", "CONTAINS", "CONTAINS_ANY"]


class Now:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
async def verifier(loopback: CheckedWeb, now: Now) -> AsyncIterator[OidcVerifier]:
    verifier = OidcVerifier(loopback, now=now)
    yield verifier
    await verifier.close()


def rules(issuer: TokenIssuer, **more: Any) -> TokenRules:
    sets = {key: frozenset(value) if key != "claims" else value for key, value in more.items()}
    return TokenRules(discovery_url=issuer.discovery_url, **sets)


async def is_taken(verifier: OidcVerifier, token: str, asked: TokenRules) -> bool:
    try:
        await verifier.verify(token, asked)
    except TokenRefused:
        return False
    return True


@pytest.mark.parametrize(
    ("claims", "asked", "taken"),
    [
        ({}, {}, True),
        ({"aud": None, "scope": None, "client_id": None, "sub": None}, {}, True),
        ({"aud": ["x", "y"]}, {"audiences": ["y", "z"]}, True),
        ({"aud": []}, {"audiences": ["y"]}, False),
        ({"aud": ""}, {"audiences": ["y"]}, False),
        ({"scope": "a b"}, {"scopes": ["b", "c"]}, True),
        ({"scope": "a  b "}, {"scopes": ["b"]}, True),
        ({"scope": ["a", "b"]}, {"scopes": ["b"]}, True),
        ({"scope": "a", "scp": ["b"]}, {"scopes": ["b"]}, True),
        ({"scope": "", "scp": []}, {"scopes": ["b"]}, False),
        ({"scope": {"b": 1}}, {"scopes": ["b"]}, False),
        ({"client_id": None, "azp": "app"}, {"clients": ["app"]}, True),
        ({"client_id": None, "cid": "app"}, {"clients": ["app"]}, True),
        ({"client_id": None, "appid": "app"}, {"clients": ["app"]}, True),
        ({"client_id": "", "azp": "app"}, {"clients": ["app"]}, False),
        ({"client_id": None, "sub": "app"}, {"clients": ["app"]}, False),
        ({"aud": "x", "client_id": "app"}, {"audiences": ["x"], "clients": ["other"]}, False),
        ({"aud": "y", "client_id": "app"}, {"audiences": ["x"], "clients": ["app"]}, False),
    ],
)
async def test_audience_client_and_scope(
    issuer: TokenIssuer, verifier: OidcVerifier,
    claims: dict[str, Any], asked: dict[str, Any], taken: bool,
) -> None:  # fmt: skip
    token = issuer.token(**{"scope": None, "client_id": None, **claims})
    assert await is_taken(verifier, token, rules(issuer, **asked)) is taken


@pytest.mark.parametrize(
    ("is_list", "operator", "wanted", "value", "holds"),
    [
        (False, "EQUALS", ["a"], "a", True),
        (False, "EQUALS", ["a"], "A", False),
        (False, "EQUALS", ["a"], "ab", False),
        (False, "EQUALS", ["a"], ["a"], False),
        (False, "EQUALS", ["a"], None, False),
        (False, "EQUALS", ["1"], 1, False),
        (False, "EQUALS", ["True"], True, False),
        (False, "CONTAINS", ["a"], "bab", False),
        (False, "CONTAINS_ANY", ["a", "b"], "b", True),
        (False, "EQUALS", ["a", "b"], "a", False),
        (False, "EQUALS", [], "a", False),
        (True, "CONTAINS", ["a"], ["b", "a"], True),
        (True, "CONTAINS", ["a"], ["ab"], False),
        (True, "CONTAINS", ["a"], "a", False),
        (True, "CONTAINS", ["a"], [], False),
        (True, "CONTAINS", ["a"], ["a", 1], False),
        (True, "CONTAINS", ["a"], {"a": 1}, False),
        (True, "CONTAINS_ANY", ["a", "b"], ["c", "b"], True),
        (True, "CONTAINS_ANY", ["a", "b"], ["c"], False),
        (True, "EQUALS", ["a"], ["a"], True),
        (True, "EQUALS", ["a"], ["a", "b"], False),
        (True, "CONTAINS", [], ["a"], False),
    ],
)
async def test_claims_of_ones_own(
    issuer: TokenIssuer, verifier: OidcVerifier,
    is_list: bool, operator: Operator, wanted: list[str], value: Any, holds: bool,
) -> None:  # fmt: skip
    rule = ClaimRule(name="custom:x", is_list=is_list, operator=operator, wanted=tuple(wanted))
    token = issuer.token(**{"custom:x": value})
    assert await is_taken(verifier, token, rules(issuer, claims=(rule,))) is holds


async def test_all_claims_of_ones_own_must_hold(
    issuer: TokenIssuer, verifier: OidcVerifier
) -> None:
    holds = ClaimRule(name="sub", wanted=("ada",))
    not_so = ClaimRule(name="sub", wanted=("bob",))
    assert await is_taken(verifier, issuer.token(), rules(issuer, claims=(holds, holds)))
    assert not await is_taken(verifier, issuer.token(), rules(issuer, claims=(holds, not_so)))


@pytest.mark.parametrize(
    ("claim", "seconds", "taken"),
    [
        ("exp", -SKEW_SECONDS + 5, True), ("exp", -SKEW_SECONDS - 1, False), ("exp", 1, True),
        ("nbf", SKEW_SECONDS - 5, True), ("nbf", SKEW_SECONDS + 5, False),
        ("iat", SKEW_SECONDS - 5, True), ("iat", SKEW_SECONDS + 5, False), ("iat", -1e6, True),
    ],
)  # fmt: skip
async def test_clocks_may_differ_by_half_a_minute(
    issuer: TokenIssuer, verifier: OidcVerifier, claim: str, seconds: float, taken: bool
) -> None:
    token = issuer.token(**{claim: time.time() + seconds})
    assert await is_taken(verifier, token, rules(issuer)) is taken


async def test_a_token_that_was_verified_still_expires(
    issuer: TokenIssuer, verifier: OidcVerifier, now: Now
) -> None:
    token = issuer.token()
    assert await is_taken(verifier, token, rules(issuer))
    now.ahead = 290 + SKEW_SECONDS
    assert await is_taken(verifier, token, rules(issuer))
    now.ahead = 301 + SKEW_SECONDS
    assert not await is_taken(verifier, token, rules(issuer))
    assert not verifier._verified


async def test_a_token_that_was_verified_is_held_to_the_rules_of_each_resource(
    issuer: TokenIssuer, verifier: OidcVerifier
) -> None:
    token = issuer.token()
    mine, others = ("https://api.example.test",), ("https://other.example.test",)
    for _ in range(2):
        assert await is_taken(verifier, token, rules(issuer, audiences=mine))
        assert not await is_taken(verifier, token, rules(issuer, audiences=others))


async def test_a_token_that_was_verified_is_nothing_to_another_provider(
    issuer: TokenIssuer, verifier: OidcVerifier
) -> None:
    with TokenIssuer() as other:
        other.rotate("RS256", "another")
        token = issuer.token()
        assert await is_taken(verifier, token, rules(issuer))
        assert not await is_taken(verifier, token, rules(other))
        impostor = other.token(iss=issuer.issuer)
        assert not await is_taken(verifier, impostor, rules(other))
        assert not await is_taken(verifier, impostor, rules(issuer))


async def test_a_token_that_differs_in_one_letter_is_another_token(
    issuer: TokenIssuer, verifier: OidcVerifier
) -> None:
    token = issuer.token()
    assert await is_taken(verifier, token, rules(issuer))
    for place in (3, len(token) // 2, len(token) - 3):
        letter = "A" if token[place] != "A" else "B"
        changed = token[:place] + letter + token[place + 1 :]
        assert not await is_taken(verifier, changed, rules(issuer))


async def test_what_a_caller_does_to_its_claims_harms_nobody(
    issuer: TokenIssuer, verifier: OidcVerifier
) -> None:
    token = issuer.token()
    first = await verifier.verify(token, rules(issuer))
    first.claims["sub"] = "root"
    first.claims["groups"].append("admin")
    second = await verifier.verify(token, rules(issuer))
    assert (second.subject, second.claims["sub"]) == ("ada", "ada")
    assert second.claims["groups"] == ["staff"]


async def test_only_so_many_tokens_and_providers_are_remembered(
    issuer: TokenIssuer, verifier: OidcVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier_module, "_VERIFIED_MAX", 10)
    monkeypatch.setattr(verifier_module, "_PROVIDERS_MAX", 3)
    for n in range(30):
        assert await is_taken(verifier, issuer.token(jti=str(n)), rules(issuer))
    assert len(verifier._verified) == 10
    for n in range(10):
        path = f"/realms/{n}/.well-known/openid-configuration"
        realm = f"{issuer.issuer}/realms/{n}"
        issuer.documents[path] = {"issuer": realm, "jwks_uri": f"{issuer.issuer}/jwks"}
        asked = TokenRules(discovery_url=issuer.issuer + path)
        assert await is_taken(verifier, issuer.token(iss=realm), asked)
    assert len(verifier._providers) == 3


async def test_a_token_seen_before_costs_far_less_than_150_microseconds(
    issuer: TokenIssuer, verifier: OidcVerifier
) -> None:
    token, asked = issuer.token(), rules(issuer, audiences=["https://api.example.test"])
    await verifier.verify(token, asked)
    gc.collect()
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(200):
            await verifier.verify(token, asked)
        best = min(best, (time.process_time() - began) / 200)
    assert best < 75e-6
