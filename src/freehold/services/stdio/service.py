"""Stdio servers of the operator's, each an agent runtime of the tenant that uses it."""

import asyncio
import hashlib
from collections.abc import Mapping

import msgspec

from freehold.kernel.errors import Conflict, NotFound, Unavailable
from freehold.ports.blobs import Blobs
from freehold.services.stdio import bundle
from freehold.services.stdio.model import BUCKET, SCHEME, StdioServer
from freehold.services.stdio.ports import Running, ServerRuntimes, ServerSpec

_PREPARED_SECONDS_MAX = 55.0  # within the minute that a gateway takes to look at a target
_COMMAND = "_FREEHOLD_STDIO_COMMAND"
_KNOWN_MAX = 10_000


class StdioServers:
    """`heard_change` hears of changed resources. Directories are read once for each process: after
    a change the operator restarts the platform."""

    def __init__(
        self, servers: Mapping[str, StdioServer], *, blobs: Blobs, runtimes: ServerRuntimes
    ) -> None:
        self._servers, self._blobs, self._runtimes = servers, blobs, runtimes
        self._digests: dict[str, str] = {}
        self._known: dict[tuple[str, str], str] = {}
        self._changed: dict[str, asyncio.Event] = {}
        self._making: dict[tuple[str, str], asyncio.Lock] = {}

    def has(self, tenant: str, endpoint: str) -> bool:
        """Whether the tenant may use the server of `stdio:NAME`."""
        server = self._servers.get(endpoint.removeprefix(SCHEME))
        return endpoint.startswith(SCHEME) and server is not None and server.is_for(tenant)

    async def runtime(self, tenant: str, endpoint: str) -> str:
        """The ARN of the runtime that is the server, once it takes calls. Raises NotFound where
        the tenant has no such server, Unavailable while it is not ready, or cannot be."""
        if not self.has(tenant, endpoint):
            raise NotFound(f"there is no {endpoint} for this account")
        name = endpoint.removeprefix(SCHEME)
        known = self._known.get((tenant, name))
        if known is not None:
            return known
        lock = self._making.setdefault((tenant, name), asyncio.Lock())
        try:
            async with asyncio.timeout(_PREPARED_SECONDS_MAX), lock:
                arn = await self._prepared(tenant, name)
        except TimeoutError:
            raise Unavailable(f"{endpoint} is being prepared; try again shortly") from None
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known[tenant, name] = arn
        return arn

    def heard_change(self, payload: str) -> None:
        """A resource changed ("{tenant}/{kind}/{id}"), or anything may have ("")."""
        tenant = payload.partition("/")[0]
        for key in [each for each in self._known if tenant in ("", each[0])]:
            del self._known[key]
        for each in [each for each in self._changed if tenant in ("", each)]:
            self._changed.pop(each).set()

    async def _prepared(self, tenant: str, name: str) -> str:
        while True:
            changed = self._changed.setdefault(tenant, asyncio.Event())
            found = await self._settled(tenant, name)
            if found is not None and found.answers:
                return found.arn
            if found is not None and found.status.endswith("FAILED"):
                raise Unavailable(f"{SCHEME}{name} could not be prepared: {found.reason}")
            await changed.wait()

    async def _settled(self, tenant: str, name: str) -> Running | None:
        """What there is, after what was missing was asked for."""
        server, runtime_name = self._servers[name], f"stdio_{name}"
        found = await self._runtimes.find(tenant, runtime_name)
        if found is not None and found.digest == await self._digest(name):
            return found
        spec = await self._uploaded(tenant, name, server)
        try:
            if found is None:
                await self._runtimes.create(tenant, spec)
            else:
                await self._runtimes.update(tenant, spec)
        except Conflict:  # another worker was first; its build is the same
            pass
        return await self._runtimes.find(tenant, runtime_name)

    async def _digest(self, name: str) -> str:
        found = self._digests.get(name)
        if found is None:
            file, digest = await asyncio.to_thread(bundle.bundled, self._servers[name])
            file.close()
            found = self._digests[name] = _of_all(self._servers[name], digest)
        return found

    async def _uploaded(self, tenant: str, name: str, server: StdioServer) -> ServerSpec:
        file, digest = await asyncio.to_thread(bundle.bundled, server)
        with file:
            key = f"{name}/{digest}.zip"
            await self._blobs.create_bucket(tenant, BUCKET)
            await self._blobs.put(tenant, BUCKET, key, bundle.in_chunks(file))
        self._digests[name] = _of_all(server, digest)
        command = {"command": server.command, "program": server.program}
        return ServerSpec(
            name=f"stdio_{name}",
            runtime=server.runtime,
            entry_point=(bundle.entry_point(server.runtime),),
            bucket=BUCKET,
            key=key,
            digest=self._digests[name],
            environment={**server.environment, _COMMAND: msgspec.json.encode(command).decode()},
            tags=server.tags(name),
            description=f"The MCP server {SCHEME}{name}",
        )


def _of_all(server: StdioServer, digest: str) -> str:
    said = msgspec.json.encode(msgspec.structs.replace(server, tenants=[], directory=digest))
    return hashlib.sha256(said).hexdigest()
