"""Agent runtimes through boto3: created, listed, updated to new versions, deleted; endpoints."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

import agents
from running import PYTHON, Agent, RunningPlatform, new_session, refusal

pytestmark = pytest.mark.timeout(300)


def token() -> str:
    return f"token-{uuid.uuid4()}"


def version(number: int) -> dict[str, str]:
    """A bundle whose agent says which version it is."""
    return {"main.py": agents.plain()["main.py"].replace('"boot": _BOOT', f'"boot": "{number}"')}


def said(agent: Agent, **more: Any) -> str:
    return str(agent.invoke(session=new_session(), **more)["boot"])


@pytest.fixture(scope="module")
def control(platform: RunningPlatform) -> Any:
    return platform.client("bedrock-agentcore-control")


@pytest.fixture(scope="module")
def artifact(platform: RunningPlatform) -> dict[str, Any]:
    return platform.upload(agents.plain(), name="shared")


@pytest.fixture
def request_(platform: RunningPlatform, artifact: dict[str, Any]) -> dict[str, Any]:
    """What CreateAgentRuntime needs, with a name of its own."""
    return {
        "agentRuntimeName": f"made_{uuid.uuid4().hex[:8]}",
        "agentRuntimeArtifact": artifact,
        **platform.common(),
    }


@pytest.fixture
def versions(platform: RunningPlatform) -> Iterator[Agent]:
    """An agent of two versions."""
    agent = platform.deploy(version(1))
    update(agent, version(2))
    yield agent
    agent.delete()


def update(agent: Agent, files: dict[str, str], **more: Any) -> dict[str, Any]:
    artifact = agent.platform.upload(files, name=agent.id)
    answer = agent.control.update_agent_runtime(
        agentRuntimeId=agent.id, agentRuntimeArtifact=artifact, **agent.platform.common(), **more
    )
    assert agent.settle()[0] == "READY", agent.settle()
    return dict(answer)


# -- runtimes


def test_a_created_runtime_is_ready_in_moments_and_reads_back_as_asked(
    control: Any, platform: RunningPlatform, request_: dict[str, Any]
) -> None:
    asked = {
        **request_,
        "description": "Says what it is.",
        "environmentVariables": {"COLOUR": "green"},
        "lifecycleConfiguration": {"idleRuntimeSessionTimeout": 120},
        "protocolConfiguration": {"serverProtocol": "HTTP"},
        "requestHeaderConfiguration": {"requestHeaderAllowlist": ["X-Colour"]},
        "resourceConfigurations": [{"minimumMemoryInMiB": 256}],
    }
    made = control.create_agent_runtime(**asked)
    id = made["agentRuntimeId"]
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert made["agentRuntimeArn"] == (
        f"arn:aws:bedrock-agentcore:{platform.region}:{platform.account}:runtime/{id}"
    )
    assert (made["agentRuntimeVersion"], made["status"]) == ("1", "CREATING")
    agent = Agent(platform, id, made["agentRuntimeArn"])
    assert agent.settle() == ("READY", "")
    got = control.get_agent_runtime(agentRuntimeId=id)
    for member, value in asked.items():
        if member != "lifecycleConfiguration":
            assert got[member] == value
    assert got["lifecycleConfiguration"] == {"idleRuntimeSessionTimeout": 120, "maxLifetime": 28800}
    assert got["createdAt"] == made["createdAt"] <= got["lastUpdatedAt"]
    assert "failureReason" not in got
    assert agent.invoke()["environment"]["COLOUR"] == "green"


def test_it_runs_on_the_python_that_was_asked_for(plain: Agent) -> None:
    assert plain.invoke()["python"] == PYTHON


def test_it_is_listed_in_pages(control: Any, request_: dict[str, Any]) -> None:
    names = [f"{request_['agentRuntimeName']}_{n}" for n in range(3)]
    for name in names:
        control.create_agent_runtime(**{**request_, "agentRuntimeName": name})
    pages = list(control.get_paginator("list_agent_runtimes").paginate(
        PaginationConfig={"PageSize": 2}
    ))  # fmt: skip
    assert all(len(page["agentRuntimes"]) == 2 for page in pages[:-1])
    listed = [runtime for page in pages for runtime in page["agentRuntimes"]]
    assert [r["agentRuntimeName"] for r in listed if r["agentRuntimeName"] in names] == names
    assert len({r["agentRuntimeId"] for r in listed}) == len(listed)
    assert refusal(lambda: control.list_agent_runtimes(nextToken="bm8")).kind == (
        "ValidationException"
    )


def test_a_client_token_makes_a_repeat_harmless(control: Any, request_: dict[str, Any]) -> None:
    asked = {**request_, "clientToken": token()}
    first, again = control.create_agent_runtime(**asked), control.create_agent_runtime(**asked)
    assert first["agentRuntimeId"] == again["agentRuntimeId"]
    refused = refusal(lambda: control.create_agent_runtime(**{**asked, "description": "other"}))
    assert refused.kind == "ConflictException"


def test_a_repeated_update_makes_one_version(platform: RunningPlatform) -> None:
    agent = platform.deploy(version(1))
    asked = {
        "agentRuntimeId": agent.id,
        "agentRuntimeArtifact": platform.upload(version(2), name="two"),
        "clientToken": token(),
        **platform.common(),
    }
    first = agent.control.update_agent_runtime(**asked)
    agent.settle()
    again = agent.control.update_agent_runtime(**asked)
    assert first["agentRuntimeVersion"] == again["agentRuntimeVersion"] == "2"
    assert again["status"] == "READY"
    refused = refusal(lambda: agent.control.update_agent_runtime(**{**asked, "description": "x"}))
    assert refused.kind == "ConflictException"


def test_a_repeated_endpoint_is_the_same_one(plain: Agent) -> None:
    asked = {"agentRuntimeId": plain.id, "name": "repeated", "clientToken": token()}
    create = plain.control.create_agent_runtime_endpoint
    assert create(**asked)["createdAt"] == create(**asked)["createdAt"]
    assert refusal(lambda: create(**{**asked, "name": "other"})).kind == "ConflictException"


def test_a_taken_name_is_a_conflict(control: Any, request_: dict[str, Any]) -> None:
    control.create_agent_runtime(**request_)
    refused = refusal(lambda: control.create_agent_runtime(**request_))
    assert refused.kind == "ConflictException"
    assert request_["agentRuntimeName"] in refused.message


def test_an_update_is_a_new_version_and_the_old_one_stays_readable(versions: Agent) -> None:
    answer = update(versions, version(3), description="the third")
    assert answer["agentRuntimeVersion"] == "3"
    assert answer["status"] == "UPDATING"
    control, id = versions.control, versions.id
    newest = control.get_agent_runtime(agentRuntimeId=id)
    assert (newest["agentRuntimeVersion"], newest["description"]) == ("3", "the third")
    old = control.get_agent_runtime(agentRuntimeId=id, agentRuntimeVersion="2")
    assert (old["agentRuntimeVersion"], old["status"]) == ("2", "READY")
    assert "description" not in old
    first = control.list_agent_runtime_versions(agentRuntimeId=id, maxResults=2)
    rest = control.list_agent_runtime_versions(agentRuntimeId=id, nextToken=first["nextToken"])
    listed = [r["agentRuntimeVersion"] for p in (first, rest) for r in p["agentRuntimes"]]
    assert listed == ["3", "2", "1"]
    absent = refusal(lambda: control.get_agent_runtime(agentRuntimeId=id, agentRuntimeVersion="9"))
    assert absent.kind == "ResourceNotFoundException"


def test_sessions_go_on_with_their_version_and_new_ones_get_the_newest(
    platform: RunningPlatform,
) -> None:
    agent = platform.deploy(version(1))
    session = new_session()
    assert agent.invoke(session=session)["boot"] == "1"
    update(agent, version(2))
    assert agent.invoke(session=session)["boot"] == "1"
    assert said(agent) == "2"
    agent.stop(session)
    assert agent.invoke(session=session)["boot"] == "2"


def test_the_old_version_answers_until_the_new_one_is_ready_and_if_it_never_is(
    platform: RunningPlatform,
) -> None:
    agent = platform.deploy(version(1))
    agent.control.update_agent_runtime(
        agentRuntimeId=agent.id,
        agentRuntimeArtifact=platform.upload(
            {**version(2), "requirements.txt": "./no-such-directory\n"}, name="broken"
        ),
        **platform.common(),
    )
    while agent.control.get_agent_runtime(agentRuntimeId=agent.id)["status"] == "UPDATING":
        assert said(agent) == "1"
    status, reason = agent.settle()
    assert status == "UPDATE_FAILED"
    assert "requirements.txt" in reason
    assert said(agent) == "1"
    default = agent.control.get_agent_runtime_endpoint(
        agentRuntimeId=agent.id, endpointName="DEFAULT"
    )
    assert (default["liveVersion"], default["status"]) == ("1", "READY")
    update(agent, version(3))
    assert said(agent) == "3"


def test_a_deleted_runtime_is_gone_with_its_endpoints_and_sessions(
    platform: RunningPlatform,
) -> None:
    agent = platform.deploy(version(1), name="short_lived")
    session = new_session()
    agent.invoke(session=session)
    control = agent.control
    answer = control.delete_agent_runtime(agentRuntimeId=agent.id)
    assert (answer["status"], answer["agentRuntimeId"]) == ("DELETING", agent.id)
    assert agent.refusal(session=session).kind == "ResourceNotFoundException"
    for call in (
        lambda: control.get_agent_runtime(agentRuntimeId=agent.id),
        lambda: control.delete_agent_runtime(agentRuntimeId=agent.id),
        lambda: control.list_agent_runtime_versions(agentRuntimeId=agent.id),
        lambda: control.list_agent_runtime_endpoints(agentRuntimeId=agent.id),
        lambda: control.get_agent_runtime_endpoint(agentRuntimeId=agent.id, endpointName="DEFAULT"),
        lambda: control.list_tags_for_resource(resourceArn=agent.arn),
    ):
        assert refusal(call).status == 404
    assert platform.session(session)["endReason"] == "the agent runtime was deleted"
    again = platform.deploy(version(2), name="short_lived")
    assert again.id != agent.id
    assert said(again) == "2"


# -- endpoints


def test_default_follows_the_newest_and_a_named_endpoint_pins_a_version(versions: Agent) -> None:
    control, id = versions.control, versions.id
    made = control.create_agent_runtime_endpoint(
        agentRuntimeId=id, name="stable", agentRuntimeVersion="1", description="as it was"
    )
    assert made["targetVersion"] == "1"
    assert made["agentRuntimeEndpointArn"] == f"{versions.arn}/runtime-endpoint/stable"
    got = control.get_agent_runtime_endpoint(agentRuntimeId=id, endpointName="stable")
    assert (got["liveVersion"], got["targetVersion"], got["status"]) == ("1", "1", "READY")
    assert (got["name"], got["description"]) == ("stable", "as it was")
    assert said(versions, qualifier="stable") == "1"
    assert said(versions, qualifier="DEFAULT") == said(versions) == "2"
    update(versions, version(3))
    assert said(versions, qualifier="stable") == "1"
    assert said(versions) == "3"


def test_an_endpoint_goes_forward_and_back_again(versions: Agent) -> None:
    control, id = versions.control, versions.id
    control.create_agent_runtime_endpoint(agentRuntimeId=id, name="live")
    assert said(versions, qualifier="live") == "2"
    for wanted in ("1", "2", "1"):
        changed = control.update_agent_runtime_endpoint(
            agentRuntimeId=id, endpointName="live", agentRuntimeVersion=wanted
        )
        assert changed["liveVersion"] == wanted
        assert said(versions, qualifier="live") == wanted


def test_endpoints_are_listed_and_deleted(versions: Agent) -> None:
    control, id = versions.control, versions.id
    for name in ("a", "b"):
        control.create_agent_runtime_endpoint(agentRuntimeId=id, name=name)
    pages = control.get_paginator("list_agent_runtime_endpoints").paginate(
        agentRuntimeId=id, PaginationConfig={"PageSize": 1}
    )
    assert [e["name"] for p in pages for e in p["runtimeEndpoints"]] == ["DEFAULT", "a", "b"]
    control.delete_agent_runtime_endpoint(agentRuntimeId=id, endpointName="a")
    assert versions.refusal(qualifier="a").kind == "ResourceNotFoundException"
    absent = refusal(
        lambda: control.delete_agent_runtime_endpoint(agentRuntimeId=id, endpointName="a")
    )
    assert absent.kind == "ResourceNotFoundException"
    listed = control.list_agent_runtime_endpoints(agentRuntimeId=id)["runtimeEndpoints"]
    assert [endpoint["name"] for endpoint in listed] == ["DEFAULT", "b"]


def test_what_an_endpoint_cannot_be_is_refused(versions: Agent) -> None:
    control, id = versions.control, versions.id

    def create(**more: Any) -> Any:
        return control.create_agent_runtime_endpoint(**{"agentRuntimeId": id, **more})

    assert refusal(lambda: create(name="DEFAULT")).kind == "ConflictException"
    absent = refusal(lambda: create(name="x", agentRuntimeVersion="9"))
    assert absent.kind == "ResourceNotFoundException"
    nowhere = refusal(lambda: create(name="x", agentRuntimeId="nobody-AAAAAAAAAA"))
    assert nowhere.kind == "ResourceNotFoundException"
    pinned = refusal(lambda: control.update_agent_runtime_endpoint(
        agentRuntimeId=id, endpointName="DEFAULT", agentRuntimeVersion="1"
    ))  # fmt: skip
    assert (pinned.kind, "named endpoint" in pinned.message) == ("ValidationException", True)
    kept = refusal(
        lambda: control.delete_agent_runtime_endpoint(agentRuntimeId=id, endpointName="DEFAULT")
    )
    assert kept.kind == "ConflictException"


# -- shares


def split(agent: Agent, endpoint: str, shares: str | None) -> None:
    arn = f"{agent.arn}/runtime-endpoint/{endpoint}"
    if shares is None:
        agent.control.untag_resource(resourceArn=arn, tagKeys=["freehold:split"])
    else:
        agent.control.tag_resource(resourceArn=arn, tags={"freehold:split": shares})


def test_an_endpoint_gives_a_share_of_its_sessions_to_another_version(versions: Agent) -> None:
    control, id = versions.control, versions.id
    control.create_agent_runtime_endpoint(
        agentRuntimeId=id,
        name="shared",
        agentRuntimeVersion="1",
        tags={"freehold:split": "2:50"},
    )
    sessions = [new_session() for _ in range(12)]

    def answers() -> list[str]:
        return [str(versions.invoke(session=s, qualifier="shared")["boot"]) for s in sessions]

    first = answers()
    assert set(first) == {"1", "2"}  # all alike by chance: once in 2,000 runs
    for session in sessions:
        versions.stop(session, qualifier="shared")
    assert answers() == first  # the same session, the same version
    split(versions, "shared", "2:100")
    assert said(versions, qualifier="shared") == "2"
    assert answers() == first  # those that live stay where they are
    split(versions, "shared", None)
    assert said(versions, qualifier="shared") == "1"


def test_a_command_runs_in_the_version_that_its_session_gets(versions: Agent) -> None:
    versions.control.create_agent_runtime_endpoint(
        agentRuntimeId=versions.id,
        name="moved",
        agentRuntimeVersion="1",
        tags={"freehold:split": "2:100"},
    )
    answer = versions.data.invoke_agent_runtime_command(
        agentRuntimeArn=versions.arn,
        runtimeSessionId=new_session(),
        qualifier="moved",
        body={"command": "grep '\"boot\": ' main.py"},
    )
    seen = "".join(
        event["chunk"].get("contentDelta", {}).get("stdout", "") for event in answer["stream"]
    )
    assert '"boot": "2"' in seen


def test_a_version_that_is_not_there_gets_no_share(versions: Agent) -> None:
    versions.control.create_agent_runtime_endpoint(
        agentRuntimeId=versions.id, name="careful", tags={"freehold:split": "9:100"}
    )
    assert said(versions, qualifier="careful") == "2"


@pytest.mark.parametrize("shares", ["2", "2:101", "0:5", "x:1", "1:60 2:60", "", "2:-1"])
def test_shares_that_cannot_be_are_refused(versions: Agent, shares: str) -> None:
    refused = refusal(lambda: split(versions, "DEFAULT", shares))
    assert refused.kind == "ValidationException"
    assert "VERSION:PERCENT" in refused.message
