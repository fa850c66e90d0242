"""Spans that an agent sends of itself, by its version, and of a session that outlived its node."""

import secrets
import time
from typing import Any

import pytest

import agents
from fault_ground import FaultyPlatform
from running import Agent, new_session, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DOORWAY = "http://127.0.0.1:7400/v1/traces"


def sent(agent: Agent, session: str, name: str) -> None:
    now = time.time_ns()
    span: dict[str, Any] = {
        "traceId": secrets.token_hex(16), "spanId": secrets.token_hex(8), "name": name,
        "startTimeUnixNano": str(now - 10**6), "endTimeUnixNano": str(now),
        "attributes": [{"key": "service.version", "value": {"stringValue": "its own"}}],
    }  # fmt: skip
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
    headers = {"content-type": "application/json"}
    answer = agent.invoke({"do": "post", "url": DOORWAY, "headers": headers, "body": body}, session)
    assert answer["status"] == 200, answer


def spans(agent: Agent, version: str) -> set[str]:
    """Those that the agent told of itself."""
    found = agent.platform.own("/spans", agentId=agent.id, agentVersion=version, limit=1000)
    return {each["name"] for each in found["spans"] if each["name"].startswith("of ")}


def test_an_agents_own_spans_are_found_by_its_version(faulty: FaultyPlatform) -> None:
    agent = faulty.deploy(agents.plain())
    old, new = new_session(), new_session()
    sent(agent, old, "of the first version")
    artifact = faulty.upload(agents.plain(), name="second")
    agent.control.update_agent_runtime(
        agentRuntimeId=agent.id, agentRuntimeArtifact=artifact, **faulty.common()
    )
    assert agent.settle()[0] == "READY"
    until(lambda: "2" in _versions(agent, new))
    sent(agent, new, "of the second version")
    assert (spans(agent, "1"), spans(agent, "2")) == (
        {"of the first version"}, {"of the second version"},
    )  # fmt: skip

    (node,) = faulty.pids("node")
    faulty.kill("node")
    faulty.replaced("node", node)
    sent(agent, old, "of the first version, adopted")
    assert faulty.session(old)["version"] == 1
    assert spans(agent, "1") == {"of the first version", "of the first version, adopted"}
    agent.delete()


def _versions(agent: Agent, session: str) -> str:
    """Of the session, begun anew until it is of the version that the endpoint has by now."""
    agent.invoke({"do": "whoami"}, session)
    version = str(agent.platform.session(session)["version"])
    if version == "1":
        agent.stop(session)
    return version
