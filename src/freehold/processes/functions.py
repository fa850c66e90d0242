"""Functions put together: those of this platform, over agent runtimes, and AWS Lambda."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from freehold.adapters.aws_signing.roles import OperatorRoles, RolesUnreadable
from freehold.adapters.functions.aws import AwsLambda
from freehold.adapters.postgres.resource_sql import CHANNEL as RESOURCES_CHANNEL
from freehold.kernel import tracing
from freehold.kernel.body import BytesBody
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import NotFound, RuntimeClientFailed
from freehold.kernel.operation import Operation
from freehold.ports.blobs import Blobs
from freehold.ports.database import Database
from freehold.ports.resources import Resources
from freehold.ports.secrets import Sealer
from freehold.ports.web import Web
from freehold.processes.runtimes import Runtimes
from freehold.services.functions import native
from freehold.services.functions.model import EVENT_BYTES_MAX
from freehold.services.functions.ports import InstanceBroke, InstanceSpec, InstanceState
from freehold.services.functions.routing import FunctionRouter
from freehold.services.functions.service import FunctionService
from freehold.services.runtime.invocations import Invocation
from freehold.services.runtime.model import DEFAULT_ENDPOINT
from freehold.settings import Settings, SettingsError, variable

_ANSWER_BYTES_MAX = EVENT_BYTES_MAX + (1 << 20)  # an error has its trace besides


class Functions(msgspec.Struct, frozen=True, kw_only=True):
    """`router` is `ports.functions.Functions`, to be closed before the database; `roles` is
    `ports.outbound.AwsRoles`."""

    service: FunctionService
    router: FunctionRouter
    roles: OperatorRoles


def make_functions(
    settings: Settings,
    database: Database,
    resources: Resources,
    *,
    blobs: Blobs,
    sealer: Sealer,
    runtimes: Runtimes,
    web: Web,
) -> Functions:
    """Before `database.start`: it listens."""
    instances, roles = _OfRuntimes(runtimes, resources, settings.region), _operator_roles(settings)
    service = FunctionService(
        resources=resources, blobs=blobs, sealer=sealer, instances=instances
    )  # fmt: skip
    database.listen(RESOURCES_CHANNEL, service.heard_change)
    router = FunctionRouter(
        functions=service, instances=instances, region=settings.region,
        instances_max=settings.function_instances_max,
        remote=AwsLambda(web, roles, endpoint=settings.aws_lambda_endpoint),
    )  # fmt: skip
    return Functions(service=service, router=router, roles=roles)


def _operator_roles(settings: Settings) -> OperatorRoles:
    try:
        return OperatorRoles(Path(settings.aws_roles) if settings.aws_roles else None)
    except RolesUnreadable as error:
        raise SettingsError(f"{variable('aws_roles')}: {error}") from None


def function_operations(functions: Functions) -> list[Operation]:
    return native.operations(functions.service, functions.router)


class _OfRuntimes:
    """`services/functions/ports.Instances`."""

    def __init__(self, runtimes: Runtimes, resources: Resources, region: str) -> None:
        self._runtimes, self._resources, self._region = runtimes, resources, region

    async def create(self, tenant: str, spec: InstanceSpec) -> str:
        params = {"agentRuntimeName": spec.name, "tags": spec.tags, **_params(tenant, spec)}
        return (await self._runtimes.service.create(tenant, params)).id

    async def update(self, tenant: str, runtime_id: str, spec: InstanceSpec) -> None:
        self._runtimes.service.options.check(spec.tags)
        runtime = await self._runtimes.service.get(tenant, runtime_id)
        await self._resources.tag(tenant, runtime.arn, spec.tags)
        params = {"agentRuntimeId": runtime_id, **_params(tenant, spec)}
        await self._runtimes.service.update(tenant, params)

    async def delete(self, tenant: str, runtime_id: str) -> None:
        await self._runtimes.service.delete(tenant, runtime_id)

    async def state(self, tenant: str, runtime_id: str) -> InstanceState:
        runtime = await self._runtimes.service.get(tenant, runtime_id)
        return InstanceState(runtime.status, str(runtime.document.get("_failure") or ""))

    async def version(self, tenant: str, runtime_id: str) -> int:
        found = await self._runtimes.service.resolve(tenant, runtime_id, DEFAULT_ENDPOINT)
        return found.version

    async def send(
        self, tenant: str, runtime_id: str, session_id: str, body: bytes, *, request_id: str
    ) -> bytes:
        invocation = Invocation(
            caller=_caller(tenant), tenant=tenant, runtime_arn=self._arn(tenant, runtime_id),
            endpoint=None, session_id=session_id, user=None, request_id=request_id,
            content_type="application/json", accept="application/json", headers={}, trace={},
            body=BytesBody(body),
        )  # fmt: skip
        try:
            with tracing.span("function", attributes={"freehold.function.instance": runtime_id}):
                answered = await self._runtimes.invocations.invoke(invocation)
                if isinstance(answered.body, bytes):
                    return answered.body
                return await _gathered(answered.body)
        except RuntimeClientFailed as failed:
            raise InstanceBroke(failed.message) from failed

    async def stop(self, tenant: str, runtime_id: str, session_id: str) -> None:
        arn = self._arn(tenant, runtime_id)
        try:
            await self._runtimes.invocations.stop(tenant, arn, None, session_id)
        except NotFound:
            return

    def _arn(self, tenant: str, runtime_id: str) -> str:
        return f"arn:aws:bedrock-agentcore:{self._region}:{tenant}:runtime/{runtime_id}"


def _caller(tenant: str) -> Caller:
    """The platform itself: who may call was settled for whatever the event came through."""
    principal = f"arn:aws:iam::{tenant}:role/freehold"
    return Caller(tenant=tenant, principal=principal, kind=CallerKind.ADMIN)


def _params(tenant: str, spec: InstanceSpec) -> dict[str, Any]:
    return {
        "agentRuntimeArtifact": {
            "codeConfiguration": {
                "code": {"s3": {"bucket": spec.bucket, "prefix": spec.key}},
                "runtime": spec.runtime,
                "entryPoint": list(spec.entry_point),
            }
        },
        "roleArn": f"arn:aws:iam::{tenant}:role/freehold",
        "networkConfiguration": {"networkMode": "PUBLIC"},
        "environmentVariables": spec.environment,
        "description": spec.description,
    }


async def _gathered(chunks: AsyncIterator[bytes]) -> bytes:
    gathered = bytearray()
    async for chunk in chunks:
        gathered += chunk
        if len(gathered) > _ANSWER_BYTES_MAX:
            if hasattr(chunks, "aclose"):
                await chunks.aclose()
            raise InstanceBroke("the instance answered more than a function may")
    return bytes(gathered)
