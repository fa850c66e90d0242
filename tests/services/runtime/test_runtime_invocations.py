"""What goes to an agent and comes back: any bytes, as they come, with headers of the contract."""

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import agents
from running import Agent, Refusal, RunningPlatform, events_of, new_session, refusal, together

pytestmark = pytest.mark.timeout(300)

PREFIX = "X-Amzn-Bedrock-AgentCore-Runtime-"


class Sender:
    """boto3, with headers of the caller's own on each call, as AWS's documentation shows it."""

    def __init__(self, agent: Agent, headers: dict[str, str]) -> None:
        self._agent, self._headers = agent, headers
        self.client = agent.platform.client("bedrock-agentcore")
        self.client.meta.events.register(
            "before-sign.bedrock-agentcore.InvokeAgentRuntime", self._add
        )

    def _add(self, request: Any, **_: Any) -> None:
        for name, value in self._headers.items():
            request.headers[name] = value

    def seen(self, **more: Any) -> dict[str, str]:
        """The headers that the agent got, names in lower case."""
        answer = self.client.invoke_agent_runtime(
            agentRuntimeArn=self._agent.arn,
            payload=b"{}",
            **{"runtimeSessionId": new_session(), **more},
        )
        headers = json.loads(answer["response"].read())["headers"]
        return {name.lower(): value for name, value in headers.items()}


# -- bodies


def test_any_content_type_goes_there_and_back_unchanged(plain: Agent) -> None:
    data = bytes(range(256)) * 40
    answer = plain.begin(data, contentType="application/x-anything; v=1")
    assert answer["contentType"] == "application/x-anything; v=1"
    assert answer["response"].read() == data
    assert answer["statusCode"] == 200


def test_an_empty_payload_is_an_empty_body(plain: Agent) -> None:
    answer = plain.begin(b"", contentType="text/plain")
    assert answer["response"].read() == b""


def test_without_a_content_type_it_is_json(plain: Agent) -> None:
    seen = plain.data.invoke_agent_runtime(agentRuntimeArn=plain.arn, payload=b"{}")
    headers = json.loads(seen["response"].read())["headers"]
    assert headers["Content-Type"] == "application/json"


def test_a_status_of_the_agents_own_is_passed_on(plain: Agent) -> None:
    answer = plain.begin({"do": "status", "status": 202, "body": "later"})
    assert answer["statusCode"] == 202
    assert answer["response"].read() == b"later"


def test_a_hundred_megabytes_go_in_with_flat_memory(plain: Agent) -> None:
    size = 100_000_000
    payload = os.urandom(1_000_000) * 100
    before = peak_bytes(plain.platform)
    answer = plain.begin(payload, contentType="application/x-digest")
    told = json.loads(answer["response"].read())
    assert told == {"bytes": size, "sha256": hashlib.sha256(payload).hexdigest()}
    assert peak_bytes(plain.platform) - before < 48 << 20


def test_a_hundred_megabytes_come_out_with_flat_memory(plain: Agent) -> None:
    size = 100_000_000
    before = peak_bytes(plain.platform)
    answer = plain.begin({"do": "stream_bytes", "size": size})
    got, digest = 0, hashlib.sha256()
    for chunk in answer["response"].iter_chunks(1 << 20):
        digest.update(chunk)
        got += len(chunk)
    block = bytes(range(256)) * 4096
    whole = hashlib.sha256(block * (size // len(block)) + block[: size % len(block)])
    assert (got, digest.hexdigest()) == (size, whole.hexdigest())
    assert peak_bytes(plain.platform) - before < 48 << 20


def test_a_larger_payload_is_refused(plain: Agent) -> None:
    refused = plain.refusal(bytes(100_000_001), contentType="application/x-digest")
    assert refused.kind == "ValidationException"
    assert "100000000" in refused.message


def peak_bytes(platform: RunningPlatform) -> int:
    """The most memory that the API worker has ever held."""
    (worker,) = platform.pids("api")
    status = Path(f"/proc/{worker}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


# -- streams


def test_an_event_arrives_before_the_next_one_is_made(plain: Agent) -> None:
    """The agent makes its second event only after another call, which we make after the first."""
    session = new_session()
    answer = plain.begin({"do": "stream_until_go"}, session)
    assert answer["contentType"] == "text/event-stream"
    events = events_of(answer)
    assert next(events) == {"number": 1}
    plain.invoke({"do": "say_go"}, session)
    assert list(events) == [{"number": 2, "went": True}]


def test_a_client_that_leaves_ends_the_agents_stream(plain: Agent) -> None:
    session = new_session()
    answer = plain.begin({"do": "stream_for_ever"}, session)
    next(events_of(answer))
    answer["response"].close()
    assert plain.invoke({"do": "was_closed"}, session) == {"closed": True}


def test_a_long_answer_does_not_keep_others_waiting(plain: Agent) -> None:
    session = new_session()
    answer = plain.begin({"do": "stream_until_go"}, session)
    events = events_of(answer)
    next(events)
    together(*[lambda: plain.invoke(session=session) for _ in range(4)])
    plain.invoke({"do": "say_go"}, session)
    assert len(list(events)) == 1


# -- headers


@pytest.fixture(scope="module")
def listing(platform: RunningPlatform) -> Agent:
    """An agent with an allow-list of headers."""
    allowed = ["X-Colour", "Authorization", f"{PREFIX}Custom-Size"]
    return platform.deploy(
        agents.plain(),
        name="listing",
        requestHeaderConfiguration={"requestHeaderAllowlist": allowed},
    )


def test_the_agent_is_told_session_request_and_user(plain: Agent) -> None:
    session = new_session()
    answer = plain.begin({}, session, runtimeUserId="ada@example.com")
    headers = {k.lower(): v for k, v in json.loads(answer["response"].read())["headers"].items()}
    assert answer["runtimeSessionId"] == session
    assert headers[f"{PREFIX}Session-Id".lower()] == session
    assert headers[f"{PREFIX}User-Id".lower()] == "ada@example.com"
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert headers[f"{PREFIX}Request-Id".lower()] == request_id
    assert uuid.UUID(request_id)


def test_custom_and_allowed_headers_reach_it_and_no_others(listing: Agent, plain: Agent) -> None:
    sent = {f"{PREFIX}Custom-Size": "large", "X-Colour": "green", "X-Other": "no", "Cookie": "a=b"}
    seen = Sender(listing, sent).seen()
    assert seen[f"{PREFIX}Custom-Size".lower()] == "large"
    assert seen["x-colour"] == "green"
    assert not {"x-other", "cookie", "user-agent"} & seen.keys()
    without_list = Sender(plain, sent).seen()
    assert without_list[f"{PREFIX}Custom-Size".lower()] == "large"
    assert "x-colour" not in without_list


def test_no_signature_and_no_amazon_header_reaches_it(listing: Agent) -> None:
    """Not even with Authorization on the list: an agent could call the platform with it."""
    seen = Sender(listing, {}).seen()
    assert "authorization" not in seen
    agents_own = "x-amz-bedrock-agentcore-identity-wat"
    assert [name for name in seen if name.startswith("x-amz-")] == [agents_own]
    allowed = f"{PREFIX}".lower()
    assert all(name.startswith(allowed) for name in seen if name.startswith("x-amzn-"))


def test_the_context_of_a_trace_reaches_it(plain: Agent) -> None:
    trace = {
        "traceId": "Root=1-67891233-abcdef012345678912345678",
        "traceParent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "traceState": "vendor=value",
        "baggage": "key=value",
    }
    seen = Sender(plain, {}).seen(**trace)
    assert seen["x-amzn-trace-id"] == trace["traceId"]
    # The platform's own step is between the two: the agent is below it, in the same trace.
    version, trace_id, span_id, flags = seen["traceparent"].split("-")
    assert [version, trace_id, flags] == ["00", "4bf92f3577b34da6a3ce929d0e0e4736", "01"]
    assert span_id not in trace["traceParent"]
    assert seen["tracestate"] == trace["traceState"]
    assert seen["baggage"] == trace["baggage"]


def test_what_a_client_accepts_reaches_it(plain: Agent) -> None:
    seen = Sender(plain, {}).seen(accept="text/event-stream", contentType="application/json; a=b")
    assert seen["accept"] == "text/event-stream"
    assert seen["content-type"] == "application/json; a=b"


# -- who is called


def test_an_agent_is_named_by_its_arn_or_its_id(plain: Agent) -> None:
    by_id = Agent(plain.platform, plain.id, plain.id)
    session = new_session()
    assert by_id.invoke(session=session)["boot"] == plain.invoke(session=session)["boot"]


@pytest.mark.parametrize(
    "arn",
    [
        "nobody-AAAAAAAAAA",
        "arn:aws:bedrock-agentcore:us-east-1:100000000001:runtime/nobody-AAAAAAAAAA",
        "arn:aws:bedrock-agentcore:us-east-1:999999999999:runtime/plain-AAAAAAAAAA",
    ],
)
def test_an_agent_that_is_not_there_is_not_found(plain: Agent, arn: str) -> None:
    assert Agent(plain.platform, "", arn).refusal().kind == "ResourceNotFoundException"


@pytest.mark.parametrize(
    "arn", ["a/b", "arn:aws:bedrock-agentcore:us-east-1:100000000001:gateway/x-AAAAAAAAAA"]
)
def test_what_is_no_agents_arn_is_refused(plain: Agent, arn: str) -> None:
    assert Agent(plain.platform, "", arn).refusal().kind == "ValidationException"


def test_an_endpoint_that_is_not_there_is_not_found(plain: Agent) -> None:
    refused = plain.refusal(qualifier="nowhere")
    assert refused.kind == "ResourceNotFoundException"
    assert "nowhere" in refused.message


def test_a_session_id_that_is_too_short_is_refused(plain: Agent) -> None:
    client = plain.platform.client("bedrock-agentcore", config={"parameter_validation": False})
    refused: Refusal = refusal(
        lambda: client.invoke_agent_runtime(
            agentRuntimeArn=plain.arn, payload=b"{}", runtimeSessionId="short"
        )
    )
    assert refused.kind == "ValidationException"
    assert "runtimeSessionId" in refused.message


# -- the SDK's own app


def test_the_sdks_app_with_a_plain_function(hosted: Any) -> None:
    agent, session = hosted("sync"), new_session()
    first = agent.invoke({"text": "one"}, session)
    assert (first["turn"], first["session"]) == (1, session)
    assert agent.invoke({"text": "two"}, session)["turn"] == 2
    assert agent.invoke({"text": "one"})["turn"] == 1


def test_the_sdks_app_with_an_async_function(hosted: Any) -> None:
    assert hosted("asynchronous").invoke({"a": [1, None]}) == {"echo": {"a": [1, None]}}


@pytest.mark.parametrize("kind", ["generator", "async_generator"])
def test_the_sdks_app_streams(hosted: Any, kind: str) -> None:
    answer = hosted(kind).begin({})
    assert answer["contentType"].startswith("text/event-stream")
    assert list(events_of(answer)) == [{"number": 1}, {"number": 2}]


def test_the_sdks_app_tells_of_an_error_in_mid_stream(hosted: Any) -> None:
    events = hosted("async_generator").events({"fail": True})
    assert events[0] == {"number": 1}
    assert events[1]["error"] == "in mid-stream"
    assert events[1]["error_type"] == "ValueError"


def test_an_error_of_the_entry_point_is_the_agents_own(hosted: Any) -> None:
    agent, session = hosted("raising"), new_session()
    refused = agent.refusal({}, session)
    assert (refused.status, refused.kind) == (424, "RuntimeClientError")
    assert "HTTP 500" in refused.message
    assert "the entry point gave up" in refused.message
    assert any("RuntimeError" in line for line in agent.log(session))


def test_the_sdks_app_in_the_process_tier(platform: RunningPlatform) -> None:
    agent = platform.deploy(
        agents.hosted(), tags={"freehold:tier": "process"}, environmentVariables={"KIND": "sync"}
    )
    one, other = new_session(), new_session()
    assert agent.invoke({}, one)["turn"] == 1
    assert agent.invoke({}, other)["turn"] == 1
    assert agent.invoke({}, one)["turn"] == 2
    assert platform.session(one)["tier"] == "process"
    agent.delete()


@pytest.fixture(autouse=True, scope="module")
def stop_all(plain: Agent) -> Iterator[None]:
    """Sessions of this file are many: none outlives it."""
    yield
    sessions = plain.platform.own("/sessions", runtimeId=plain.id)["sessions"]
    for session in sessions:
        if session["endpoint"] == "DEFAULT":
            plain.stop(session["sessionId"])
