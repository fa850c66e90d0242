"""Tags of runtimes and endpoints; those that begin with `freehold:` are settings."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

import agents
from running import Agent, RunningPlatform, new_session, refusal

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def agent(platform: RunningPlatform) -> Iterator[Agent]:
    deployed = platform.deploy(
        agents.hosted(), tags={"team": "blue"}, environmentVariables={"KIND": "sync"}
    )
    yield deployed
    deployed.delete()


@pytest.fixture(params=["runtime", "endpoint"])
def arn(request: pytest.FixtureRequest, agent: Agent) -> str:
    """Of a runtime, and of an endpoint."""
    if request.param == "runtime":
        agent.control.untag_resource(resourceArn=agent.arn, tagKeys=["team"])
        return agent.arn
    made = agent.control.create_agent_runtime_endpoint(
        agentRuntimeId=agent.id, name=f"e{uuid.uuid4().hex[:8]}"
    )
    return str(made["agentRuntimeEndpointArn"])


def tags(agent: Agent, arn: str) -> dict[str, str]:
    return dict(agent.control.list_tags_for_resource(resourceArn=arn)["tags"])


def test_tags_are_added_changed_listed_and_removed(agent: Agent, arn: str) -> None:
    control = agent.control
    assert tags(agent, arn) == {}
    control.tag_resource(resourceArn=arn, tags={"team": "red", "cost centre": "a+b/c=d"})
    control.tag_resource(resourceArn=arn, tags={"team": "green"})
    assert tags(agent, arn) == {"team": "green", "cost centre": "a+b/c=d"}
    control.untag_resource(resourceArn=arn, tagKeys=["cost centre", "never there"])
    assert tags(agent, arn) == {"team": "green"}
    control.untag_resource(resourceArn=arn, tagKeys=["team"])


def test_tags_come_with_what_is_created(agent: Agent) -> None:
    made = agent.control.create_agent_runtime_endpoint(
        agentRuntimeId=agent.id, name="tagged", tags={"stage": "beta"}
    )
    assert tags(agent, made["agentRuntimeEndpointArn"]) == {"stage": "beta"}
    fresh = agent.platform.create(agents.plain(), tags={"stage": "alpha"})
    assert tags(agent, fresh.arn) == {"stage": "alpha"}


def test_a_runtime_and_its_endpoints_have_tags_of_their_own(agent: Agent) -> None:
    agent.control.tag_resource(resourceArn=agent.arn, tags={"a": "runtime"})
    default = f"{agent.arn}/runtime-endpoint/DEFAULT"
    assert tags(agent, default) == {}
    agent.control.untag_resource(resourceArn=agent.arn, tagKeys=["a"])


def test_a_version_keeps_the_runtimes_tags(platform: RunningPlatform) -> None:
    made = platform.deploy(agents.plain(), tags={"team": "blue"})
    artifact = platform.upload(agents.plain(), name="again")
    made.control.update_agent_runtime(
        agentRuntimeId=made.id, agentRuntimeArtifact=artifact, **platform.common()
    )
    made.settle()
    assert tags(made, made.arn) == {"team": "blue"}


def test_the_tier_of_the_next_session_is_a_tag(agent: Agent) -> None:
    def tier() -> str:
        session = new_session()
        agent.invoke({}, session)
        found = str(agent.platform.session(session)["tier"])
        agent.stop(session)
        return found

    default = agent.platform.facts["tier"]
    running = new_session()
    agent.invoke({}, running)
    assert tier() == default
    agent.control.tag_resource(resourceArn=agent.arn, tags={"freehold:tier": "process"})
    assert tier() == "process"
    assert agent.invoke({}, running)["turn"] == 2  # what runs goes on where it is
    agent.control.untag_resource(resourceArn=agent.arn, tagKeys=["freehold:tier"])
    assert tier() == default
    agent.stop(running)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"freehold:tier": "jail"}, "container, gvisor, process, vm"),
        ({"freehold:tier": ""}, "container, gvisor, process, vm"),
        ({"freehold:teir": "container"}, "freehold:tier"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_and_changes_nothing(
    agent: Agent, bad: dict[str, str], words: str
) -> None:
    before = tags(agent, agent.arn)
    refused = refusal(
        lambda: agent.control.tag_resource(resourceArn=agent.arn, tags={"ok": "1", **bad})
    )
    assert refused.kind == "ValidationException"
    assert words in refused.message
    assert tags(agent, agent.arn) == before
    at_creation = refusal(lambda: agent.platform.create(agents.plain(), tags=bad))
    assert words in at_creation.message


def test_an_operator_who_does_not_allow_the_weak_tier_gets_no_session_in_it(
    hasty: RunningPlatform,
) -> None:
    refused = refusal(lambda: hasty.create(agents.plain(), tags={"freehold:tier": "process"}))
    assert refused.kind == "ValidationException"
    assert "expected container" in refused.message


def test_an_endpoint_has_no_settings(agent: Agent) -> None:
    setting = {"freehold:tier": "container"}
    default = f"{agent.arn}/runtime-endpoint/DEFAULT"
    refused = refusal(lambda: agent.control.tag_resource(resourceArn=default, tags=setting))
    assert "no such setting" in refused.message
    refused = refusal(
        lambda: agent.control.create_agent_runtime_endpoint(
            agentRuntimeId=agent.id, name="set", tags=setting
        )
    )
    assert "no such setting" in refused.message


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"aws:mine": "x"}, "ValidationException"),
        ({f"key{n}": "x" for n in range(51)}, "ValidationException"),
        ({"k" * 129: "x"}, "ValidationException"),
    ],
    ids=["reserved", "too many", "too long"],
)
def test_what_is_no_tag_is_refused(agent: Agent, wrong: dict[str, str], kind: str) -> None:
    refused = refusal(lambda: agent.control.tag_resource(resourceArn=agent.arn, tags=wrong))
    assert refused.kind == kind


def test_a_resource_has_at_most_fifty_tags(agent: Agent) -> None:
    made = agent.control.create_agent_runtime_endpoint(
        agentRuntimeId=agent.id, name="full", tags={f"key{n}": "x" for n in range(50)}
    )
    arn = made["agentRuntimeEndpointArn"]
    agent.control.tag_resource(resourceArn=arn, tags={"key0": "changed"})
    refused = refusal(lambda: agent.control.tag_resource(resourceArn=arn, tags={"one more": "x"}))
    assert refused.status == 402
    assert len(tags(agent, arn)) == 50


def test_what_is_not_there_has_no_tags(agent: Agent) -> None:
    absent = agent.arn[:-4] + "AAAA"
    calls: tuple[Any, ...] = (
        lambda: agent.control.list_tags_for_resource(resourceArn=absent),
        lambda: agent.control.tag_resource(resourceArn=absent, tags={"a": "b"}),
        lambda: agent.control.untag_resource(resourceArn=absent, tagKeys=["a"]),
    )
    for call in calls:
        assert refusal(call).kind == "ResourceNotFoundException"
