"""WebSockets to the platform, signed as any other request, and what their refusals mean."""

import json
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus

from freehold.cli.connection import Connection
from freehold.cli.errors import no_platform, refused
from freehold.cli.failure import CliError

CONNECT_SECONDS_MAX = 75.0
"""A session that starts first may take a minute."""


@asynccontextmanager
async def opened(
    connection: Connection, arn: str, path: str, query: Mapping[str, str], **headers: str
) -> AsyncIterator[ClientConnection]:
    """`/runtimes/{arn}{path}`. Raises CliError for what the platform refuses."""
    url = f"{connection.endpoint}/runtimes/{quote(arn, safe='')}{path}"
    if query:
        url += f"?{urlencode(query)}"
    try:
        socket = await connect(
            "ws" + url.removeprefix("http"),
            additional_headers=_signed(connection, url, headers),
            compression=None,
            open_timeout=CONNECT_SECONDS_MAX,
            proxy=None,
            ssl=_trust(connection),
        )
    except InvalidStatus as error:
        raise _refused(error, connection) from error
    except InvalidHandshake as error:
        raise CliError(f"{connection.endpoint} speaks no WebSocket: {error}") from error
    except TimeoutError as error:
        raise CliError(
            f"{connection.endpoint} did not answer within {CONNECT_SECONDS_MAX:g} s",
            code="ConnectionLost",
        ) from error
    except ssl.SSLError as error:
        raise CliError(
            f"{connection.endpoint} has a certificate that is not trusted: {error.reason}",
            code="NotTrusted",
        ) from error
    except OSError as error:
        raise no_platform(connection.endpoint) from error
    async with socket:
        yield socket


def _trust(connection: Connection) -> ssl.SSLContext | None:
    if not connection.endpoint.startswith("https://"):
        return None
    bundle = connection.ca_certificate or os.environ.get("AWS_CA_BUNDLE") or None
    return ssl.create_default_context(cafile=bundle)


def _signed(connection: Connection, url: str, headers: Mapping[str, str]) -> dict[str, str]:
    request = AWSRequest(method="GET", url=url, headers={"host": urlsplit(url).netloc, **headers})
    credentials = Credentials(
        connection.access_key_id, connection.secret_access_key, connection.session_token
    )
    SigV4Auth(credentials, "bedrock-agentcore", connection.region).add_auth(request)
    # The client library says Host by itself, and in the same words.
    return {name: value for name, value in request.headers.items() if name.lower() != "host"}


def _refused(error: InvalidStatus, connection: Connection) -> CliError:
    answer = error.response
    code = answer.headers.get("x-amzn-ErrorType", f"Http{answer.status_code}")
    said: Any = None
    with suppress(ValueError):
        said = json.loads(answer.body or b"")
    message = said.get("message", "") if isinstance(said, dict) else ""
    return refused(
        code,
        message or f"{connection.endpoint} answered {answer.status_code}",
        answer.headers.get("x-amzn-RequestId"),
        connection,
    )
