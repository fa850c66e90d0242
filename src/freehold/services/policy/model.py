"""Policy engines, their policies and generations; what is enforced of them, and what is recorded.

Source of the names: the API model of AgentCore's control plane, and its developer guide on Policy.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from freehold.kernel.options import PREFIX, Options, one_of
from freehold.ports.enforcement import Mode
from freehold.ports.policies import Rule
from freehold.ports.resources import ResourceKind

ENGINE = ResourceKind(name="policy-engine", noun="policy engine", arn_resource="policy-engine/{id}")
POLICY = ResourceKind(
    name="policy",
    noun="policy",
    arn_resource="policy-engine/{parent}/policy/{id}",
    parent_kind=ENGINE.name,
    versioned=True,
)
GENERATION = ResourceKind(
    name="policy-generation",
    noun="policy generation",
    arn_resource="policy-engine/{parent}/policy-generation/{id}",
    parent_kind=ENGINE.name,
    # No operation deletes one: what failed can be tried again under its name.
    name_unique=False,
)

CHANNEL = "freehold_policies"
"""Payload: "{tenant}/{engine_id}": something of that engine's policies changed."""

POLICY_BYTES_MAX = 10_000
ENGINE_BYTES_MAX = 200_000
"""Of all statements of an engine that can speak of one gateway."""
SCHEMA_BYTES_MAX = 400_000
POLICIES_MAX = 1000

TAG_LOOSENING = "freehold:loosening"
"""On an engine: "allow" (the default), or "refuse" what newly allows a call and was not
acknowledged."""
ENGINE_OPTIONS = Options(
    "a policy engine", {TAG_LOOSENING.removeprefix(PREFIX): one_of("allow", "refuse")}
)

EnforcementMode = Literal["ACTIVE", "LOG_ONLY"]

MODE_OPERATION = "freehold:ChangePolicyMode"
"""Authorized besides, where a gateway's engine or a policy's mode changes."""


class PolicyRow(msgspec.Struct, frozen=True, kw_only=True):
    """A policy that is in force: `statement` is what was last ACTIVE of it, while a change of it
    is still being looked at. `gateway` is the ARN of the one that it speaks of, "" for all."""

    id: str
    name: str
    version: int
    mode: EnforcementMode
    statement: str
    gateway: str = ""

    def speaks_of(self, gateway_arn: str) -> bool:
        return self.gateway in ("", gateway_arn)

    @property
    def rule(self) -> Rule:
        return Rule(id=self.id, statement=self.statement)


class EngineRow(msgspec.Struct, frozen=True, kw_only=True, eq=False, weakref=True):
    """One state of an engine: another object after each change. `version` is a digest over the
    policies' ids, versions and modes."""

    tenant: str
    id: str
    arn: str
    name: str
    version: str
    policies: Sequence[PolicyRow]


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """One decision on one call. `claims`, `arguments` and `context` are sealed where this is kept.

    `allowed` is what the ACTIVE policies said; whether the call went on follows from it and `mode`.
    `shadow_*` is what they would say together with the LOG_ONLY ones, where there are any.
    `context` is Cedar's without `input`; `arguments` are those of the call, as they came.
    `id` is the log's, a UUID that begins with `at`.
    """

    tenant: str
    id: str
    at: datetime
    request_id: str
    gateway_id: str
    gateway_arn: str
    engine_arn: str
    engine_version: str
    schema_version: str
    mode: Mode
    tool: str
    target: str
    principal: str
    principal_type: str
    principal_kind: str
    user: str | None
    claims: Mapping[str, Any]
    arguments: Mapping[str, Any]
    context: Mapping[str, Any]
    allowed: bool
    policies: Sequence[str] = ()
    errors: Sequence[str] = ()
    shadow_allowed: bool | None = None
    shadow_policies: Sequence[str] = ()
    microseconds: int = 0
