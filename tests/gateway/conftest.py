"""What tests of whole gateways share: a platform of two workers, and a thread for the servers."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from freehold.testing.fake_lambda import FakeLambda
from freehold.testing.scripted_model import (
    DEFAULT_SCRIPT,
    MODEL_NAME,
    Rule,
    Script,
    ScriptedToolCall,
)
from gateway_ground import AWS_KEY_ID, AWS_SECRET, ROLE, Gateway, MakeGateway
from gateway_upstreams import Loop, McpUpstream, Tool, Upstream
from oidc_ground import OidcProvider, needed
from running import RunningPlatform, layer_cache
from served_model import MODEL_KEY, ServedModel


@pytest.fixture(scope="session")
def served() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


@pytest.fixture(scope="session")
def aws_lambda(served: Loop) -> Iterator[FakeLambda]:
    fake = FakeLambda(access_key_id=AWS_KEY_ID, secret_access_key=AWS_SECRET)
    served.run(fake.__aenter__())
    yield fake
    served.run(fake.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def scripted_model() -> Iterator[ServedModel]:
    """In place of the one that other tests share: it asks for the weather where there is a tool."""
    forecast = ScriptedToolCall("weather___forecast", {"city": r"\1"})
    rule = Rule(when=r"forecast for (\w+)", tool_call=forecast)
    with ServedModel(Script(rules=(rule, *DEFAULT_SCRIPT.rules))) as served:
        yield served


@pytest.fixture(scope="session")
def platform(
    open_directory: Path, scripted_model: ServedModel, aws_lambda: FakeLambda
) -> Iterator[RunningPlatform]:
    """In place of the one that other tests share: two workers answer, and it signs for AWS."""
    roles = open_directory / "aws-roles.json"
    keys = {"access_key_id": AWS_KEY_ID, "secret_access_key": AWS_SECRET}
    roles.write_text(json.dumps({"roles": [{"tenant": "100000000001", "role": ROLE, **keys}]}))
    roles.chmod(0o600)
    state = open_directory / "gateways"
    state.mkdir()
    (state / "builds").symlink_to(layer_cache())
    running = RunningPlatform(
        state,
        environment={
            "OPENAI_BASE_URL": scripted_model.model.base_url,
            "OPENAI_API_KEY": MODEL_KEY,
            "OPENAI_MODEL": MODEL_NAME,
        },
        workers=2,
        allow_process_tier="true",
        outbound_private_hosts="127.0.0.1",
        aws_roles=roles,
        aws_lambda_endpoint=aws_lambda.endpoint,
    )
    with running:
        yield running


@pytest.fixture
def make_gateway(platform: RunningPlatform) -> Iterator[MakeGateway]:
    made: list[Gateway] = []

    def make(**params: object) -> Gateway:
        made.append(Gateway(platform, **params))
        return made[-1]

    yield make
    for gateway in made:
        gateway.delete()


@pytest.fixture
def gateway(make_gateway: MakeGateway) -> Gateway:
    """Open to anybody, with no target."""
    return make_gateway()


@pytest.fixture
def upstream(served: Loop) -> Iterator[Upstream]:
    with Upstream(served) as upstream:
        yield upstream


@pytest.fixture
def mcp_upstream(served: Loop) -> Iterator[McpUpstream]:
    """With `echo`, which answers with its arguments."""
    with McpUpstream(served, Tool("echo")) as upstream:
        yield upstream


@pytest.fixture(scope="session")
def oidc() -> Iterator[OidcProvider]:
    needed()
    with OidcProvider() as provider:
        yield provider
