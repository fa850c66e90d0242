"""Functions in real sandboxes: this process has the service, a real platform its sessions.

The service's own tables and objects are the platform's. Runtimes are made and called through boto3,
so that this does not depend on how the processes plug things together.
"""

import asyncio
import contextlib
import io
import uuid
import zipfile
from collections.abc import AsyncIterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from freehold.adapters.blobs.filesystem import FilesystemBlobs
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.postgres.resource_sql import CHANNEL
from freehold.adapters.postgres.resources import PostgresResources
from freehold.adapters.secrets.platform import from_file
from freehold.kernel.errors import AccessDenied, Conflict, NotFound
from freehold.ports.functions import Invoked
from freehold.services.functions.model import Code, Wanted
from freehold.services.functions.ports import InstanceBroke, InstanceSpec, InstanceState
from freehold.services.functions.routing import FunctionRouter
from freehold.services.functions.service import FunctionService
from running import PYTHON, READY_SECONDS_MAX, SETTLED, RunningPlatform

BUCKET = "function-tests"


class BotoInstances:
    """`services/functions/ports.Instances` of a platform in other processes."""

    def __init__(self, platform: RunningPlatform) -> None:
        self._platform = platform
        self._control = platform.client("bedrock-agentcore-control")
        self._data = platform.client("bedrock-agentcore", config={"max_pool_connections": 64})
        self.sessions: list[str] = []
        self.stopped: list[str] = []

    async def create(self, tenant: str, spec: InstanceSpec) -> str:
        made = await asyncio.to_thread(
            self._control.create_agent_runtime, agentRuntimeName=spec.name,
            tags={"freehold:tier": "container", **spec.tags}, **self._params(spec),
        )  # fmt: skip
        return str(made["agentRuntimeId"])

    async def update(self, tenant: str, runtime_id: str, spec: InstanceSpec) -> None:
        await asyncio.to_thread(
            self._control.update_agent_runtime, agentRuntimeId=runtime_id, **self._params(spec)
        )

    async def delete(self, tenant: str, runtime_id: str) -> None:
        await asyncio.to_thread(self._control.delete_agent_runtime, agentRuntimeId=runtime_id)

    async def state(self, tenant: str, runtime_id: str) -> InstanceState:
        got = await self._get(runtime_id)
        return InstanceState(got["status"], got.get("failureReason", ""))

    async def version(self, tenant: str, runtime_id: str) -> int:
        got = await asyncio.to_thread(
            self._control.get_agent_runtime_endpoint,
            agentRuntimeId=runtime_id, endpointName="DEFAULT",
        )  # fmt: skip
        if not got.get("liveVersion"):
            raise Conflict("it is being built")
        return int(got["liveVersion"])

    async def send(
        self, tenant: str, runtime_id: str, session_id: str, body: bytes, *, request_id: str
    ) -> bytes:
        self.sessions.append(session_id)

        def ask() -> bytes:
            answer = self._data.invoke_agent_runtime(
                agentRuntimeArn=self._arn(runtime_id), runtimeSessionId=session_id, payload=body
            )
            read: bytes = answer["response"].read()
            return read

        try:
            return await asyncio.to_thread(ask)
        except ClientError as error:
            raise InstanceBroke(error.response["Error"]["Message"]) from error

    async def stop(self, tenant: str, runtime_id: str, session_id: str) -> None:
        with contextlib.suppress(ClientError):
            await asyncio.to_thread(
                self._data.stop_runtime_session,
                agentRuntimeArn=self._arn(runtime_id), runtimeSessionId=session_id,
            )  # fmt: skip
            self.stopped.append(session_id)

    async def _get(self, runtime_id: str) -> Any:
        try:
            return await asyncio.to_thread(
                self._control.get_agent_runtime, agentRuntimeId=runtime_id
            )
        except ClientError as error:
            raise NotFound("no such runtime") from error

    def _arn(self, runtime_id: str) -> str:
        where = f"{self._platform.region}:{self._platform.account}"
        return f"arn:aws:bedrock-agentcore:{where}:runtime/{runtime_id}"

    def _params(self, spec: InstanceSpec) -> dict[str, Any]:
        return {
            "agentRuntimeArtifact": {
                "codeConfiguration": {
                    "code": {"s3": {"bucket": spec.bucket, "prefix": spec.key}},
                    "runtime": spec.runtime,
                    "entryPoint": list(spec.entry_point),
                }
            },
            "environmentVariables": spec.environment,
            "description": spec.description,
            **self._platform.common(),
        }


class NoAws:
    """`services/functions/ports.RemoteFunctions` without a key."""

    def may_call(self, tenant: str, role: str) -> bool:
        return False

    async def invoke(self, invoked: Invoked) -> Any:
        raise AccessDenied("no keys")


class Ground:
    def __init__(self, platform: RunningPlatform, database: PostgresDatabase) -> None:
        self.platform, self.tenant, self.region = platform, platform.account, platform.region
        self.blobs = FilesystemBlobs(platform.state / "blobs")
        self.instances = BotoInstances(platform)
        self.service = FunctionService(
            resources=PostgresResources(database, region=platform.region), blobs=self.blobs,
            sealer=from_file(platform.state / "keys" / "kek").sealer,
            instances=self.instances,
        )  # fmt: skip
        self.router = FunctionRouter(
            functions=self.service, instances=self.instances, remote=NoAws(),
            region=platform.region, instances_max=2,
        )  # fmt: skip
        database.listen(CHANNEL, self.service.heard_change)

    async def upload(self, files: Mapping[str, str]) -> Code:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)

        async def chunks() -> AsyncIterator[bytes]:
            yield packed.getvalue()

        key = f"{uuid.uuid4().hex}.zip"
        await self.blobs.create_bucket(self.tenant, BUCKET)
        await self.blobs.put(self.tenant, BUCKET, key, chunks())
        return Code(bucket=BUCKET, key=key)

    async def wanted(self, files: Mapping[str, str], **more: Any) -> Wanted:
        values: dict[str, Any] = {
            "name": f"f-{uuid.uuid4().hex[:8]}", "runtime": PYTHON, "handler": "main.handler",
            "code": await self.upload(files), "seconds_max": 20, "memory_mib": 256,
        }  # fmt: skip
        return Wanted(**{**values, **more})

    async def made(self, files: Mapping[str, str], **more: Any) -> str:
        """A new function's name, once it is ready."""
        name = (await self.service.create(self.tenant, await self.wanted(files, **more))).name
        await self.ready(name)
        return name

    async def ready(self, name: str) -> None:
        async with asyncio.timeout(READY_SECONDS_MAX):
            while True:
                state = await self.service.state(await self.service.get(self.tenant, name))
                if state.status in SETTLED:
                    assert state.status == "READY", state
                    return
                await asyncio.sleep(0.05)

    async def invoke(self, name: str, event: Any = None, **more: Any) -> Any:
        values: dict[str, Any] = {
            "tenant": self.tenant, "event": event, "context": {}, "request_id": "call-1",
            "arn": f"arn:aws:lambda:{self.region}:{self.tenant}:function:{name}",
            "seconds_max": 60,
        }  # fmt: skip
        return await self.router.invoke(Invoked(**{**values, **more}))

    async def close(self) -> None:
        await self.router.close()
