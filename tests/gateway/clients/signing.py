"""Signature Version 4 for clients that take a way of authenticating from httpx or httpx2."""

from collections.abc import Generator
from importlib.metadata import version

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.session import get_session

if version("mcp").startswith("1."):
    import httpx
else:
    import httpx2 as httpx


class Signed(httpx.Auth):
    """By the keys of the environment."""

    requires_request_body = True

    def __init__(self) -> None:
        session = get_session()
        self._credentials = session.get_credentials()
        self._region = session.get_config_variable("region")

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request]:
        plain = AWSRequest(
            method=request.method,
            url=str(request.url),
            data=request.content,
            headers={"host": request.headers["host"]},
        )
        SigV4Auth(self._credentials, "bedrock-agentcore", self._region).add_auth(plain)
        request.headers.update(dict(plain.headers.items()))
        yield request
