"""The usual environment variables say which providers there are."""

import pytest

from freehold.adapters.models import providers_from_environment
from freehold.ports.models import ModelKind, ModelProvider

AWS = {"AWS_ACCESS_KEY_ID": "AKIAX", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "eu-west-1"}


def test_nothing_set_is_no_provider() -> None:
    assert providers_from_environment({}) == {}
    assert providers_from_environment({"AWS_REGION": "us-east-1", "FREEHOLD_MODEL": "m"}) == {}


def test_each_provider_reads_its_own_variables() -> None:
    found = providers_from_environment(
        {
            "OPENAI_API_KEY": "sk",
            "OPENAI_MODEL": "gpt",
            "ANTHROPIC_API_KEY": "sk-ant",
            "ANTHROPIC_BASE_URL": "https://proxy.example/a",
            "GEMINI_API_KEY": "AIza",
            "GEMINI_MODEL": "gemini",
            "MISTRAL_API_KEY": "mst",
            **AWS,
            "AWS_SESSION_TOKEN": "t",
        }
    )
    assert found == {
        "openai": ModelProvider(
            kind=ModelKind.OPENAI,
            base_url="https://api.openai.com/v1",
            api_key="sk",
            default_model="gpt",
        ),
        "anthropic": ModelProvider(
            kind=ModelKind.ANTHROPIC, base_url="https://proxy.example/a", api_key="sk-ant"
        ),
        "bedrock": ModelProvider(
            kind=ModelKind.BEDROCK,
            base_url="https://bedrock-runtime.eu-west-1.amazonaws.com",
            region="eu-west-1",
            aws_keys=("AKIAX", "s", "t"),
        ),
        "gemini": ModelProvider(
            kind=ModelKind.GEMINI,
            base_url="https://generativelanguage.googleapis.com",
            api_key="AIza",
            default_model="gemini",
        ),
        "mistral": ModelProvider(
            kind=ModelKind.MISTRAL, base_url="https://api.mistral.ai/v1", api_key="mst"
        ),
    }


def test_of_two_keys_gemini_takes_the_one_that_googles_sdk_takes() -> None:
    env = {"GEMINI_API_KEY": "second", "GOOGLE_API_KEY": "first"}
    assert providers_from_environment(env)["gemini"].api_key == "first"


def test_a_server_of_ones_own_needs_no_key() -> None:
    [found] = providers_from_environment({"OPENAI_BASE_URL": "http://127.0.0.1:11434/v1"}).values()
    assert (found.base_url, found.api_key) == ("http://127.0.0.1:11434/v1", "")


@pytest.mark.parametrize(
    ("env", "configured"),
    [
        ({"AWS_BEARER_TOKEN_BEDROCK": "b"}, True),
        ({"AWS_PROFILE": "p"}, True),
        ({"FREEHOLD_BEDROCK_REGION": "us-east-1"}, True),
        ({"AWS_ACCESS_KEY_ID": "AKIAX"}, False),
        ({"AWS_ACCESS_KEY_ID": "FHIAOURS", "AWS_SECRET_ACCESS_KEY": "s"}, False),
        (
            {
                "AWS_ACCESS_KEY_ID": "FHIAOURS",
                "AWS_SECRET_ACCESS_KEY": "s",
                "AWS_BEARER_TOKEN_BEDROCK": "b",
            },
            True,
        ),
    ],
)
def test_bedrock_needs_credentials_that_are_aws_and_not_ours(
    env: dict[str, str], configured: bool
) -> None:
    assert (
        "bedrock" in providers_from_environment({"AWS_REGION": "us-east-1", **env})
    ) is configured


@pytest.mark.parametrize(
    ("wanted", "first", "model"),
    [
        ("anthropic/claude-x", "anthropic", "claude-x"),
        ("bedrock/us.meta/llama:0", "bedrock", "us.meta/llama:0"),
        ("gpt-y", "openai", "gpt-y"),
        ("meta-llama/Llama-3", "openai", "meta-llama/Llama-3"),
    ],
)
def test_the_preferred_model_puts_its_provider_first(wanted: str, first: str, model: str) -> None:
    keys = {"OPENAI_API_KEY": "sk", "ANTHROPIC_API_KEY": "sk-ant", **AWS}
    found = providers_from_environment({**keys, "FREEHOLD_MODEL": wanted})
    assert next(iter(found)) == first
    assert found[first].default_model == model
    assert len(found) == 3


def test_an_outbound_proxy_is_used_but_for_the_hosts_that_go_direct() -> None:
    env = {"HTTPS_PROXY": "http://proxy.example:3128", "OPENAI_API_KEY": "sk"}
    assert providers_from_environment(env)["openai"].proxy == "http://proxy.example:3128"
    direct = {**env, "NO_PROXY": "localhost, .openai.com"}
    assert providers_from_environment(direct)["openai"].proxy == ""
