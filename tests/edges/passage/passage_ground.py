"""The passage edge on loopback: real limits, real requests out, upstreams of the test's own."""

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from starlette.types import Receive, Scope, Send

from freehold.adapters.egress.addresses import denied, forbidden
from freehold.adapters.limits.limiter import PostgresRateLimiter
from freehold.adapters.postgres.dedicated import DedicatedConnection
from freehold.adapters.web.client import CheckedWeb
from freehold.adapters.web.destination import Destinations
from freehold.edges.door import GatewayDoors
from freehold.edges.mcp.admission import Names
from freehold.edges.passage.app import PassageEdge
from freehold.edges.pipeline import Pipeline
from freehold.edges.serving import HttpServer
from freehold.edges.sigv4 import SignatureRules, Verifier
from freehold.edges.spool import SignatureAuthenticator, SpoolSpace
from freehold.kernel.caller import Caller, CallerKind
from freehold.ports.audit import AuditEvent
from freehold.ports.authorizer import AccessKey, BearerTarget
from freehold.ports.limits import RateLimiter
from freehold.ports.mcp import Door
from freehold.ports.targets import Credential, Json, Place
from freehold.ports.tokens import TokenRefused
from freehold.ports.usage import usage_reader
from freehold.services.gateway import limits, rules
from freehold.services.gateway.breaker import Breakers
from freehold.services.gateway.catalog import Behind
from freehold.services.gateway.completions import Completions
from freehold.services.gateway.inference import Provider
from freehold.services.gateway.passage import PassageService, Plan, Ways
from freehold.services.gateway.ports import ConsentNeeded, RuntimeAnswer, RuntimeCall

ID = "gate-abcdefghij"
SECRET = "sEcReT-of-the-target"
KEY_ID, KEY_SECRET = "FHIAEXAMPLEKEY000001", "sEcReT-of-the-caller"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def upstream(handler: Handler) -> AsyncIterator[str]:
    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class Tokens:
    """Implements `ports.authorizer.BearerTokens`: `user-ann` is ann's."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant

    async def caller(self, token: str, target: BearerTarget) -> Caller:
        if not token.startswith("user-"):
            raise TokenRefused("The token is not accepted here.")
        return Caller(
            tenant=self._tenant,
            principal=f"issuer|{token}",
            kind=CallerKind.OAUTH_USER,
            user=f"issuer|{token}",
            claims={"sub": token},
            token=token,
        )

    async def demanded(self, target: BearerTarget, *, tenant: str | None = None) -> bool:
        return True

    async def metadata(self, target: BearerTarget, resource_url: str) -> dict[str, Any] | None:
        return None


class Gateways:
    """The one door that there is, of `ports.mcp.Gateways`."""

    def __init__(self, door: Door) -> None:
        self.one = door

    async def door(self, gateway_id: str) -> Door | None:
        return self.one if gateway_id == self.one.gateway_id else None


class Keys:
    """Implements `ports.authorizer.AccessKeys` with one key."""

    def __init__(self, tenant: str) -> None:
        self._key = AccessKey(id=KEY_ID, tenant=tenant, secret=KEY_SECRET)

    async def active(self, access_key_id: str) -> AccessKey | None:
        return self._key if access_key_id == self._key.id else None


class Everybody:
    async def authorize(self, caller: Caller, operation: str, resource_arn: str | None) -> str:
        return caller.tenant


class Lines:
    """What the audit was told."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    async def write(self, event: AuditEvent) -> None:
        self.events.append(event)

    def note(self, event: AuditEvent) -> None:
        self.events.append(event)

    def last(self) -> AuditEvent:
        return next(event for event in reversed(self.events) if event.phase == "outcome")


class Outbound:
    """A credential for each target, by its configuration's own words."""

    async def credential(
        self, place: Place, configuration: Json, *, caller: Caller | None, request_id: str
    ) -> Credential:
        kind = configuration.get("credentialProviderType")
        if kind == "API_KEY":
            own = configuration.get("credentialProvider", {}).get("apiKeyCredentialProvider", {})
            name = own.get("credentialParameterName", "Authorization")
            if own.get("credentialLocation") == "QUERY_PARAMETER":
                return Credential(query={name: SECRET})
            return Credential(headers={name: f"{own.get('credentialPrefix', '')} {SECRET}".strip()})
        if kind == "JWT_PASSTHROUGH":
            assert caller is not None
            return Credential(headers={"Authorization": f"Bearer {caller.token}"})
        if kind == "GATEWAY_IAM_ROLE":
            return Credential(
                signer=lambda method, url, headers, body: {
                    **headers, "authorization": f"SIGNED {method} {len(body)}",
                }
            )  # fmt: skip
        if kind == "OAUTH":
            raise ConsentNeeded("https://provider.example/agree", "urn:session:1")
        return Credential()


class Agents:
    """Implements the gateway's `Runtimes`."""

    def __init__(self) -> None:
        self.calls: list[RuntimeCall] = []
        self.closed = 0

    async def invoke(self, call: RuntimeCall) -> RuntimeAnswer:
        self.calls.append(call)
        said = await call.body.read()
        agents = self

        class Body:
            def __init__(self) -> None:
                self._left = [b"data: you said ", said, b"\n\n"]

            def __aiter__(self) -> "Body":
                return self

            async def __anext__(self) -> bytes:
                if not self._left:
                    raise StopAsyncIteration
                return self._left.pop(0)

            async def aclose(self) -> None:
                agents.closed += 1

        return RuntimeAnswer(
            status=200, session_id=call.session_id or "made-up", body=Body(), headers={},
            content_type="text/event-stream",
        )  # fmt: skip


def target(
    name: str,
    kind: str,
    configuration: Json,
    *,
    tenant: str = "123456789012",
    credential: Json | None = None,
    **more: Any,
) -> Behind:
    place = Place(
        tenant=tenant, gateway_id=ID, gateway_arn=f"arn:{ID}", target_id=f"ID{name}", name=name,
        kind=kind, configuration=configuration,
    )  # fmt: skip
    fields: dict[str, Any] = {"status": "READY", "seconds": 10.0, **more}
    return Behind(place=place, credential=credential or {}, **fields)


def through(name: str, endpoint: str, protocol: str = "CUSTOM", **more: Any) -> Behind:
    options = {key: more.pop(key) for key in list(more) if key[0].islower() and "Q" in key}
    stickiness = more.pop("stickiness", None)
    configuration: Json = {"endpoint": endpoint, "protocolType": protocol, **options}
    if stickiness:
        configuration["stickinessConfiguration"] = stickiness
    return target(name, "http.passthrough", configuration, **more)


def provider(
    name: str, endpoint: str, *models: str, paths: tuple[str, ...] = (), **more: Any
) -> Behind:
    configuration: Json = {"endpoint": endpoint}
    if models or paths:
        configuration["operations"] = [
            {"path": path, **({"models": [{"model": each} for each in models]} if models else {})}
            for path in paths or ("/v1/chat/completions", "/v1/messages", "/v1/responses")
        ]
    if mapping := more.pop("mapping", None):
        configuration["modelMapping"] = mapping
    return target(name, "inference.provider", configuration, **more)


class Ground:
    """One gateway; `plan` may be changed while it is served at `url`."""

    def __init__(self, tenant: str, limiter: RateLimiter, web_client: CheckedWeb) -> None:
        self.tenant = tenant
        self.door = Door(
            tenant=tenant, gateway_id=ID, name="gate", authorizer="CUSTOM_JWT",
            arn=f"arn:aws:bedrock-agentcore:us-east-1:{tenant}:gateway/{ID}",
        )  # fmt: skip
        self._plan = Plan([])
        self.audit = Lines()
        self.agents = Agents()
        self.now = 0.0
        self.breakers = Breakers(failures_max=3, clock=lambda: self.now)
        self.ways = ways = Ways(
            web=web_client, outbound=Outbound(), limiter=limiter, breakers=self.breakers
        )
        service = PassageService(
            plans=self,
            ways=ways,
            inference=Completions(ways=ways, reader=usage_reader),
            runtimes=self.agents,
        )
        pipeline = Pipeline(authorizer=Everybody(), calls_in_flight_max=1000, audit=self.audit)
        self.gateways = Gateways(self.door)
        signed = SignatureAuthenticator(
            Verifier(
                Keys(tenant),
                SignatureRules(region="us-east-1", services=frozenset({"bedrock-agentcore"})),
            ),
            SpoolSpace(tempfile.gettempdir(), bytes_max=64 << 20),
            body_bytes_max=8 << 20,
        )
        doors = GatewayDoors(
            self.gateways,  # type: ignore[arg-type]
            bearer=Tokens(tenant),
            signed=signed,
            names=Names(""),
            public_url="",
        )
        self.edge = PassageEdge(doors, service, pipeline=pipeline, otherwise=nothing)
        self.url = ""

    async def plan(self, door: Door) -> Plan:
        return self._plan

    def has(
        self,
        *targets: Behind,
        rule: Json | None = None,
        limit: Json | None = None,
        tags: Mapping[str, str] = {},
        connectors: Mapping[str, Provider] | None = None,
    ) -> None:
        self._plan = Plan(
            targets,
            rules=rules.compiled([("rule1", rule)] if rule else []),
            limits=limits.compiled(
                f"{self.tenant}|{ID}", [("limit1", limit)] if limit else [], tags
            ),
            connectors=connectors,
        )


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b"otherwise"})


@contextlib.asynccontextmanager
async def serving(tenant: str, dsn: str) -> AsyncIterator[Ground]:
    client = CheckedWeb(
        Destinations(
            denied=denied, forbidden=forbidden, listed=frozenset({"127.0.0.1"}), setting="LIST"
        )
    )
    await client.start()
    limiter = PostgresRateLimiter(DedicatedConnection(dsn, application_name="passage limits"))
    await limiter.start()
    ground = Ground(tenant, limiter, client)
    # Named as TCP, it is without Nagle's delay, as under uvloop.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    server = HttpServer(ground.edge, drain_seconds_max=2)
    task = asyncio.create_task(server.serve(listening))
    ground.url = f"http://127.0.0.1:{listening.getsockname()[1]}/gateway/{ID}"
    try:
        yield ground
    finally:
        server.stop()
        await task
        await limiter.close()
        await client.close()
