"""From inside a session: models and other agents, by ordinary clients, and nothing else."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from freehold.testing.scripted_model import MODEL_NAME
from running import Agent, RunningPlatform, events_of, new_session, refusal
from served_model import MODEL_KEY, ServedModel

pytestmark = pytest.mark.timeout(300)

Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def inside(hosted: Any) -> Agent:
    agent: Agent = hosted("inside")
    return agent


@pytest.fixture(scope="module")
def boto(inside: Agent) -> Ask:
    """A call that boto3 makes in a session, configured by nothing but its environment."""
    session = new_session()

    def ask(service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        asked = {"service": service, "operation": operation, "parameters": parameters}
        return dict(inside.invoke({"do": "boto", **asked}, session))

    return ask


@pytest.fixture(scope="module")
def fetch(inside: Agent) -> Ask:
    session = new_session()

    def ask(path: str, **more: Any) -> dict[str, Any]:
        return dict(inside.invoke({"do": "fetch", "path": path, **more}, session))

    return ask


# -- models


def test_a_model_streams_to_the_agent_as_it_speaks(
    inside: Agent, scripted_model: ServedModel
) -> None:
    """The model stops after its first piece until we have got it from the agent."""
    with scripted_model.held() as release:
        events = events_of(inside.begin({"do": "model", "prompt": "one two three"}))
        first = next(events)["text"]
        release()
        rest = [event["text"] for event in events]
    assert "".join([first, *rest]).endswith("You said: one two three")
    assert len(rest) > 3


def test_the_key_is_added_outside(inside: Agent, scripted_model: ServedModel) -> None:
    list(events_of(inside.begin({"do": "model", "prompt": "who pays?"})))
    asked = scripted_model.model.requests[-1]
    assert asked.document["messages"] == [{"role": "user", "content": "who pays?"}]
    assert asked.headers["authorization"] == f"Bearer {MODEL_KEY}"
    assert asked.document["model"] == MODEL_NAME


def test_a_provider_that_is_not_configured_says_so(fetch: Ask) -> None:
    answer = fetch("/model/anthropic/v1/messages", method="POST")
    assert answer["status"] >= 400
    assert "ANTHROPIC_API_KEY" in answer["body"]


# -- secrets, and the way out


def test_the_environment_holds_what_clients_need_and_no_secret(plain: Agent) -> None:
    environment = plain.invoke()["environment"]
    secrets = {MODEL_KEY, plain.platform.secret_access_key, plain.platform.access_key_id}
    assert not [name for name, value in environment.items() if secrets & set(value.split())]
    ours = [name for name in environment if name.startswith("FREEHOLD_")]
    assert ours == ["FREEHOLD_GATEWAY_URL"]
    for name in ("OPENAI_BASE_URL", "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", "ANTHROPIC_BASE_URL"):
        assert environment[name].startswith("http://127.0.0.1:7400"), name
    assert environment["AWS_REGION"] == plain.platform.region
    assert environment["DOCKER_CONTAINER"] == "1"
    assert f"cloud.resource_id={plain.arn}" in environment["OTEL_RESOURCE_ATTRIBUTES"]


def test_nothing_is_reached_but_the_doorway(plain: Agent) -> None:
    port = urlsplit(plain.platform.endpoint).port
    closed = [f"127.0.0.1:{port}", "1.1.1.1:443", "169.254.169.254:80", "example.com:443"]
    outcomes = plain.invoke({"do": "reach", "addresses": [*closed, "127.0.0.1:7400"]})
    assert outcomes.pop("127.0.0.1:7400") == "connected"
    assert set(outcomes) == set(closed)
    assert "connected" not in outcomes.values()


# -- the platform


def test_boto3_inside_invokes_another_agent(boto: Ask, plain: Agent) -> None:
    session = new_session()
    answer = boto(
        "bedrock-agentcore", "invoke_agent_runtime",
        agentRuntimeArn=plain.arn, runtimeSessionId=session, payload='{"do": "whoami"}',
    )  # fmt: skip
    assert answer["answer"]["boot"] == plain.invoke(session=session)["boot"]


def test_an_error_of_that_agent_comes_back_as_it_is(boto: Ask, plain: Agent) -> None:
    answer = boto(
        "bedrock-agentcore", "invoke_agent_runtime",
        agentRuntimeArn=plain.arn, payload='{"do": "status", "status": 418, "body": "teapot"}',
    )  # fmt: skip
    assert answer["error"] == "RuntimeClientError"
    assert "teapot" in answer["message"]


def test_another_tenants_agent_is_not_found(boto: Ask, plain: Agent) -> None:
    other = plain.arn.replace(plain.platform.account, "200000000002")
    answer = boto(
        "bedrock-agentcore", "invoke_agent_runtime", agentRuntimeArn=other, payload="{}"
    )  # fmt: skip
    assert answer["error"] == "ResourceNotFoundException"


def test_it_may_call_agents_and_nothing_else(boto: Ask, plain: Agent) -> None:
    session = new_session()
    plain.invoke(session=session)
    control = "bedrock-agentcore-control"
    for answer in (
        boto(control, "list_agent_runtimes"),
        boto(control, "get_agent_runtime", agentRuntimeId=plain.id),
        boto(control, "delete_agent_runtime", agentRuntimeId=plain.id),
        boto(control, "tag_resource", resourceArn=plain.arn, tags={"a": "b"}),
        boto(
            "bedrock-agentcore", "stop_runtime_session",
            agentRuntimeArn=plain.arn, runtimeSessionId=session,
        ),
    ):  # fmt: skip
        assert answer["error"] == "AccessDeniedException"
    assert plain.invoke(session=session)["pid"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/freehold/v1/sessions"),
        ("GET", "/freehold/v1/keys"),
        ("POST", "/freehold/v1/keys"),
        ("GET", "/freehold/v1/costs"),
        ("GET", "/_s3/"),
        ("GET", "/_s3/tests"),
        ("POST", "/runtimes/"),
    ],
)
def test_no_other_edge_lets_it_in(fetch: Ask, method: str, path: str) -> None:
    assert fetch(path, method=method)["status"] == 403


def test_health_is_open_to_it_too(fetch: Ask) -> None:
    assert fetch("/freehold/v1/health")["status"] == 200


def test_its_credentials_open_nothing_outside(fetch: Ask, platform: RunningPlatform) -> None:
    """They are markers: an SDK will not send a request that it cannot sign."""
    given = json.loads(fetch("/credentials")["body"])
    client = platform.client(
        "bedrock-agentcore-control",
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["Token"],
    )
    assert refusal(client.list_agent_runtimes).status == 403
