"""Resource policies: request -> domain -> response, by the model's names."""

from typing import Any

from freehold.kernel.request import Handler, Request
from freehold.services.access.policies import ResourcePolicyService

Params = dict[str, Any]


def handlers(policies: ResourcePolicyService) -> dict[str, Handler]:
    async def put(request: Request, params: Params) -> Params:
        await policies.put(request.tenant, params["resourceArn"], params["policy"])
        return {"policy": params["policy"]}

    async def get(request: Request, params: Params) -> Params:
        return {"policy": await policies.get(request.tenant, params["resourceArn"])}

    async def delete(request: Request, params: Params) -> Params:
        await policies.delete(request.tenant, params["resourceArn"])
        return {}

    return {
        "bedrock-agentcore-control:PutResourcePolicy": put,
        "bedrock-agentcore-control:GetResourcePolicy": get,
        "bedrock-agentcore-control:DeleteResourcePolicy": delete,
    }
