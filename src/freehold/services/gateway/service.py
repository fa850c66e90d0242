"""Gateways: made, changed, deleted. No HTTP, no SQL."""

from typing import Any

from freehold.kernel import ids
from freehold.kernel.errors import Conflict, ValidationFailed
from freehold.kernel.pages import Page
from freehold.kernel.request import Request
from freehold.ports.enforcement import Attachments
from freehold.ports.resources import Document, Idempotency, Resource, Resources
from freehold.services.gateway.checks import check_gateway, check_passthrough
from freehold.services.gateway.model import GATEWAY, GATEWAY_OPTIONS, TARGET
from freehold.services.gateway.ports import GatewayIdentities
from freehold.services.gateway.store import GatewayStore

_MEMBERS = (
    "description", "roleArn", "protocolType", "protocolConfiguration", "authorizerType",
    "authorizerConfiguration", "interceptorConfigurations", "exceptionLevel",
    "policyEngineConfiguration",
)  # fmt: skip

_ENGINE = "policyEngineConfiguration"


class GatewayService:
    """`public_url`: the platform's own, below which each gateway has its address."""

    def __init__(
        self,
        *,
        resources: Resources,
        store: GatewayStore,
        identities: GatewayIdentities,
        policies: Attachments,
        public_url: str,
    ) -> None:
        self._resources, self._store = resources, store
        self._identities, self._policies = identities, policies
        self._public_url = public_url.rstrip("/")

    def url(self, gateway_id: str) -> str:
        return f"{self._public_url}/gateway/{gateway_id}/mcp"

    def identity_arn(self, gateway: Resource) -> str:
        return self._identities.arn(gateway.arn)

    async def create(self, request: Request, params: dict[str, Any]) -> Resource:
        tenant = request.tenant
        check_gateway(params)
        if params.get(_ENGINE):
            await self._policies.check(request, None, None, params[_ENGINE])
        name, tags = params["name"], params.get("tags") or {}
        GATEWAY_OPTIONS.check(tags)
        gateway_id = f"{name.lower()}-{ids.random_text(10).lower()}"
        async with self._store.changing(tenant, gateway_id) as connection:
            gateway, made = await self._resources.create(
                tenant, GATEWAY, id=gateway_id, name=name, status="CREATING",
                document=_document(params), tags=tags, connection=connection,
                idempotency=idempotency("CreateGateway", params),
            )  # fmt: skip
            if made:
                await self._store.place(connection, tenant, gateway_id)
        return await self._finish(gateway)

    async def _finish(self, gateway: Resource) -> Resource:
        """Also of a repeated request, and after a crash in between."""
        if gateway.status != "CREATING":
            return gateway
        await self._identities.ensure(gateway.tenant, gateway.id)
        return await self._resources.set_status(gateway.tenant, GATEWAY, gateway.id, "READY")

    async def take_up(self) -> None:
        """What a crash left half made."""
        for gateway in await self._resources.in_status(GATEWAY, frozenset({"CREATING"})):
            await self._finish(gateway)

    async def get(self, tenant: str, gateway_id: str) -> Resource:
        return await self._resources.get(tenant, GATEWAY, gateway_id)

    async def page(self, tenant: str, limit: int | None, token: str | None) -> Page[Resource]:
        return await self._resources.page(tenant, GATEWAY, limit=limit, token=token)

    async def update(self, request: Request, params: dict[str, Any]) -> Resource:
        """Replaces all of it: what the request leaves out is gone."""
        tenant = request.tenant
        gateway_id = params["gatewayIdentifier"]
        gateway = await self.get(tenant, gateway_id)
        if params["name"] != gateway.name:
            raise ValidationFailed(f"name: a gateway keeps its name, which is {gateway.name!r}")
        check_gateway(params)
        for target in await self._store.children(tenant, TARGET, gateway_id):
            _check_still_fits(target, params["authorizerType"])
        before = gateway.document.get(_ENGINE)
        if before != params.get(_ENGINE):
            await self._policies.check(request, gateway.arn, before, params.get(_ENGINE))

        def changed(now: Resource) -> Document:
            if now.document.get(_ENGINE) != before:
                raise Conflict("the gateway's policy engine was changed just now; look again")
            return _document(params)

        async with self._store.changing(tenant, gateway_id) as connection:
            return await self._resources.update(
                tenant, GATEWAY, gateway_id, changed, status="READY", connection=connection
            )

    async def delete(self, tenant: str, gateway_id: str) -> Resource:
        gateway = await self.get(tenant, gateway_id)
        async with self._store.changing(tenant, gateway_id) as connection:
            count = await self._store.count_targets(connection, tenant, gateway_id)
            if count:
                raise Conflict(f"gateway {gateway_id} has {count} targets; delete those first")
            await self._resources.delete(tenant, GATEWAY, gateway_id, connection=connection)
            await self._store.forget_gateway(connection, tenant, gateway_id)
        await self._identities.forget(tenant, gateway_id)
        return gateway


def _document(params: dict[str, Any]) -> Document:
    return {name: params[name] for name in _MEMBERS if params.get(name) is not None}


def _check_still_fits(target: Resource, authorizer: str) -> None:
    given = target.document.get("credentialProviderConfigurations") or [{}]
    if given[0].get("credentialProviderType") != "JWT_PASSTHROUGH":
        return
    try:
        check_passthrough(authorizer)
    except ValidationFailed as error:
        raise ValidationFailed(f"target {target.name}: {error.message}") from None


def idempotency(operation: str, params: dict[str, Any]) -> Idempotency:
    request = {k: v for k, v in params.items() if k != "clientToken"}
    return Idempotency(operation, params.get("clientToken"), request)


async def check_parent(
    resources: Resources, tenant: str, gateway_id: str, page: Page[Resource]
) -> Page[Resource]:
    """An empty list is of a gateway that is there. NotFound."""
    if not page.items:
        await resources.get(tenant, GATEWAY, gateway_id)
    return page
