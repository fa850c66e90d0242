"""Recorded calls decided again under changed policies: which would have gone the other way.

Every call is decided with what was recorded of it (who with which claims, its arguments, session,
source and the time it came) under the gateway's schema of now. Where that cannot be, the call is
counted with the reason, and never guessed. Who may try policies can find out by trying what the
decision view hides, one question at a time: it belongs to those who oversee.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Literal

import msgspec

from freehold.kernel.errors import ValidationFailed
from freehold.ports.enforcement import GovernedGateways
from freehold.ports.policies import PolicyEngine, PolicyRefused, Rule
from freehold.ports.statements import Statements
from freehold.services.policy.decision_store import DecisionLog, Filter, Kept
from freehold.services.policy.model import POLICIES_MAX, POLICY_BYTES_MAX, EngineRow
from freehold.services.policy.native import PolicyChange
from freehold.services.policy.redaction import Redaction
from freehold.services.policy.replaying import (
    NO_GATEWAY,
    Ground,
    Outcome,
    Replayed,
    ground_of,
    replay,
)

CALLS_MAX = 1_000_000
CHANGES_LISTED_MAX = 1000
_BATCH_CALLS = 200
_GROUNDS_MAX = 32
_TRIES_AT_ONCE = 2

Change = Literal["newly allowed", "newly denied"]


class TryGiven(msgspec.Struct, frozen=True, kw_only=True, rename="camel",
               forbid_unknown_fields=True):  # fmt: skip
    """`policies` instead of all of the engine's (Cedar, several in one text), or `changes` of those
    that decide now: `policyId` is an id or a name. Whatever is named counts as ACTIVE."""

    policies: str | None = None
    changes: list[PolicyChange] = []
    since: str = "24h"
    until: str | None = None
    gateway_id: str | None = None
    calls_max: int = 100_000


class TriedCall(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`before` is as it was recorded; `nowAllowed` what the engine's own policies say of it today:
    the same as after the change where it was changed meanwhile, and not by this change."""

    id: str
    at: datetime
    request_id: str
    gateway_id: str
    tool: str
    principal: str
    principal_type: str
    user: str | None
    mode: str
    change: Change
    before: Outcome
    after: Outcome
    now_allowed: bool
    input: Any
    claims: Any
    context: Any


class TryCounts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`lookedAt` = `replayed` + all that are `untellable`, by the reason; `replayed` = `same` +
    `newlyAllowed` + `newlyDenied`."""

    looked_at: int
    replayed: int
    same: int
    newly_allowed: int
    newly_denied: int
    untellable: dict[str, int]


class Misfit(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A policy that does not fit a gateway's schema: it permits nothing, or forbids all that it
    could speak of."""

    policy: str
    gateway_id: str
    problems: list[str]


class TrySummary(TryCounts, frozen=True, kw_only=True, rename="camel"):
    """`reachedMax`: there are older calls that were not looked at. Of the changes the first
    `listed` are listed."""

    since: datetime
    until: datetime
    reached_max: bool
    listed: int
    misfits: list[Misfit]


class TryLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of the three. The summary is the last line: without it the try broke off."""

    progress: TryCounts | None = None
    change: TriedCall | None = None
    summary: TrySummary | None = None


class Trying:
    def __init__(
        self,
        decisions: DecisionLog,
        gateways: GovernedGateways,
        engine: PolicyEngine,
        statements: Statements,
    ) -> None:
        self._decisions, self._gateways = decisions, gateways
        self._engine, self._statements = engine, statements
        self._turns = asyncio.Semaphore(_TRIES_AT_ONCE)

    async def lines(
        self, engine: EngineRow, given: TryGiven, *, since: datetime, until: datetime
    ) -> AsyncIterator[bytes]:
        """JSON lines. Raises ValidationFailed, before the first, for policies that are none."""
        if not 1 <= given.calls_max <= CALLS_MAX:
            raise ValidationFailed(f"callsMax is 1 to {CALLS_MAX}")
        if since >= until:
            raise ValidationFailed("the period ends before it begins")
        now = [each.rule for each in engine.policies if each.mode == "ACTIVE"]
        after = self._changed(engine, now, given)
        named = await asyncio.to_thread(self._gateways_named, [*now, *after])
        what = Filter(since=since, until=until, engine_id=engine.id, gateway_id=given.gateway_id)
        view = await self._decisions.view(engine.tenant, engine.id)
        sets = _Sets(tenant=engine.tenant, now=now, after=after, named=named)
        attempt = _Attempt(self._decisions, partial(self._ground, sets), Redaction(view))
        return self._stream(engine.tenant, attempt, what, given.calls_max)

    async def _stream(
        self, tenant: str, attempt: "_Attempt", what: Filter, calls_max: int
    ) -> AsyncIterator[bytes]:
        async with self._turns:
            async for batch in self._decisions.batches(
                tenant, what, size=_BATCH_CALLS, lines_max=calls_max + 1
            ):
                room = calls_max - attempt.looked_at
                for change in await attempt.look_at(batch[:room]):
                    yield _line(TryLine(change=change))
                yield _line(TryLine(progress=attempt.counts()))
                if len(batch) > room:
                    attempt.reached_max = True
                    break
            yield _line(TryLine(summary=attempt.summary(what)))

    def _changed(self, engine: EngineRow, now: Sequence[Rule], given: TryGiven) -> Sequence[Rule]:
        if (given.policies is None) == (not given.changes):
            raise ValidationFailed("name `policies` or `changes`, and not both")
        if given.policies is not None:
            after = self._split(given.policies)
        else:
            after = self._with_changes(engine, now, given.changes)
        if len(after) > POLICIES_MAX:
            raise ValidationFailed(f"an engine has at most {POLICIES_MAX} policies")
        for rule in after:
            if len(rule.statement.encode("utf-8", "surrogatepass")) > POLICY_BYTES_MAX:
                raise ValidationFailed(f"{rule.id}: a policy has at most {POLICY_BYTES_MAX} bytes")
        return after

    def _with_changes(
        self, engine: EngineRow, now: Sequence[Rule], changes: Sequence[PolicyChange]
    ) -> Sequence[Rule]:
        ids = {policy.name: policy.id for policy in engine.policies}
        ids |= {policy.id: policy.id for policy in engine.policies}
        rules = {rule.id: rule for rule in now}
        for number, change in enumerate(changes):
            named = change.policy_id
            if change.statement is None:
                if named is None or named not in ids:
                    raise ValidationFailed(f"the engine has no policy {named!r} to take away")
                rules.pop(ids[named], None)
                continue
            split = self._split(change.statement)
            if named is not None and len(split) != 1:
                raise ValidationFailed(f"the statement of {named} is to be one policy")
            for place, rule in enumerate(split):
                id = ids.get(named, named) if named is not None else rule.id
                if named is None and (id in rules or id in ids):
                    id = f"new{number}-{place}"
                rules[id] = Rule(id=id, statement=rule.statement)
        return list(rules.values())

    def _split(self, text: str) -> Sequence[Rule]:
        try:
            return self._engine.split(text)
        except PolicyRefused as refused:
            raise ValidationFailed("; ".join(refused.problems)) from None

    def _gateways_named(self, rules: Sequence[Rule]) -> Mapping[str, str]:
        """By the statement: the gateway that it speaks of, "" for all."""
        found: dict[str, str] = {}
        for rule in rules:
            resource = self._statements.read(rule.statement).resource
            found[rule.statement] = resource.id if resource else ""
        return found

    async def _ground(self, sets: "_Sets", gateway_arn: str) -> Ground | str:
        gateway = await self._gateways.get(sets.tenant, gateway_arn)
        if gateway is None:
            return NO_GATEWAY
        now, after = sets.of(gateway_arn)
        return await ground_of(self._engine, gateway, now=now, after=after)


class _Sets(msgspec.Struct, frozen=True, kw_only=True):
    """The policies of now and after the change. `named`: by the statement, the gateway that it
    speaks of, "" for all."""

    tenant: str
    now: Sequence[Rule]
    after: Sequence[Rule]
    named: Mapping[str, str]

    def of(self, gateway_arn: str) -> tuple[list[Rule], list[Rule]]:
        now, after = (
            [rule for rule in rules if self.named[rule.statement] in ("", gateway_arn)]
            for rules in (self.now, self.after)
        )
        return now, after


class _Attempt:
    """One try: what was counted so far, and the gateways that it met."""

    def __init__(
        self,
        decisions: DecisionLog,
        ground: Callable[[str], Awaitable[Ground | str]],
        redaction: Redaction,
    ) -> None:
        self.looked_at = 0
        self.reached_max = False
        self._decisions, self._make_ground = decisions, ground
        self._redaction = redaction
        self._grounds: OrderedDict[str, Ground | str] = OrderedDict()
        self._misfits: dict[tuple[str, str], Misfit] = {}
        self._found: Counter[Change | None] = Counter()
        self._untellable: Counter[str] = Counter()
        self._listed = 0

    async def look_at(self, batch: Sequence[Kept]) -> Sequence[TriedCall]:
        """Those of the batch that would have gone the other way, as far as they are listed."""
        grounds = {kept.gateway_arn: await self._ground(kept) for kept in batch}
        open = self._decisions.open
        replayed = await asyncio.to_thread(
            lambda: [replay(kept, grounds[kept.gateway_arn], open) for kept in batch]
        )
        listed: list[TriedCall] = []
        for kept, result in zip(batch, replayed, strict=True):
            self.looked_at += 1
            if isinstance(result, str):
                self._untellable[result] += 1
                continue
            change = _change(kept.allowed, result.after.allowed)
            self._found[change] += 1
            if change is not None and self._listed < CHANGES_LISTED_MAX:
                self._listed += 1
                listed.append(self._tried(kept, result, change))
        return listed

    async def _ground(self, kept: Kept) -> Ground | str:
        arn = kept.gateway_arn
        found = self._grounds.get(arn)
        if found is None:
            found = await self._make_ground(arn)
            self._grounds[arn] = found
            if len(self._grounds) > _GROUNDS_MAX:
                self._grounds.popitem(last=False)
            if isinstance(found, Ground):
                for policy, problems in found.after.problems.items():
                    self._misfits[policy, arn] = Misfit(
                        policy=policy, gateway_id=kept.gateway_id, problems=list(problems)
                    )
        return found

    def _tried(self, kept: Kept, result: Replayed, change: Change) -> TriedCall:
        shown = self._redaction.shown
        return TriedCall(
            id=str(kept.id),
            at=kept.at,
            request_id=kept.request_id,
            gateway_id=kept.gateway_id,
            tool=kept.tool,
            principal=kept.principal,
            principal_type=kept.principal_type,
            user=kept.user,
            mode=kept.mode,
            change=change,
            before=Outcome(allowed=kept.allowed, policies=list(kept.policies)),
            after=result.after,
            now_allowed=result.now_allowed,
            input=shown("input", result.inputs.arguments),
            claims=shown("claims", result.inputs.claims),
            context=shown("context", result.inputs.context),
        )

    def counts(self) -> TryCounts:
        return TryCounts(**self._counted())

    def summary(self, what: Filter) -> TrySummary:
        assert what.since is not None and what.until is not None, "a try has a period"
        return TrySummary(
            **self._counted(),
            since=what.since,
            until=what.until,
            reached_max=self.reached_max,
            listed=self._listed,
            misfits=list(self._misfits.values()),
        )

    def _counted(self) -> dict[str, Any]:
        return {
            "looked_at": self.looked_at,
            "replayed": self._found.total(),
            "same": self._found[None],
            "newly_allowed": self._found["newly allowed"],
            "newly_denied": self._found["newly denied"],
            "untellable": dict(self._untellable),
        }


def _change(before: bool, after: bool) -> Change | None:
    if before == after:
        return None
    return "newly allowed" if after else "newly denied"


def _line(line: TryLine) -> bytes:
    return msgspec.json.encode(line) + b"\n"
