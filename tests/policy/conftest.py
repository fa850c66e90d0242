"""A platform whose agents are bank clerks, and a bank behind a gateway."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from freehold.testing.scripted_model import (
    DEFAULT_SCRIPT,
    MODEL_NAME,
    Rule,
    Script,
    ScriptedToolCall,
)
from gateway_ground import AUDIENCE, Gateway
from gateway_upstreams import Json, Loop, McpUpstream, Tool
from policy_bank import Bank, engine_of
from running import RunningPlatform, layer_cache
from served_model import MODEL_KEY, ServedModel
from token_issuer import TokenIssuer


def transfer(amount: int) -> Rule:
    call = ScriptedToolCall("bank___transfer", {"to": "Ann", "amount": amount})
    return Rule(when=f"send {amount} ", tool_call=call)


SCRIPT = (
    transfer(900),
    transfer(1500),
    Rule(when="balance", tool_call=ScriptedToolCall("bank___balance", {"account": "mine"})),
)


@pytest.fixture(scope="session")
def served() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


@pytest.fixture(scope="session")
def scripted_model() -> Iterator[ServedModel]:
    """In place of the one that other tests share."""
    with ServedModel(Script(rules=(*SCRIPT, *DEFAULT_SCRIPT.rules))) as served:
        yield served


@pytest.fixture(scope="session")
def platform(open_directory: Path, scripted_model: ServedModel) -> Iterator[RunningPlatform]:
    """In place of the one that other tests share: two workers answer."""
    state = open_directory / "policies"
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
    )
    with running:
        yield running


@pytest.fixture(scope="session")
def issuer() -> Iterator[TokenIssuer]:
    with TokenIssuer() as issuer:
        yield issuer


@pytest.fixture(scope="session")
def vault(served: Loop) -> Iterator[McpUpstream]:
    """The bank's own server."""

    def moved(arguments: Json, seen: Any) -> Json:
        return {"moved": arguments["amount"]}

    account = {"type": "object", "properties": {"account": {"type": "string"}}}
    move = {
        "type": "object",
        "properties": {"to": {"type": "string"}, "amount": {"type": "integer"}},
        "required": ["to", "amount"],
    }
    tools = (
        Tool("balance", "What is there.", account, lambda arguments, seen: {"balance": 4200}),
        Tool("transfer", "Moves money.", move, moved),
        Tool("close", "Closes the account.", account),
    )
    with McpUpstream(served, *tools) as upstream:
        yield upstream


@pytest.fixture
def bank(platform: RunningPlatform, issuer: TokenIssuer, vault: McpUpstream) -> Iterator[Bank]:
    rules = {"discoveryUrl": issuer.discovery_url, "allowedAudience": [AUDIENCE]}
    gateway = Gateway(
        platform,
        authorizerType="CUSTOM_JWT",
        authorizerConfiguration={"customJWTAuthorizer": rules},
    )
    gateway.add_mcp_server("bank", vault.endpoint)
    bank = Bank(gateway, issuer, engine_of(platform))
    yield bank
    bank.delete()
