"""Tokens that others signed: JWTs of an OpenID provider, verified."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec

from freehold.kernel.errors import Unauthorized, ValidationFailed


class TokenRefused(Unauthorized):
    """401. The message says what is wrong with the token, and nothing of what is in it."""


class ScopesMissing(TokenRefused):
    """Nothing else is wrong with the token: its owner may ask for another with more scopes."""


class ClaimRule(msgspec.Struct, frozen=True, kw_only=True):
    """AgentCore's CustomClaimValidationType. `wanted`: one string for EQUALS and CONTAINS."""

    name: str
    is_list: bool = False
    operator: Literal["EQUALS", "CONTAINS", "CONTAINS_ANY"] = "EQUALS"
    wanted: tuple[str, ...]


class TokenRules(msgspec.Struct, frozen=True, kw_only=True):
    """AgentCore's CustomJWTAuthorizerConfiguration, without its networking. Empty: not asked for.

    `audiences`: one of them is in `aud`. `clients`: `client_id`, or else `azp` or `cid`.
    `scopes`: one of them is in `scope` or `scp`.
    """

    discovery_url: str
    audiences: frozenset[str] = frozenset()
    clients: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    claims: tuple[ClaimRule, ...] = ()


class VerifiedToken(msgspec.Struct, frozen=True, kw_only=True):
    """`expires_at` in Unix seconds. `claims` is all of the token's content."""

    issuer: str
    subject: str
    expires_at: float
    claims: dict[str, Any]


class TokenVerifier(Protocol):
    async def verify(self, token: str, rules: TokenRules) -> VerifiedToken:
        """Raises TokenRefused; Unavailable where the provider's keys cannot be had just now."""


_MEMBER = "authorizerConfiguration"
_KIND = "customJWTAuthorizer"
_NOT_YET = {
    "privateEndpoint": "private endpoints; the platform reaches what its own network does",
    "privateEndpointOverrides": "private endpoints; the platform reaches what its own network does",
    "certificateConfigurations": "certificates; add them to what the platform's machine trusts",
    "allowedWorkloadConfiguration": "workloads in place of users",
}
_ONE_OF = ("allowedAudience", "allowedClients", "allowedScopes", "customClaims")


def check_authorizer(configuration: Mapping[str, Any], *, any_token: bool = False) -> None:
    """What the model cannot say of an authorizerConfiguration. Raises ValidationFailed.

    `any_token`: every token of the provider may do; who is let in is decided elsewhere."""
    rules = configuration.get(_KIND)
    if not rules:
        raise ValidationFailed(f"{_MEMBER}: expected {_KIND}")
    for member, what in _NOT_YET.items():
        if rules.get(member):
            raise ValidationFailed(f"{_MEMBER}: {member} is not available in Freehold ({what})")
    if not any_token and not any(rules.get(member) for member in _ONE_OF):
        raise ValidationFailed(
            f"{_MEMBER}: without one of {', '.join(_ONE_OF)} every token of the provider would do"
        )
    for claim in rules.get("customClaims", ()):
        _check_claim(claim)


def _check_claim(claim: dict[str, Any]) -> None:
    name, kind = claim["inboundTokenClaimName"], claim["inboundTokenClaimValueType"]
    match = claim["authorizingClaimMatchValue"]
    operator, value = match["claimMatchOperator"], match["claimMatchValue"]
    if kind == "STRING" and operator != "EQUALS":
        raise ValidationFailed(
            f"{_MEMBER}: customClaims: {name} is a STRING, which takes EQUALS alone"
        )
    if kind == "STRING_ARRAY" and operator == "EQUALS":
        raise ValidationFailed(
            f"{_MEMBER}: customClaims: {name} is a STRING_ARRAY, which takes CONTAINS or "
            "CONTAINS_ANY"
        )
    wanted = "matchValueStringList" if operator == "CONTAINS_ANY" else "matchValueString"
    if wanted not in value:
        raise ValidationFailed(f"{_MEMBER}: customClaims: {name} with {operator} takes a {wanted}")


def token_rules(document: Mapping[str, Any]) -> TokenRules | None:
    """Of a resource's document. None: it takes signatures."""
    configuration = document.get(_MEMBER)
    if not configuration:
        return None
    rules = configuration[_KIND]
    return TokenRules(
        discovery_url=rules["discoveryUrl"],
        audiences=frozenset(rules.get("allowedAudience", ())),
        clients=frozenset(rules.get("allowedClients", ())),
        scopes=frozenset(rules.get("allowedScopes", ())),
        claims=tuple(_claim_rule(claim) for claim in rules.get("customClaims", ())),
    )


def _claim_rule(claim: dict[str, Any]) -> ClaimRule:
    match = claim["authorizingClaimMatchValue"]
    value = match["claimMatchValue"]
    wanted = value.get("matchValueStringList") or [value["matchValueString"]]
    return ClaimRule(
        name=claim["inboundTokenClaimName"],
        is_list=claim["inboundTokenClaimValueType"] == "STRING_ARRAY",
        operator=match["claimMatchOperator"],
        wanted=tuple(wanted),
    )
