"""A proposed statement against what it may be: one policy, of this gateway, that fits its tools."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from freehold.ports.policies import PolicyEngine, PolicyRefused, Rule, Uid
from freehold.ports.reasoning import Finding as Proven
from freehold.ports.reasoning import Property, Reasoning
from freehold.ports.statements import Cleaned, Cleaning
from freehold.services.policy.model import POLICY_BYTES_MAX
from freehold.services.policy.schema import ACTION, CALL_TOOL, GATEWAY, MCP

_REASON_CHARACTERS_MAX = 200
_ANALYSIS_SECONDS_MAX = 20.0
_RULE_ID = "generated"
_GROUPS = frozenset({MCP, CALL_TOOL})
"""The actions that mean the same at every gateway."""

UNPROVEN: Literal[""] = ""
"""Nothing is wrong with it that can be told, and not all can: the API has no word for this."""
FindingType = Literal[
    "VALID", "INVALID", "NOT_TRANSLATABLE", "ALLOW_ALL", "ALLOW_NONE", "DENY_ALL", "DENY_NONE", ""
]
_SAID: Mapping[Property, tuple[FindingType, str]] = {
    Property.ALLOW_ALL: ("ALLOW_ALL", "it permits every call of the tools that it names"),
    Property.ALLOW_NONE: ("ALLOW_NONE", "no call is ever permitted by it"),
    Property.DENY_ALL: ("DENY_ALL", "it forbids every call of the tools that it names"),
    Property.DENY_NONE: ("DENY_NONE", "no call is ever forbidden by it"),
    Property.INVALID: ("INVALID", "it does not fit the gateway's schema"),
}
_ACTIONS_SHOWN = 5


class Finding(msgspec.Struct, frozen=True):
    type: FindingType
    description: str


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """`statement` is as a policy may have it."""

    statement: str
    findings: Sequence[Finding]


class Checking:
    def __init__(self, *, engine: PolicyEngine, cleaning: Cleaning, reasoning: Reasoning) -> None:
        self._engine, self._cleaning, self._reasoning = engine, cleaning, reasoning

    async def check(self, text: str, gateway_arn: str, schema: Mapping[str, Any]) -> Checked:
        """Raises PolicyRefused with what its author has to change; Unavailable without a solver."""
        if len(text.encode("utf-8", "surrogatepass")) > POLICY_BYTES_MAX:
            raise _too_long()
        cleaned = self._cleaning.clean(text)
        _check_scope(cleaned, gateway_arn)
        statement = _with_reason(cleaned)
        if len(statement.encode()) > POLICY_BYTES_MAX:
            raise _too_long()
        rule = Rule(id=_RULE_ID, statement=statement)
        # Cedar parses a schema of up to 400 KB: others are served meanwhile.
        compiled = await asyncio.to_thread(self._engine.compile_rules, [rule], schema)
        if problems := compiled.problems.get(_RULE_ID):
            raise PolicyRefused(problems)
        analysis = await self._reasoning.analyse([rule], schema, seconds_max=_ANALYSIS_SECONDS_MAX)
        own = [each for each in analysis.findings if each.policy == _RULE_ID]
        return Checked(statement=statement, findings=_findings(cleaned, own))


def _too_long() -> PolicyRefused:
    return PolicyRefused([f"a policy has at most {POLICY_BYTES_MAX} bytes"])


def _check_scope(cleaned: Cleaned, gateway_arn: str) -> None:
    """Also of what its conditions name: there it could speak of another gateway unseen."""
    own = Uid(GATEWAY, gateway_arn)
    others = sorted(uid.id for uid in cleaned.named if uid.type == GATEWAY and uid != own)
    if others:
        raise PolicyRefused(
            [f"it names another gateway, {others[0]!r}; it may only name {gateway_arn!r}"]
        )
    scope = cleaned.statement
    tools = sorted(uid.id for uid in cleaned.named if uid.type == ACTION and uid.id not in _GROUPS)
    if tools and not (scope.exact and scope.resource == own):
        raise PolicyRefused(
            [
                f"it names the action {tools[0]!r}, so its scope must name the gateway: "
                f'resource == {GATEWAY}::"{gateway_arn}"'
            ]
        )


def _with_reason(cleaned: Cleaned) -> str:
    """Of annotations a caller's refusal shows `@reason`; what else a model writes there has no
    place in a policy. One that is long, or not plain text, is left out."""
    reason = cleaned.annotations.get("reason", "").strip()
    if not reason or len(reason) > _REASON_CHARACTERS_MAX or not reason.isprintable():
        return cleaned.text
    quoted = reason.replace("\\", "\\\\").replace('"', '\\"')
    return f'@reason("{quoted}")\n{cleaned.text}'


def _findings(cleaned: Cleaned, proven: Sequence[Proven]) -> Sequence[Finding]:
    """What could not be proven is not VALID: a permit of everything may be hidden in it."""
    found = [Finding(*_described(each)) for each in proven if each.property in _SAID]
    if found:
        return found
    type: FindingType = "VALID"
    said = "It can be read, fits the gateway's schema, and neither covers all calls nor none."
    if any(each.property in (Property.UNSUPPORTED, Property.UNDECIDED) for each in proven):
        type, said = UNPROVEN, "It can be read and fits the gateway's schema."
    remarks = filter(None, [_reach(cleaned), *(_remark(each) for each in proven)])
    return [Finding(type, " ".join([said, *remarks]))]


def _described(proven: Proven) -> tuple[FindingType, str]:
    type, otherwise = _SAID[proven.property]
    said = proven.description or otherwise
    if not proven.actions:
        return type, said
    shown = ", ".join(proven.actions[:_ACTIONS_SHOWN])
    more = len(proven.actions) - _ACTIONS_SHOWN
    return type, f"{said} ({shown}{f' and {more} more' if more > 0 else ''})"


def _reach(cleaned: Cleaned) -> str:
    return (
        ""
        if cleaned.statement.resource
        else "It is about every gateway that uses the policy engine."
    )


def _remark(proven: Proven) -> str:
    why = proven.description.rstrip(".")
    if proven.property is Property.MAY_ERROR:
        return f"It may fail for some calls: {why}."
    if proven.property in (Property.UNSUPPORTED, Property.UNDECIDED):
        return f"Whether it covers all calls or none could not be proven: {why}."
    return ""
