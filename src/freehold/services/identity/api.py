"""The operations of workload identities: request -> domain -> response, by the model's names."""

from typing import Any

from freehold.kernel import tracing
from freehold.kernel.request import Handler, Request
from freehold.ports.resources import Resource
from freehold.services.identity.grants import TokenGrants
from freehold.services.identity.service import WorkloadIdentities, return_urls

Params = dict[str, Any]


def handlers(identities: WorkloadIdentities, grants: TokenGrants) -> dict[str, Handler]:
    control, data = _Control(identities), _Data(grants)
    return {
        "bedrock-agentcore-control:CreateWorkloadIdentity": control.create,
        "bedrock-agentcore-control:GetWorkloadIdentity": control.get,
        "bedrock-agentcore-control:ListWorkloadIdentities": control.page,
        "bedrock-agentcore-control:UpdateWorkloadIdentity": control.update,
        "bedrock-agentcore-control:DeleteWorkloadIdentity": control.delete,
        "bedrock-agentcore:GetWorkloadAccessToken": data.for_itself,
        "bedrock-agentcore:GetWorkloadAccessTokenForJWT": data.for_jwt,
        "bedrock-agentcore:GetWorkloadAccessTokenForUserId": data.for_user_id,
    }


class _Control:
    def __init__(self, identities: WorkloadIdentities) -> None:
        self._identities = identities

    async def create(self, request: Request, params: Params) -> Params:
        return _shown(await self._identities.create(request.tenant, params))

    async def get(self, request: Request, params: Params) -> Params:
        return _with_times(await self._identities.get(request.tenant, params["name"]))

    async def page(self, request: Request, params: Params) -> Params:
        page = await self._identities.page(
            request.tenant, params.get("maxResults"), params.get("nextToken")
        )
        answer: Params = {
            "workloadIdentities": [
                {"name": identity.name, "workloadIdentityArn": identity.arn}
                for identity in page.items
            ]
        }
        if page.next_token:
            answer["nextToken"] = page.next_token
        return answer

    async def update(self, request: Request, params: Params) -> Params:
        return _with_times(await self._identities.update(request.tenant, params))

    async def delete(self, request: Request, params: Params) -> Params:
        await self._identities.delete(request.tenant, params["name"])
        return {}


class _Data:
    def __init__(self, grants: TokenGrants) -> None:
        self._grants = grants

    async def for_itself(self, request: Request, params: Params) -> Params:
        _tell(params["workloadName"], "workload")
        token = await self._grants.for_itself(
            request.caller, request.tenant, params["workloadName"]
        )
        return {"workloadAccessToken": token}

    async def for_jwt(self, request: Request, params: Params) -> Params:
        _tell(params["workloadName"], "user's token")
        token = await self._grants.for_jwt(
            request.caller, request.tenant, params["workloadName"], params["userToken"]
        )
        return {"workloadAccessToken": token}

    async def for_user_id(self, request: Request, params: Params) -> Params:
        _tell(params["workloadName"], "user id")
        token = await self._grants.for_user_id(
            request.caller, request.tenant, params["workloadName"], params["userId"]
        )
        return {"workloadAccessToken": token}


def _tell(workload: str, flow: str) -> None:
    tracing.describe(
        f"credential {workload}",
        {
            "freehold.credential.provider": workload,
            "freehold.credential.kind": "WORKLOAD_TOKEN",
            "freehold.credential.flow": flow,
        },
    )


def _shown(identity: Resource) -> Params:
    return {
        "name": identity.name,
        "workloadIdentityArn": identity.arn,
        "allowedResourceOauth2ReturnUrls": return_urls(identity),
    }


def _with_times(identity: Resource) -> Params:
    return {
        **_shown(identity),
        "createdTime": identity.created_at,
        "lastUpdatedTime": identity.updated_at,
    }
