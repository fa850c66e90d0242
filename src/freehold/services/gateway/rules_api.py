"""Rules of a gateway, in AWS's operations: which requests go to which target."""

import uuid
from typing import Any

from freehold.kernel.errors import Conflict, QuotaExceeded, ValidationFailed
from freehold.kernel.request import Handler, Request
from freehold.ports.resources import Document, Resource, Resources
from freehold.services.gateway import rules
from freehold.services.gateway.documents import kind_of
from freehold.services.gateway.model import GATEWAY, RULE, TARGET
from freehold.services.gateway.service import check_parent, idempotency
from freehold.services.gateway.store import GatewayStore

Params = dict[str, Any]

RULES_MAX = 100
_MEMBERS = ("priority", "conditions", "actions", "description")


def handlers(resources: Resources, store: GatewayStore) -> dict[str, Handler]:
    own = RuleOperations(resources, store)
    service = "bedrock-agentcore-control"
    return {
        f"{service}:CreateGatewayRule": own.create,
        f"{service}:GetGatewayRule": own.get,
        f"{service}:ListGatewayRules": own.page,
        f"{service}:UpdateGatewayRule": own.update,
        f"{service}:DeleteGatewayRule": own.delete,
    }


class RuleOperations:
    def __init__(self, resources: Resources, store: GatewayStore) -> None:
        self._resources, self._store = resources, store

    async def create(self, request: Request, params: Params) -> Params:
        tenant, gateway_id = request.tenant, params["gatewayIdentifier"]
        document = {name: params[name] for name in _MEMBERS if params.get(name) is not None}
        await self._check(tenant, gateway_id, document)
        others = await self._store.children(tenant, RULE, gateway_id)
        if len(others) >= RULES_MAX:
            raise QuotaExceeded(f"a gateway has {RULES_MAX} rules at most")
        try:
            rule, _ = await self._resources.create(
                tenant, RULE, id=str(uuid.uuid4()), name=_name(document), status="ACTIVE",
                document=document, parent=gateway_id,
                idempotency=idempotency("CreateGatewayRule", params),
            )  # fmt: skip
        except Conflict as error:
            raise _taken(error, others, document) from None
        return {k: v for k, v in _shown(rule).items() if k != "updatedAt"}

    async def get(self, request: Request, params: Params) -> Params:
        return _shown(await self._rule(request, params))

    async def page(self, request: Request, params: Params) -> Params:
        gateway_id = params["gatewayIdentifier"]
        page = await self._resources.page(
            request.tenant, RULE, parent=gateway_id, limit=params.get("maxResults"),
            token=params.get("nextToken"),
        )  # fmt: skip
        await check_parent(self._resources, request.tenant, gateway_id, page)
        answer: Params = {"gatewayRules": [_shown(rule) for rule in page.items]}
        if page.next_token:
            answer["nextToken"] = page.next_token
        return answer

    async def update(self, request: Request, params: Params) -> Params:
        """What the request leaves out stays; an empty list of conditions takes all away."""
        tenant, rule = request.tenant, await self._rule(request, params)
        changes = {name: params[name] for name in _MEMBERS if params.get(name) is not None}
        await self._check(tenant, rule.parent, {**rule.document, **changes})

        def change(old: Resource) -> Document:
            return {**old.document, **changes}

        try:
            updated = await self._resources.update(
                tenant, RULE, rule.id, change, parent=rule.parent, status="ACTIVE",
                name=_name(changes) if "priority" in changes else None,
            )  # fmt: skip
        except Conflict as error:
            others = await self._store.children(tenant, RULE, rule.parent)
            raise _taken(error, others, changes) from None
        return _shown(updated)

    async def delete(self, request: Request, params: Params) -> Params:
        rule = await self._rule(request, params)
        await self._resources.delete(request.tenant, RULE, rule.id, parent=rule.parent)
        return {"ruleId": rule.id, "status": "DELETING"}

    async def _rule(self, request: Request, params: Params) -> Resource:
        return await self._resources.get(
            request.tenant, RULE, params["ruleId"], parent=params["gatewayIdentifier"]
        )

    async def _check(self, tenant: str, gateway_id: str, document: Document) -> None:
        await self._resources.get(tenant, GATEWAY, gateway_id)
        conditions = [next(iter(condition)) for condition in document.get("conditions") or ()]
        if len(set(conditions)) != len(conditions):
            raise ValidationFailed("conditions: one of each kind at most")
        targets = {
            target.name: kind_of(target.document["targetConfiguration"])
            for target in await self._store.children(tenant, TARGET, gateway_id)
        }
        rules.check(document, targets.get)


def _taken(error: Conflict, others: list[Resource], document: Document) -> Conflict:
    """In words of rules: their priorities are unique."""
    for rule in others:
        if rule.document["priority"] == document.get("priority"):
            return Conflict(
                f"rule {rule.id} has the priority {document['priority']} already; each rule of a "
                "gateway has its own"
            )
    return error


def _name(document: Document) -> str:
    """By it the store keeps priorities unique."""
    return f"priority-{document['priority']}"


def _shown(rule: Resource) -> Params:
    return {
        **rule.document,
        "ruleId": rule.id,
        "gatewayArn": rule.arn.partition("/rule/")[0],
        "status": rule.status,
        "createdAt": rule.created_at,
        "updatedAt": rule.updated_at,
    }
