"""A statement, before it is anybody's policy: what can be told of it at once, in plain words."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import msgspec

from freehold.kernel.errors import ValidationFailed
from freehold.ports.enforcement import GovernedGateway, GovernedGateways
from freehold.ports.policies import PolicyEngine, PolicyRefused, Rule
from freehold.ports.statements import Statement, Statements
from freehold.services.policy.model import POLICY_BYTES_MAX, EngineRow, PolicyRow
from freehold.services.policy.proving import schema_of
from freehold.services.policy.schema import ACTION, CALL_TOOL, GATEWAY, MCP

_OF_EVERY_GATEWAY = frozenset({MCP, CALL_TOOL})
_PROBLEMS_SHOWN = 5
_READ_MAX = 2000


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """`gateway` is the ARN of the one that it speaks of, "" for all."""

    text: str
    gateway: str
    statement: Statement

    @property
    def size_bytes(self) -> int:
        return len(self.text.encode())


class StatementChecks:
    def __init__(
        self,
        *,
        statements: Statements,
        engine: PolicyEngine,
        gateways: GovernedGateways,
    ) -> None:
        self._read, self._engine = lru_cache(_READ_MAX)(statements.read), engine
        self._gateways = gateways

    def read(self, text: str) -> Checked:
        """Its shape alone. Raises ValidationFailed."""
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise ValidationFailed("definition: the statement is no Unicode text") from None
        if size > POLICY_BYTES_MAX:
            raise ValidationFailed(
                f"definition: a statement has {POLICY_BYTES_MAX} bytes at most, and this one {size}"
            )
        try:
            statement = self._read(text)
        except PolicyRefused as refused:
            raise _not_valid("the statement cannot be read", refused.problems) from None
        return Checked(text=text, gateway=_gateway(statement), statement=statement)

    def effect(self, text: str) -> Literal["permit", "forbid"]:
        """Of a statement that was read once already."""
        return self._read(text).effect

    def names_no_tool(self, text: str) -> bool:
        return not _tools(self._read(text))

    async def check(self, tenant: str, engine_arn: str, text: str) -> Checked:
        """That it fits each gateway that it speaks of, as that is now. Raises ValidationFailed."""
        checked = self.read(text)
        for gateway in await self.concerned(tenant, engine_arn, checked.gateway):
            if not gateway.tools and not _tools(checked.statement):
                continue  # a gateway that has none yet: nothing can be wrong about its tools
            rule = Rule(id="policy", statement=text)
            # Cedar parses a schema of up to 400 KB: others are served meanwhile.
            schema = schema_of(gateway).document
            problems = await asyncio.to_thread(self._problems, rule, schema)
            if problems:
                raise _not_valid(
                    f"the policy does not fit the tools of gateway {gateway.id}", problems
                )
        return checked

    async def concerned(
        self, tenant: str, engine_arn: str, gateway_arn: str
    ) -> Sequence[GovernedGateway]:
        """The one that a policy names, be it this engine's or not yet; or all that use the
        engine."""
        if not gateway_arn:
            return await self._gateways.using(tenant, engine_arn)
        gateway = await self._gateways.get(tenant, gateway_arn)
        if gateway is None:
            raise ValidationFailed(f"resource: there is no such gateway: {gateway_arn}")
        return [gateway]

    def _problems(self, rule: Rule, schema: Mapping[str, Any]) -> Sequence[str]:
        try:
            compiled = self._engine.compile_rules([rule], schema)
        except PolicyRefused as refused:
            return refused.problems
        return tuple(compiled.problems.get(rule.id, ()))


def rules_of(
    row: EngineRow, gateway_arn: str, *, change: Mapping[str, PolicyRow | None] | None = None
) -> list[Rule]:
    """What decides for a gateway, in the order of the ids: ACTIVE, and speaks of it. `change` puts
    policies in the place of those in force, or takes them out."""
    policies = {each.id: each for each in row.policies}
    for id, policy in (change or {}).items():
        policies.pop(id, None)
        if policy is not None:
            policies[id] = policy
    return [
        policies[id].rule
        for id in sorted(policies)
        if policies[id].mode == "ACTIVE" and policies[id].speaks_of(gateway_arn)
    ]


def _gateway(statement: Statement) -> str:
    resource, type = statement.resource, statement.resource_type
    if type not in ("", GATEWAY) or (resource is not None and resource.type != GATEWAY):
        raise ValidationFailed(
            f"resource: expected one of the type {GATEWAY}, and it is {type or resource}"
        )
    tools = _tools(statement)
    if tools and not (resource and statement.exact):
        raise ValidationFailed(
            f"action: {tools[0]} is of one gateway, and the policy does not say which: write "
            f'resource == {GATEWAY}::"arn:..."'
        )
    return resource.id if resource else ""


def _tools(statement: Statement) -> list[str]:
    """And groups of them: what is of one gateway."""
    return [
        action.id
        for action in statement.actions
        if action.type != ACTION or action.id not in _OF_EVERY_GATEWAY
    ]


def _not_valid(what: str, problems: Sequence[str]) -> ValidationFailed:
    shown = [problem[:1000] for problem in problems[:_PROBLEMS_SHOWN]]
    if more := len(problems) - len(shown):
        shown.append(f"and {more} more")
    return ValidationFailed(f"definition: {what}: {'; '.join(shown)}")
