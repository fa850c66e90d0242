"""WebSocket clients of agents: a plain one that signs, and the SDK's own helpers."""

import base64
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from websockets.asyncio.client import ClientConnection, connect

from running import Agent, RunningPlatform

SESSION = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
SHELL = "X-Amzn-Bedrock-AgentCore-Shell-Id"
CUSTOM = "X-Amzn-Bedrock-AgentCore-Runtime-Custom-"


def url_of(agent: Agent, path: str = "/ws", **query: str) -> str:
    url = f"{agent.platform.endpoint}/runtimes/{quote(agent.arn, safe='')}{path}"
    return f"{url}?{urlencode(query)}" if query else url


def signed(platform: RunningPlatform, url: str, **headers: str) -> dict[str, str]:
    request = AWSRequest(method="GET", url=url, headers={"host": urlsplit(url).netloc})
    credentials = Credentials(platform.access_key_id, platform.secret_access_key)
    SigV4Auth(credentials, "bedrock-agentcore", platform.region).add_auth(request)
    return {**{n: v for n, v in request.headers.items() if n.lower() != "host"}, **headers}


def presigned(platform: RunningPlatform, url: str) -> str:
    """As the SDK does it: for the host without its port."""
    request = AWSRequest(method="GET", url=url, headers={"host": urlsplit(url).hostname})
    credentials = Credentials(platform.access_key_id, platform.secret_access_key)
    SigV4QueryAuth(credentials, "bedrock-agentcore", platform.region, expires=60).add_auth(request)
    return request.url


def twice(headers: dict[str, str], url: str) -> dict[str, str]:
    """What the SDK adds to what the client library sends by itself."""
    return {
        **headers,
        "Host": urlsplit(url).netloc,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(secrets.token_bytes(16)).decode(),
    }


@contextlib.asynccontextmanager
async def opened(url: str, **more: Any) -> AsyncIterator[ClientConnection]:
    more.setdefault("compression", None)
    async with connect(
        url.replace("http", "ws", 1), proxy=None, open_timeout=60, close_timeout=10, **more
    ) as socket:
        yield socket


@contextlib.asynccontextmanager
async def talking_to(
    agent: Agent, session: str, *, query: dict[str, str] | None = None, **headers: str
) -> AsyncIterator[ClientConnection]:
    url = url_of(agent, **(query or {}))
    sent = signed(agent.platform, url, **{SESSION: session, **headers})
    async with opened(url, additional_headers=sent) as socket:
        yield socket
