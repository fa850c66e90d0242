"""An AWS edge with its real parts in this process, and clients that sign as botocore does."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from freehold.edges.aws.app import AwsEdge
from freehold.edges.pipeline import Pipeline
from freehold.kernel.arns import Arn
from freehold.kernel.caller import Caller
from freehold.kernel.errors import NotFound
from freehold.kernel.request import Request
from freehold.ports.authorizer import AccessKey

REGION = "us-east-1"
TENANT = "123456789012"
KEY = AccessKey(id="FHIATESTKEYAAAAAAAAA", tenant=TENANT, secret="s3cr3t-of-the-tests/+=")
RUNTIME_ARN = f"arn:aws:bedrock-agentcore:{REGION}:{TENANT}:runtime/demo-abcdefghij"
CREDENTIALS = Credentials(KEY.id, KEY.secret)
PAYLOAD_BYTES_MAX = 100_000_000
INVOKE = "bedrock-agentcore:InvokeAgentRuntime"
INVOKE_PATH = f"/runtimes/{RUNTIME_ARN.replace(':', '%3A').replace('/', '%2F')}/invocations"


class Keys:
    """Access keys in memory."""

    def __init__(self, *keys: AccessKey) -> None:
        self.by_id = {key.id: key for key in keys}

    async def active(self, access_key_id: str) -> AccessKey | None:
        return self.by_id.get(access_key_id)


class TenantAuthorizer:
    """Everything of one's own tenant; another's does not exist."""

    async def authorize(self, caller: Caller, operation: str, resource_arn: str | None) -> str:
        arn = Arn.parse(resource_arn) if resource_arn else None
        if arn and arn.tenant.isdigit() and arn.tenant != caller.tenant:
            raise NotFound("there is no such resource")
        return caller.tenant


def make_edge(handlers: dict[str, Any], spool_directory: Any, **options: Any) -> AwsEdge:
    parts = {
        "pipeline": Pipeline(authorizer=TenantAuthorizer(), calls_in_flight_max=100),
        "keys": Keys(KEY),
        "region": REGION,
        "spool_directory": str(spool_directory),
        "payload_bytes_max": PAYLOAD_BYTES_MAX,
    }
    return AwsEdge(handlers, **(parts | options))


class Answer:
    def __init__(self, messages: list[Any]) -> None:
        start = messages[0]
        self.status = start["status"]
        self.headers = {k.decode(): v.decode("latin-1") for k, v in start["headers"]}
        self.body = b"".join(message.get("body", b"") for message in messages[1:])

    @property
    def code(self) -> str | None:
        return self.headers.get("x-amzn-errortype")

    def json(self) -> Any:
        return json.loads(self.body)


def scope_of(
    method: str, path: bytes, query: bytes, headers: Iterable[tuple[bytes, bytes]]
) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": query,
        "headers": [(name.lower(), value) for name, value in headers],
    }


async def ask(app: Any, scope: dict[str, Any], *chunks: bytes) -> Answer:
    """One exchange with a client that stays until it is answered."""
    pieces = list(chunks) or [b""]
    sent: list[Any] = []
    over = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if pieces:
            body = pieces.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(pieces)}
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(20):
        await app(scope, receive, send)
    over.set()
    assert sent[-1]["type"] == "http.response.body" and not sent[-1].get("more_body")
    return Answer(sent)


def signed_scope(
    method: str,
    url: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    *,
    service: str = "bedrock-agentcore",
    credentials: Credentials = CREDENTIALS,
) -> dict[str, Any]:
    """As botocore signs it and as a server then sees it. `url` is a path and a query."""
    request = AWSRequest(
        method=method, url=f"http://edge.test{url}", data=body, headers=headers or {}
    )
    SigV4Auth(credentials, service, REGION).add_auth(request)
    return wire_scope(request)


def wire_scope(request: AWSRequest) -> dict[str, Any]:
    prepared = request.prepare()
    parts = urlsplit(prepared.url)
    headers = [(b"host", parts.netloc.encode())]
    for name, value in prepared.headers.items():
        raw = value if isinstance(value, bytes) else value.encode("latin-1")
        headers.append((name.encode(), raw))
    return scope_of(request.method, parts.path.encode(), parts.query.encode(), headers)


async def call(
    app: Any, method: str, url: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> Answer:
    return await ask(app, signed_scope(method, url, body, headers), body)


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """Behind a real HTTP server on loopback; gives the endpoint."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        server.force_exit = True
        async with asyncio.timeout(10):
            await task


class Seen:
    """A handler that remembers its calls and answers `output`."""

    def __init__(self, output: Any = None) -> None:
        self.output = output
        self.calls: list[tuple[Request, dict[str, Any]]] = []

    async def __call__(self, request: Request, params: dict[str, Any]) -> Any:
        self.calls.append((request, params))
        if isinstance(self.output, Exception):
            raise self.output
        return self.output


def invoke_output(body: Any = b"{}") -> dict[str, Any]:
    return {"contentType": "text/plain", "response": body}
