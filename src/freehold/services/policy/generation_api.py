"""Policy generations in AWS's operations: request -> domain -> response, by the model's names."""

from typing import Any

from freehold.kernel.request import Handler, Request
from freehold.ports.resources import Resource
from freehold.services.policy.generation import Generations
from freehold.services.policy.generation_checking import Finding
from freehold.services.policy.generation_translating import Asset

Params = dict[str, Any]


def handlers(generations: Generations) -> dict[str, Handler]:
    own = _Generations(generations)
    service = "bedrock-agentcore-control"
    return {
        f"{service}:StartPolicyGeneration": own.start,
        f"{service}:GetPolicyGeneration": own.get,
        f"{service}:GetPolicyGenerationSummary": own.summary,
        f"{service}:ListPolicyGenerations": own.page,
        f"{service}:ListPolicyGenerationSummaries": own.summaries,
        f"{service}:ListPolicyGenerationAssets": own.assets,
    }


class _Generations:
    def __init__(self, generations: Generations) -> None:
        self._generations = generations

    async def start(self, request: Request, params: Params) -> Params:
        return _shown(await self._generations.start(request.tenant, params))

    async def get(self, request: Request, params: Params) -> Params:
        return _shown(await self._found(request, params))

    async def summary(self, request: Request, params: Params) -> Params:
        return _summary(await self._found(request, params))

    async def page(self, request: Request, params: Params) -> Params:
        items, token = await self._page(request, params)
        return {"policyGenerations": [_shown(each) for each in items], **token}

    async def summaries(self, request: Request, params: Params) -> Params:
        items, token = await self._page(request, params)
        return {"policyGenerations": [_summary(each) for each in items], **token}

    async def assets(self, request: Request, params: Params) -> Params:
        page = await self._generations.assets(
            request.tenant, params["policyEngineId"], params["policyGenerationId"],
            params.get("maxResults"), params.get("nextToken"),
        )  # fmt: skip
        answer: Params = {"policyGenerationAssets": [_asset(each) for each in page.items]}
        if page.next_token:
            answer["nextToken"] = page.next_token
        return answer

    async def _found(self, request: Request, params: Params) -> Resource:
        return await self._generations.get(
            request.tenant, params["policyEngineId"], params["policyGenerationId"]
        )

    async def _page(self, request: Request, params: Params) -> tuple[list[Resource], Params]:
        page = await self._generations.page(
            request.tenant, params["policyEngineId"], params.get("maxResults"),
            params.get("nextToken"),
        )  # fmt: skip
        return page.items, {"nextToken": page.next_token} if page.next_token else {}


def _summary(generation: Resource) -> Params:
    answer: Params = {
        "policyEngineId": generation.parent,
        "policyGenerationId": generation.id,
        "policyGenerationArn": generation.arn,
        "name": generation.name,
        "resource": generation.document["resource"],
        "createdAt": generation.created_at,
        "updatedAt": generation.updated_at,
        "status": generation.status,
    }
    if findings := generation.document.get("findings"):
        answer["findings"] = findings
    return answer


def _shown(generation: Resource) -> Params:
    reasons: list[str] = generation.document.get("_reasons", [])
    return {**_summary(generation), "statusReasons": reasons}


def _finding(finding: Finding) -> Params:
    said: Params = {"description": finding.description}
    return {"type": finding.type, **said} if finding.type else said


def _asset(asset: Asset) -> Params:
    answer: Params = {
        "policyGenerationAssetId": asset.id,
        "rawTextFragment": asset.fragment,
        "findings": [_finding(each) for each in asset.findings],
    }
    if asset.statement:
        answer["definition"] = {"cedar": {"statement": asset.statement}}
    return answer
