"""Roles from what a provider says of a person."""

import re
from typing import Any

import msgspec

from freehold.kernel.roles import PERSON_ROLES

_RULE = re.compile(r"(?P<value>.+)=(?P<role>[a-z]+)(?:@(?P<tenant>[0-9]{12}))?")


class RuleBroken(ValueError):
    """A rule that cannot be read; the message says which."""


class RoleRule(msgspec.Struct, frozen=True):
    """Whoever's claim holds `value` ("*": everybody who signs in) has `role` in `tenant`."""

    value: str
    role: str
    tenant: str


def parse_rules(text: str, *, tenant: str) -> tuple[RoleRule, ...]:
    """`value=role` or `value=role@account`, separated by commas. Raises RuleBroken."""
    rules = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _RULE.fullmatch(part)
        if found is None or found["role"] not in PERSON_ROLES:
            raise RuleBroken(
                f"{part!r}: expected VALUE=ROLE or VALUE=ROLE@ACCOUNT, a role of "
                f"{', '.join(PERSON_ROLES)}"
            )
        rules.append(RoleRule(found["value"].strip(), found["role"], found["tenant"] or tenant))
    return tuple(rules)


def roles_of(
    rules: tuple[RoleRule, ...], claims: dict[str, Any], claim: str
) -> dict[str, frozenset[str]]:
    """Roles by tenant. `claim` may be a path with dots ("realm_access.roles"); a whole name with
    dots in it ("https://example.com/roles") comes first."""
    values = set(_texts(_found(claims, claim)))
    found: dict[str, set[str]] = {}
    for rule in rules:
        if rule.value == "*" or rule.value in values:
            found.setdefault(rule.tenant, set()).add(rule.role)
    return {tenant: frozenset(roles) for tenant, roles in found.items()}


def has_claim(claims: dict[str, Any], claim: str) -> bool:
    return _found(claims, claim) is not None


def _found(claims: dict[str, Any], claim: str) -> Any:
    if claim in claims:
        return claims[claim]
    at: Any = claims
    for part in claim.split("."):
        at = at.get(part) if isinstance(at, dict) else None
    return at


def _texts(value: Any) -> list[str]:
    """One text is one value: it is never split, so that no name is read as two."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [each for each in value if isinstance(each, str)]
    return []
