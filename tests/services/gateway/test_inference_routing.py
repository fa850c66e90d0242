"""Which inference target serves a model, and as what its provider knows it."""

from typing import Any

import pytest

from freehold.kernel.errors import ValidationFailed
from freehold.ports.targets import Place
from freehold.services.gateway import inference
from freehold.services.gateway.inference import (
    CHAT,
    MESSAGES,
    RESPONSES,
    Inference,
    Prompt,
    Unroutable,
)

KNOWN = inference.connectors("eu-west-1")


def place(kind: str, configuration: dict[str, Any]) -> Place:
    return Place(
        tenant="1", gateway_id="g", gateway_arn="a", target_id="t", name="t", kind=kind,
        configuration=configuration,
    )  # fmt: skip


def connector(id: str) -> inference.Provider:
    return inference.provider_of(
        place("inference.connector", {"source": {"connectorId": id}}), KNOWN
    )


def provider(*models: str, strip: bool = False, separator: str = ".") -> inference.Provider:
    configuration: dict[str, Any] = {
        "endpoint": "https://models.example/base/",
        "modelMapping": {"providerPrefix": {"strip": strip, "separator": separator}},
    }
    if models:
        configuration["operations"] = [
            {"path": CHAT, "models": [{"model": model} for model in models]}
        ]
    return inference.provider_of(place("inference.provider", configuration), KNOWN)


def test_connectors_find_their_models_and_bedrock_is_first() -> None:
    all_three = Inference({id: connector(id) for id in KNOWN})
    assert all_three.choose(MESSAGES, "claude-opus-5").target == "bedrock-mantle"
    chosen = all_three.choose(MESSAGES, "claude-opus-5")
    assert (chosen.model, chosen.path) == ("anthropic.claude-opus-5", "/anthropic/v1/messages")
    assert all_three.choose(MESSAGES, "anthropic/claude-opus-5").path == MESSAGES
    assert all_three.choose(RESPONSES, "o4-mini").target == "openai"
    two = Inference({id: connector(id) for id in ("openai", "anthropic")})
    assert two.choose(MESSAGES, "claude-opus-5").target == "anthropic"
    assert KNOWN["bedrock-mantle"].endpoint == "https://bedrock-mantle.eu-west-1.api.aws"


def test_an_unknown_connector_is_named() -> None:
    with pytest.raises(ValidationFailed, match="none of anthropic, bedrock-mantle, openai"):
        connector("other")


@pytest.mark.parametrize(
    ("listed", "strip", "asked", "sent"),
    [
        ("vendor.big", True, "big", "vendor.big"),
        ("vendor.big", True, "vendor.big", "vendor.big"),
        ("vendor.big-*", True, "big-2", "vendor.big-2"),
        ("vendor.big", False, "big", None),
        ("vendor.*", True, "anything", None),
        ("*.big", True, "big", None),
        ("big", True, "big", "big"),
    ],
)
def test_a_prefix_may_be_left_out_where_the_target_says_so(
    listed: str, strip: bool, asked: str, sent: str | None
) -> None:
    routing = Inference({"t": provider(listed, strip=strip)})
    if sent is None:
        with pytest.raises(Unroutable, match="has the model"):
            routing.choose(CHAT, asked)
    else:
        assert routing.choose(CHAT, asked).model == sent


def test_who_lists_a_model_comes_before_who_takes_any() -> None:
    routing = Inference({"any": provider(), "lists": provider("m")})
    assert {routing.choose(CHAT, "m").target for _ in range(4)} == {"lists"}
    assert routing.choose(CHAT, "other").target == "any"
    assert routing.choose(CHAT, "any/m").model == "m"


def test_a_rule_may_send_what_is_not_listed_and_a_client_may_not() -> None:
    routing = Inference({"t": provider("m")})
    assert routing.at("t", CHAT, "secret-model", chosen=True).model == "secret-model"
    with pytest.raises(Unroutable):
        routing.at("t", CHAT, "secret-model")
    with pytest.raises(Unroutable, match="does not serve"):
        routing.at("t", MESSAGES, "m", chosen=True)
    with pytest.raises(Unroutable, match="no inference target"):
        routing.at("u", CHAT, "m")


def test_what_a_configuration_says_of_its_key_stands() -> None:
    own = {
        "credentialProviderType": "API_KEY",
        "credentialProvider": {
            "apiKeyCredentialProvider": {"providerArn": "a", "credentialParameterName": "x-mine"}
        },
    }
    plain = {
        "credentialProviderType": "API_KEY",
        "credentialProvider": {"apiKeyCredentialProvider": {"providerArn": "a"}},
    }
    role = {"credentialProviderType": "GATEWAY_IAM_ROLE"}
    assert inference.with_defaults(own, KNOWN["anthropic"]) == own
    assert inference.with_defaults(role, KNOWN["anthropic"]) == role
    filled = inference.with_defaults(plain, KNOWN["openai"])
    assert filled["credentialProvider"]["apiKeyCredentialProvider"] == {
        "providerArn": "a", "credentialLocation": "HEADER",
        "credentialParameterName": "Authorization", "credentialPrefix": "Bearer",
    }  # fmt: skip


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"model": 5}', b'{"stream": "yes"}', b"null"])
def test_what_is_no_prompt_is_refused(raw: bytes) -> None:
    with pytest.raises(ValidationFailed):
        Prompt(raw)


def test_a_prompt_goes_on_as_it_came_but_for_what_routing_changes() -> None:
    prompt = Prompt(b'{"model":"m","temperature":1.10,"stream":true,"x":{"b":1,"a":[ 2]}}')
    assert (
        prompt.encoded("") == b'{"model":"m","temperature":1.10,"stream":true,"x":{"b":1,"a":[ 2]}}'
    )
    sent = prompt.encoded("n", with_usage=True)
    assert sent == (
        b'{"model":"n","temperature":1.10,"stream":true,"x":{"b":1,"a":[ 2]},'
        b'"stream_options":{"include_usage":true}}'
    )
    assert Prompt(sent).reports_usage
    assert not Prompt(b'{"model":"m","stream_options":null}').reports_usage
