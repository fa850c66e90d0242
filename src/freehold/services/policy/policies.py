"""Policies: made, changed, deleted. What is in force changes when the analysis of it is done."""

from collections import Counter
from typing import Any, cast

import msgspec

from freehold.kernel.errors import Conflict, NotFound, QuotaExceeded, ValidationFailed
from freehold.kernel.pages import Page
from freehold.kernel.request import Request
from freehold.ports.database import Connection
from freehold.ports.resources import Document, Resource, Resources
from freehold.services.policy.analysis import (
    WAITING,
    PolicyAnalysis,
    settled,
    unchanged,
    with_asked,
)
from freehold.services.policy.loosening import Loosening, Passage, refuses
from freehold.services.policy.model import (
    ENGINE,
    ENGINE_BYTES_MAX,
    POLICIES_MAX,
    POLICY,
    EnforcementMode,
    EngineRow,
    PolicyRow,
)
from freehold.services.policy.modes import PolicyDecisions
from freehold.services.policy.ports import GeneratedStatements
from freehold.services.policy.service import described, idempotency, redescribed, suffixed
from freehold.services.policy.store import PolicyStore
from freehold.services.policy.validation import Checked, StatementChecks

Params = dict[str, Any]

_FETCHES_MAX = 20


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A whole policy as somebody wants it."""

    definition: Document
    checked: Checked
    mode: EnforcementMode
    analysed: bool

    def row(self, policy_id: str, name: str, version: int = 0) -> PolicyRow:
        return PolicyRow(
            id=policy_id, name=name, version=version, mode=self.mode,
            statement=self.checked.text, gateway=self.checked.gateway,
        )  # fmt: skip


class PolicyService:
    def __init__(
        self,
        *,
        resources: Resources,
        store: PolicyStore,
        checks: StatementChecks,
        analysis: PolicyAnalysis,
        loosening: Loosening,
        decisions: PolicyDecisions,
        generated: GeneratedStatements,
    ) -> None:
        self._resources, self._store = resources, store
        self._checks, self._analysis = checks, analysis
        self._loosening, self._decisions = loosening, decisions
        self._generated = generated

    async def create(self, request: Request, params: Params) -> Resource:
        tenant, engine_id, name = request.tenant, params["policyEngineId"], params["name"]
        engine = await self._resources.get(tenant, ENGINE, engine_id)
        if await self._resources.find_by_name(tenant, POLICY, name, parent=engine_id):
            return await self._repeat(tenant, params)
        policy_id = suffixed(name)
        definition = await self._definition(tenant, engine_id, params["definition"])
        asked = _Asked(
            definition=definition, mode=params.get("enforcementMode") or "ACTIVE",
            checked=await self._checks.check(tenant, engine.arn, statement_of(definition)),
            analysed=_analysed(params),
        )  # fmt: skip
        row = await self._store.load(tenant, engine_id)
        passage = await self._loosening.check(
            request, engine, row, {policy_id: asked.row(policy_id, name)},
            operation="CreatePolicy",
        )  # fmt: skip
        document = described(_document(asked, passage), params.get("description"))
        async with self._store.changing(tenant, engine_id) as connection:
            policy, made = await self._resources.create(
                tenant, POLICY, id=policy_id, name=name,
                status="CREATING" if asked.analysed else "ACTIVE", document=document,
                parent=engine_id, idempotency=idempotency("CreatePolicy", params),
                connection=connection,
            )  # fmt: skip
            if made:
                await self._take_over(connection, policy, asked, passage)
        return await self._under_way(policy)

    async def _repeat(self, tenant: str, params: Params) -> Resource:
        """Of a name that is taken: the answer that the same request had before, or a conflict."""
        name, engine_id = params["name"], params["policyEngineId"]
        async with self._store.changing(tenant, engine_id) as connection:
            policy, made = await self._resources.create(
                tenant, POLICY, id=suffixed(name), name=name, status="CREATING", document={},
                parent=engine_id, idempotency=idempotency("CreatePolicy", params),
                connection=connection,
            )  # fmt: skip
            if made:  # undone: nothing of it was looked at
                raise Conflict(f"policy {name!r} was deleted just now; try again")
        return await self._under_way(policy)

    async def _under_way(self, policy: Resource) -> Resource:
        """Also of a repeated request after a crash in between."""
        if policy.status in WAITING:
            await self._analysis.enqueue(policy)
        return policy

    async def update(self, request: Request, params: Params) -> Resource:
        """What is in force stays so until the analysis is done, and if it fails."""
        tenant, engine_id = request.tenant, params["policyEngineId"]
        engine = await self._resources.get(tenant, ENGINE, engine_id)
        policy = await self.get(tenant, engine_id, params["policyId"])
        row = await self._store.load(tenant, engine_id)
        asked = await self._wanted(engine, policy, params, row)
        if asked is None:
            return await self._redescribe(policy, params)
        before = policy.document["enforcementMode"]
        if asked.mode != before:
            await self._decisions.mode_change(
                request, engine.arn, {"policy": policy.id, "from": before, "to": asked.mode}
            )
        passage = await self._loosening.check(
            request, engine, row, {policy.id: asked.row(policy.id, policy.name)},
            operation="UpdatePolicy",
        )  # fmt: skip
        document = redescribed(_document(asked, passage), params)
        if params.get("description") is None:
            document = described(document, policy.document.get("description"))
        document["_before"] = settled(policy.document)
        async with self._store.changing(tenant, engine_id) as connection:
            await self._unchanged(connection, policy)
            updated = await self._resources.update(
                tenant, POLICY, policy.id,
                lambda _: document if asked.analysed else settled(document),
                status="UPDATING" if asked.analysed else "ACTIVE", parent=engine_id,
                new_version=True, connection=connection,
            )  # fmt: skip
            await self._take_over(connection, updated, asked, passage)
        return await self._under_way(updated)

    async def delete(self, request: Request, engine_id: str, policy_id: str) -> Resource:
        tenant = request.tenant
        engine = await self._resources.get(tenant, ENGINE, engine_id)
        policy = await self.get(tenant, engine_id, policy_id)
        row = await self._store.load(tenant, engine_id)
        passage = await self._loosening.check(
            request, engine, row, {policy_id: None}, operation="DeletePolicy"
        )
        async with self._store.changing(tenant, engine_id) as connection:
            await self._passes(connection, tenant, passage, at_once=True)
            await self._unchanged(connection, policy)
            await self._resources.delete(
                tenant, POLICY, policy_id, parent=engine_id, connection=connection
            )
            await self._store.drop(connection, policy)
        return policy

    async def get(self, tenant: str, engine_id: str, policy_id: str) -> Resource:
        return await self._resources.get(tenant, POLICY, policy_id, parent=engine_id)

    async def page(
        self, tenant: str, engine_id: str, limit: int | None, token: str | None, scope: str | None
    ) -> Page[Resource]:
        """`scope`: those that speak of the gateway of this ARN, or of all. What was asked for last
        tells. A page may be short of its limit though more follow."""
        limit = limit or 100
        found: list[Resource] = []
        for _ in range(_FETCHES_MAX):
            page = await self._resources.page(
                tenant, POLICY, parent=engine_id, limit=limit - len(found), token=token
            )
            token = page.next_token
            found += [each for each in page.items if _speaks_of(each, scope)]
            if token is None or len(found) >= limit:
                break
        if not found:
            await self._resources.get(tenant, ENGINE, engine_id)
        return Page(found, token)

    # -- what is wanted

    async def _definition(self, tenant: str, engine_id: str, definition: Document) -> Document:
        """As it will be shown: what was generated, as the Cedar that it is."""
        named = definition.get("policyGeneration")
        if named is None:
            return definition
        try:
            text = await self._generated.statement(
                tenant, engine_id, named["policyGenerationId"], named["policyGenerationAssetId"]
            )
        except NotFound as error:
            raise ValidationFailed(f"definition: {error.message}") from None
        return {"cedar": {"statement": text}}

    async def _wanted(
        self, engine: Resource, policy: Resource, params: Params, row: EngineRow
    ) -> _Asked | None:
        """None where nothing changes but the description."""
        given = params.get("definition")
        before = cast(EnforcementMode, policy.document["enforcementMode"])
        mode = cast(EnforcementMode, params.get("enforcementMode") or before)
        in_force = any(each.id == policy.id for each in row.policies)
        if given is None and mode == before and in_force:
            return None
        definition = policy.document["definition"]
        if given is not None:
            definition = await self._definition(engine.tenant, engine.id, given)
        # Where a policy is to decide no longer, nothing of it need fit or be proven.
        less = given is None and in_force and mode == "LOG_ONLY"
        text = statement_of(definition)
        checked = (
            self._checks.read(text)
            if less
            else await self._checks.check(engine.tenant, engine.arn, text)
        )
        return _Asked(
            definition=definition, checked=checked, mode=mode,
            analysed=_analysed(params) and not less,
        )  # fmt: skip

    async def _redescribe(self, policy: Resource, params: Params) -> Resource:
        return await self._resources.update(
            policy.tenant, POLICY, policy.id,
            lambda current: redescribed(current.document, params), parent=policy.parent,
        )  # fmt: skip

    # -- in the transaction of the change

    async def _take_over(
        self, connection: Connection, policy: Resource, asked: _Asked, passage: Passage
    ) -> None:
        await self._passes(connection, policy.tenant, passage, at_once=not asked.analysed)
        await self._store.asked(
            connection, policy, gateway=asked.checked.gateway,
            size_bytes=asked.checked.size_bytes,
        )  # fmt: skip
        await self._check_quotas(connection, policy)
        if not asked.analysed:
            row = asked.row(policy.id, policy.name, policy.version)
            await self._store.put_in_force(connection, policy, row)

    async def _passes(
        self, connection: Connection, tenant: str, passage: Passage, *, at_once: bool
    ) -> None:
        """That a change allows nothing more was told of the engine as it was then. Where it is not
        in force at once, the analysis looks again."""
        if at_once:
            engine_id = passage.engine_id
            row = await self._store.load(tenant, engine_id, connection=connection)
            engine = await self._resources.get(tenant, ENGINE, engine_id, connection=connection)
            if refuses(engine) and row.version != passage.version:
                raise Conflict(f"policy engine {engine_id} was changed just now; try again")
        await self._loosening.use(connection, tenant, passage)

    async def _unchanged(self, connection: Connection, policy: Resource) -> None:
        current = await self._resources.get(
            policy.tenant, POLICY, policy.id, parent=policy.parent, connection=connection
        )
        if not unchanged(current, policy):
            raise Conflict(f"policy {policy.id!r} was changed just now; try again")

    async def _check_quotas(self, connection: Connection, policy: Resource) -> None:
        footprints = await self._store.footprints(connection, policy.tenant, policy.parent)
        if len({each.policy_id for each in footprints}) > POLICIES_MAX:
            raise QuotaExceeded(f"a policy engine has {POLICIES_MAX} policies at most")
        sizes: Counter[str] = Counter()
        for each in footprints:
            sizes[each.gateway] += each.bytes
        most = max([size for gateway, size in sizes.items() if gateway], default=0)
        if sizes[""] + most > ENGINE_BYTES_MAX:
            raise QuotaExceeded(
                "the policies of an engine that can speak of one gateway have "
                f"{ENGINE_BYTES_MAX} bytes at most"
            )


def statement_of(definition: Document) -> str:
    (member,) = definition.values()
    text: str = member["statement"]
    return text


def _analysed(params: Params) -> bool:
    return (params.get("validationMode") or "FAIL_ON_ANY_FINDINGS") == "FAIL_ON_ANY_FINDINGS"


def _document(asked: _Asked, passage: Passage) -> Document:
    document: Document = {
        "definition": asked.definition, "enforcementMode": asked.mode,
        "_gateway": asked.checked.gateway,
    }  # fmt: skip
    return with_asked(document, passage.version) if asked.analysed else document


def _speaks_of(policy: Resource, scope: str | None) -> bool:
    return scope is None or policy.document["_gateway"] in ("", scope)
