"""What was asked for is proven, and put in force or not: a job, for proofs take their time."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from freehold.kernel.errors import NotFound, Unavailable, ValidationFailed
from freehold.ports.database import Connection
from freehold.ports.enforcement import GovernedGateway
from freehold.ports.jobs import Jobs, JobState
from freehold.ports.policies import PolicyRefused, Rule
from freehold.ports.reasoning import Finding, Property, Reasoning
from freehold.ports.resources import Document, Resource, Resources
from freehold.services.policy.loosening import Loosening, refuses
from freehold.services.policy.model import ENGINE, POLICY, EngineRow, PolicyRow
from freehold.services.policy.proving import counts, schema_of
from freehold.services.policy.store import PolicyStore
from freehold.services.policy.validation import StatementChecks, rules_of
from freehold.services.policy.wording import cut, finding_line

log = logging.getLogger("freehold.policy")

ANALYSIS_JOB = "policy-analysis"
ANALYSIS_ATTEMPTS_MAX = 5
WAITING = frozenset({"CREATING", "UPDATING"})
_SECONDS_MAX = 30.0
"""Of one proof, and of all about a policy that speaks of many gateways."""
_SECONDS_MAX_TOTAL = 180.0
_RULES_TOGETHER_MAX = 60
_LINES_MAX = 20
_TURNS_MAX = 10
_OWN_FAULT = "an error of the platform's own; its log has more"
_UNPROVEN = "; with the validationMode IGNORE_ALL_FINDINGS it is taken without a proof"

_OF_SETS = frozenset({Property.REDUNDANT, Property.SHADOWED})
_NEVER = frozenset({Property.ALLOW_NONE, Property.DENY_NONE})
_ASKED = "_asked"
"""Member of a policy's document while it is looked at: the version of the engine for which nothing
of it loosens. `_before` is what to go back to, `_reasons` what came of it."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """`failed`: it is not taken. `lines` say why, or what else was noticed."""

    failed: bool = False
    lines: tuple[str, ...] = ()


class PolicyAnalysis:
    """The jobs port runs `work`."""

    def __init__(
        self,
        *,
        resources: Resources,
        store: PolicyStore,
        jobs: Jobs,
        checks: StatementChecks,
        reasoning: Reasoning,
        loosening: Loosening,
        seconds_max: float = _SECONDS_MAX,
    ) -> None:
        self._resources, self._store, self._jobs = resources, store, jobs
        self._checks, self._reasoning, self._loosening = checks, reasoning, loosening
        self._seconds_max = seconds_max

    async def enqueue(self, policy: Resource) -> None:
        payload = {
            "tenant": policy.tenant, "engine_id": policy.parent, "policy_id": policy.id,
            "version": policy.version,
        }  # fmt: skip
        await self._jobs.enqueue(ANALYSIS_JOB, payload, id=_job_id(policy))

    async def work(self, payload: dict[str, Any]) -> None:
        """Idempotent: a policy that was changed since, or is done, is left alone."""
        try:
            policy = await self._resources.get(
                payload["tenant"], POLICY, payload["policy_id"], parent=payload["engine_id"]
            )
            engine = await self._resources.get(policy.tenant, ENGINE, policy.parent)
        except NotFound:
            return
        if policy.version != payload["version"] or policy.status not in WAITING:
            return
        try:
            await self._settle(engine, policy)
        except Unavailable:
            raise  # the job is tried again
        except Exception:  # the boundary: no policy stays in CREATING, whatever happened
            log.exception("the analysis of policy %s broke", policy.id)
            await self._give_up(policy, (_OWN_FAULT,))

    async def take_up(self) -> None:
        """What a crash left between a policy and its job, or a job that gave up."""
        for policy in await self._resources.in_status(POLICY, WAITING):
            job = await self._jobs.get(_job_id(policy))
            if job is None:
                await self.enqueue(policy)
            elif job.state is JobState.FAILED:
                await self._give_up(policy, (f"it could not be looked at ({job.error})",))

    # -- one policy

    async def _settle(self, engine: Resource, policy: Resource) -> None:
        wanted = row_of(policy)
        row = await self._store.load(engine.tenant, engine.id)
        outcome = await self._examine(row, wanted)
        if outcome.failed:
            await self._give_up(policy, outcome.lines)
            return
        for _ in range(_TURNS_MAX):
            if loosened := await self._loosens(policy, row, wanted):
                await self._give_up(policy, (loosened,))
                return
            if await self._take_over(policy, wanted, row, outcome.lines):
                return
            row = await self._store.load(engine.tenant, engine.id)
        raise Unavailable("the engine's policies change too quickly to compare them")

    async def _loosens(self, policy: Resource, row: EngineRow, wanted: PolicyRow) -> str:
        """What changed of the engine meanwhile may make it another change than was let pass."""
        engine = await self._resources.get(policy.tenant, ENGINE, policy.parent)
        if not refuses(engine) or policy.document[_ASKED]["version"] == row.version:
            return ""
        loosened = await self._loosening.loosened(row, {policy.id: wanted})
        if loosened is None:
            return ""
        return cut(
            "other policies of the engine changed meanwhile, and now it newly allows calls: "
            f"{'; '.join(loosened.lines)}"
        )

    async def _take_over(
        self, policy: Resource, wanted: PolicyRow, row: EngineRow, lines: Sequence[str]
    ) -> bool:
        """False where the engine is not what was looked at, and that matters."""
        tenant, engine_id = policy.tenant, policy.parent
        async with self._store.changing(tenant, engine_id) as connection:
            if not await self._unchanged(connection, policy):
                return True
            engine = await self._resources.get(tenant, ENGINE, engine_id, connection=connection)
            if refuses(engine):
                current = await self._store.load(tenant, engine_id, connection=connection)
                if current.version != row.version:
                    return False
            await self._store.put_in_force(connection, policy, wanted)
            document = settled(policy.document)
            await self._resources.set_status(
                tenant, POLICY, policy.id, "ACTIVE", parent=engine_id, version=policy.version,
                document={**document, "_reasons": list(lines)} if lines else document,
                connection=connection,
            )  # fmt: skip
        return True

    async def _give_up(self, policy: Resource, lines: Sequence[str]) -> None:
        tenant, engine_id = policy.tenant, policy.parent
        before: Document | None = policy.document.get("_before")
        reasons = list(lines)
        async with self._store.changing(tenant, engine_id) as connection:
            if not await self._unchanged(connection, policy):
                return
            current = await self._store.load(tenant, engine_id, connection=connection)
            in_force = next((each for each in current.policies if each.id == policy.id), None)
            document = settled(policy.document)
            if in_force is not None and before is not None:
                document = before
                reasons.append(f"version {in_force.version} of the policy stays in force")
            await self._store.gave_up(connection, policy)
            await self._resources.set_status(
                tenant, POLICY, policy.id,
                "CREATE_FAILED" if policy.status == "CREATING" else "UPDATE_FAILED",
                parent=engine_id, version=policy.version,
                document={**document, "_reasons": reasons}, connection=connection,
            )  # fmt: skip
        log.info("policy %s is not taken: %s", policy.id, reasons[0])

    async def _unchanged(self, connection: Connection, policy: Resource) -> bool:
        """All that changes a policy holds the engine's lock, as we do now."""
        try:
            current = await self._resources.get(
                policy.tenant, POLICY, policy.id, parent=policy.parent, connection=connection
            )
        except NotFound:
            return False
        return unchanged(current, policy)

    # -- proofs

    async def _examine(self, row: EngineRow, wanted: PolicyRow) -> Outcome:
        try:
            gateways = await self._checks.concerned(row.tenant, row.arn, wanted.gateway)
            if self._checks.names_no_tool(wanted.statement):
                gateways = [each for each in gateways if each.tools]
            ends = time.monotonic() + _SECONDS_MAX_TOTAL
            found = [(each, await self._findings(each, row, wanted, ends)) for each in gateways]
        except ValidationFailed as error:
            return Outcome(failed=True, lines=(cut(error.message),))
        except NotProven as error:
            return Outcome(failed=True, lines=(cut(f"{error}{_UNPROVEN}"),))
        if not gateways:
            line = (
                "no gateway with tools uses the engine yet, so that nothing could be proven of the "
                "policy"
            )
            return Outcome(lines=(line,))
        never = [{f.property for f in findings} & _NEVER for _, findings in found]
        counting: list[str] = []
        noted: list[str] = []
        for gateway, findings in found:
            for finding in findings:
                lines = counting if self._counts(finding, wanted, everywhere=all(never)) else noted
                lines.append(finding_line(finding, gateway.id))
        return Outcome(failed=bool(counting), lines=tuple([*counting, *noted][:_LINES_MAX]))

    async def _findings(
        self, gateway: GovernedGateway, row: EngineRow, wanted: PolicyRow, ends: float
    ) -> Sequence[Finding]:
        """Of the policy alone, and then what the others leave of it. All proofs about a large set
        would keep its author waiting for what is only noted. `ends`: of the monotonic clock."""
        schema = schema_of(gateway).document
        wanted = msgspec.structs.replace(wanted, mode="ACTIVE")
        rules = rules_of(row, gateway.arn, change={wanted.id: wanted})
        found = await self._analysed([wanted.rule], schema, ends)
        if any(self._counts(each, wanted, everywhere=True) for each in found):
            return found
        # A forbid alone is always redundant: nothing is permitted that it could take.
        found = [each for each in found if each.property not in _OF_SETS]
        if 1 < len(rules) <= _RULES_TOGETHER_MAX:
            together = await self._analysed(rules, schema, ends)
            found = [
                *found,
                *(
                    each
                    for each in together
                    if each.policy == wanted.id and each.property in _OF_SETS
                ),
            ]
        return [each for each in found if each.policy == wanted.id]

    def _counts(self, finding: Finding, wanted: PolicyRow, *, everywhere: bool) -> bool:
        """A policy for many gateways may have nothing to say to some of them."""
        if finding.policy != wanted.id or (finding.property in _NEVER and not everywhere):
            return False
        return counts(finding, self._checks.effect(wanted.statement) == "forbid")

    async def _analysed(
        self, rules: Sequence[Rule], schema: Mapping[str, Any], ends: float
    ) -> Sequence[Finding]:
        seconds = min(self._seconds_max, ends - time.monotonic())
        if seconds <= 0:
            return [Finding(property=Property.UNDECIDED, policy=rule.id) for rule in rules]
        try:
            analysis = await self._reasoning.analyse(rules, schema, seconds_max=seconds)
        except Unavailable as error:
            raise NotProven(error.message) from None
        except PolicyRefused as refused:
            raise NotProven("; ".join(refused.problems)) from None
        return analysis.findings


class NotProven(Exception):
    """No solver can be had, or not for this: that is told, and not tried again."""


def row_of(policy: Resource) -> PolicyRow:
    """As it will be in force."""
    (member,) = policy.document["definition"].values()
    return PolicyRow(
        id=policy.id, name=policy.name, version=policy.version,
        mode=policy.document["enforcementMode"], statement=member["statement"],
        gateway=policy.document["_gateway"],
    )  # fmt: skip


def unchanged(current: Resource, policy: Resource) -> bool:
    """A description changes without a version."""
    return (current.version, current.status, current.updated_at) == (
        policy.version, policy.status, policy.updated_at,
    )  # fmt: skip


def with_asked(document: Document, version: str) -> Document:
    return {**document, _ASKED: {"version": version}}


def settled(document: Document) -> Document:
    return {k: v for k, v in document.items() if k not in (_ASKED, "_before", "_reasons")}


def _job_id(policy: Resource) -> str:
    return f"{ANALYSIS_JOB}-{policy.tenant}-{policy.parent}-{policy.id}-{policy.version}"
