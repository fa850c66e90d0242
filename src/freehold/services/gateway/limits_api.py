"""Rate limits of a gateway, in AWS's operations."""

from typing import Any

from freehold.kernel import ids
from freehold.kernel.errors import Conflict, QuotaExceeded, ValidationFailed
from freehold.kernel.request import Handler, Request
from freehold.ports.database import Connection
from freehold.ports.resources import Document, Resource, Resources
from freehold.services.gateway import limits
from freehold.services.gateway.model import GATEWAY, RATE_LIMIT
from freehold.services.gateway.service import check_parent, idempotency
from freehold.services.gateway.store import GatewayStore

Params = dict[str, Any]

RATE_LIMITS_MAX = 100
_MEMBERS = ("description", "dimensionKeys", "entries")


def handlers(resources: Resources, store: GatewayStore) -> dict[str, Handler]:
    own = RateLimitOperations(resources, store)
    service = "bedrock-agentcore-control"
    return {
        f"{service}:CreateGatewayRateLimit": own.create,
        f"{service}:GetGatewayRateLimit": own.get,
        f"{service}:ListGatewayRateLimits": own.page,
        f"{service}:UpdateGatewayRateLimit": own.update,
        f"{service}:DeleteGatewayRateLimit": own.delete,
        f"{service}:BatchPutGatewayRateLimits": own.put_batch,
    }


class RateLimitOperations:
    def __init__(self, resources: Resources, store: GatewayStore) -> None:
        self._resources, self._store = resources, store

    async def create(self, request: Request, params: Params) -> Params:
        tenant, gateway_id = request.tenant, params["gatewayIdentifier"]
        document = _checked(params)
        await self._resources.get(tenant, GATEWAY, gateway_id)
        others = await self._store.children(tenant, RATE_LIMIT, gateway_id)
        _check_quota(len(others) + 1)
        try:
            limit = await self._create(tenant, gateway_id, params, document)
        except Conflict as error:
            raise _taken(error, others, document) from None
        return _shown(limit)

    async def _create(
        self,
        tenant: str,
        gateway_id: str,
        params: Params,
        document: Document,
        *,
        connection: Connection | None = None,
    ) -> Resource:
        """Of a batch, whose token is the batch's, without one of its own."""
        limit, _ = await self._resources.create(
            tenant, RATE_LIMIT, id=params.get("rateLimitId") or f"limit-{ids.random_text(10)}",
            name=_name(document), status="ACTIVE", document=document, parent=gateway_id,
            connection=connection,
            idempotency=None if connection else idempotency("CreateGatewayRateLimit", params),
        )  # fmt: skip
        return limit

    async def get(self, request: Request, params: Params) -> Params:
        return _shown(await self._limit(request, params))

    async def page(self, request: Request, params: Params) -> Params:
        gateway_id = params["gatewayIdentifier"]
        page = await self._resources.page(
            request.tenant, RATE_LIMIT, parent=gateway_id, limit=params.get("maxResults"),
            token=params.get("nextToken"),
        )  # fmt: skip
        await check_parent(self._resources, request.tenant, gateway_id, page)
        answer: Params = {"rateLimits": [_shown(limit) for limit in page.items]}
        if page.next_token:
            answer["nextToken"] = page.next_token
        return answer

    async def update(self, request: Request, params: Params) -> Params:
        """The dimensions stay: they are what the limit is."""
        limit = await self._limit(request, params)
        given = ("description", "entries")
        changes = {name: params[name] for name in given if params.get(name) is not None}
        document = _checked({**limit.document, **changes})
        updated = await self._resources.update(
            request.tenant, RATE_LIMIT, limit.id, lambda _: document, parent=limit.parent,
            status="ACTIVE",
        )  # fmt: skip
        return _shown(updated)

    async def delete(self, request: Request, params: Params) -> Params:
        limit = await self._limit(request, params)
        await self._resources.delete(request.tenant, RATE_LIMIT, limit.id, parent=limit.parent)
        return {"rateLimitId": limit.id, "status": "DELETING"}

    async def put_batch(self, request: Request, params: Params) -> Params:
        """All or nothing. A limit with the same dimensions is replaced."""
        tenant, gateway_id = request.tenant, params["gatewayIdentifier"]
        documents = [_checked(entry) for entry in params["rateLimits"]]
        names = [_name(document) for document in documents]
        if len(set(names)) != len(names):
            raise ValidationFailed("rateLimits: two of them have the same dimensionKeys")
        await self._resources.get(tenant, GATEWAY, gateway_id)
        others = await self._store.children(tenant, RATE_LIMIT, gateway_id)
        there = {limit.name: limit for limit in others}
        _check_quota(len(there.keys() | set(names)))
        put = []
        async with self._store.changing(tenant, gateway_id) as connection:
            for entry, document in zip(params["rateLimits"], documents, strict=True):
                known = there.get(_name(document))
                limit = await self._put(
                    tenant, gateway_id, entry, document, known=known, connection=connection
                )
                put.append(limit)
        return {"rateLimits": [_shown(limit) for limit in put]}

    async def _put(
        self,
        tenant: str,
        gateway_id: str,
        entry: Params,
        document: Document,
        *,
        known: Resource | None,
        connection: Connection,
    ) -> Resource:
        if known is None:
            return await self._create(tenant, gateway_id, entry, document, connection=connection)
        if entry.get("rateLimitId") not in (None, known.id):
            raise Conflict(f"rate limit {known.id} has these dimensionKeys already")
        return await self._resources.update(
            tenant, RATE_LIMIT, known.id, lambda _: document, parent=gateway_id, status="ACTIVE",
            connection=connection,
        )  # fmt: skip

    async def _limit(self, request: Request, params: Params) -> Resource:
        return await self._resources.get(
            request.tenant, RATE_LIMIT, params["rateLimitId"], parent=params["gatewayIdentifier"]
        )


def _checked(params: Params) -> Document:
    document = {name: params[name] for name in _MEMBERS if params.get(name) is not None}
    limits.check(document)
    return document


def _check_quota(count: int) -> None:
    if count > RATE_LIMITS_MAX:
        raise QuotaExceeded(f"a gateway has {RATE_LIMITS_MAX} rate limits at most")


def _taken(error: Conflict, others: list[Resource], document: Document) -> Conflict:
    """In words of limits: their dimensions are unique, in whatever order."""
    for limit in others:
        if limit.name == _name(document):
            return Conflict(
                f"rate limit {limit.id} has these dimensionKeys already; add the entries to it"
            )
    return error


def _name(document: Document) -> str:
    """By it the store keeps dimensions unique."""
    return " ".join(sorted(document["dimensionKeys"]))


def _shown(limit: Resource) -> Params:
    return {
        **limit.document,
        "rateLimitId": limit.id,
        "gatewayIdentifier": limit.parent,
        "status": limit.status,
        "createdAt": limit.created_at,
        "updatedAt": limit.updated_at,
    }
