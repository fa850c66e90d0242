"""The edge on loopback over a scripted gateway: one worker, or several that share a database."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
from scripted_gateway import ScriptedGateway
from starlette.types import ASGIApp, Receive, Scope, Send

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.edges.mcp.app import McpEdge
from freehold.edges.pipeline import Pipeline
from freehold.edges.serving import HttpServer
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied
from freehold.ports.authorizer import AccessKey, BearerTarget
from freehold.ports.mcp import Door
from freehold.ports.tokens import ScopesMissing, TokenRefused, TokenRules
from freehold.services.gateway.sessions import GatewaySessions

REGION = "us-east-1"
MODERN = "2026-07-28"
ACCEPT = "application/json, text/event-stream"


def door(tenant: str, id: str = "open-abcdefghij", **more: Any) -> Door:
    fields: dict[str, Any] = {
        "tenant": tenant, "gateway_id": id, "name": id, "authorizer": "NONE",
        "arn": f"arn:aws:bedrock-agentcore:{REGION}:{tenant}:gateway/{id}",
    }  # fmt: skip
    return Door(**{**fields, **more})


class Tokens:
    """Implements `ports.authorizer.BearerTokens`: who has which token."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.claims: dict[str, Any] = {"scope": "read"}
        self.users = {"alice-token": "alice", "bob-token": "bob"}

    async def caller(self, token: str, target: BearerTarget) -> Caller:
        if token == "narrow-token":
            raise ScopesMissing("The token has none of the scopes that are asked for.")
        if token not in self.users:
            raise TokenRefused("The token is not accepted here.")
        user = f"https://issuer|{self.users[token]}"
        return Caller(
            tenant=self.tenant, principal=user, kind=CallerKind.OAUTH_USER, user=user,
            claims=self.claims, token=token, resource=target.resource,
        )  # fmt: skip

    async def demanded(self, target: BearerTarget, *, tenant: str | None = None) -> bool:
        return True

    async def metadata(self, target: BearerTarget, resource_url: str) -> dict[str, Any] | None:
        return {"resource": resource_url, "authorization_servers": ["https://issuer"]}


class Keys:
    """Implements `ports.authorizer.AccessKeys` with one key."""

    def __init__(self, tenant: str) -> None:
        self.key = AccessKey(id="FHIAEXAMPLE", tenant=tenant, secret="secret")

    async def active(self, access_key_id: str) -> AccessKey | None:
        return self.key if access_key_id == self.key.id else None


class Everybody:
    """Implements `ports.authorizer.Authorizer`: all but `bob`, in the tenant of the resource."""

    async def authorize(self, caller: Caller, operation: str, resource_arn: str | None) -> str:
        assert resource_arn is not None
        if caller.principal.endswith("|bob") and "closed" in resource_arn:
            raise AccessDenied("InvokeGateway is not allowed with this policy.")
        return resource_arn.split(":")[4]


async def nothing_else(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b"elsewhere"})


class Worker:
    """`url` is where it listens. `gateway` is its own; sessions are the installation's."""

    def __init__(
        self, tenant: str, database: PostgresDatabase, spool: str, *doors: Door, **options: Any
    ) -> None:
        self.gateway = ScriptedGateway(*(doors or (door(tenant),)))
        self.sessions = GatewaySessions(database)
        self.edge = McpEdge(
            self.gateway,
            self.sessions,
            pipeline=Pipeline(authorizer=Everybody(), calls_in_flight_max=100),
            keys=Keys(tenant),
            bearer=Tokens(tenant),
            region=REGION,
            public_url=options.pop("public_url", ""),
            spool_directory=spool,
            otherwise=nothing_else,
            handover=self.sessions,
            **options,
        )
        self.url = ""

    def at(self, id: str = "open-abcdefghij") -> str:
        return f"{self.url}/gateway/{id}/mcp"


MakeWorker = Callable[..., contextlib.AbstractAsyncContextManager[Worker]]


@contextlib.asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = HttpServer(app, drain_seconds_max=2)
    task = asyncio.create_task(server.serve(listening))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.stop()
        if isinstance(app, McpEdge):
            app.stop()
        async with asyncio.timeout(10):
            await task


def modern_body(method: str, id: Any = 1, **params: Any) -> dict[str, Any]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        **params.pop("_meta", {}),
    }
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": {"_meta": meta, **params}}


def modern_headers(method: str, name: str | None = None) -> dict[str, str]:
    headers = {"accept": ACCEPT, "mcp-protocol-version": MODERN, "mcp-method": method}
    return headers if name is None else {**headers, "mcp-name": name}


def initialize(version: str = "2025-11-25", **capabilities: Any) -> dict[str, Any]:
    info = {"name": "test", "version": "1"}
    params = {"protocolVersion": version, "capabilities": capabilities, "clientInfo": info}
    return {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}


async def begun(
    http: httpx.AsyncClient, url: str, version: str = "2025-11-25", **capabilities: Any
) -> dict[str, str]:
    """The headers of a session that `initialize` began."""
    body = initialize(version, **capabilities)
    answer = await http.post(url, json=body, headers={"accept": ACCEPT})
    assert answer.status_code == 200, answer.text
    assert answer.json()["result"]["protocolVersion"] == version
    return {"accept": ACCEPT, "mcp-session-id": answer.headers["mcp-session-id"]}


def call(name: str, id: Any = 1, **arguments: Any) -> dict[str, Any]:
    params = {"name": name, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}


RULES = TokenRules(discovery_url="https://issuer/.well-known/openid-configuration")
