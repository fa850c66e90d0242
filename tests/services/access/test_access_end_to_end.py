"""Roles and resource policies as clients of a real platform meet them."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

import agents
from running import Agent, RunningPlatform, new_session, refusal

pytestmark = pytest.mark.timeout(300)

GUEST = "888800008888"
WithRole = Callable[..., RunningPlatform]


@pytest.fixture(scope="module")
def agent(platform: RunningPlatform) -> Iterator[Agent]:
    agent = platform.deploy(agents.plain())
    yield agent
    agent.delete()


@pytest.fixture
def with_role(platform: RunningPlatform) -> Iterator[WithRole]:
    """The platform as the owner of a new key with these roles sees it."""
    made: list[str] = []

    def make(*roles: str) -> RunningPlatform:
        body = {"description": "a test's", "roles": list(roles)}
        key = platform.own("/keys", method="POST", body=body)
        made.append(key["accessKeyId"])
        other = copy.copy(platform)
        other.access_key_id = key["accessKeyId"]
        other.secret_access_key = key["secretAccessKey"]
        return other

    yield make
    for id in made:
        platform.own(f"/keys/{id}", method="DELETE")


def as_seen_by(who: RunningPlatform, agent: Agent) -> Agent:
    return Agent(who, agent.id, agent.arn)


def test_an_invoker_calls_and_sees_nothing(with_role: WithRole, agent: Agent) -> None:
    mine = as_seen_by(with_role("invoker"), agent)
    assert mine.invoke({}, new_session())["pid"]
    refused = refusal(lambda: mine.control.get_agent_runtime(agentRuntimeId=agent.id))
    assert (refused.status, refused.code) == (403, "AccessDeniedException")
    assert "invoker" in refused.message
    with mine.platform.open("GET", "/keys") as answer:
        assert answer.status == 403


def test_an_auditor_reads_and_calls_nothing(with_role: WithRole, agent: Agent) -> None:
    mine = as_seen_by(with_role("auditor"), agent)
    assert mine.control.get_agent_runtime(agentRuntimeId=agent.id)["agentRuntimeId"] == agent.id
    assert {key["accessKeyId"] for key in mine.platform.own("/keys")["keys"]}
    assert mine.refusal({}).status == 403
    with mine.platform.open("POST", "/keys", body={}) as answer:
        assert answer.status == 403


def test_a_developer_makes_no_key(with_role: WithRole) -> None:
    developer = with_role("developer")
    with developer.open("POST", "/keys", body={"roles": ["admin"]}) as answer:
        assert answer.status == 403
    assert developer.client("s3").list_buckets()["Buckets"] is not None


def test_a_key_says_its_roles(platform: RunningPlatform, with_role: WithRole) -> None:
    mine = with_role("auditor", "invoker")
    roles = {key["accessKeyId"]: key["roles"] for key in platform.own("/keys")["keys"]}
    assert roles[mine.access_key_id] == ["auditor", "invoker"]
    assert roles[platform.access_key_id] == ["admin"]


@pytest.mark.parametrize("roles", [[], ["root"], "admin"])
def test_a_key_needs_a_role_that_there_is(platform: RunningPlatform, roles: Any) -> None:
    with platform.open("POST", "/keys", body={"roles": roles}) as answer:
        assert answer.status == 400


def test_the_last_admins_key_stays(platform: RunningPlatform, with_role: WithRole) -> None:
    with_role("developer")
    others = [
        key["accessKeyId"] for key in platform.own("/keys")["keys"]
        if "admin" in key["roles"] and key["accessKeyId"] != platform.access_key_id
        and key["status"] == "Active"
    ]  # fmt: skip
    assert not others, "this test is about the last one"
    with platform.open("DELETE", f"/keys/{platform.access_key_id}") as answer:
        assert answer.status == 409
        assert b"role admin" in answer.read()


@pytest.fixture
def shared(agent: Agent) -> Iterator[Callable[..., None]]:
    """Puts a policy with these statements on the agent, for as long as a test takes."""

    def put(*statements: dict[str, Any]) -> None:
        complete = [
            {"Principal": "*", "Action": "bedrock-agentcore:*", "Resource": agent.arn, **one}
            for one in statements
        ]
        policy = json.dumps({"Version": "2012-10-17", "Statement": complete})
        assert agent.control.put_resource_policy(resourceArn=agent.arn, policy=policy)

    yield put
    agent.control.delete_resource_policy(resourceArn=agent.arn)


def test_another_tenant_is_let_in_and_acts_where_the_agent_is(
    platform: RunningPlatform, agent: Agent, shared: Callable[..., None]
) -> None:
    guest = as_seen_by(platform.as_tenant(GUEST), agent)
    session = new_session()
    assert guest.refusal({}, session).status == 404
    shared({"Effect": "Allow", "Principal": {"AWS": GUEST}})
    assert guest.invoke({}, session)["pid"]
    assert platform.session(session)["runtimeId"] == agent.id
    assert guest.platform.own("/sessions", sessionId=session, status="all")["sessions"] == []
    refused = refusal(lambda: guest.control.get_agent_runtime(agentRuntimeId=agent.id))
    assert refused.status == 404
    shared({"Effect": "Allow", "Principal": {"AWS": "777700007777"}})
    assert guest.refusal({}, session).status == 404


def test_a_denial_is_not_gone_round_by_a_bare_id(
    platform: RunningPlatform, agent: Agent, shared: Callable[..., None]
) -> None:
    shared({"Effect": "Deny"})
    assert agent.refusal({}).status == 403
    url = f"{platform.endpoint}/runtimes/{agent.id}/invocations"
    for query in ("", f"?accountId={platform.account}", f"?accountId={GUEST}"):
        assert signed_post(platform, url + query) in (403, 404)


def test_where_a_call_comes_from_is_where_its_connection_comes_from(
    agent: Agent, shared: Callable[..., None]
) -> None:
    """What a header says of it counts for nothing."""
    elsewhere = {"NotIpAddress": {"aws:SourceIp": "127.0.0.0/8"}}
    shared({"Effect": "Deny", "Condition": elsewhere})
    assert agent.invoke({})["pid"]
    here = {"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}
    shared({"Effect": "Deny", "Condition": here})
    agent.data.meta.events.register(
        "before-sign.*", lambda request, **_: request.headers.add_header(
            "X-Forwarded-For", "10.9.8.7"
        ),
    )  # fmt: skip
    assert agent.refusal({}).status == 403


def test_a_policy_that_cannot_be_decided_is_refused(agent: Agent) -> None:
    policy = json.dumps({
        "Version": "2012-10-17",
        "Statement": {
            "Effect": "Allow", "Principal": "*", "Action": "bedrock-agentcore:InvokeAgentRuntime",
            "Resource": agent.arn, "Condition": {"StringEquals": {"aws:SourceVpc": "vpc-1"}},
        },
    })  # fmt: skip
    with pytest.raises(ClientError) as refused:
        agent.control.put_resource_policy(resourceArn=agent.arn, policy=policy)
    assert refused.value.response["Error"]["Code"] == "ValidationException"
    assert "aws:SourceVpc" in refused.value.response["Error"]["Message"]
    assert refusal(lambda: agent.control.get_resource_policy(resourceArn=agent.arn)).status == 404


def signed_post(who: RunningPlatform, url: str) -> int:
    request = AWSRequest("POST", url, data=b"{}", headers={"content-type": "application/json"})
    credentials = Credentials(who.access_key_id, who.secret_access_key)
    SigV4Auth(credentials, "bedrock-agentcore", who.region).add_auth(request)
    with urllib3.PoolManager(retries=False) as pool:
        answer = pool.request("POST", url, body=b"{}", headers=dict(request.headers.items()))
    return answer.status


def test_the_command_makes_keys_with_roles(platform: RunningPlatform) -> None:
    def freehold(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "freehold.cli", *words],
            env={
                **os.environ,
                "FREEHOLD_ENDPOINT": platform.endpoint,
                "AWS_REGION": platform.region,
                "AWS_ACCESS_KEY_ID": platform.access_key_id,
                "AWS_SECRET_ACCESS_KEY": platform.secret_access_key,
            },
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    made = freehold("keys", "create", "--role", "invoker", "--role", "auditor", "--json")
    assert made.returncode == 0, made.stderr
    key = json.loads(made.stdout)
    try:
        assert key["roles"] == ["auditor", "invoker"]
        assert "auditor, invoker" in freehold("keys", "list").stdout
        assert freehold("keys", "create", "--role", "root").returncode != 0
    finally:
        platform.own(f"/keys/{key['accessKeyId']}", method="DELETE")
