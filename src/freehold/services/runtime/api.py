"""The operations of agent runtimes: request -> domain -> response, by the model's names."""

from typing import Any
from urllib.parse import quote

from freehold.kernel import tracing
from freehold.kernel.pages import Page
from freehold.kernel.request import Handler, Request
from freehold.ports.resources import Resource
from freehold.services.runtime.cards import public_card
from freehold.services.runtime.invocations import Invocation, InvocationService
from freehold.services.runtime.service import RuntimeService

Params = dict[str, Any]

_TRACE_MEMBERS = {
    "traceId": "X-Amzn-Trace-Id",
    "traceParent": "traceparent",
    "traceState": "tracestate",
    "baggage": "baggage",
    "mcpProtocolVersion": "Mcp-Protocol-Version",
}
_SENT_MEMBERS = {**_TRACE_MEMBERS, "mcpMethod": "Mcp-Method", "mcpName": "Mcp-Name"}


def handlers(runtimes: RuntimeService, invocations: InvocationService) -> dict[str, Handler]:
    control, data = _Control(runtimes), _Data(invocations)
    return {
        "bedrock-agentcore-control:CreateAgentRuntime": control.create,
        "bedrock-agentcore-control:GetAgentRuntime": control.get,
        "bedrock-agentcore-control:ListAgentRuntimes": control.page,
        "bedrock-agentcore-control:UpdateAgentRuntime": control.update,
        "bedrock-agentcore-control:DeleteAgentRuntime": control.delete,
        "bedrock-agentcore-control:ListAgentRuntimeVersions": control.versions,
        "bedrock-agentcore-control:CreateAgentRuntimeEndpoint": control.create_endpoint,
        "bedrock-agentcore-control:GetAgentRuntimeEndpoint": control.get_endpoint,
        "bedrock-agentcore-control:ListAgentRuntimeEndpoints": control.endpoints,
        "bedrock-agentcore-control:UpdateAgentRuntimeEndpoint": control.update_endpoint,
        "bedrock-agentcore-control:DeleteAgentRuntimeEndpoint": control.delete_endpoint,
        "bedrock-agentcore:InvokeAgentRuntime": data.invoke,
        "bedrock-agentcore:GetAgentCard": data.card,
        "bedrock-agentcore:StopRuntimeSession": data.stop,
    }


class _Control:
    def __init__(self, runtimes: RuntimeService) -> None:
        self._runtimes = runtimes

    def _identity(self, runtime: Resource) -> Params:
        workload = self._runtimes.identities.arn(runtime.arn)
        return {**_identity(runtime), "workloadIdentityDetails": {"workloadIdentityArn": workload}}

    async def create(self, request: Request, params: Params) -> Params:
        runtime = await self._runtimes.create(request.tenant, params)
        return {
            **self._identity(runtime),
            "createdAt": runtime.created_at,
            "status": runtime.status,
        }

    async def update(self, request: Request, params: Params) -> Params:
        runtime = await self._runtimes.update(request.tenant, params)
        return {
            **self._identity(runtime),
            "createdAt": runtime.created_at,
            "lastUpdatedAt": runtime.updated_at,
            "status": runtime.status,
        }

    async def get(self, request: Request, params: Params) -> Params:
        version = params.get("agentRuntimeVersion")
        runtime = await self._runtimes.get(
            request.tenant, params["agentRuntimeId"], int(version) if version else None
        )
        document = {k: v for k, v in runtime.document.items() if not k.startswith("_")}
        answer = {
            **document,
            **self._identity(runtime),
            "agentRuntimeName": runtime.name,
            "createdAt": runtime.created_at,
            "lastUpdatedAt": runtime.updated_at,
            "status": runtime.status,
        }
        if environment := self._runtimes.environment(runtime):
            answer["environmentVariables"] = environment
        if "_failure" in runtime.document:
            answer["failureReason"] = runtime.document["_failure"]
        return answer

    async def page(self, request: Request, params: Params) -> Params:
        page = await self._runtimes.page(
            request.tenant, params.get("maxResults"), params.get("nextToken")
        )
        return _page("agentRuntimes", page, _summary)

    async def versions(self, request: Request, params: Params) -> Params:
        page = await self._runtimes.versions(
            request.tenant,
            params["agentRuntimeId"],
            params.get("maxResults"),
            params.get("nextToken"),
        )
        return _page("agentRuntimes", page, _summary)

    async def delete(self, request: Request, params: Params) -> Params:
        runtime = await self._runtimes.delete(
            request.tenant, params["agentRuntimeId"], params.get("agentRuntimeVersion")
        )
        return {"status": "DELETING", "agentRuntimeId": runtime.id}

    async def create_endpoint(self, request: Request, params: Params) -> Params:
        endpoint = await self._runtimes.create_endpoint(request.tenant, params)
        return {
            "targetVersion": str(endpoint.document["targetVersion"]),
            "agentRuntimeEndpointArn": endpoint.arn,
            "agentRuntimeArn": _runtime_arn(endpoint),
            "agentRuntimeId": endpoint.parent,
            "endpointName": endpoint.name,
            "status": endpoint.status,
            "createdAt": endpoint.created_at,
        }

    async def update_endpoint(self, request: Request, params: Params) -> Params:
        endpoint = await self._runtimes.update_endpoint(request.tenant, params)
        described = _endpoint(endpoint)
        return {k: described[k] for k in described if k not in ("name", "id", "description")}

    async def get_endpoint(self, request: Request, params: Params) -> Params:
        endpoint = await self._runtimes.get_endpoint(
            request.tenant, params["agentRuntimeId"], params["endpointName"]
        )
        answer = _endpoint(endpoint)
        if "_failure" in endpoint.document:
            answer["failureReason"] = endpoint.document["_failure"]
        return answer

    async def endpoints(self, request: Request, params: Params) -> Params:
        page = await self._runtimes.endpoints(
            request.tenant,
            params["agentRuntimeId"],
            params.get("maxResults"),
            params.get("nextToken"),
        )
        return _page("runtimeEndpoints", page, _endpoint)

    async def delete_endpoint(self, request: Request, params: Params) -> Params:
        endpoint = await self._runtimes.delete_endpoint(
            request.tenant, params["agentRuntimeId"], params["endpointName"]
        )
        return {
            "status": "DELETING",
            "agentRuntimeId": endpoint.parent,
            "endpointName": endpoint.name,
        }


class _Data:
    def __init__(self, invocations: InvocationService) -> None:
        self._invocations = invocations

    async def invoke(self, request: Request, params: Params) -> Params:
        answered = await self._invocations.invoke(
            Invocation(
                caller=request.caller,
                tenant=request.tenant,
                runtime_arn=params["agentRuntimeArn"],
                endpoint=params.get("qualifier"),
                session_id=params.get("runtimeSessionId"),
                user=params.get("runtimeUserId"),
                request_id=request.request_id,
                content_type=params.get("contentType"),
                accept=params.get("accept"),
                headers=dict(request.headers),
                trace={h: params[m] for m, h in _SENT_MEMBERS.items() if params.get(m)},
                mcp_session=params.get("mcpSessionId"),
                body=params["payload"],
            )
        )
        answer = {
            "runtimeSessionId": answered.session_id,
            "contentType": answered.content_type,
            "statusCode": answered.status,
            "response": answered.body,
        }
        shown = {m: answered.headers.get(h.lower()) for m, h in _TRACE_MEMBERS.items()}
        # Unless the agent says its own: the client finds the trace by it.
        shown["traceParent"] = shown["traceParent"] or tracing.headers().get("traceparent")
        for member, value in (shown | {"mcpSessionId": answered.mcp_session}).items():
            if value and value.isprintable():
                answer[member] = value
        return answer

    async def card(self, request: Request, params: Params) -> Params:
        arn, qualifier = params["agentRuntimeArn"], params.get("qualifier")
        session_id, card = await self._invocations.card(
            request.tenant, arn, qualifier, params.get("runtimeSessionId"),
            request.request_id,
        )  # fmt: skip
        # A2A clients post to the URL as it is, or with a slash at its end: it has one.
        url = f"{request.origin}/runtimes/{quote(arn, safe='')}/invocations/"
        if qualifier:
            url += f"?qualifier={quote(qualifier, safe='')}"
        return {
            "runtimeSessionId": session_id,
            "agentCard": public_card(card, url),
            "statusCode": 200,
        }

    async def stop(self, request: Request, params: Params) -> Params:
        await self._invocations.stop(
            request.tenant,
            params["agentRuntimeArn"],
            params.get("qualifier"),
            params["runtimeSessionId"],
        )
        return {"runtimeSessionId": params["runtimeSessionId"], "statusCode": 200}


def _identity(runtime: Resource) -> Params:
    return {
        "agentRuntimeArn": runtime.arn,
        "agentRuntimeId": runtime.id,
        "agentRuntimeVersion": str(runtime.version),
    }


def _summary(runtime: Resource) -> Params:
    return {
        **_identity(runtime),
        "agentRuntimeName": runtime.name,
        "description": runtime.document.get("description", ""),
        "lastUpdatedAt": runtime.updated_at,
        "status": runtime.status,
    }


def _runtime_arn(endpoint: Resource) -> str:
    return endpoint.arn.partition("/runtime-endpoint/")[0]


def _endpoint(endpoint: Resource) -> Params:
    document = endpoint.document
    answer = {
        "agentRuntimeEndpointArn": endpoint.arn,
        "agentRuntimeArn": _runtime_arn(endpoint),
        "status": endpoint.status,
        "createdAt": endpoint.created_at,
        "lastUpdatedAt": endpoint.updated_at,
        "name": endpoint.name,
        "id": endpoint.id,
    }
    for member in ("liveVersion", "targetVersion"):
        if member in document:
            answer[member] = str(document[member])
    if "description" in document:
        answer["description"] = document["description"]
    return answer


def _page(member: str, page: Page[Resource], show: Any) -> Params:
    answer: Params = {member: [show(item) for item in page.items]}
    if page.next_token:
        answer["nextToken"] = page.next_token
    return answer
