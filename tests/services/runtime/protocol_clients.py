"""Clients of other people's protocols, whose requests are signed for the platform."""

from collections.abc import Generator
from typing import Any
from urllib.parse import quote

import httpx
import httpx2
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from running import Agent

SESSION_HEADER = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
SECONDS_MAX = 60


class Signed:
    """Signature Version 4 for httpx and its successor: the same words in both."""

    requires_request_body = True

    def __init__(self, agent: Agent) -> None:
        platform = agent.platform
        credentials = Credentials(platform.access_key_id, platform.secret_access_key)
        self._signer = SigV4Auth(credentials, "bedrock-agentcore", platform.region)

    def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        signed = AWSRequest(method=request.method, url=str(request.url), data=request.content)
        self._signer.add_auth(signed)
        request.headers.update(dict(signed.headers.items()))
        yield request


class SignedHttpx(Signed, httpx.Auth):
    pass


class SignedHttpx2(Signed, httpx2.Auth):
    pass


def url_of(agent: Agent) -> str:
    return f"{agent.platform.endpoint}/runtimes/{quote(agent.arn, safe='')}/invocations"


def httpx_client(agent: Agent, session: str | None = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        auth=SignedHttpx(agent), headers=_headers(session), timeout=SECONDS_MAX
    )


def httpx2_client(agent: Agent, session: str | None = None) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        auth=SignedHttpx2(agent), headers=_headers(session), timeout=SECONDS_MAX
    )


def _headers(session: str | None) -> dict[str, str]:
    return {SESSION_HEADER: session} if session else {}
