"""Action groups: which agents and users see which tools. Pure; a worker keeps what is compiled.

Who is named by a group sees its tools alone, and those of every other group that names them. Who is
named by none sees everything or nothing, as the gateway's tag `freehold:tool-access` says.
"""

import re
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import ValidationFailed
from freehold.services.gateway.model import ActionGroup

GROUPS_MAX = 100
PRINCIPALS_MAX = 100
TOOLS_MAX = 1000
_PATTERN_CHARACTERS_MAX = 2048
_WILDCARDS_MAX = 10
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_CLAIM = re.compile(r"claim:([^=]+)=(.+)", re.DOTALL)

Matches = Callable[[str], bool]
Names = Callable[[Caller], bool]


def check(group: ActionGroup) -> None:
    """Raises ValidationFailed."""
    if not _NAME.fullmatch(group.name):
        raise ValidationFailed("name: 1 to 64 letters, digits, - and _, a letter or digit first")
    if not 1 <= len(group.principals) <= PRINCIPALS_MAX:
        raise ValidationFailed(f"principals: 1 to {PRINCIPALS_MAX}")
    if len(group.tools) > TOOLS_MAX:
        raise ValidationFailed(f"tools: {TOOLS_MAX} at most")
    for pattern in (*group.principals, *group.tools):
        if not pattern or len(pattern) > _PATTERN_CHARACTERS_MAX:
            raise ValidationFailed("a pattern has 1 to 2048 characters")
        if pattern.count("*") > _WILDCARDS_MAX:
            raise ValidationFailed(f"{pattern[:80]}: {_WILDCARDS_MAX} wildcards at most")
    for principal in group.principals:
        _names(principal)


class ToolAccess(msgspec.Struct, frozen=True):
    """The groups of a gateway, compiled."""

    groups: tuple[tuple[tuple[Names, ...], tuple[Matches, ...]], ...]
    default: Literal["allow", "deny"]

    def of(self, caller: Caller) -> Matches:
        """Which tools, by the names that clients see. To be asked once for a request."""
        mine = [tools for names, tools in self.groups if any(named(caller) for named in names)]
        if not mine:
            return _all if self.default == "allow" else _none
        patterns = [pattern for tools in mine for pattern in tools]
        return lambda tool: any(matches(tool) for matches in patterns)


def compiled(groups: Iterable[ActionGroup], default: Literal["allow", "deny"]) -> ToolAccess:
    return ToolAccess(
        tuple(
            (tuple(map(_names, group.principals)), tuple(map(_like, group.tools)))
            for group in groups
        ),
        default,
    )


def allowed(
    groups: Iterable[ActionGroup],
    caller: Caller,
    tool: str,
    *,
    default: Literal["allow", "deny"] = "allow",
) -> bool:
    return compiled(groups, default).of(caller)(tool)


def _names(principal: str) -> Names:
    """Raises ValidationFailed for a pattern of no known form."""
    if principal == "*":
        return lambda caller: True
    if principal.startswith("arn:"):
        # A session's principal is its runtime's ARN and what follows: the ARN names all sessions.
        own, within = _like(principal), _like(f"{principal}/session/*")
        return lambda caller: (
            own(caller.principal)
            or (caller.kind is CallerKind.SESSION and within(caller.principal))
        )
    if principal.startswith("key:"):
        key = _like(principal.removeprefix("key:"))
        return lambda caller: caller.access_key_id is not None and key(caller.access_key_id)
    if principal.startswith("user:"):
        user = _like(principal.removeprefix("user:"))
        return lambda caller: caller.user is not None and user(caller.user)
    if claim := _CLAIM.fullmatch(principal):
        name, value = claim[1], _like(claim[2])
        return lambda caller: any(map(value, _claimed(caller, name)))
    raise ValidationFailed(
        f"principals: {principal[:80]!r} is none of arn:..., key:ACCESS_KEY_ID, user:NAME, "
        "claim:NAME=VALUE and *"
    )


def _claimed(caller: Caller, name: str) -> list[str]:
    """Values of a verified token's claim. A space-separated list is one value and its parts."""
    value = caller.claims.get(name)
    values = value if isinstance(value, list) else [value]
    found: list[str] = []
    for each in values:
        if isinstance(each, bool):
            found.append("true" if each else "false")
        elif isinstance(each, str):
            found += [each, *(each.split() if name in ("scope", "scp") else ())]
        elif isinstance(each, int | float):
            found.append(str(each))
    return found


def _like(pattern: str) -> Matches:
    """`*` stands for anything."""
    if pattern == "*":
        return _all
    if "*" not in pattern:
        return pattern.__eq__
    first, *middle, last = pattern.split("*")

    def matches(text: str) -> bool:
        end = len(text) - len(last)
        if not text.startswith(first) or not text.endswith(last) or end < len(first):
            return False
        at = len(first)
        for part in middle:
            found = text.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True

    return matches


def _all(_: str) -> bool:
    return True


def _none(_: str) -> bool:
    return False
