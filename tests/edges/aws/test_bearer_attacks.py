"""The bar: every forged token is 401 from a running platform, over HTTP and for a WebSocket."""

import http.client
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

import agents
from forged_tokens import AUDIENCE, CLIENT, FORGED, GROUP, HONEST, SCOPE, prepare
from running import Agent, RunningPlatform
from token_issuer import TokenIssuer

pytestmark = pytest.mark.timeout(300)

# A server may call a request broken whose header is larger, or holds a zero byte.
HEADER_BYTES_MAX = 8000
# What HTTP does not carry in a header: no client sends a line's end, no server sees outer spaces.
NOT_CARRIED = ("a line feed", "a space at its end")
ON_THE_WIRE = [name for name in FORGED if not any(each in name for each in NOT_CARRIED)]


@pytest.fixture(scope="module")
def issuer() -> Iterator[TokenIssuer]:
    with TokenIssuer() as issuer:
        prepare(issuer)
        yield issuer


def authorizer(issuer: TokenIssuer) -> dict[str, Any]:
    group = {
        "inboundTokenClaimName": "groups",
        "inboundTokenClaimValueType": "STRING_ARRAY",
        "authorizingClaimMatchValue": {
            "claimMatchValue": {"matchValueString": GROUP},
            "claimMatchOperator": "CONTAINS",
        },
    }
    rules = {
        "discoveryUrl": issuer.discovery_url,
        "allowedAudience": [AUDIENCE],
        "allowedClients": [CLIENT],
        "allowedScopes": [SCOPE],
        "customClaims": [group],
    }
    return {"customJWTAuthorizer": rules}


@pytest.fixture(scope="module")
def guarded(platform: RunningPlatform, issuer: TokenIssuer) -> Agent:
    return platform.deploy(agents.plain(), authorizerConfiguration=authorizer(issuer))


@pytest.fixture(scope="module")
def talking(platform: RunningPlatform, issuer: TokenIssuer) -> Agent:
    return platform.deploy(agents.talking(), authorizerConfiguration=authorizer(issuer))


@pytest.fixture(scope="module")
def honest_session(guarded: Agent, issuer: TokenIssuer) -> str:
    """A session that an honest user holds: what an intruder would like to be in."""
    session = f"honest-{uuid.uuid4()}"
    status, _ = invoke(guarded, issuer.token(), session)
    assert status == 200
    return session


def invoke(agent: Agent, token: str, session: str) -> tuple[int, bytes]:
    """As plain as can be, so that nothing on the way repairs or refuses the token."""
    where = urlsplit(agent.platform.endpoint)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
    body = b"{}"
    connection.putrequest("POST", f"/runtimes/{quote(agent.arn, safe='')}/invocations")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(body)))
    connection.putheader("X-Amzn-Bedrock-AgentCore-Runtime-Session-Id", session)
    connection.putheader("Authorization", b"Bearer " + token.encode())
    try:
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def upgrade(agent: Agent, token: str) -> int:
    """The status of a WebSocket's opening handshake."""
    where = urlsplit(agent.platform.endpoint)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
    connection.putrequest("GET", f"/runtimes/{quote(agent.arn, safe='')}/ws")
    for name, value in (
        ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ):  # fmt: skip
        connection.putheader(name, value)
    connection.putheader("Authorization", b"Bearer " + token.encode())
    try:
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_token_invokes(guarded: Agent, issuer: TokenIssuer, name: str) -> None:
    status, body = invoke(guarded, HONEST[name](issuer), f"of-{name}-{uuid.uuid4()}")
    assert (status, f"{issuer.issuer}|ada".encode() in body) == (200, True)


def test_the_table_is_as_long_as_the_bar_asks() -> None:
    assert len(ON_THE_WIRE) >= 43


@pytest.mark.parametrize("name", ON_THE_WIRE)
def test_a_forged_token_is_401(
    guarded: Agent, issuer: TokenIssuer, honest_session: str, name: str
) -> None:
    token = FORGED[name](issuer)
    status, body = invoke(guarded, token, honest_session)
    if len(token) > HEADER_BYTES_MAX or "\0" in token:
        assert status in (400, 401, 431)
    else:
        assert status == 401
    assert not token or token.encode() not in body
    assert issuer.issuer.encode() not in body


def test_no_forged_token_opens_a_websocket(talking: Agent, issuer: TokenIssuer) -> None:
    assert upgrade(talking, issuer.token()) == 101
    tokens = {name: FORGED[name](issuer) for name in ON_THE_WIRE}
    answers = {
        name: upgrade(talking, token)
        for name, token in tokens.items()
        if len(token) <= HEADER_BYTES_MAX and "\0" not in token
    }
    assert {name: status for name, status in answers.items() if status != 401} == {}
    assert len(answers) >= 43
