"""Gateways on a running platform, and how they are called."""

import asyncio
import hashlib
import json
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from gateway_upstreams import MODERN, Json
from oidc_ground import OidcProvider
from running import PYTHON, READY_SECONDS_MAX, RunningPlatform, layer_cache, until

SETTLED = frozenset(
    {"READY", "FAILED", "UPDATE_UNSUCCESSFUL", "SYNCHRONIZE_UNSUCCESSFUL", "CREATE_PENDING_AUTH"}
)
_SECONDS_MAX = 120
# Of the account that a platform makes first: what its gateways sign for AWS as.
ROLE = "arn:aws:iam::100000000001:role/gateway"
AUDIENCE = "https://gateway.example.test"
AWS_KEY_ID, AWS_SECRET = "AKIAFAKEFAKEFAKEFAKE", "canary-secret-of-aws"


class Target:
    def __init__(self, gateway: "Gateway", id: str, name: str) -> None:
        self.gateway, self.id, self.name = gateway, id, name

    def get(self) -> Json:
        found: Json = self.gateway.control.get_gateway_target(
            gatewayIdentifier=self.gateway.id, targetId=self.id
        )
        return found

    def settle(self, *, seconds_max: float = _SECONDS_MAX) -> Json:
        seen: Json = {}

        def settled() -> bool:
            nonlocal seen
            seen = self.get()
            return seen["status"] in SETTLED

        until(settled, seconds_max=seconds_max)
        return seen

    def delete(self) -> None:
        self.gateway.control.delete_gateway_target(
            gatewayIdentifier=self.gateway.id, targetId=self.id
        )


def at_every_worker(true: Callable[[], Any]) -> None:
    """Once it is true it stays so, whichever worker answers: they hear of changes in moments."""
    in_a_row = 0

    def settled() -> bool:
        nonlocal in_a_row
        in_a_row = in_a_row + 1 if true() else 0
        return in_a_row == 6

    until(settled, seconds_max=10, every=0)


MakeGateway = Callable[..., "Gateway"]


@dataclass
class Answered:
    """Of one POST to a gateway. `document`: its JSON-RPC response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Json:
        text = self.body
        if "event-stream" in self.headers.get("content-type", ""):
            lines = [line[6:] for line in text.splitlines() if line.startswith(b"data: ")]
            text = lines[-1]
        found: Json = json.loads(text)
        return found

    @property
    def result(self) -> Json:
        assert "result" in self.document, (self.status, self.document)
        found: Json = self.document["result"]
        return found

    @property
    def error(self) -> Json:
        assert "error" in self.document, (self.status, self.document)
        found: Json = self.document["error"]
        return found

    @property
    def text(self) -> str:
        """Of a tool's result, good or bad."""
        return "".join(part.get("text", "") for part in self.result["content"])


class Gateway:
    """A gateway of the platform's first account, or of whoever `platform` is seen by."""

    def __init__(self, platform: RunningPlatform, **params: Any) -> None:
        self.platform = platform
        self.control = platform.client("bedrock-agentcore-control")
        made = self.control.create_gateway(
            **{
                "name": f"gw-{uuid.uuid4().hex[:8]}",
                "roleArn": f"arn:aws:iam::{platform.account}:role/gateway",
                "authorizerType": "NONE",
                "protocolType": "MCP",
                **params,
            }
        )
        self.id, self.arn, self.url = made["gatewayId"], made["gatewayArn"], made["gatewayUrl"]
        self.base = self.url.removesuffix("/mcp")
        self.pool = urllib3.PoolManager(retries=False, maxsize=64)

    def delete(self) -> None:
        for target in self.control.list_gateway_targets(gatewayIdentifier=self.id)["items"]:
            self.control.delete_gateway_target(
                gatewayIdentifier=self.id, targetId=target["targetId"]
            )
        self.control.delete_gateway(gatewayIdentifier=self.id)
        self.pool.clear()

    # -- its targets

    def begin_target(
        self, name: str, configuration: Json, credential: Json | None = None, **params: Any
    ) -> Target:
        if credential is not None:
            params["credentialProviderConfigurations"] = [credential]
        made = self.control.create_gateway_target(
            gatewayIdentifier=self.id, name=name, targetConfiguration=configuration, **params
        )
        return Target(self, made["targetId"], name)

    def add(
        self, name: str, configuration: Json, credential: Json | None = None, **params: Any
    ) -> Target:
        target = self.begin_target(name, configuration, credential, **params)
        seen = target.settle()
        assert seen["status"] == "READY", (seen["status"], seen.get("statusReasons"))
        return target

    def add_mcp_server(
        self,
        name: str,
        url: str,
        credential: Json | None = None,
        *,
        dynamic: bool = False,
        **params: Any,
    ) -> Target:
        server = {"endpoint": url, **({"listingMode": "DYNAMIC"} if dynamic else {})}
        return self.add(name, {"mcp": {"mcpServer": server}}, credential, **params)

    def synchronize(self, target_id: str) -> Json:
        """The target, once it was asked again."""
        self.control.synchronize_gateway_targets(
            gatewayIdentifier=self.id, targetIdList=[target_id]
        )
        return Target(self, target_id, "").settle()

    def tag(self, tags: Mapping[str, str], target: Target | None = None) -> None:
        """The gateway, or a target of it."""
        arn = self.arn if target is None else f"{self.arn}/target/{target.id}"
        self.control.tag_resource(resourceArn=arn, tags=tags)

    # -- its callers

    def post(
        self,
        body: Json | bytes,
        headers: Mapping[str, str] = {},
        *,
        url: str = "",
        signed_by: RunningPlatform | None = None,
        seconds_max: float = _SECONDS_MAX,
    ) -> Answered:
        url = url or self.url
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "connection": "close",  # so that any worker answers the next one
            **headers,
        }
        if signed_by is not None:
            sent |= signature(signed_by, "POST", url, data)
        answer = self.pool.request("POST", url, body=data, headers=sent, timeout=seconds_max)
        return Answered(
            answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.data
        )

    def rpc(
        self,
        method: str,
        params: Json | None = None,
        headers: Mapping[str, str] = {},
        *,
        capabilities: Json | None = None,
        **more: Any,
    ) -> Answered:
        """One request of the era without sessions."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": capabilities or {},
        }
        params = {**(params or {}), "_meta": {**meta, **(params or {}).get("_meta", {})}}
        standard = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
        if name := params.get("name") or params.get("uri"):
            standard["Mcp-Name"] = name
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return self.post(body, {**standard, **headers}, **more)

    def call(
        self, tool: str, arguments: Json | None = None, headers: Mapping[str, str] = {}, **more: Any
    ) -> Answered:
        return self.rpc("tools/call", {"name": tool, "arguments": arguments or {}}, headers, **more)

    def tools(self, headers: Mapping[str, str] = {}, **more: Any) -> list[str]:
        result = self.rpc("tools/list", {}, headers, **more).result
        return [tool["name"] for tool in result["tools"]]

    def own(self, path: str, **more: Any) -> Any:
        """Of our own API, below the gateway."""
        return self.platform.own(f"/gateways/{self.id}{path}", **more)


@asynccontextmanager
async def client_of(
    gateway: Gateway, headers: Mapping[str, str] = {}, *, auth: Any = None, **options: Any
) -> AsyncIterator[Client]:
    """The official client. `mode="legacy"` is the era with sessions."""
    async with (
        asyncio.timeout(60),
        httpx2.AsyncClient(headers=dict(headers), auth=auth, timeout=30) as http,
        Client(streamable_http_client(gateway.url, http_client=http), **options) as client,
    ):
        yield client


class _Signed(httpx2.Auth):
    requires_request_body = True

    def __init__(self, platform: RunningPlatform) -> None:
        self._platform = platform

    def auth_flow(self, request: httpx2.Request) -> Iterator[httpx2.Request]:
        url = str(request.url)
        request.headers.update(signature(self._platform, request.method, url, request.content))
        yield request


def signed(platform: RunningPlatform) -> Any:
    """`auth` for a client of httpx2's."""
    return _Signed(platform)


def foreign_python(requirements: Path) -> Path:
    """A Python of its own with these, beside the platform's layers. Needs a package index once."""
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
    place = layer_cache() / f"clients-{digest}-{sys.version_info.minor}"
    python = place / "bin" / "python"
    if not (place / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        done = subprocess.run(
            [*pip, "-r", requirements], capture_output=True, text=True, timeout=500, check=False
        )
        assert done.returncode == 0, done.stderr[-4000:]
        (place / "complete").touch()
    return python


def signature(
    platform: RunningPlatform, method: str, url: str, body: bytes = b""
) -> dict[str, str]:
    request = AWSRequest(method=method, url=url, data=body)
    credentials = Credentials(platform.access_key_id, platform.secret_access_key)
    SigV4Auth(credentials, "bedrock-agentcore", platform.region).add_auth(request)
    return dict(request.headers.items())


def api_key(arn: str, **more: Any) -> Json:
    return {
        "credentialProviderType": "API_KEY",
        "credentialProvider": {"apiKeyCredentialProvider": {"providerArn": arn, **more}},
    }


def oauth(arn: str, grant: str = "CLIENT_CREDENTIALS", **more: Any) -> Json:
    given = {"providerArn": arn, "grantType": grant, "scopes": ["tools:read"], **more}
    return {
        "credentialProviderType": "OAUTH",
        "credentialProvider": {"oauthCredentialProvider": given},
    }


def jwt_rules(oidc: OidcProvider, **more: Any) -> Json:
    """`authorizerConfiguration` for tokens of this provider for AUDIENCE."""
    rules = {"discoveryUrl": oidc.discovery_url, "allowedAudience": [AUDIENCE], **more}
    return {"customJWTAuthorizer": rules}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def openapi(url: str, paths: Json, **more: Any) -> Json:
    """A target's configuration."""
    document = {
        "openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "servers": [{"url": url}],
        "paths": paths, **more,
    }  # fmt: skip
    return {"mcp": {"openApiSchema": {"inlinePayload": json.dumps(document)}}}


def function_target(arn: str, tool: str, **properties: str) -> Json:
    """A target's configuration: one tool, all of whose properties are required."""
    schema = {
        "type": "object", "required": list(properties),
        "properties": {name: {"type": kind} for name, kind in properties.items()},
    }  # fmt: skip
    tools = [{"name": tool, "description": "A tool.", "inputSchema": schema}]
    return {"mcp": {"lambda": {"lambdaArn": arn, "toolSchema": {"inlinePayload": tools}}}}


def deploy_function(platform: RunningPlatform, code: str) -> str:
    """The ARN of a function of the platform's own, once it is ready."""
    name = f"function-{uuid.uuid4().hex[:8]}"
    artifact = platform.upload({"main.py": code}, name=name)["codeConfiguration"]["code"]["s3"]
    place = {"bucket": artifact["bucket"], "key": artifact["prefix"]}
    body = {"name": name, "runtime": PYTHON, "handler": "main.handler", "code": place}
    made = platform.own("/functions", method="POST", body=body)

    def ready() -> bool:
        seen = platform.own(f"/functions/{name}")
        assert "FAILED" not in seen["status"], seen["statusReason"]
        return bool(seen["status"] == "READY")

    until(ready, seconds_max=READY_SECONDS_MAX)
    return str(made["arn"])


def api_key_provider(platform: RunningPlatform, key: str) -> str:
    """The ARN of a credential provider with this key."""
    made = platform.client("bedrock-agentcore-control").create_api_key_credential_provider(
        name=f"key-{uuid.uuid4().hex[:8]}", apiKey=key
    )
    return str(made["credentialProviderArn"])
