"""Gateways' control plane with its real parts in this process: Postgres, jobs, the edges, boto3."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from edge_ground import EdgeGround
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.postgres.resource_sql import CHANNEL as RESOURCES_CHANNEL
from freehold.kernel.caller import Caller
from freehold.kernel.errors import ValidationFailed
from freehold.kernel.operation import Operation
from freehold.kernel.request import Handler, Request
from freehold.ports.connectors import Connector
from freehold.ports.resources import ResourceKind
from freehold.ports.targets import Credential, Definition, Described, Errand, Json, Place, Problem
from freehold.services.gateway import api, connectors_native, native
from freehold.services.gateway.approvals import Approvals, FreshPins
from freehold.services.gateway.checks import TargetChecks
from freehold.services.gateway.model import GATEWAY, GATEWAY_OPTIONS, TARGET, TARGET_OPTIONS
from freehold.services.gateway.refreshing import Refreshing
from freehold.services.gateway.schedule import RefreshSchedule
from freehold.services.gateway.service import GatewayService
from freehold.services.gateway.store import CHANNEL, GatewayStore
from freehold.services.gateway.sync import SYNC_ATTEMPTS_MAX, SYNC_JOB, TargetSync
from freehold.services.gateway.targets import TargetService
from freehold.services.tags import api as tags_api

PUBLIC_URL = "https://agents.example.com"
ROLE = "arn:aws:iam::123456789012:role/gateway"
SERVER_URL = "https://tools.example.com/mcp"
DISCOVERY = "https://login.example.com/.well-known/openid-configuration"
API_KEYS = ResourceKind(
    name="api-key-credential-provider",
    noun="API key credential provider",
    arn_resource="token-vault/default/apikeycredentialprovider/{name}",
)
OAUTH2 = ResourceKind(
    name="oauth2-credential-provider",
    noun="OAuth2 credential provider",
    arn_resource="token-vault/default/oauth2credentialprovider/{name}",
)
RUNTIME = ResourceKind(name="agent-runtime", noun="agent runtime", arn_resource="runtime/{id}")


def tool(name: str, description: str = "does it", **members: Any) -> Definition:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    return Definition(
        name=name,
        document={"name": name, "description": description, "inputSchema": schema, **members},
    )


class Server:
    """A target as its adapter would show it: what it offers, its troubles, and who asked."""

    def __init__(self, *definitions: Definition) -> None:
        self.definitions = definitions or (tool("search"), tool("write"))
        self.problems: tuple[Problem, ...] = ()
        self.server: Json = {"versions": {"modern": "2026-07-28"}}
        self.trouble: Exception | None = None
        self.asked: list[tuple[Place, Errand]] = []
        self.gate: asyncio.Event | None = None

    async def describe(self, place: Place, errand: Errand) -> Described:
        self.asked.append((place, errand))
        if self.gate is not None:
            await self.gate.wait()
        if self.trouble is not None:
            raise self.trouble
        return Described(
            definitions=tuple(self.definitions), problems=self.problems, server=self.server
        )

    async def call(
        self, place: Place, definition: Definition, arguments: Json, errand: Errand
    ) -> Json:
        raise NotImplementedError("nobody calls here")


class Given:
    """Credentials for nothing, until a test says otherwise."""

    def __init__(self) -> None:
        self.trouble: Exception | None = None
        self.callers: list[Caller | None] = []

    async def credential(
        self, place: Place, configuration: Json, *, caller: Caller | None, request_id: str
    ) -> Credential:
        self.callers.append(caller)
        if self.trouble is not None:
            raise self.trouble
        return Credential()


class Bucket:
    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}

    async def read(self, tenant: str, uri: str, *, bytes_max: int) -> bytes:
        if (tenant, uri) not in self.objects:
            raise ValidationFailed(f"{uri}: there is no such object")
        return self.objects[tenant, uri]


class Identities:
    def __init__(self) -> None:
        self.known: set[tuple[str, str]] = set()

    def arn(self, gateway_arn: str) -> str:
        return gateway_arn.replace(
            "gateway/", "workload-identity-directory/default/workload-identity/"
        )

    async def ensure(self, tenant: str, gateway_id: str) -> None:
        self.known.add((tenant, gateway_id))

    async def forget(self, tenant: str, gateway_id: str) -> None:
        self.known.discard((tenant, gateway_id))


class NoEngines:
    """A platform on which nobody has a policy engine."""

    async def check(
        self,
        request: Request,
        gateway_arn: str | None,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None,
    ) -> None:
        raise ValidationFailed("policyEngineConfiguration: there is no such policy engine")


class SomeConnectors:
    def ids(self, family: str) -> tuple[str, ...]:
        return ("slack", "zoom") if family == "mcp" else ()

    async def settled(self, configuration: Json, credentials: list[Json]) -> list[Json]:
        return credentials

    async def all(self) -> tuple[Connector, ...]:
        return ()


class ControlGround(EdgeGround):
    """One worker. `works` is False for one that only takes requests: its jobs stay behind."""

    def __init__(
        self,
        dsn: str,
        state: Path,
        *,
        works: bool = True,
        executor: str = "one",
        connectors: Any = None,
    ) -> None:
        database = PostgresDatabase(dsn, pool_size_max=4, application_name="gateway test")
        super().__init__(database, state, executor=executor)
        self.connectors = connectors or SomeConnectors()
        self.dsn, self.works = dsn, works
        self.server = Server()
        self.outbound, self.documents = Given(), Bucket()
        self.identities = Identities()
        self.store = GatewayStore(self.database, self.resources)
        self.schedule = RefreshSchedule(self.database)
        kinds = ("openApiSchema", "smithyModel", "lambda", "mcpServer", "connector")
        self.clients: dict[str, Any] = {f"mcp.{kind}": self.server for kind in kinds}
        self.sync = TargetSync(
            resources=self.resources, store=self.store, schedule=self.schedule, jobs=self.jobs,
            clients=self.clients, outbound=self.outbound, documents=self.documents,
            seconds_max=5,
        )  # fmt: skip
        self.refreshing = Refreshing(
            resources=self.resources, schedule=self.schedule, sync=self.sync
        )
        self.gateways = GatewayService(
            resources=self.resources, store=self.store, identities=self.identities,
            policies=NoEngines(), public_url=PUBLIC_URL,
        )  # fmt: skip
        self.targets = TargetService(
            resources=self.resources, store=self.store, sync=self.sync,
            checks=TargetChecks(self.resources, self.connectors, public_url=PUBLIC_URL),
        )  # fmt: skip
        self.approvals = Approvals(resources=self.resources, store=self.store)
        self.fresh = FreshPins(resources=self.resources, store=self.store)
        self.told: list[str] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator["ControlGround"]:
        async with AsyncExitStack() as stack:
            self.database.listen(CHANNEL, self.refreshing.heard_gateway)
            self.database.listen(CHANNEL, self.told.append)
            self.database.listen(RESOURCES_CHANNEL, self.refreshing.heard_resource)
            self.database.listen("freehold_oauth_grants", self.refreshing.heard_consent)
            if self.works:
                self.jobs.register(
                    SYNC_JOB, self.sync.work, concurrency=4, attempts_max=SYNC_ATTEMPTS_MAX
                )
            await self.database.start()
            stack.push_async_callback(self.database.close)
            await self.gateways.take_up()
            await self.sync.take_up()
            await self.jobs.start()
            stack.push_async_callback(self.jobs.close)
            if self.works:
                await self.refreshing.open()
                stack.push_async_callback(self.refreshing.close)
            await stack.enter_async_context(self.served(*self._parts()))
            yield self

    def _parts(self) -> tuple[Mapping[str, Handler], Sequence[Operation]]:
        rules = {GATEWAY.name: GATEWAY_OPTIONS.check, TARGET.name: TARGET_OPTIONS.check}
        handlers = {
            **api.handlers(self.gateways, self.targets, self.resources, self.store),
            **tags_api.handlers(self.resources, rules, changed=lambda _: None),
        }
        operations = [
            *native.operations(self.store, self.approvals, public_url=PUBLIC_URL),
            *connectors_native.operations(self.connectors),
        ]
        return handlers, operations

    # -- what tests do again and again

    async def gateway(self, tenant: str, name: str = "tools", **parameters: Any) -> str:
        given = {"authorizerType": "NONE", "roleArn": ROLE, "protocolType": "MCP", **parameters}
        made = await self.control(tenant).create_gateway(name=name, **given)
        gateway_id: str = made["gatewayId"]
        return gateway_id

    async def target(
        self, tenant: str, gateway_id: str, name: str = "server", **parameters: Any
    ) -> str:
        """An MCP server, settled."""
        configuration = {"mcp": {"mcpServer": {"endpoint": SERVER_URL}}}
        made = await self.control(tenant).create_gateway_target(
            gatewayIdentifier=gateway_id, name=name,
            **{"targetConfiguration": configuration, **parameters},
        )  # fmt: skip
        await self.settled(tenant, gateway_id, made["targetId"])
        target_id: str = made["targetId"]
        return target_id

    async def settled(self, tenant: str, gateway_id: str, target_id: str) -> dict[str, Any]:
        """The target, once nothing is under way. Follows the store, which is quicker than boto3."""
        busy = re.compile("CREATING|UPDATING|SYNCHRONIZING")

        async def done() -> bool:
            target = await self.targets.get(tenant, gateway_id, target_id)
            return not busy.fullmatch(target.status)

        await self.until(done)
        found: dict[str, Any] = await self.control(tenant).get_gateway_target(
            gatewayIdentifier=gateway_id, targetId=target_id
        )
        return found

    async def synchronized(self, tenant: str, gateway_id: str, target_id: str) -> dict[str, Any]:
        await self.control(tenant).synchronize_gateway_targets(
            gatewayIdentifier=gateway_id, targetIdList=[target_id]
        )
        return await self.settled(tenant, gateway_id, target_id)

    async def in_force(self, gateway_id: str) -> dict[str, str]:
        """What the data plane would offer: descriptions by the targets' own names."""
        row = await self.store.load(gateway_id)
        assert row is not None
        return {
            definition.name: definition.document.get("description", "")
            for target in row.targets
            for definition in target.definitions
        }

    async def provider(self, tenant: str, name: str, kind: ResourceKind = OAUTH2) -> str:
        made, _ = await self.resources.create(
            tenant, kind, id=name, name=name, status="READY", document={}
        )
        return made.arn


def oauth(arn: str, **members: Any) -> list[Mapping[str, Any]]:
    provider = {"providerArn": arn, "scopes": [], **members}
    return [
        {
            "credentialProviderType": "OAUTH",
            "credentialProvider": {"oauthCredentialProvider": provider},
        }
    ]
