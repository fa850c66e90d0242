"""The audit of a whole platform, as people and programs see it."""

import hashlib
import json
import os
import subprocess
import sys
from typing import Any

import psycopg
import pytest
import urllib3
from botocore.exceptions import ClientError

import agents
from running import Agent, RunningPlatform, new_session, refusal, until

pytestmark = pytest.mark.timeout(300)

CANARY = "canary-51b7e0d4"


@pytest.fixture(scope="module")
def agent(platform: RunningPlatform) -> Agent:
    return platform.deploy(agents.plain())


class Finished:
    def __init__(self, done: "subprocess.CompletedProcess[str]") -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def document(self) -> Any:
        return json.loads(self.out)


def freehold(platform: RunningPlatform, *words: str) -> Finished:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "FREEHOLD_"))}
    environment |= {
        "FREEHOLD_ENDPOINT": platform.endpoint,
        "AWS_REGION": platform.region,
        "AWS_ACCESS_KEY_ID": platform.access_key_id,
        "AWS_SECRET_ACCESS_KEY": platform.secret_access_key,
    }
    command = [sys.executable, "-m", "freehold.cli", *words]
    return Finished(
        subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    )


def _lines(of: RunningPlatform, **query: Any) -> list[dict[str, Any]]:
    return list(of.own("/audit", **query)["lines"])


def test_every_edge_writes_and_says_who_did_what(platform: RunningPlatform, agent: Agent) -> None:
    answer = agent.begin({}, new_session())
    answer["response"].read()
    [line] = _lines(platform, callId=answer["ResponseMetadata"]["RequestId"])
    assert (line["operation"], line["resource"], line["outcome"], line["status"]) == (
        "bedrock-agentcore:InvokeAgentRuntime", agent.arn, "allowed", 200,
    )  # fmt: skip
    assert line["detail"]["access_key_id"] == platform.access_key_id
    assert line["principal"].endswith(platform.access_key_id)
    platform.client("s3").put_object(Bucket="tests", Key="audited", Body=b"x")
    platform.own("/sessions")
    for operation in ("PutObject", "ListSessions"):
        assert _lines(platform, operation=operation, limit=1), operation


def test_what_a_call_made_stands_in_its_line(platform: RunningPlatform, agent: Agent) -> None:
    """The request cannot name it."""
    lines = _lines(platform, operation="CreateAgentRuntime", outcome="allowed", limit=100)
    assert agent.arn in [line["detail"].get("created") for line in lines]
    key = platform.own("/keys", method="POST", body={"description": "a test's"})
    [line] = _lines(platform, operation="CreateAccessKey", limit=1)
    assert line["detail"]["created"] == key["accessKeyId"]


def test_denied_and_unauthenticated_calls_stand_there(
    platform: RunningPlatform, agent: Agent
) -> None:
    stranger = Agent(platform.as_tenant("345678901234"), agent.id, agent.arn)
    refused = stranger.refusal({}, new_session())
    assert refused.status in (403, 404)
    [denied] = _lines(stranger.platform, operation="InvokeAgentRuntime", outcome="denied", limit=1)
    assert denied["resource"] == agent.arn
    assert _lines(platform, principal=denied["principal"]) == [], "it is the stranger's own line"
    with platform.open("GET", "/sessions", sign=False) as answer:
        id = answer.headers["x-request-id"]
    [line] = _lines(platform, platform="true", callId=id)
    assert (line["principal"], line["outcome"]) == ("unauthenticated", "denied")
    with stranger.platform.open("GET", "/audit", platform="true") as answer:
        assert answer.status == 403


def test_no_secret_payload_or_token_is_in_any_line(platform: RunningPlatform, agent: Agent) -> None:
    """The bar: secrets in logs, errors, traces - none."""
    made = platform.own("/keys", method="POST", body={"description": CANARY})
    session = new_session()
    agent.invoke({"do": "tell", "text": CANARY}, session)
    s3 = platform.client("s3", config={"signature_version": "s3v4"})
    s3.put_object(Bucket="tests", Key="canary", Body=CANARY.encode(), Metadata={"m": CANARY})
    signed = s3.generate_presigned_url("get_object", Params={"Bucket": "tests", "Key": "canary"})
    headers = {"Authorization": f"Bearer {CANARY}", "X-Amz-Security-Token": CANARY}
    with urllib3.PoolManager() as pool:
        assert pool.request("GET", signed).data == CANARY.encode()
        assert pool.request("GET", f"{signed}&x={CANARY}").status == 403
        for path in ("/freehold/v1/sessions", f"/runtimes/{agent.id}/invocations", "/_s3/tests"):
            url = f"{platform.endpoint}{path}?token={CANARY}"
            assert pool.request("POST", url, body=CANARY, headers=headers).status >= 400
    control = platform.client("bedrock-agentcore-control")
    refusal(
        lambda: control.get_agent_runtime(agentRuntimeId="demo-0000000000", agentRuntimeVersion="x")
    )
    signature = signed.partition("X-Amz-Signature=")[2].partition("&")[0]
    with psycopg.connect(platform.database_url) as connection:
        stored = connection.execute("SELECT string_agg(entry::text, '\n') FROM audit_entries")
        [text] = stored.fetchone() or [""]
    assert "canary" in text, "the object's key is no secret, and shows that the search works"
    for secret in (CANARY, made["secretAccessKey"], platform.secret_access_key, signature):
        assert secret not in text


def test_the_command_lists_filters_and_speaks_json(platform: RunningPlatform, agent: Agent) -> None:
    agent.invoke({}, new_session())
    shown = freehold(platform, "audit", "--operation", "InvokeAgentRuntime", "--since", "1h")
    assert shown.code == 0, shown.err
    header, first, *_ = shown.out.splitlines()
    assert header.split()[:4] == ["TIME", "OUTCOME", "STATUS", "OPERATION"]
    assert "InvokeAgentRuntime" in first
    listed = freehold(platform, "audit", "list", "--json", "--limit", "2", "--resource", agent.arn)
    assert len(listed.document["lines"]) == 2
    assert {line["resource"] for line in listed.document["lines"]} == {agent.arn}
    wrong = freehold(platform, "audit", "--since", "yesterday")
    assert (wrong.code, "since" in wrong.err) == (1, True)


def test_the_command_verifies_and_exports(platform: RunningPlatform) -> None:
    first = freehold(platform, "audit", "verify")
    assert first.code == 0, first.out + first.err
    assert first.out.startswith("The chain holds")
    head = first.out.split("head ")[1].split()[0]
    again = freehold(platform, "audit", "verify", "--head", head, "--json")
    assert (again.code, again.document["holds"]) == (0, True)
    assert freehold(platform, "audit", "verify", "--platform").code == 0
    exported = freehold(platform, "audit", "export").out.splitlines()
    previous = hashlib.sha256(b"freehold audit " + platform.account.encode()).digest()
    for line in exported:
        entry = line.partition('"entry":')[2][:-1]
        previous = hashlib.sha256(previous + entry.encode()).digest()
        assert json.loads(line)["hash"] == previous.hex()
    assert len(exported) >= int(head.partition(":")[0])


def test_what_was_tampered_with_fails_the_command(platform: RunningPlatform) -> None:
    other = platform.as_tenant("456789012345")
    for _ in range(3):
        other.own("/sessions")
    until(lambda: freehold(other, "audit", "verify", "--json").document["checked"] > 0)
    with psycopg.connect(platform.database_url) as connection:
        connection.execute("SET session_replication_role = replica")
        changed = connection.execute(
            "UPDATE audit_entries SET entry = replace(entry::text, 'allowed', 'denied')::json"
            " WHERE tenant = %s AND number = (SELECT min(number) FROM audit_entries"
            " WHERE tenant = %s AND entry::text LIKE '%%allowed%%')",
            (other.account, other.account),
        )
    assert changed.rowcount == 1
    broken = freehold(other, "audit", "verify")
    assert broken.code == 1
    assert "changed at 1:" in broken.out
    assert "THE CHAIN IS BROKEN" in broken.out


def test_what_comes_is_followed(platform: RunningPlatform, agent: Agent) -> None:
    with platform.following("/audit/follow", outcome="failed") as lines:
        with pytest.raises(ClientError):
            agent.control.get_agent_runtime(agentRuntimeId="absent-0123456789")
        line = next(lines)
    assert (line["operation"], line["status"]) == (
        "bedrock-agentcore-control:GetAgentRuntime", 404,
    )  # fmt: skip
