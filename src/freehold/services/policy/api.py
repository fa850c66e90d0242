"""Policy engines and policies in AWS's operations: request -> domain -> response."""

from typing import Any

from freehold.kernel.pages import Page
from freehold.kernel.request import Handler, Request
from freehold.ports.resources import Resource
from freehold.services.policy.policies import PolicyService
from freehold.services.policy.service import EngineService

Params = dict[str, Any]

PAGE_ITEMS_DEFAULT = 100


def handlers(engines: EngineService, policies: PolicyService) -> dict[str, Handler]:
    """Without those of generations: see `generation_api`."""
    own, inside = _Engines(engines), _Policies(policies)
    service = "bedrock-agentcore-control"
    return {
        f"{service}:CreatePolicyEngine": own.create,
        f"{service}:GetPolicyEngine": own.get,
        f"{service}:GetPolicyEngineSummary": own.get_summary,
        f"{service}:UpdatePolicyEngine": own.update,
        f"{service}:DeletePolicyEngine": own.delete,
        f"{service}:ListPolicyEngines": own.page,
        f"{service}:ListPolicyEngineSummaries": own.page_summaries,
        f"{service}:CreatePolicy": inside.create,
        f"{service}:GetPolicy": inside.get,
        f"{service}:GetPolicySummary": inside.get_summary,
        f"{service}:UpdatePolicy": inside.update,
        f"{service}:DeletePolicy": inside.delete,
        f"{service}:ListPolicies": inside.page,
        f"{service}:ListPolicySummaries": inside.page_summaries,
    }


class _Engines:
    def __init__(self, engines: EngineService) -> None:
        self._engines = engines

    async def create(self, request: Request, params: Params) -> Params:
        return _engine(await self._engines.create(request.tenant, params))

    async def get(self, request: Request, params: Params) -> Params:
        return _engine(await self._engines.get(request.tenant, params["policyEngineId"]))

    async def get_summary(self, request: Request, params: Params) -> Params:
        return _engine_summary(await self._engines.get(request.tenant, params["policyEngineId"]))

    async def update(self, request: Request, params: Params) -> Params:
        return _engine(await self._engines.update(request.tenant, params))

    async def delete(self, request: Request, params: Params) -> Params:
        engine = await self._engines.delete(request.tenant, params["policyEngineId"])
        return {**_engine(engine), "status": "DELETING"}

    async def page(self, request: Request, params: Params) -> Params:
        page = await self._page(request, params)
        return _listed("policyEngines", page, [_engine(each) for each in page.items])

    async def page_summaries(self, request: Request, params: Params) -> Params:
        page = await self._page(request, params)
        return _listed("policyEngines", page, [_engine_summary(each) for each in page.items])

    async def _page(self, request: Request, params: Params) -> Page[Resource]:
        return await self._engines.page(
            request.tenant, params.get("maxResults") or PAGE_ITEMS_DEFAULT, params.get("nextToken")
        )


class _Policies:
    def __init__(self, policies: PolicyService) -> None:
        self._policies = policies

    async def create(self, request: Request, params: Params) -> Params:
        return _policy(await self._policies.create(request, params))

    async def get(self, request: Request, params: Params) -> Params:
        return _policy(await self._get(request, params))

    async def get_summary(self, request: Request, params: Params) -> Params:
        return _policy_summary(await self._get(request, params))

    async def update(self, request: Request, params: Params) -> Params:
        return _policy(await self._policies.update(request, params))

    async def delete(self, request: Request, params: Params) -> Params:
        policy = await self._policies.delete(request, params["policyEngineId"], params["policyId"])
        return {**_policy(policy), "status": "DELETING"}

    async def page(self, request: Request, params: Params) -> Params:
        page = await self._page(request, params)
        return _listed("policies", page, [_policy(each) for each in page.items])

    async def page_summaries(self, request: Request, params: Params) -> Params:
        page = await self._page(request, params)
        return _listed("policies", page, [_policy_summary(each) for each in page.items])

    async def _get(self, request: Request, params: Params) -> Resource:
        return await self._policies.get(
            request.tenant, params["policyEngineId"], params["policyId"]
        )

    async def _page(self, request: Request, params: Params) -> Page[Resource]:
        return await self._policies.page(
            request.tenant, params["policyEngineId"],
            params.get("maxResults") or PAGE_ITEMS_DEFAULT, params.get("nextToken"),
            params.get("targetResourceScope"),
        )  # fmt: skip


def _engine_summary(engine: Resource) -> Params:
    return {"policyEngineId": engine.id, "policyEngineArn": engine.arn, **_common(engine)}


def _engine(engine: Resource) -> Params:
    return {**_engine_summary(engine), **_told(engine)}


def _policy_summary(policy: Resource) -> Params:
    return {
        "policyId": policy.id,
        "policyArn": policy.arn,
        "policyEngineId": policy.parent,
        "enforcementMode": policy.document["enforcementMode"],
        **_common(policy),
    }


def _policy(policy: Resource) -> Params:
    shown = {**_policy_summary(policy), **_told(policy)}
    shown["definition"] = policy.document["definition"]
    return shown


def _common(resource: Resource) -> Params:
    return {
        "name": resource.name,
        "status": resource.status,
        "createdAt": resource.created_at,
        "updatedAt": resource.updated_at,
    }


def _told(resource: Resource) -> Params:
    told: Params = {"statusReasons": resource.document.get("_reasons", [])}
    if description := resource.document.get("description"):
        told["description"] = description
    return told


def _listed(member: str, page: Page[Resource], items: list[Params]) -> Params:
    answer: Params = {member: items}
    if page.next_token:
        answer["nextToken"] = page.next_token
    return answer
