"""MCP servers over standard input and output, over agent runtimes."""

from pathlib import Path
from typing import Any

from freehold.adapters.postgres.resource_sql import CHANNEL as RESOURCES_CHANNEL
from freehold.kernel.errors import Conflict, NotFound
from freehold.ports.blobs import Blobs
from freehold.ports.database import Database
from freehold.ports.resources import Resource, Resources
from freehold.processes.runtimes import Runtimes
from freehold.services.runtime.model import DEFAULT_ENDPOINT, RUNTIME
from freehold.services.stdio.model import StdioFileError, read_servers
from freehold.services.stdio.ports import Running, ServerSpec
from freehold.services.stdio.service import StdioServers
from freehold.settings import Settings, SettingsError, variable

_DIGEST = "freehold-stdio-digest"


def make_stdio(
    settings: Settings,
    database: Database,
    resources: Resources,
    *,
    blobs: Blobs,
    runtimes: Runtimes,
) -> StdioServers:
    """Before `database.start`: it listens."""
    try:
        servers = read_servers(Path(settings.stdio_servers)) if settings.stdio_servers else {}
    except StdioFileError as error:
        raise SettingsError(f"{variable('stdio_servers')}: {error}") from None
    stdio = StdioServers(servers, blobs=blobs, runtimes=_OfRuntimes(runtimes, resources))
    database.listen(RESOURCES_CHANNEL, stdio.heard_change)
    return stdio


class _OfRuntimes:
    """`services/stdio/ports.ServerRuntimes`."""

    def __init__(self, runtimes: Runtimes, resources: Resources) -> None:
        self._runtimes, self._resources = runtimes, resources

    async def find(self, tenant: str, name: str) -> Running | None:
        runtime = await self._resources.find_by_name(tenant, RUNTIME, name)
        if runtime is None:
            return None
        try:
            await self._runtimes.service.resolve(tenant, runtime.id, DEFAULT_ENDPOINT)
            answers = True
        except (Conflict, NotFound):
            answers = False
        return Running(
            arn=runtime.arn,
            digest=runtime.tags.get(_DIGEST, ""),
            status=runtime.status,
            answers=answers,
            reason=str(runtime.document.get("_failure") or ""),
        )

    async def create(self, tenant: str, spec: ServerSpec) -> None:
        tags = {**spec.tags, _DIGEST: spec.digest}
        params = {"agentRuntimeName": spec.name, "tags": tags, **_params(tenant, spec)}
        await self._runtimes.service.create(tenant, params)

    async def update(self, tenant: str, spec: ServerSpec) -> None:
        self._runtimes.service.options.check(spec.tags)
        runtime: Resource | None = await self._resources.find_by_name(tenant, RUNTIME, spec.name)
        if runtime is None:
            raise Conflict(f"agent runtime {spec.name!r} was deleted just now")
        params = {"agentRuntimeId": runtime.id, **_params(tenant, spec)}
        await self._runtimes.service.update(tenant, params)
        tags = {**spec.tags, _DIGEST: spec.digest}
        await self._resources.tag(tenant, runtime.arn, tags)


def _params(tenant: str, spec: ServerSpec) -> dict[str, Any]:
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
        "protocolConfiguration": {"serverProtocol": "MCP"},
        "environmentVariables": spec.environment,
        "description": spec.description,
    }
