"""Functions in our own API."""

from datetime import datetime
from typing import Any

import msgspec

from freehold.kernel.operation import Operation, Parameter, Params
from freehold.kernel.request import Request
from freehold.ports.functions import FunctionFailed, Functions, Invoked
from freehold.ports.resources import Resource
from freehold.services.functions.model import (
    MEMORY_MIB_DEFAULT,
    SECONDS_DEFAULT,
    SECONDS_MAX,
    Code,
    Wanted,
)
from freehold.services.functions.ports import InstanceState
from freehold.services.functions.service import FunctionService


class FunctionChange(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """`code` is a zip in the account's object storage. `handler` is a module and a function in it:
    `main.handler`."""

    runtime: str
    handler: str
    code: Code
    description: str = ""
    timeout_seconds: int = SECONDS_DEFAULT
    memory_mib: int = MEMORY_MIB_DEFAULT
    environment: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"FunctionChange({self.handler})"


class FunctionGiven(
    FunctionChange, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """`tags` go to the agent runtime under the hood too: `freehold:egress` and the like."""

    name: str
    tags: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"FunctionGiven({self.name})"


class FunctionSummary(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    name: str
    arn: str
    runtime: str
    handler: str
    description: str
    updated_at: datetime


class FunctionView(FunctionSummary, frozen=True, kw_only=True, rename="camel"):
    """`status` is that of the newest code: CREATING, UPDATING, READY, CREATE_FAILED, UPDATE_FAILED.
    `agentRuntimeId` is what runs it: its sessions, logs and costs are the function's."""

    status: str
    status_reason: str
    timeout_seconds: int
    memory_mib: int
    environment: dict[str, str]
    tags: dict[str, str]
    code_sha256: str
    agent_runtime_id: str
    created_at: datetime

    def __repr__(self) -> str:
        return f"FunctionView({self.name})"


class FunctionPage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    functions: list[FunctionSummary]
    next_token: str | None


class Event(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """`context` becomes the handler's `context.client_context.custom`."""

    event: Any = None
    context: dict[str, Any] = {}


class FunctionError(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    error_type: str
    error_message: str


class FunctionOutcome(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the handler returned; or `functionError`, where it failed."""

    result: Any = None
    function_error: FunctionError | None = None


_NAME = (Parameter(name="name", meaning="The function's name", where="path"),)
_PAGE = (
    Parameter(
        name="maxResults", meaning="At most so many", kind="integer", minimum=1, maximum=100
    ),
    Parameter(name="nextToken", meaning="From the page before"),
)  # fmt: skip


def operations(service: FunctionService, functions: Functions) -> list[Operation]:
    acts = _Acts(service, functions)
    return [
        Operation(
            name="ListFunctions", method="GET", path="/functions", parameters=_PAGE,
            summary="Functions of this platform, oldest first", act=acts.list,
            answer=FunctionPage,
        ),
        Operation(
            name="CreateFunction", method="POST", path="/functions", body=FunctionGiven,
            summary="A function from a zip; it is ready once its status says so",
            act=acts.create, answer=FunctionView, status=201,
        ),
        Operation(
            name="GetFunction", method="GET", path="/functions/{name}", parameters=_NAME,
            summary="One function, with its status", act=acts.get, answer=FunctionView,
        ),
        Operation(
            name="UpdateFunction", method="PUT", path="/functions/{name}", parameters=_NAME,
            summary="New code and configuration in place of all of the old", body=FunctionChange,
            act=acts.update, answer=FunctionView,
        ),
        Operation(
            name="DeleteFunction", method="DELETE", path="/functions/{name}", parameters=_NAME,
            summary="The function and its instances", act=acts.delete, status=204,
        ),
        Operation(
            name="InvokeFunction", method="POST", path="/functions/{name}/invocations",
            summary="Give the function an event, and wait for what it returns", parameters=_NAME,
            body=Event, act=acts.invoke, answer=FunctionOutcome,
        ),
    ]  # fmt: skip


class _Acts:
    def __init__(self, service: FunctionService, functions: Functions) -> None:
        self._service, self._functions = service, functions

    async def list(self, request: Request, params: Params, _: Any) -> FunctionPage:
        page = await self._service.page(
            request.tenant, params.get("maxResults"), params.get("nextToken")
        )
        return FunctionPage(
            functions=[
                FunctionSummary(
                    name=each.name, arn=each.arn, runtime=each.document["runtime"],
                    handler=each.document["handler"], description=each.document["description"],
                    updated_at=each.updated_at,
                )
                for each in page.items
            ],
            next_token=page.next_token,
        )  # fmt: skip

    async def create(self, request: Request, params: Params, body: FunctionGiven) -> FunctionView:
        wanted = _wanted(body, body.name, body.tags)
        return await self._view(await self._service.create(request.tenant, wanted))

    async def get(self, request: Request, params: Params, _: Any) -> FunctionView:
        return await self._view(await self._service.get(request.tenant, params["name"]))

    async def update(self, request: Request, params: Params, body: FunctionChange) -> FunctionView:
        wanted = _wanted(body, params["name"], {})
        return await self._view(await self._service.update(request.tenant, wanted))

    async def delete(self, request: Request, params: Params, _: Any) -> None:
        await self._service.delete(request.tenant, params["name"])

    async def invoke(self, request: Request, params: Params, body: Event) -> FunctionOutcome:
        function = await self._service.get(request.tenant, params["name"])
        invoked = Invoked(
            tenant=request.tenant,
            arn=function.arn,
            event=body.event,
            context=body.context,
            request_id=request.request_id,
            seconds_max=float(SECONDS_MAX),
        )
        try:
            return FunctionOutcome(result=await self._functions.invoke(invoked))
        except FunctionFailed as failed:
            error = FunctionError(error_type=failed.type, error_message=failed.message)
            return FunctionOutcome(function_error=error)

    async def _view(self, function: Resource) -> FunctionView:
        state: InstanceState = await self._service.state(function)
        document = function.document
        return FunctionView(
            name=function.name,
            arn=function.arn,
            runtime=document["runtime"],
            handler=document["handler"],
            description=document["description"],
            updated_at=function.updated_at,
            status=state.status,
            status_reason=state.reason,
            timeout_seconds=document["timeoutSeconds"],
            memory_mib=document["memoryMib"],
            environment=self._service.environment(function),
            tags=function.tags,
            code_sha256=document["codeSha256"],
            agent_runtime_id=document["_runtime_id"],
            created_at=function.created_at,
        )


def _wanted(body: FunctionChange, name: str, tags: dict[str, str]) -> Wanted:
    return Wanted(
        name=name,
        runtime=body.runtime,
        handler=body.handler,
        code=body.code,
        description=body.description,
        seconds_max=body.timeout_seconds,
        memory_mib=body.memory_mib,
        environment=body.environment,
        tags=tags,
    )
