"""Decides calls of tools by the policies of the gateway's engine, and records each decision."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from freehold.kernel import tracing
from freehold.kernel.caller import Caller
from freehold.ports.enforcement import GovernedCall, GovernedGateway, Refusal
from freehold.ports.policies import (
    CompiledRules,
    Decision,
    Effect,
    Entity,
    PolicyEngine,
    Uid,
)
from freehold.ports.statements import Statements
from freehold.services.policy.compiled import SHOWN_MAX, Compiling, State, Unusable
from freehold.services.policy.decision_lines import new_id
from freehold.services.policy.model import Decided
from freehold.services.policy.ports import Decisions, Engines
from freehold.services.policy.requests import (
    Asked,
    SchemaMismatch,
    asked,
    caller_entity,
    context_of,
    gateway_entity,
)

NAMED_MAX = 10
"""Policies that a refusal names."""
REASON_LENGTH_MAX = 500

NOT_PERMITTED = "Refused: no policy permits this call."
NOT_USABLE = "Refused: the gateway's policy engine is not usable."
NOT_DECIDED = "Refused: the policies could not decide this call."

_QUOTED = re.compile(r'`[^`]*`|"(?:[^"\\]|\\.)*"')
_FAILED_POLICY = re.compile(r"policy `([^`]*)`")


class PolicyEnforcement:
    """Implements `ports.enforcement.Enforcement`."""

    def __init__(
        self,
        engines: Engines,
        engine: PolicyEngine,
        statements: Statements,
        decisions: Decisions,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engines, self._decisions, self._now = engines, decisions, now
        self._compiling = Compiling(engine, statements)

    async def decide(self, call: GovernedCall) -> Refusal | None:
        gateway = call.gateway
        if not gateway.engine_arn:
            return None
        at = self._now()
        with tracing.span("policy", attributes=_told_before(gateway)) as span:
            outcome = await self._outcome(call, at)
            _tell(span, outcome)
            decided = _decided(call, at, outcome)
            await self._decisions.record(decided)
            span.attributes["freehold.decision.id"] = decided.id
        if outcome.decision.allowed or gateway.mode != "ENFORCE":
            return None
        return Refusal(text=_refusal(outcome))

    async def shown(self, gateway: GovernedGateway, caller: Caller) -> Callable[[str], bool]:
        if not gateway.engine_arn or gateway.mode != "ENFORCE":
            return _everything
        try:
            state = await self._state(gateway)
        except Unusable:
            return _nothing
        possible = _possible(state, gateway, caller_entity(caller))
        return lambda name: name in possible or name not in state.known

    async def _state(self, gateway: GovernedGateway) -> State:
        row = await self._engines.load(gateway.tenant, gateway.engine_arn)
        if row is None:
            raise Unusable("there is no such policy engine")
        return await self._compiling.state(gateway, row)

    async def _outcome(self, call: GovernedCall, at: datetime) -> "_Outcome":
        """Never raises but Unavailable: what goes wrong is a decision against the call."""
        principal = caller_entity(call.caller)
        try:
            state = await self._state(call.gateway)
            compiled = await self._compiling.for_tool(call.gateway, state, call.tool)
        except Unusable as error:
            return _Outcome(
                principal=principal,
                decision=_against(error.why),
                engine_version=error.engine_version,
                text=NOT_USABLE,
            )
        started = time.perf_counter_ns()
        outcome = _Outcome(
            principal=principal,
            decision=_against(""),
            engine_version=state.row.version,
            schema_version=compiled.schema.version,
        )
        try:
            context = context_of(call.caller, at, source=call.source, session=call.session)
            outcome = msgspec.structs.replace(outcome, context=context)
            ask = asked(
                compiled.schema, call.tool.name, principal=principal,
                resource=gateway_entity(call.gateway), arguments=call.arguments, context=context,
            )  # fmt: skip
        except SchemaMismatch as error:
            return msgspec.structs.replace(outcome, decision=_against(str(error)))
        decision = _all_of(compiled.active, ask)
        took = (time.perf_counter_ns() - started) // 1000
        return msgspec.structs.replace(
            outcome,
            decision=decision,
            shadow=_all_of(compiled.shadow, ask) if compiled.shadow else None,
            unfit=_unfit(compiled.active, decision),
            reasons=compiled.active.reasons,
            microseconds=took,
        )


class _Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """`text` is what a client is told, where that does not follow from the decision. `unfit` says
    of policies that do not fit the schema why that may have decided."""

    principal: Entity
    decision: Decision
    shadow: Decision | None = None
    engine_version: str = ""
    schema_version: str = ""
    context: Mapping[str, Any] = {}
    reasons: Mapping[str, str] = {}
    unfit: Sequence[str] = ()
    microseconds: int = 0
    text: str = ""


def _told_before(gateway: GovernedGateway) -> dict[str, Any]:
    return {
        "freehold.policy.mode": gateway.mode,
        "freehold.policy.engine": gateway.engine_arn.rpartition("/")[2],
        "freehold.gateway.id": gateway.id,
    }


def _tell(span: tracing.Span, outcome: "_Outcome") -> None:
    """Which policies decided; never what they were asked with."""
    decision = outcome.decision
    said = "allow" if decision.allowed else "deny"
    span.name = f"policy {said}"
    span.attributes["freehold.policy.decision"] = said
    span.attributes["freehold.policy.ids"] = list(decision.policies)
    if outcome.engine_version:
        span.attributes["freehold.policy.engine_version"] = outcome.engine_version
    if outcome.shadow is not None:
        span.attributes["freehold.policy.shadow_allowed"] = outcome.shadow.allowed


def _everything(name: str) -> bool:
    return True


def _nothing(name: str) -> bool:
    return False


def _against(why: str) -> Decision:
    return Decision(Effect.SILENT, (), (why,))


def _all_of(rules: CompiledRules, ask: Asked) -> Decision:
    """Allowed where each request is; else the first that is not says why."""
    decisions = [rules.decide(request, ask.entities) for request in ask.requests]
    for decision in decisions:
        if not decision.allowed:
            return decision
    policies = dict.fromkeys(id for each in decisions for id in each.policies)
    errors = dict.fromkeys(error for each in decisions for error in each.errors)
    return Decision(Effect.ALLOW, tuple(policies), tuple(errors))


def _unfit(rules: CompiledRules, decision: Decision) -> Sequence[str]:
    """Of forbids those that decided; where nothing permits, whatever might have."""
    if decision.allowed or not rules.problems:
        return ()
    ids = decision.policies if decision.effect is Effect.FORBID else tuple(rules.problems)
    found = [id for id in ids if id in rules.problems][:NAMED_MAX]
    return [f"policy {id} does not fit the schema: {rules.problems[id][0]}" for id in found]


def _possible(state: State, gateway: GovernedGateway, principal: Entity) -> frozenset[str]:
    key = msgspec.json.encode(principal)
    found = state.shown.get(key)
    if found is None:
        actions: Sequence[Uid] = state.compiled.schema.actions()
        could = state.compiled.active.possible(principal, gateway_entity(gateway), actions)
        found = frozenset(uid.id for uid, may in zip(actions, could, strict=True) if may)
        state.shown[key] = found
        if len(state.shown) > SHOWN_MAX:
            state.shown.popitem(last=False)
    else:
        state.shown.move_to_end(key)
    return found


def _refusal(outcome: _Outcome) -> str:
    """The policies' ids and reasons, and nothing else."""
    if outcome.text:
        return outcome.text
    decision = outcome.decision
    if decision.effect is Effect.SILENT:
        return NOT_PERMITTED
    if not decision.policies:
        return NOT_DECIDED
    named = [_named(id, outcome.reasons.get(id, "")) for id in decision.policies[:NAMED_MAX]]
    more = len(decision.policies) - len(named)
    return "\n".join([*named, *([f"and {more} more"] if more else [])])


def _named(id: str, reason: str) -> str:
    said = f": {reason[:REASON_LENGTH_MAX]}" if reason else "."
    return f"Refused by policy {id}{said}"


def _decided(call: GovernedCall, at: datetime, outcome: _Outcome) -> Decided:
    gateway, caller, decision, shadow = (
        call.gateway, call.caller, outcome.decision, outcome.shadow,
    )  # fmt: skip
    return Decided(
        tenant=gateway.tenant,
        id=str(new_id(at)),
        at=at,
        request_id=call.request_id,
        gateway_id=gateway.id,
        gateway_arn=gateway.arn,
        engine_arn=gateway.engine_arn,
        engine_version=outcome.engine_version,
        schema_version=outcome.schema_version,
        mode=gateway.mode,
        tool=call.tool.name,
        target=call.tool.target,
        principal=outcome.principal.uid.id,
        principal_type=outcome.principal.uid.type,
        principal_kind=caller.kind,
        user=caller.user,
        claims=caller.claims,
        arguments=call.arguments,
        context=outcome.context,
        allowed=decision.allowed,
        policies=decision.policies,
        errors=[*map(_without_values, decision.errors), *outcome.unfit],
        shadow_allowed=shadow.allowed if shadow else None,
        shadow_policies=shadow.policies if shadow else (),
        microseconds=outcome.microseconds,
    )


def _without_values(error: str) -> str:
    """The engine quotes values of the call in its errors; those are kept sealed, errors are not."""
    failed = _FAILED_POLICY.search(error)
    said = _QUOTED.sub("...", error)
    return f"policy {failed[1]}: {said}" if failed else said
