"""Gateways and targets in AWS's operations: request -> domain -> response, by the model's names."""

from typing import Any

from freehold.kernel.request import Handler, Request
from freehold.ports.resources import Resource, Resources
from freehold.ports.targets import Json
from freehold.services.gateway import limits_api, rules_api
from freehold.services.gateway.documents import kind_of, member
from freehold.services.gateway.service import GatewayService
from freehold.services.gateway.store import GatewayStore, TargetState
from freehold.services.gateway.targets import TargetService

Params = dict[str, Any]

_TARGET_TYPES = {
    "mcp.openApiSchema": "OPEN_API_SCHEMA",
    "mcp.smithyModel": "SMITHY_MODEL",
    "mcp.mcpServer": "MCP_SERVER",
    "mcp.lambda": "LAMBDA",
    "mcp.apiGateway": "API_GATEWAY",
    "mcp.connector": "CONNECTOR",
    "http.agentcoreRuntime": "AGENTCORE_RUNTIME",
    "http.passthrough": "PASSTHROUGH",
    "http.connector": "HTTP_CONNECTOR",
    "inference.provider": "PROVIDER",
    "inference.connector": "CONNECTOR",
}


def handlers(
    gateways: GatewayService, targets: TargetService, resources: Resources, store: GatewayStore
) -> dict[str, Handler]:
    own, behind = _Gateways(gateways), _Targets(targets)
    service = "bedrock-agentcore-control"
    return {
        f"{service}:CreateGateway": own.create,
        f"{service}:GetGateway": own.get,
        f"{service}:ListGateways": own.page,
        f"{service}:UpdateGateway": own.update,
        f"{service}:DeleteGateway": own.delete,
        f"{service}:CreateGatewayTarget": behind.create,
        f"{service}:GetGatewayTarget": behind.get,
        f"{service}:ListGatewayTargets": behind.page,
        f"{service}:UpdateGatewayTarget": behind.update,
        f"{service}:DeleteGatewayTarget": behind.delete,
        f"{service}:SynchronizeGatewayTargets": behind.synchronize,
        **rules_api.handlers(resources, store),
        **limits_api.handlers(resources, store),
    }


class _Gateways:
    def __init__(self, gateways: GatewayService) -> None:
        self._gateways = gateways

    async def create(self, request: Request, params: Params) -> Params:
        return self._shown(await self._gateways.create(request, params))

    async def get(self, request: Request, params: Params) -> Params:
        return self._shown(await self._gateways.get(request.tenant, params["gatewayIdentifier"]))

    async def page(self, request: Request, params: Params) -> Params:
        page = await self._gateways.page(
            request.tenant, params.get("maxResults"), params.get("nextToken")
        )
        members = (*_SUMMARY, "authorizerType", "protocolType")
        items = [{**_part(gateway, members), "gatewayId": gateway.id} for gateway in page.items]
        answer: Params = {"items": items}
        if page.next_token:
            answer["nextToken"] = page.next_token
        return answer

    async def update(self, request: Request, params: Params) -> Params:
        return self._shown(await self._gateways.update(request, params))

    async def delete(self, request: Request, params: Params) -> Params:
        gateway = await self._gateways.delete(request.tenant, params["gatewayIdentifier"])
        return {"gatewayId": gateway.id, "status": "DELETING"}

    def _shown(self, gateway: Resource) -> Params:
        return {
            **_with_times(gateway),
            "gatewayArn": gateway.arn,
            "gatewayId": gateway.id,
            "gatewayUrl": self._gateways.url(gateway.id),
            "workloadIdentityDetails": {
                "workloadIdentityArn": self._gateways.identity_arn(gateway)
            },
        }


class _Targets:
    def __init__(self, targets: TargetService) -> None:
        self._targets = targets

    async def create(self, request: Request, params: Params) -> Params:
        return await self._shown(await self._targets.create(request.caller, request.tenant, params))

    async def get(self, request: Request, params: Params) -> Params:
        return await self._shown(
            await self._targets.get(request.tenant, params["gatewayIdentifier"], params["targetId"])
        )

    async def page(self, request: Request, params: Params) -> Params:
        gateway_id = params["gatewayIdentifier"]
        page = await self._targets.page(
            request.tenant, gateway_id, params.get("maxResults"), params.get("nextToken")
        )
        states = await self._targets.states(request.tenant, gateway_id)
        answer: Params = {"items": [_summary(t, states.get(t.id)) for t in page.items]}
        if page.next_token:
            answer["nextToken"] = page.next_token
        return answer

    async def update(self, request: Request, params: Params) -> Params:
        return await self._shown(await self._targets.update(request.caller, request.tenant, params))

    async def synchronize(self, request: Request, params: Params) -> Params:
        targets = await self._targets.synchronize(
            request.tenant, params["gatewayIdentifier"], params["targetIdList"]
        )
        return {"targets": [await self._shown(target) for target in targets]}

    async def delete(self, request: Request, params: Params) -> Params:
        target = await self._targets.delete(
            request.tenant, params["gatewayIdentifier"], params["targetId"]
        )
        return {
            "gatewayArn": _gateway_arn(target), "targetId": target.id, "status": "DELETING",
        }  # fmt: skip

    async def _shown(self, target: Resource) -> Params:
        state = (await self._targets.states(target.tenant, target.parent)).get(target.id)
        configuration = await self._targets.configuration(target)
        answer = {
            **_with_times(target),
            **_asked(target, state),
            "gatewayArn": _gateway_arn(target),
            "targetId": target.id,
            "targetConfiguration": configuration,
            "protocolType": "MCP" if kind_of(configuration).startswith("mcp.") else "HTTP",
        }
        answer.setdefault("credentialProviderConfigurations", [])
        return answer


def _with_times(resource: Resource) -> Params:
    answer = {
        **{k: v for k, v in resource.document.items() if not k.startswith("_")},
        "name": resource.name,
        "status": resource.status,
        "createdAt": resource.created_at,
        "updatedAt": resource.updated_at,
    }
    if reasons := resource.document.get("_reasons"):
        answer["statusReasons"] = reasons
    return answer


_SUMMARY = ("name", "description", "status", "createdAt", "updatedAt")


def _part(resource: Resource, members: tuple[str, ...]) -> Params:
    whole = _with_times(resource)
    return {name: whole[name] for name in members if name in whole}


def _asked(target: Resource, state: TargetState | None) -> Params:
    answer: Params = {}
    if state is not None and state.synchronized_at is not None:
        answer["lastSynchronizedAt"] = state.synchronized_at
    if authorization := target.document.get("_authorization"):
        answer["authorizationData"] = authorization
    return answer


def _summary(target: Resource, state: TargetState | None) -> Params:
    configuration: Json = target.document["targetConfiguration"]
    kind, found = kind_of(configuration), member(configuration)
    answer = {
        **_part(target, _SUMMARY),
        **_asked(target, state),
        "targetId": target.id,
        "targetType": _TARGET_TYPES[kind],
    }
    if kind == "mcp.mcpServer":
        answer["listingMode"] = found.get("listingMode", "DEFAULT")
        answer["resourcePriority"] = found.get("resourcePriority", 1000)
    return answer


def _gateway_arn(target: Resource) -> str:
    return target.arn.partition("/target/")[0]
