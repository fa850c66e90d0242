"""What a verified token says, held against what a resource asks for."""

from collections.abc import Callable
from typing import Any

from freehold.ports.tokens import ClaimRule, ScopesMissing, TokenRefused, TokenRules

SKEW_SECONDS = 30
"""How far the clocks of others may be off."""

_FAR_FUTURE = 2.0**53
# RFC 8693 and 9068; OpenID Connect; Okta; Entra ID version 1. The first there counts.
_CLIENT_CLAIMS = ("client_id", "azp", "cid", "appid")


def check_standing(claims: dict[str, Any], issuer: str, now: float) -> float:
    """By its issuer, and now: when it expires. Raises TokenRefused."""
    if claims.get("iss") != issuer:
        raise TokenRefused("The token's issuer is another one.")
    if not isinstance(claims.get("sub", ""), str):
        raise TokenRefused("The token's subject is not a string.")
    expires = _time(claims, "exp")
    if expires is None:
        raise TokenRefused("The token has no expiry.")
    if now >= expires + SKEW_SECONDS:
        raise TokenRefused("The token has expired.")
    for name in ("nbf", "iat"):
        begins = _time(claims, name)
        if begins is not None and begins > now + SKEW_SECONDS:
            raise TokenRefused("The token is not valid yet.")
    return expires


def check_rules(claims: dict[str, Any], rules: TokenRules) -> None:
    """Raises TokenRefused."""
    # Its form counts even where nobody asks for an audience.
    audiences = _strings(claims.get("aud", []), "audience")
    if rules.audiences and rules.audiences.isdisjoint(audiences):
        raise TokenRefused("The token is for another audience.")
    if rules.clients and _client(claims) not in rules.clients:
        raise TokenRefused("The token was issued to another client.")
    for rule in rules.claims:
        if not _holds(rule, claims.get(rule.name)):
            raise TokenRefused(f"The token's claim {rule.name} is not as it has to be.")
    if rules.scopes and rules.scopes.isdisjoint(_scopes(claims)):
        raise ScopesMissing("The token has none of the scopes that are asked for.")


def _time(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenRefused("The token has a time that is not a number.")
    if not -_FAR_FUTURE < value < _FAR_FUTURE:  # so are infinity and NaN
        raise TokenRefused("The token has a time that cannot be.")
    return float(value)


def _strings(value: Any, what: str) -> list[str]:
    found: Any = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise TokenRefused(f"The token's {what} is neither a string nor a list of strings.")
    return found


def _client(claims: dict[str, Any]) -> str | None:
    value = next((claims[name] for name in _CLIENT_CLAIMS if name in claims), None)
    return value if isinstance(value, str) else None


def _scopes(claims: dict[str, Any]) -> set[str]:
    """`scope` is one string (RFC 8693); `scp` a list (Okta) or one string (Entra ID)."""
    found: set[str] = set()
    for name in ("scope", "scp"):
        value = claims.get(name, [])
        found.update(value.split(" ") if isinstance(value, str) else _strings(value, "scope"))
    return found - {""}


_OPERATORS: dict[str, Callable[[list[str], tuple[str, ...]], bool]] = {
    "EQUALS": lambda values, wanted: values == list(wanted),
    "CONTAINS": lambda values, wanted: all(each in values for each in wanted),
    "CONTAINS_ANY": lambda values, wanted: any(each in values for each in wanted),
}


def _holds(rule: ClaimRule, value: Any) -> bool:
    """A string counts as a list of one; a claim of the other type than the rule's does not hold."""
    if not rule.wanted or not isinstance(value, list if rule.is_list else str):
        return False
    values: Any = value if rule.is_list else [value]
    if not all(isinstance(each, str) for each in values):
        return False
    return _OPERATORS[rule.operator](values, rule.wanted)
