"""Turns of a deployed agent in its traces: what boto3 sent and what it got."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

import agents
from freehold.ports.content_capture import CONTENT_BYTES_MAX
from freehold.ports.exchanges import recorded_bytes
from running import Agent, RunningPlatform, new_session, until

pytestmark = pytest.mark.slow

BEGINNING = "freehold.exchange."


def deployed(platform: RunningPlatform, **params: Any) -> Agent:
    if platform.facts["tier"] != "container":
        pytest.skip("an agent that is no ASGI application needs the container tier")
    return platform.deploy(agents.plain(), name=f"turns_{uuid.uuid4().hex[:8]}", **params)


@pytest.fixture(scope="module")
def captured(platform: RunningPlatform) -> Iterator[Agent]:
    agent = deployed(platform, tags={"freehold:content-capture": "on"})
    yield agent
    agent.delete()


def turn(agent: Agent, payload: Any, session: str, **more: Any) -> tuple[bytes, dict[str, Any]]:
    """The answer, and what its span says of the exchange."""
    answer = agent.begin(payload, session, **more)
    got = answer["response"].read()
    trace_id = answer["traceParent"].split("-")[1]
    spans: list[Any] = []

    def complete() -> bool:
        with agent.platform.open("GET", f"/traces/{trace_id}", content="true", raw="true") as found:
            trace = json.loads(found.read()) if found.status == 200 else {"spans": []}
        spans[:] = [each for each in trace["spans"] if each["name"].startswith("invoke_agent")]
        return bool(spans)

    until(complete)
    told = spans[0]["raw"]["attributes"]
    return got, {
        name.removeprefix(BEGINNING): told[name] for name in told if name.startswith(BEGINNING)
    }


def test_a_document_and_what_was_answered(captured: Agent) -> None:
    session = new_session()
    got, told = turn(captured, {"do": "say", "text": "grüß dich"}, session)
    assert json.loads(told["request"]) == {"do": "say", "text": "grüß dich"}
    assert told["response"].encode() == got == b'{"said": "gr\\u00fc\\u00df dich"}'
    assert told["content_type"] == "application/json"


def test_bytes_of_any_kind_come_back_as_they_were(captured: Agent) -> None:
    picture = bytes(range(256)) * 40
    got, told = turn(captured, picture, new_session(), contentType="image/png")
    assert recorded_bytes(told["request"]) == recorded_bytes(told["response"]) == picture == got
    assert told["request_content_type"] == told["content_type"] == "image/png"


def test_of_a_long_stream_and_a_long_payload_the_beginnings_are_kept(captured: Agent) -> None:
    padding = "x" * (CONTENT_BYTES_MAX * 2)
    size = CONTENT_BYTES_MAX * 3
    asked = {"do": "stream_bytes", "size": size}
    got, told = turn(captured, asked, new_session())
    assert len(got) == size
    kept = recorded_bytes(told["response"])
    assert kept == got[: len(kept)]
    assert (len(kept), told["truncated"]) == (CONTENT_BYTES_MAX * 3 // 4, True)
    _, told = turn(captured, padding.encode(), new_session(), contentType="text/plain")
    assert told["request"] == told["response"] == padding[:CONTENT_BYTES_MAX]
    assert told["truncated"] is True


def test_without_the_tag_nothing_is_kept(platform: RunningPlatform) -> None:
    agent = deployed(platform)
    got, told = turn(agent, {"do": "say", "text": "hello"}, new_session())
    assert (json.loads(got), told) == ({"said": "hello"}, {})
    agent.delete()
