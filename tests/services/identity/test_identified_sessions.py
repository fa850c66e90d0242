"""Agents in real sandboxes: each call brings them a token of who they are and for whom they act."""

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from identity_ground import claims_of, encoded
from websockets.asyncio.client import connect

import agents
from oidc_ground import OidcProvider
from running import Agent, RunningPlatform, new_session

pytestmark = pytest.mark.timeout(300)

WAT = "x-amz-bedrock-agentcore-identity-wat"


def files() -> dict[str, str]:
    return {
        **agents.hosted(),
        "main.py": Path(__file__).with_name("identified_agent.py").read_text(),
    }


@pytest.fixture(scope="module")
def first(platform: RunningPlatform) -> Agent:
    return platform.deploy(files(), name="identified_first")


@pytest.fixture(scope="module")
def second(platform: RunningPlatform) -> Agent:
    return platform.deploy(files(), name="identified_second")


def headers_of(agent: Agent, *, session: str = "", **more: Any) -> dict[str, str]:
    """What the agent's own HTTP server saw."""
    answer = agent.invoke({}, session or new_session(), **more)
    return {name.lower(): value for name, value in answer["headers"].items()}


def test_an_agent_reads_its_token_from_the_context_of_the_call(
    first: Agent, platform: RunningPlatform
) -> None:
    session = new_session()
    claims = claims_of(first.invoke({}, session)["token"])
    assert claims["sub"].endswith(f"workload-identity/{first.id}")
    assert claims["tenant"] == platform.account
    assert claims["session"] == session
    assert "user" not in claims
    assert claims_of(first.invoke({"do": "decorator"}, session)["token"])["sub"] == claims["sub"]


def test_the_user_of_the_call_is_the_users_of_the_token(first: Agent) -> None:
    session = new_session()
    for user in ("ada", "grace"):
        assert claims_of(first.invoke({}, session, runtimeUserId=user)["token"])["user"] == user


def test_a_session_and_a_user_keep_their_token_from_call_to_call(first: Agent) -> None:
    session = new_session()
    tokens = {first.invoke({}, session, runtimeUserId="ada")["token"] for _ in range(3)}
    assert len(tokens) == 1
    assert first.invoke({}, new_session(), runtimeUserId="ada")["token"] not in tokens


def test_a_stream_has_it_too(first: Agent) -> None:
    events = first.events({"do": "stream"})
    assert len(events) == 2
    assert claims_of(events[0]["token"])["sub"].endswith(first.id)


async def test_a_websocket_has_it_too(first: Agent, platform: RunningPlatform) -> None:
    url = f"{platform.endpoint}/runtimes/{quote(first.arn, safe='')}/ws"
    request = AWSRequest("GET", url, headers={"X-Amzn-Bedrock-AgentCore-Runtime-User-Id": "ada"})
    credentials = Credentials(platform.access_key_id, platform.secret_access_key)
    SigV4Auth(credentials, "bedrock-agentcore", platform.region).add_auth(request)
    async with connect(
        url.replace("http", "ws", 1), additional_headers=dict(request.headers.items())
    ) as socket:
        await socket.send("show")
        seen = json.loads(await socket.recv())
    assert seen[WAT] == seen["workloadaccesstoken"]
    assert claims_of(seen[WAT])["user"] == "ada"


ECHO = """
import json, os
from http.server import BaseHTTPRequestHandler, HTTPServer

class Echo(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({"status": "Healthy"})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer({name.lower(): value for name, value in self.headers.items()})

    def answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("0.0.0.0", int(os.environ["PORT"])), Echo).serve_forever()
"""


@pytest.mark.parametrize(("protocol", "port"), [("MCP", 8000), ("A2A", 9000), ("AGUI", 8080)])
def test_servers_of_other_protocols_have_it_too(
    platform: RunningPlatform, protocol: str, port: int
) -> None:
    if platform.facts["tier"] != "container":
        pytest.skip("an agent that is no ASGI application needs the container tier")
    agent = platform.deploy(
        {"main.py": ECHO},
        protocolConfiguration={"serverProtocol": protocol},
        environmentVariables={"PORT": str(port)},
    )
    try:
        seen = agent.invoke({"jsonrpc": "2.0"}, runtimeUserId="ada")
        assert claims_of(seen[WAT])["sub"].endswith(agent.id)
        assert claims_of(seen["workloadaccesstoken"])["user"] == "ada"
    finally:
        agent.delete()


# -- bearer tokens

AUDIENCE = "https://agents.example.test"


@pytest.fixture(scope="module")
def idp() -> Iterator[OidcProvider]:
    with OidcProvider() as provider:
        yield provider


@pytest.fixture(scope="module")
def inbound(platform: RunningPlatform, idp: OidcProvider) -> Agent:
    return platform.deploy(
        files(),
        name="identified_inbound",
        authorizerConfiguration={
            "customJWTAuthorizer": {
                "discoveryUrl": idp.discovery_url, "allowedAudience": [AUDIENCE],
            }
        },
    )  # fmt: skip


def by_bearer(agent: Agent, token: str, payload: Any, **headers: str) -> dict[str, Any]:
    url = f"{agent.platform.endpoint}/runtimes/{quote(agent.arn, safe='')}/invocations"
    request = urllib.request.Request(
        url,
        data=json.dumps(payload).encode(),
        headers={
            "Authorization": f"Bearer {token}", "Content-Type": "application/json",
            "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id": new_session(), **headers,
        },
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=60) as answer:
        return dict(json.loads(answer.read()))


async def user_token(idp: OidcProvider, user: str) -> str:
    tokens = await idp.user_tokens(user, scope="tools:read", resource=AUDIENCE)
    return str(tokens["access_token"])


async def test_who_signed_in_elsewhere_is_the_user_whatever_the_request_names(
    inbound: Agent, idp: OidcProvider
) -> None:
    token = await user_token(idp, "ada")
    user_header = {"X-Amzn-Bedrock-AgentCore-Runtime-User-Id": "grace"}
    answer = by_bearer(inbound, token, {}, **user_header)
    claims = claims_of(answer["token"])
    assert claims["user"] == f"{idp.issuer}|ada"
    assert claims["user_token"] is True
    assert claims["exp"] <= claims["user_until"] == claims_of(token)["exp"]
    # The bar: token pass-through; secrets in logs.
    assert token not in json.dumps(answer)
    assert token not in inbound.platform.log.read_text()
    assert answer["token"] not in inbound.platform.log.read_text()


async def test_a_signed_in_user_is_carried_on_to_another_agent(
    inbound: Agent, second: Agent, idp: OidcProvider
) -> None:
    token = await user_token(idp, "ada")
    claims = claims_of(by_bearer(inbound, token, {"do": "call", "arn": second.arn})["token"])
    assert claims["sub"].endswith(second.id)
    assert claims["user"] == f"{idp.issuer}|ada"
    assert claims["user_token"] is True
    assert claims["act"]["sub"].endswith(inbound.id)


async def test_a_token_of_another_user_cannot_ride_on_a_bearer(
    inbound: Agent, first: Agent, idp: OidcProvider
) -> None:
    of_grace = first.invoke({}, runtimeUserId="grace")["token"]
    with pytest.raises(urllib.error.HTTPError) as raised:
        by_bearer(inbound, await user_token(idp, "ada"), {}, **{WAT: of_grace})
    with raised.value as refused:
        assert refused.code == 401
        assert of_grace not in refused.read().decode()


def test_where_consent_ends_is_told_where_it_is_known(
    first: Agent, platform: RunningPlatform
) -> None:
    control = platform.client("bedrock-agentcore-control")
    control.update_workload_identity(
        name=first.id, allowedResourceOauth2ReturnUrls=["https://app.example/done"]
    )
    assert first.invoke({})["callback"] == "https://app.example/done"


def test_an_agent_hands_on_its_user_to_the_agent_it_calls(first: Agent, second: Agent) -> None:
    answer = first.invoke({"do": "call", "arn": second.arn}, runtimeUserId="ada")
    claims = claims_of(answer["token"])
    assert claims["sub"].endswith(second.id)
    assert claims["user"] == "ada"
    assert claims["act"]["sub"].endswith(first.id)


def test_an_agent_that_hands_nothing_on_acts_for_nobody_but_is_known(
    first: Agent, second: Agent
) -> None:
    answer = first.invoke({"do": "call", "arn": second.arn, "hand_on": False}, runtimeUserId="ada")
    claims = claims_of(answer["token"])
    assert "user" not in claims
    assert claims["act"]["sub"].endswith(first.id)


def test_an_agent_cannot_make_up_a_user(first: Agent, second: Agent) -> None:
    made_up = {"do": "call", "arn": second.arn, "more": {"runtimeUserId": "grace"}}
    for hand_on in (True, False):
        answer = first.invoke({**made_up, "hand_on": hand_on}, runtimeUserId="ada")
        assert answer["error"] == "AccessDeniedException"


def tampered(token: str) -> dict[str, str]:
    header, claims, signature = token.split(".")
    raised = {**claims_of(token), "user": "root"}
    unsigned = encoded({"alg": "none", "typ": "workload-access-token+jwt"})
    last = base64.urlsafe_b64decode(signature + "==")
    flipped = base64.urlsafe_b64encode(last[:-1] + bytes([last[-1] ^ 1])).decode().rstrip("=")
    return {
        "another user": f"{header}.{encoded(raised)}.{signature}",
        "no signature": f"{unsigned}.{encoded(raised)}.",
        "a flipped bit": f"{header}.{claims}.{flipped}",
    }


def test_a_tampered_token_and_a_neighbours_are_refused_on_the_way_to_another_agent(
    first: Agent, second: Agent, platform: RunningPlatform
) -> None:
    """The bar: forged JWT, over HTTP."""
    session = new_session()
    own = first.invoke({}, session, runtimeUserId="ada")["token"]
    good = {"do": "call", "arn": second.arn, "token": own}
    assert claims_of(first.invoke(good, session, runtimeUserId="ada")["token"])["user"] == "ada"
    stranger = platform.as_tenant("200000000002")
    stranger.client("bedrock-agentcore-control").create_workload_identity(name=f"x-{session[-8:]}")
    bad = {
        **tampered(own),
        "of another session": first.invoke({}, runtimeUserId="grace")["token"],
        "of another agent": second.invoke({}, runtimeUserId="grace")["token"],
        "of another tenant": stranger.client(
            "bedrock-agentcore"
        ).get_workload_access_token(workloadName=f"x-{session[-8:]}")["workloadAccessToken"],
    }  # fmt: skip
    for what, token in bad.items():
        answer = first.invoke({**good, "token": token}, session, runtimeUserId="ada")
        assert answer.get("error") == "UnauthorizedException", (what, answer)
        assert token not in answer["message"]


def test_a_session_gets_tokens_of_its_own_identity_alone(
    first: Agent, second: Agent, platform: RunningPlatform
) -> None:
    def asked(operation: str, **parameters: str) -> Any:
        return first.invoke(
            {"do": "grant", "operation": operation, "parameters": parameters},
            runtimeUserId="ada",
        )

    own = asked("get_workload_access_token", workloadName=first.id)
    assert claims_of(own["token"])["sub"].endswith(first.id)
    own = asked("get_workload_access_token_for_user_id", workloadName=first.id, userId="ada")
    assert claims_of(own["token"])["user"] == "ada"
    for refused in (
        asked("get_workload_access_token", workloadName=second.id),
        asked("get_workload_access_token", workloadName="nobody"),
        asked("get_workload_access_token_for_user_id", workloadName=first.id, userId="grace"),
    ):
        assert refused["error"] == "AccessDeniedException", refused


def test_a_client_cannot_slip_an_agent_a_token_of_its_own_making(
    first: Agent, platform: RunningPlatform
) -> None:
    control = platform.client("bedrock-agentcore-control")
    artifact = platform.upload(files(), name=first.id)
    for header in ("WorkloadAccessToken", "OAuth2CallbackUrl"):
        try:
            control.update_agent_runtime(
                agentRuntimeId=first.id, agentRuntimeArtifact=artifact, **platform.common(),
                requestHeaderConfiguration={"requestHeaderAllowlist": [header]},
            )  # fmt: skip
        except control.exceptions.ValidationException:
            continue
        raise AssertionError(f"{header} may be sent by clients")
