"""Whether a change of an engine's policies newly allows a call, and who said that it may."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

from freehold.kernel.errors import Conflict, Unavailable, ValidationFailed
from freehold.kernel.request import Request
from freehold.ports.database import Connection
from freehold.ports.enforcement import GovernedGateway, GovernedGateways, GovernedTool
from freehold.ports.policies import PolicyRefused, Rule
from freehold.ports.reasoning import Reasoning
from freehold.ports.resources import Resource, Resources
from freehold.services.policy.acknowledgements import Acknowledgements
from freehold.services.policy.model import ENGINE, TAG_LOOSENING, EngineRow, PolicyRow
from freehold.services.policy.modes import PolicyDecisions
from freehold.services.policy.proving import schema_of
from freehold.services.policy.schema import GATEWAY
from freehold.services.policy.validation import StatementChecks, rules_of
from freehold.services.policy.wording import cut, difference_line

ACKNOWLEDGE_OPERATION = "freehold:AcknowledgePolicyChange"
LOOSENING_OPERATION = "freehold:LoosenPolicy"
"""Of the audit's line about a change that allows more: nobody calls it."""
_SECONDS_MAX = 35.0
_LATE_SECONDS_MAX = 5.0
_LINES_SHOWN = 5
_ELSEWHERE = "freehold-elsewhere"
_OTHER_TOOL = GovernedTool(name="(any other tool)", target="", input_schema={"type": "object"})

Compared: TypeAlias = tuple[GovernedGateway, list[Rule], list[Rule]]


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """A change that may be made. `digest` is that of the acknowledgement which it uses up, "" where
    it needs none; `version` that of the engine which was looked at, "" where nobody need look."""

    engine_id: str
    version: str = ""
    digest: str = ""


class Loosened(msgspec.Struct, frozen=True, kw_only=True):
    """`lines` say what it newly allows, or what cannot be told."""

    digest: str
    lines: Sequence[str]

    def refusal(self, engine_id: str) -> str:
        return (
            f"the change newly allows calls, which policy engine {engine_id} refuses (its tag "
            f"{TAG_LOOSENING}): {'; '.join(self.lines)}. To let this very change pass once: "
            f"freehold policy acknowledge {engine_id} {self.digest}"
        )


class Loosening:
    def __init__(
        self,
        *,
        resources: Resources,
        gateways: GovernedGateways,
        checks: StatementChecks,
        reasoning: Reasoning,
        acknowledgements: Acknowledgements,
        decisions: PolicyDecisions,
        seconds_max: float = _SECONDS_MAX,
    ) -> None:
        self._resources, self._gateways = resources, gateways
        self._checks, self._reasoning = checks, reasoning
        self._acknowledgements, self._decisions = acknowledgements, decisions
        self._seconds_max = seconds_max

    async def acknowledge(self, request: Request, engine_id: str, digest: str) -> str:
        """What was refused, in words. NotFound for an engine, or a digest, that is not there."""
        engine = await self._resources.get(request.tenant, ENGINE, engine_id)
        shown = await self._acknowledgements.give(
            request.tenant, engine_id, digest, by=request.caller.principal
        )
        await self._decisions.write(
            request, ACKNOWLEDGE_OPERATION, engine.arn, "allowed",
            {"digest": digest, "change": shown},
        )  # fmt: skip
        return shown

    async def guard_tags(
        self, request: Request, engine: Resource, changes: Mapping[str, str | None]
    ) -> None:
        """`services.tags.api.TagGuard`: who may only tag does not lift what guards the policies.
        Also where it is not set now: it may be, by the time that this is done."""
        if TAG_LOOSENING not in changes or changes[TAG_LOOSENING] == "refuse":
            return
        before = engine.tags.get(TAG_LOOSENING, "allow")
        await self._decisions.mode_change(
            request, engine.arn,
            {"tag": TAG_LOOSENING, "from": before, "to": changes[TAG_LOOSENING] or "allow"},
        )  # fmt: skip

    async def check(
        self,
        request: Request,
        engine: Resource,
        row: EngineRow,
        change: Mapping[str, PolicyRow | None],
        *,
        operation: str,
    ) -> Passage:
        """Raises Conflict with the call that would newly be allowed."""
        if not refuses(engine):
            return Passage(engine_id=engine.id)
        loosened = await self.loosened(row, change)
        return await self.passage(request, engine, row.version, loosened, operation=operation)

    async def passage(
        self,
        request: Request,
        engine: Resource,
        version: str,
        loosened: Loosened | None,
        *,
        operation: str,
    ) -> Passage:
        """Raises Conflict for what was not acknowledged. In the audit, either way."""
        if loosened is None:
            return Passage(engine_id=engine.id, version=version)
        tenant, digest = request.tenant, loosened.digest
        shown = cut(f"{operation}: {'; '.join(loosened.lines)}")
        known = await self._acknowledgements.given(tenant, engine.id, digest)
        await self._decisions.write(
            request, LOOSENING_OPERATION, engine.arn, "allowed" if known else "denied",
            {"digest": digest, "change": shown},
        )  # fmt: skip
        if not known:
            await self._acknowledgements.refused(
                tenant, engine.id, digest, operation=operation, shown=shown,
                by=request.caller.principal,
            )  # fmt: skip
            raise Conflict(loosened.refusal(engine.id))
        return Passage(engine_id=engine.id, version=version, digest=digest)

    async def use(self, connection: Connection, tenant: str, passage: Passage) -> None:
        """In the transaction of the change. Raises Conflict where it was used meanwhile."""
        if passage.digest and not await self._acknowledgements.use(
            connection, tenant, passage.engine_id, passage.digest
        ):
            raise Conflict("the acknowledgement of this change was used just now, or is too old")

    async def loosened(
        self, row: EngineRow, change: Mapping[str, PolicyRow | None]
    ) -> Loosened | None:
        """Over the gateways that the engine decides for. None where nothing is newly allowed."""
        compared = [
            (gateway, rules_of(row, gateway.arn), rules_of(row, gateway.arn, change=change))
            for gateway in await self._gateways.using(row.tenant, row.arn)
        ]
        names = {
            **{each.id: each.name for each in row.policies},
            **{id: policy.name for id, policy in change.items() if policy is not None},
        }
        return await self.compared(compared, names, about=[row.id, row.version])

    async def compared(
        self,
        compared: Sequence[Compared],
        names: Mapping[str, str],
        *,
        about: Sequence[str],
    ) -> Loosened | None:
        """`about` is the rest of what the digest is over. Policies stand in it by their names: the
        id of one that is not made yet would be another each time."""
        doubtful = [
            each
            for one in compared
            for each in (one, self._of_other_tools(*one))
            if not self._only_tightens(each[1], each[2])
        ]
        lines: list[str] = []
        said: list[object] = list(about)
        for gateway, old, new in doubtful:
            seconds = self._seconds_max / len(doubtful)
            lines += await self._newly_allowed(gateway, old, new, seconds)
            rules = sorted((names.get(rule.id, rule.id), rule.statement) for rule in new)
            tools = [(each.name, each.input_schema) for each in gateway.tools]
            said.append([gateway.arn, gateway.authorizer, tools, rules])
        if not lines:
            return None
        if more := len(lines) - _LINES_SHOWN:
            lines = [*lines[:_LINES_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        return Loosened(digest=digest_of(said), lines=tuple(lines))

    def _of_other_tools(
        self, gateway: GovernedGateway, old: list[Rule], new: list[Rule]
    ) -> Compared:
        """What the policies that name no tool say of one that is not known yet: of a DYNAMIC
        target, or of whatever is added to the gateway next."""
        general = self._checks.names_no_tool
        return (
            msgspec.structs.replace(gateway, tools=(_OTHER_TOOL,)),
            [rule for rule in old if general(rule.statement)],
            [rule for rule in new if general(rule.statement)],
        )

    def _only_tightens(self, old: Sequence[Rule], new: Sequence[Rule]) -> bool:
        """Permits that go and forbids that come allow nothing more, whatever they say. Needs no
        proof, so that nobody waits for one before they forbid something."""
        gone, come = set(old) - set(new), set(new) - set(old)
        effect = self._checks.effect
        return all(effect(rule.statement) == "permit" for rule in gone) and all(
            effect(rule.statement) == "forbid" for rule in come
        )

    async def _newly_allowed(
        self, gateway: GovernedGateway, old: list[Rule], new: list[Rule], seconds_max: float
    ) -> list[str]:
        """A proof that there is nothing, or lines. That it cannot be told is one."""
        elsewhere = _elsewhere(gateway.arn)
        untold = f"it cannot be told for gateway {gateway.id}"
        try:
            # Others' proofs may be under way: whoever waits for this one does not wait for long.
            async with asyncio.timeout(seconds_max + _LATE_SECONDS_MAX):
                comparison = await self._reasoning.compare(
                    [*old, elsewhere], [*new, elsewhere], schema_of(gateway).document,
                    seconds_max=seconds_max,
                )  # fmt: skip
        except (Unavailable, ValidationFailed) as error:
            return [f"{untold}: {error.message}"]
        except PolicyRefused as refused:
            return [f"{untold}: {'; '.join(refused.problems)}"]
        except TimeoutError:
            return [f"{untold}: the time was up"]
        lines = [
            difference_line(each, gateway.id)
            for each in comparison.differences
            if each.change == "newly allowed"
        ]
        lines += [
            f"it cannot be told for {action} (gateway {gateway.id}): {why}"
            for action, why in comparison.untold
        ]
        if comparison.equivalent is None and not lines and not comparison.differences:
            return [untold]
        return lines


def refuses(engine: Resource) -> bool:
    """What cannot be read refuses."""
    return engine.tags.get(TAG_LOOSENING, "allow") != "allow"


def digest_of(said: object) -> str:
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()


def _elsewhere(gateway_arn: str) -> Rule:
    """Both sides deny what is no call of this gateway: no difference is shown of another."""
    quoted = gateway_arn.replace("\\", "\\\\").replace('"', '\\"')
    return Rule(
        id=_ELSEWHERE,
        statement="forbid (principal, action, resource) "
        f'unless {{ resource == {GATEWAY}::"{quoted}" }};',
    )
