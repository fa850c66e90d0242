"""What a deployment is refused for: a bundle that cannot be built, and what is not there yet."""

import uuid
from typing import Any

import pytest

import agents
from running import PYTHON, Agent, RunningPlatform, refusal

pytestmark = pytest.mark.timeout(300)


# -- what is wrong with a bundle


def failed(agent: Agent) -> str:
    """The reason, which the DEFAULT endpoint and an invocation give as well."""
    status, reason = agent.settle()
    assert status == "CREATE_FAILED"
    endpoint = agent.control.get_agent_runtime_endpoint(
        agentRuntimeId=agent.id, endpointName="DEFAULT"
    )
    assert (endpoint["status"], endpoint["failureReason"]) == (status, reason)
    assert "liveVersion" not in endpoint
    refused = agent.refusal()
    assert refused.code == "ConflictException"
    assert reason in refused.message
    return reason


def test_a_requirement_that_does_not_exist_fails_with_pips_own_words(
    platform: RunningPlatform,
) -> None:
    agent = platform.create({**agents.plain(), "requirements.txt": "bedrock-agentcore==0.0.0.1\n"})
    reason = failed(agent)
    assert "requirements.txt could not be installed" in reason
    assert "ERROR" in reason
    assert "bedrock-agentcore==0.0.0.1" in reason
    log = [line["line"] for line in platform.lines(f"/runtimes/{agent.id}/logs", build="true")]
    assert any("bedrock-agentcore==0.0.0.1" in line for line in log)


def test_a_bundle_that_is_no_zip_fails(platform: RunningPlatform) -> None:
    artifact = platform.upload(agents.plain(), name="broken")
    where = artifact["codeConfiguration"]["code"]["s3"]
    s3 = platform.client("s3")
    s3.put_object(Bucket=where["bucket"], Key=where["prefix"], Body=b"no zip at all")
    reason = failed(created(platform, artifact))
    assert "zip" in reason


def test_a_missing_object_and_a_missing_bucket_fail(platform: RunningPlatform) -> None:
    artifact = platform.upload(agents.plain(), name="gone")
    artifact["codeConfiguration"]["code"]["s3"]["prefix"] = "nothing.zip"
    assert "nothing.zip" in failed(created(platform, artifact))
    artifact["codeConfiguration"]["code"]["s3"]["bucket"] = "no-such-bucket"
    assert "no-such-bucket" in failed(created(platform, artifact))


def test_an_entry_point_that_is_not_in_the_bundle_fails(platform: RunningPlatform) -> None:
    agent = platform.create(agents.plain(), entry_point=("other.py",))
    assert "other.py" in failed(agent)


def test_an_absent_interpreter_fails_and_names_those_that_are_there(
    platform: RunningPlatform,
) -> None:
    known = [*(f"PYTHON_3_{minor}" for minor in range(10, 15)), "NODE_22"]
    reasons = {}
    for name in known:
        agent = platform.create(agents.plain(), runtime=name)
        status, reason = agent.settle()
        reasons[name] = "" if status == "READY" else reason
    there = [name for name in known if not reasons[name]]
    assert PYTHON in there
    if len(there) == len(known):
        pytest.skip("this machine has every interpreter")
    for name, reason in reasons.items():
        if reason:
            assert name in reason
            assert all(other in reason for other in there)


def created(platform: RunningPlatform, artifact: dict[str, Any]) -> Agent:
    control = platform.client("bedrock-agentcore-control")
    made = control.create_agent_runtime(
        agentRuntimeName=f"made_{uuid.uuid4().hex[:8]}", agentRuntimeArtifact=artifact,
        **platform.common(),
    )  # fmt: skip
    return Agent(platform, made["agentRuntimeId"], made["agentRuntimeArn"])


# -- what is not there yet


def _jwt(**rules: Any) -> dict[str, Any]:
    discovery = "https://x.test/.well-known/openid-configuration"
    return {"customJWTAuthorizer": {"discoveryUrl": discovery, **rules}}


def _claim(kind: str, operator: str, **value: Any) -> dict[str, Any]:
    return {
        "inboundTokenClaimName": "team",
        "inboundTokenClaimValueType": kind,
        "authorizingClaimMatchValue": {"claimMatchOperator": operator, "claimMatchValue": value},
    }


_SUBNETS = {"securityGroups": ["sg-12345678"], "subnets": ["subnet-12345678"]}


@pytest.fixture
def request_(platform: RunningPlatform) -> dict[str, Any]:
    """What CreateAgentRuntime needs, with a name of its own."""
    return {
        "agentRuntimeName": f"refused_{uuid.uuid4().hex[:8]}",
        "agentRuntimeArtifact": platform.upload(agents.plain(), name="refused"),
        **platform.common(),
    }


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("authorizerConfiguration", _jwt(), "every token of the provider"),
        (
            "authorizerConfiguration",
            _jwt(allowedAudience=["a"], certificateConfigurations=[{"s3": {"uri": "s3://b/c"}}]),
            "certificateConfigurations",
        ),
        (
            "authorizerConfiguration",
            _jwt(customClaims=[_claim("STRING", "CONTAINS", matchValueString="x")]),
            "takes EQUALS alone",
        ),
        (
            "authorizerConfiguration",
            _jwt(customClaims=[_claim("STRING_ARRAY", "CONTAINS_ANY", matchValueString="x")]),
            "takes a matchValueStringList",
        ),
        ("protocolConfiguration", {"serverProtocol": "HTTP", "port": 8443}, "8443"),
        (
            "networkConfiguration",
            {"networkMode": "VPC", "networkModeConfig": _SUBNETS},
            "VPC",
        ),
        (
            "filesystemConfigurations",
            [{"sessionStorage": {"mountPath": "/mnt/x"}}],
            "file systems",
        ),
        ("allowedPorts", [{"port": 9001}], "session URLs"),
        ("resourceConfigurations", [{"minimumMemoryInMiB": 1_000_000}], "MiB"),
        ("requestHeaderConfiguration", {"requestHeaderAllowlist": ["Host"]}, "Host"),
        ("requestHeaderConfiguration", {"requestHeaderAllowlist": ["X-Amz-Date"]}, "X-Amz-Date"),
        (
            "lifecycleConfiguration",
            {"idleRuntimeSessionTimeout": 600, "maxLifetime": 300},
            "maxLifetime",
        ),
        ("environmentVariables", {"A=B": "x"}, "A=B"),
    ],
)
def test_what_is_not_available_is_refused_by_name(
    request_: dict[str, Any], plain: Agent, member: str, value: Any, words: str
) -> None:
    control = plain.control
    refused = refusal(lambda: control.create_agent_runtime(**{**request_, member: value}))
    assert refused.kind == "ValidationException"
    assert member.partition(".")[0] in refused.message
    assert words in refused.message
    changed = {k: v for k, v in request_.items() if k != "agentRuntimeName"}
    refused = refusal(
        lambda: control.update_agent_runtime(agentRuntimeId=plain.id, **{**changed, member: value})
    )
    assert words in refused.message
    listed = control.get_paginator("list_agent_runtimes").paginate()
    names = [r["agentRuntimeName"] for page in listed for r in page["agentRuntimes"]]
    assert request_["agentRuntimeName"] not in names


def test_deleting_one_version_is_refused_by_name(plain: Agent) -> None:
    refused = refusal(
        lambda: plain.control.delete_agent_runtime(agentRuntimeId=plain.id, agentRuntimeVersion="1")
    )
    assert refused.code == "ValidationException"
    assert "agentRuntimeVersion" in refused.message
