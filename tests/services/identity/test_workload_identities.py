"""Workload identities through boto3 and the AgentCore SDK, outside of any sandbox."""

import json
import subprocess
import sys
import urllib.request
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from identity_ground import claims_of
from joserfc import jwt
from joserfc.jwk import KeySet

from oidc_ground import OidcProvider
from running import Agent, RunningPlatform, refusal

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of pydantic, about the SDK's models
    from bedrock_agentcore.services.identity import IdentityClient

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def control(platform: RunningPlatform) -> Any:
    return platform.client("bedrock-agentcore-control")


@pytest.fixture(scope="module")
def data(platform: RunningPlatform) -> Any:
    return platform.client("bedrock-agentcore")


@pytest.fixture(scope="module")
def idp() -> Iterator[OidcProvider]:
    with OidcProvider() as provider:
        yield provider


@pytest.fixture
def name() -> str:
    return f"Some.agent_{uuid.uuid4().hex[:8]}"


@pytest.fixture
def sdk(platform: RunningPlatform, monkeypatch: pytest.MonkeyPatch) -> IdentityClient:
    """Of the SDK, as on a developer's machine."""
    for variable, value in environment(platform).items():
        monkeypatch.setenv(variable, value)
    return IdentityClient(platform.region)


def environment(platform: RunningPlatform) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": platform.access_key_id,
        "AWS_SECRET_ACCESS_KEY": platform.secret_access_key,
        "AWS_REGION": platform.region,
        "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE": platform.endpoint,
        "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL": platform.endpoint,
    }


# -- the resource


def test_an_identity_is_made_read_listed_changed_and_deleted(
    control: Any, platform: RunningPlatform, name: str
) -> None:
    made = control.create_workload_identity(
        name=name, allowedResourceOauth2ReturnUrls=["https://app.example/done"],
        tags={"team": "blue"},
    )  # fmt: skip
    arn = (
        f"arn:aws:bedrock-agentcore:{platform.region}:{platform.account}:"
        f"workload-identity-directory/default/workload-identity/{name}"
    )
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (made["name"], made["workloadIdentityArn"]) == (name, arn)
    assert control.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "blue"}

    got = control.get_workload_identity(name=name)
    assert got["allowedResourceOauth2ReturnUrls"] == ["https://app.example/done"]
    pages = control.get_paginator("list_workload_identities").paginate(
        PaginationConfig={"PageSize": 2}
    )
    assert {"name": name, "workloadIdentityArn": arn} in [
        each for page in pages for each in page["workloadIdentities"]
    ]

    changed = control.update_workload_identity(
        name=name, allowedResourceOauth2ReturnUrls=["https://app.example/other"]
    )
    assert changed["createdTime"] == got["createdTime"]
    assert changed["lastUpdatedTime"] > got["lastUpdatedTime"]
    got = control.get_workload_identity(name=name)
    assert got["allowedResourceOauth2ReturnUrls"] == ["https://app.example/other"]

    gone = control.delete_workload_identity(name=name)
    assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert refusal(lambda: control.get_workload_identity(name=name)).status == 404


def test_a_name_is_taken_once_and_only_in_its_tenant(
    control: Any, platform: RunningPlatform, name: str
) -> None:
    control.create_workload_identity(name=name)
    taken = refusal(lambda: control.create_workload_identity(name=name))
    assert (taken.status, taken.kind) == (409, "ConflictException")
    other = platform.as_tenant("200000000002").client("bedrock-agentcore-control")
    assert other.create_workload_identity(name=name)["name"] == name


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "https://a/#b"])
def test_a_return_url_that_a_browser_must_not_follow_is_refused(
    control: Any, name: str, url: str
) -> None:
    asked = {"name": name, "allowedResourceOauth2ReturnUrls": [url]}
    assert refusal(lambda: control.create_workload_identity(**asked)).status == 400


def test_another_tenants_identity_is_not_found_on_any_operation(
    control: Any, platform: RunningPlatform, name: str
) -> None:
    """The bar: another tenant's id."""
    control.create_workload_identity(name=name)
    stranger = platform.as_tenant("200000000002")
    theirs = stranger.client("bedrock-agentcore-control")
    their_data = stranger.client("bedrock-agentcore")
    for call in (
        lambda: theirs.get_workload_identity(name=name),
        lambda: theirs.update_workload_identity(name=name, allowedResourceOauth2ReturnUrls=[]),
        lambda: theirs.delete_workload_identity(name=name),
        lambda: their_data.get_workload_access_token(workloadName=name),
        lambda: their_data.get_workload_access_token_for_user_id(workloadName=name, userId="a"),
    ):
        refused = refusal(call)
        assert (refused.status, refused.code) == (404, "ResourceNotFoundException")
    listed = theirs.list_workload_identities()["workloadIdentities"]
    assert name not in [each["name"] for each in listed]


def test_a_runtimes_identity_goes_with_it_and_not_alone(
    control: Any, platform: RunningPlatform
) -> None:
    artifact = platform.upload({"main.py": "print()"}, name="identified")
    asked = {
        "agentRuntimeName": f"identified_{uuid.uuid4().hex[:8]}",
        "agentRuntimeArtifact": artifact,
        **platform.common(),
    }
    made = control.create_agent_runtime(**asked)
    id, details = made["agentRuntimeId"], made["workloadIdentityDetails"]
    arn = details["workloadIdentityArn"]
    assert arn.endswith(f"workload-identity-directory/default/workload-identity/{id}")
    agent = Agent(platform, id, made["agentRuntimeArn"])
    agent.settle()
    assert control.get_agent_runtime(agentRuntimeId=id)["workloadIdentityDetails"] == details
    assert control.get_workload_identity(name=id)["workloadIdentityArn"] == arn

    alone = refusal(lambda: control.delete_workload_identity(name=id))
    assert (alone.status, alone.code) == (409, "ConflictException")
    del asked["agentRuntimeName"]
    updated = control.update_agent_runtime(agentRuntimeId=id, **asked)
    assert updated["workloadIdentityDetails"] == details
    agent.settle()
    agent.delete()
    assert refusal(lambda: control.get_workload_identity(name=id)).status == 404


# -- its tokens


def test_the_three_tokens(data: Any, control: Any, name: str) -> None:
    control.create_workload_identity(name=name)
    alone = data.get_workload_access_token(workloadName=name)["workloadAccessToken"]
    assert "user" not in claims_of(alone)
    named = data.get_workload_access_token_for_user_id(workloadName=name, userId="ada")
    assert claims_of(named["workloadAccessToken"])["user"] == "ada"
    forged = refusal(
        lambda: data.get_workload_access_token_for_jwt(workloadName=name, userToken="a.b.c")
    )
    assert (forged.status, forged.code) == (401, "UnauthorizedException")


async def test_a_users_token_of_a_real_provider_says_who_the_user_is(
    data: Any, control: Any, platform: RunningPlatform, idp: OidcProvider
) -> None:
    """The identity is a runtime's, and its authorizer says whom it trusts and for what."""
    resource = "https://agents.example.test"
    made = control.create_agent_runtime(
        agentRuntimeName=f"inbound_{uuid.uuid4().hex[:8]}",
        agentRuntimeArtifact=platform.upload({"main.py": "print()"}, name="inbound"),
        authorizerConfiguration={
            "customJWTAuthorizer": {
                "discoveryUrl": idp.discovery_url, "allowedAudience": [resource],
            }
        },
        **platform.common(),
    )  # fmt: skip
    id = made["agentRuntimeId"]
    agent = Agent(platform, id, made["agentRuntimeArn"])
    assert agent.settle()[0] == "READY"
    try:
        user_token = (await idp.user_tokens("ada", scope="tools:read", resource=resource))[
            "access_token"
        ]
        wat = data.get_workload_access_token_for_jwt(workloadName=id, userToken=user_token)
        claims = claims_of(wat["workloadAccessToken"])
        assert claims["user"] == f"{idp.issuer}|ada"
        assert claims["user_token"] is True
        assert user_token.split(".")[2] not in wat["workloadAccessToken"]
        assert claims["exp"] <= claims_of(user_token)["exp"]

        elsewhere = await idp.user_tokens(
            "ada", scope="tools:read", resource="https://another.example.test"
        )
        broken = user_token[:-8] + ("AAAAAAAA" if user_token[-8:] != "AAAAAAAA" else "BBBBBBBB")
        for bad in (elsewhere["access_token"], broken):
            refused = refusal(
                lambda bad=bad: data.get_workload_access_token_for_jwt(
                    workloadName=id, userToken=bad
                )
            )
            assert (refused.status, refused.code) == (401, "UnauthorizedException")
            assert bad not in refused.message
    finally:
        agent.delete()


def test_anyone_can_fetch_the_public_keys_and_check_a_token(
    data: Any, control: Any, platform: RunningPlatform, name: str
) -> None:
    control.create_workload_identity(name=name)
    token = data.get_workload_access_token(workloadName=name)["workloadAccessToken"]
    root = f"{platform.endpoint}/freehold/v1"

    def fetched(url: str) -> Any:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.loads(answer.read())

    discovery = fetched(f"{root}/.well-known/openid-configuration")
    assert discovery["issuer"] == root
    keys = fetched(discovery["jwks_uri"])
    assert not any("d" in key for key in keys["keys"])
    found = jwt.decode(token, KeySet.import_key_set(keys), algorithms=["ES256"])
    assert found.claims["iss"] == root
    assert found.claims["tenant"] == platform.account


# -- the SDK on a developer's machine


def test_the_sdks_identity_client_works_unmodified(sdk: IdentityClient, name: str) -> None:
    made = sdk.create_workload_identity(name, ["https://app.example/done"])
    assert made["name"] == name
    assert sdk.get_workload_identity(name)["workloadIdentityArn"] == made["workloadIdentityArn"]
    sdk.update_workload_identity(name, ["https://app.example/other"])
    for asked, user in (({}, None), ({"user_id": "ada"}, "ada")):
        token = sdk.get_workload_access_token(name, **asked)["workloadAccessToken"]
        assert claims_of(token).get("user") == user


LOCAL = """
import asyncio, json
from bedrock_agentcore.identity.auth import _get_workload_access_token, IdentityClient
token = asyncio.run(_get_workload_access_token(IdentityClient("us-east-1")))
print(json.dumps({"token": token}))
"""


def test_outside_a_container_the_sdk_makes_an_identity_and_remembers_it(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    """It is what @requires_access_token and @requires_api_key do first."""

    def run() -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-c", LOCAL], cwd=tmp_path, capture_output=True, text=True,
            timeout=60, check=True,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **environment(platform)},
        )  # fmt: skip
        return claims_of(json.loads(done.stdout.splitlines()[-1])["token"])

    first = run()
    remembered = json.loads((tmp_path / ".agentcore.json").read_text())
    assert first["user"] == remembered["user_id"]
    assert first["sub"].endswith("/" + remembered["workload_identity_name"])
    second = run()
    assert (second["sub"], second["user"]) == (first["sub"], first["user"])
