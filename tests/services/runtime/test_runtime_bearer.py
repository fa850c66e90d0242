"""An agent runtime with a JWT authorizer: users of an OpenID provider call it with their tokens."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import urllib3
from socket_clients import opened, url_of
from websockets.exceptions import InvalidStatus

import agents
from oidc_ground import OidcProvider, needed
from running import Agent, RunningPlatform, new_session

SESSION = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
USER = "X-Amzn-Bedrock-AgentCore-Runtime-User-Id"
AUDIENCE = "https://agents.example.test"
OTHER_AUDIENCE = "https://other.example.test"


@pytest.fixture(scope="module")
def provider() -> Iterator[OidcProvider]:
    needed()
    with OidcProvider() as provider:
        yield provider


def authorizer(provider: OidcProvider, *audience: str) -> dict[str, Any]:
    rules = {"discoveryUrl": provider.discovery_url, "allowedAudience": list(audience)}
    return {"customJWTAuthorizer": rules}


@pytest.fixture(scope="module")
def guarded(platform: RunningPlatform, provider: OidcProvider) -> Agent:
    configuration = authorizer(provider, AUDIENCE)
    return platform.deploy(agents.plain(), authorizerConfiguration=configuration)


async def token_of(provider: OidcProvider, user: str, audience: str = AUDIENCE) -> str:
    tokens = await provider.user_tokens(user, resource=audience)
    return str(tokens["access_token"])


def call(
    agent: Agent,
    token: str | None,
    payload: Any = None,
    *,
    session: str | None = None,
    arn: str | None = None,
    query: str = "",
    preload_content: bool = True,
) -> urllib3.BaseHTTPResponse:
    path = f"/runtimes/{quote(arn or agent.arn, safe='')}/invocations{query}"
    headers = {SESSION: session or new_session(), "Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    url = agent.platform.endpoint + path
    body = json.dumps(payload or {})
    return urllib3.request("POST", url, body=body, headers=headers, preload_content=preload_content)


def bearer_headers(token: str) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        SESSION: new_session(),
    }


async def refused(url: str, headers: dict[str, str]) -> int:
    with pytest.raises(InvalidStatus) as refusal:
        async with opened(url, additional_headers=headers):
            pass
    return refusal.value.response.status_code


async def test_a_users_token_is_who_calls(guarded: Agent, provider: OidcProvider) -> None:
    session = new_session()
    answer = call(guarded, await token_of(provider, "ada"), session=session)
    assert answer.status == 200, answer.data
    user = f"{provider.issuer}|ada"
    assert answer.json()["headers"][USER] == user
    assert "Authorization" not in answer.json()["headers"]
    assert guarded.platform.session(session)["user"] == user


async def test_costs_are_by_the_tokens_user(guarded: Agent, provider: OidcProvider) -> None:
    session = new_session()
    assert call(guarded, await token_of(provider, "cost"), session=session).status == 200
    # Whom the caller says it is for counts for nothing: the token says it.
    guarded.stop(session)
    rows = guarded.platform.own("/costs", by="user")["rows"]
    found = [row for row in rows if row["key"] == f"{provider.issuer}|cost"]
    assert [row["invocations"] for row in found] == [1]


async def test_the_answer_streams(guarded: Agent, provider: OidcProvider) -> None:
    token, session = await token_of(provider, "ada"), new_session()
    answer = call(guarded, token, {"do": "stream_until_go"}, session=session, preload_content=False)
    pieces = answer.stream()
    assert b'"number": 1' in next(pieces)
    assert call(guarded, token, {"do": "say_go"}, session=session).status == 200
    assert b'"went": true' in b"".join(pieces)


async def test_what_is_no_good_is_refused_alike(guarded: Agent, provider: OidcProvider) -> None:
    good = await token_of(provider, "ada")
    other = await token_of(provider, "ada", OTHER_AUDIENCE)
    absent = guarded.arn[:-10] + "zzzzzzzzzz"
    plain = guarded.platform.deploy(agents.plain())
    refused = [
        call(guarded, other),
        call(guarded, good[:-4] + "AAAA"),
        call(guarded, None),
        call(guarded, good, arn=absent),
        call(guarded, good, arn=plain.arn),
    ]
    assert [answer.status for answer in refused] == [401] * 5
    assert refused[3].json() == refused[4].json()


async def test_the_challenge_names_the_provider(guarded: Agent, provider: OidcProvider) -> None:
    challenge = call(guarded, None).headers["WWW-Authenticate"]
    url = challenge.partition('resource_metadata="')[2].rstrip('"')
    metadata = urllib3.request("GET", url).json()
    assert metadata["authorization_servers"] == [provider.issuer]
    assert metadata["resource"].endswith("/invocations")


def test_a_signature_is_refused_and_says_why(guarded: Agent) -> None:
    refused = guarded.refusal()
    assert (refused.status, refused.kind) == (403, "AccessDeniedException")
    assert "method mismatch" in refused.message


async def test_each_endpoint_has_its_versions_rules(
    platform: RunningPlatform, provider: OidcProvider
) -> None:
    agent = platform.deploy(agents.plain(), authorizerConfiguration=authorizer(provider, AUDIENCE))
    agent.control.create_agent_runtime_endpoint(
        agentRuntimeId=agent.id, name="first", agentRuntimeVersion="1"
    )
    agent.control.update_agent_runtime(
        agentRuntimeId=agent.id,
        agentRuntimeArtifact=platform.upload(agents.plain(), name="again"),
        authorizerConfiguration=authorizer(provider, OTHER_AUDIENCE),
        **platform.common(),
    )
    assert agent.settle()[0] == "READY"
    token = await token_of(provider, "ada")
    assert call(agent, token).status == 401
    assert call(agent, token, query="?qualifier=first").status == 200
    shown = agent.control.get_agent_runtime(agentRuntimeId=agent.id)["authorizerConfiguration"]
    assert shown["customJWTAuthorizer"]["allowedAudience"] == [OTHER_AUDIENCE]


async def test_an_id_needs_its_account(guarded: Agent, provider: OidcProvider) -> None:
    token = await token_of(provider, "ada")
    assert call(guarded, token, arn=guarded.id).status == 401
    account = guarded.platform.account
    assert call(guarded, token, arn=guarded.id, query=f"?accountId={account}").status == 200


async def test_another_operation_of_the_tenant_is_not_opened(
    guarded: Agent, provider: OidcProvider
) -> None:
    headers = {"Authorization": f"Bearer {await token_of(provider, 'ada')}"}
    for method, path in (
        ("POST", "/runtimes/"),
        ("GET", f"/runtimes/{guarded.id}/"),
        ("GET", "/freehold/v1/sessions"),
        ("GET", "/_s3/"),
    ):
        answer = urllib3.request(method, guarded.platform.endpoint + path, headers=headers)
        assert answer.status in (401, 403), path


async def test_an_agent_hands_its_callers_token_on(guarded: Agent, provider: OidcProvider) -> None:
    caller = guarded.platform.deploy(agents.plain())
    token = await token_of(provider, "grace")
    path = f"/runtimes/{quote(guarded.arn, safe='')}/invocations"
    headers = {SESSION: new_session(), "Content-Type": "application/json"}
    asked = {"do": "post", "url": f"http://127.0.0.1:7400{path}", "headers": headers, "body": {}}
    alone = caller.invoke(asked)
    assert alone["status"] == 403, alone
    headers["Authorization"] = f"Bearer {token}"
    together = caller.invoke(asked)
    assert together["status"] == 200, together
    assert json.loads(together["body"])["headers"][USER] == f"{provider.issuer}|grace"


async def test_websockets_take_the_token(platform: RunningPlatform, provider: OidcProvider) -> None:
    agent = platform.deploy(
        agents.talking(), authorizerConfiguration=authorizer(provider, AUDIENCE)
    )
    headers = bearer_headers(await token_of(provider, "ada"))
    async with opened(url_of(agent), additional_headers=headers) as socket:
        await socket.send("headers")
        assert json.loads(await socket.recv())["session"] == headers[SESSION]
    for bad in ({**headers, "Authorization": "Bearer no"}, {SESSION: new_session()}):
        assert await refused(url_of(agent), bad) == 401


async def test_users_open_shells_where_the_runtime_lets_them(
    guarded: Agent, provider: OidcProvider
) -> None:
    headers = bearer_headers(await token_of(provider, "ada"))
    url = url_of(guarded, "/ws/shells")
    assert await refused(url, headers) == 403
    command = guarded.platform.endpoint + f"/runtimes/{quote(guarded.arn, safe='')}/commands"
    body = json.dumps({"command": "env"})
    assert urllib3.request("POST", command, body=body, headers=headers).status == 403
    guarded.control.tag_resource(resourceArn=guarded.arn, tags={"freehold:bearer-shells": "true"})
    try:
        async with opened(url, additional_headers=headers) as socket:
            assert await socket.recv()
        assert urllib3.request("POST", command, body=body, headers=headers).status == 200
    finally:
        guarded.control.untag_resource(resourceArn=guarded.arn, tagKeys=["freehold:bearer-shells"])


async def test_a_users_session_is_theirs(guarded: Agent, provider: OidcProvider) -> None:
    session = new_session()
    ada, eve = await token_of(provider, "ada"), await token_of(provider, "eve")
    assert call(guarded, ada, {"do": "tell", "text": "mine"}, session=session).status == 200
    stolen = call(guarded, eve, {"do": "tell", "text": "hers"}, session=session)
    assert (stolen.status, "somebody else" in stolen.json()["message"]) == (403, True)
    again = call(guarded, ada, {"do": "tell", "text": "still"}, session=session)
    assert again.json()["told"] == ["mine", "still"], again.json()


async def test_the_command_line_calls_with_a_token(guarded: Agent, provider: OidcProvider) -> None:
    environment = {
        **os.environ,
        "FREEHOLD_STATE": str(guarded.platform.state),
        "FREEHOLD_TOKEN": await token_of(provider, "ada"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "freehold.cli", "invoke", guarded.id, "{}", "--json"],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{provider.issuer}|ada" in done.stdout
    assert environment["FREEHOLD_TOKEN"] not in done.stdout + done.stderr
