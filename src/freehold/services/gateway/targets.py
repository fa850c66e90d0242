"""Targets: made, changed, synchronized, deleted. What they offer is `sync`'s."""

from typing import Any

from freehold.kernel import ids
from freehold.kernel.caller import Caller
from freehold.kernel.errors import Conflict, QuotaExceeded, ValidationFailed
from freehold.kernel.pages import Page
from freehold.ports.resources import Document, Resource, Resources
from freehold.ports.targets import Json
from freehold.services.gateway.checks import TargetChecks
from freehold.services.gateway.documents import (
    attached,
    detached,
    has_static_tools,
    kind_of,
    member,
)
from freehold.services.gateway.model import (
    GATEWAY,
    RULE,
    TARGET,
    TARGET_WAITING,
    TARGETS_MAX,
)
from freehold.services.gateway.rules import known_targets
from freehold.services.gateway.service import check_parent, idempotency
from freehold.services.gateway.store import GatewayStore, TargetState
from freehold.services.gateway.sync import TargetSync, approving, settled

_KEPT = ("description", "credentialProviderConfigurations", "metadataConfiguration")


class TargetService:
    def __init__(
        self, *, resources: Resources, store: GatewayStore, checks: TargetChecks, sync: TargetSync
    ) -> None:
        self._resources, self._store = resources, store
        self._checks, self._sync = checks, sync

    async def create(self, caller: Caller, tenant: str, params: dict[str, Any]) -> Resource:
        gateway_id = params["gatewayIdentifier"]
        gateway = await self._resources.get(tenant, GATEWAY, gateway_id)
        params = await self._checks.completed(params)
        await self._checks.check(gateway, params)
        target_id = ids.random_text(10)
        document, inline = _document(params)
        asked = _is_asked(document)
        if asked:
            document["_sync"] = {"why": "create", "by": caller.principal}
        async with self._store.changing(tenant, gateway_id) as connection:
            target, made = await self._resources.create(
                tenant, TARGET, id=target_id, name=params.get("name") or f"target-{target_id}",
                status="CREATING" if asked else "READY", document=document, parent=gateway_id,
                idempotency=idempotency("CreateGatewayTarget", params), connection=connection,
            )  # fmt: skip
            if made:
                await self._store.put_target(connection, target, inline)
                count = await self._store.count_targets(connection, tenant, gateway_id)
                if count > TARGETS_MAX:
                    raise QuotaExceeded(f"a gateway has {TARGETS_MAX} targets at most")
        if target.status in TARGET_WAITING:  # also a repeat after a crash in between
            await self._sync.enqueue(target)
        return target

    async def update(self, caller: Caller, tenant: str, params: dict[str, Any]) -> Resource:
        """Replaces all of it. What changes of its tools because its configuration did was approved
        by whoever changed that."""
        gateway_id, target_id = params["gatewayIdentifier"], params["targetId"]
        target = await self.get(tenant, gateway_id, target_id)
        gateway = await self._resources.get(tenant, GATEWAY, gateway_id)
        params = await self._checks.completed(params)
        await self._checks.check(gateway, params)
        name = params.get("name")
        if name and name != target.name:
            await self._check_unruled(target, "is renamed")
        document, inline = _document(params)
        before = await self._store.target_document(target)
        other = (document["targetConfiguration"], inline) != (
            target.document["targetConfiguration"], before,
        )  # fmt: skip
        if asked := _is_asked(document):
            by = caller.principal if other else approving(target)
            document["_sync"] = {"why": "update", "by": by}
        async with self._store.changing(tenant, gateway_id) as connection:
            current = await self._resources.get(
                tenant, TARGET, target_id, parent=gateway_id, connection=connection
            )
            if current.version != target.version:
                raise Conflict(f"gateway target {target_id!r} was changed just now; try again")
            updated = await self._resources.update(
                tenant, TARGET, target_id, lambda _: document, parent=gateway_id, name=name,
                status="UPDATING" if asked else "READY", connection=connection,
            )  # fmt: skip
            await self._store.put_target(connection, updated, inline)
            if not asked:
                await self._store.forget_definitions(connection, updated)
        if asked:
            await self._sync.enqueue(updated)
        return updated

    async def synchronize(
        self, tenant: str, gateway_id: str, target_ids: list[str]
    ) -> list[Resource]:
        return [await self._synchronize(tenant, gateway_id, id) for id in target_ids]

    async def _synchronize(self, tenant: str, gateway_id: str, target_id: str) -> Resource:
        target = await self.get(tenant, gateway_id, target_id)
        configuration = target.document["targetConfiguration"]
        if not _is_asked(target.document):
            raise ValidationFailed(f"target {target.name} offers no tools: nothing to synchronize")
        if has_static_tools(configuration):
            raise ValidationFailed(
                f"target {target.name} has its tools in mcpToolSchema; change that with "
                "UpdateGatewayTarget"
            )
        if member(configuration).get("listingMode") == "DYNAMIC":
            raise ValidationFailed(
                f"target {target.name} is DYNAMIC: it is asked for each caller, nothing is kept"
            )

        def change(old: Resource) -> Document:
            sync = {"why": "synchronize", "by": approving(old)}
            return {**settled(old.document), "_sync": sync}

        async with self._store.changing(tenant, gateway_id) as connection:
            updated = await self._resources.update(
                tenant, TARGET, target_id, change, status="SYNCHRONIZING", parent=gateway_id,
                connection=connection,
            )  # fmt: skip
        await self._sync.enqueue(updated)
        return updated

    async def get(self, tenant: str, gateway_id: str, target_id: str) -> Resource:
        return await self._resources.get(tenant, TARGET, target_id, parent=gateway_id)

    async def configuration(self, target: Resource) -> Json:
        """As it was given, with its inline document."""
        document = await self._store.target_document(target)
        return attached(target.document["targetConfiguration"], document)

    async def states(self, tenant: str, gateway_id: str) -> dict[str, TargetState]:
        return await self._store.target_states(tenant, gateway_id)

    async def page(
        self, tenant: str, gateway_id: str, limit: int | None, token: str | None
    ) -> Page[Resource]:
        page = await self._resources.page(
            tenant, TARGET, parent=gateway_id, limit=limit, token=token
        )
        return await check_parent(self._resources, tenant, gateway_id, page)

    async def delete(self, tenant: str, gateway_id: str, target_id: str) -> Resource:
        target = await self.get(tenant, gateway_id, target_id)
        await self._check_unruled(target, "goes")
        async with self._store.changing(tenant, gateway_id) as connection:
            await self._resources.delete(
                tenant, TARGET, target_id, parent=gateway_id, connection=connection
            )
            await self._store.forget_target(connection, target)
        return target

    async def _check_unruled(self, target: Resource, what: str) -> None:
        for rule in await self._store.children(target.tenant, RULE, target.parent):
            if target.name in known_targets([rule.document]):
                raise Conflict(
                    f"rule {rule.id} routes to target {target.name}; change the rule before the "
                    f"target {what}"
                )


def _document(params: dict[str, Any]) -> tuple[Document, Any | None]:
    configuration, inline = detached(params["targetConfiguration"])
    kept = {name: params[name] for name in _KEPT if params.get(name) is not None}
    return {"targetConfiguration": configuration, **kept}, inline


def _is_asked(document: Document) -> bool:
    """Whether the target offers anything to be listed: others only pass requests on."""
    return kind_of(document["targetConfiguration"]).startswith("mcp.")
