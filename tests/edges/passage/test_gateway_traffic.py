"""On a real platform, by boto3 alone: a gateway with models, a service, a rule and a limit."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx
import openai
import pytest

from running import RunningPlatform
from served_model import ServedModel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

T = TypeVar("T")
CHAT = "/v1/chat/completions"


def until(ask: Callable[[], T], holds: Callable[[T], bool], seconds: float = 30) -> T:
    ends = time.monotonic() + seconds
    while not holds(found := ask()):
        assert time.monotonic() < ends, found
        time.sleep(0.05)
    return found


def test_models_services_rules_and_limits_work_as_they_are_configured(
    platform: RunningPlatform, scripted_model: ServedModel
) -> None:
    control = platform.client("bedrock-agentcore-control")
    made = control.create_gateway(
        name="traffic", roleArn="arn:aws:iam::123456789012:role/x", authorizerType="NONE"
    )
    id, base = made["gatewayId"], scripted_model.model.base_url
    url = made["gatewayUrl"].removesuffix("/mcp")
    until(lambda: control.get_gateway(gatewayIdentifier=id)["status"], lambda s: s == "READY")

    def add(name: str, configuration: dict[str, Any]) -> None:
        target = control.create_gateway_target(
            gatewayIdentifier=id, name=name, targetConfiguration=configuration
        )["targetId"]
        until(
            lambda: control.get_gateway_target(gatewayIdentifier=id, targetId=target)["status"],
            lambda status: status == "READY",
        )

    operations = [{"path": CHAT, "models": [{"model": "gpt-*"}]}]
    add("llm", {"inference": {"provider": {"endpoint": base, "operations": operations}}})
    add("gone", {"inference": {"provider": {"endpoint": "http://127.0.0.1:1"}}})
    add("web", {"http": {"passthrough": {"endpoint": base, "protocolType": "CUSTOM"}}})

    client = openai.OpenAI(base_url=f"{url}/inference/v1", api_key="none", max_retries=0)

    def says(model: str) -> str:
        answer = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "Hello"}]
        )
        return str(answer.choices[0].message.content)

    def refused() -> int:
        try:
            says("llm/gpt-5")
        except openai.APIStatusError as error:
            return error.status_code
        return 200

    assert "You said: Hello" in says("gpt-5")
    assert httpx.get(f"{url}/web/v1/models").json()["data"][0]["id"] == "freehold-scripted"
    with pytest.raises(openai.APIStatusError, match=r"gone: .* could not be connected"):
        says("gone/gpt-5")

    static = {"targetName": "gone", "fallback": {"targetFallback": [{"targetName": "llm"}]}}
    control.create_gateway_rule(
        gatewayIdentifier=id,
        priority=1,
        conditions=[{"matchModels": {"anyOf": [{"value": "gpt-*"}]}}],
        actions=[{"routeToTarget": {"staticRoute": static}}],
    )
    assert "You said: Hello" in says("gpt-5")

    control.create_gateway_rate_limit(
        gatewayIdentifier=id,
        dimensionKeys=["qualifiedModelId"],
        entries=[
            {
                "dimensions": {"qualifiedModelId": "*"},
                "requests": [{"rate": 2, "period": "minute"}],
            }
        ],
    )
    until(refused, lambda status: status == 429)
    with pytest.raises(openai.RateLimitError, match="2 calls in 60 seconds") as limit:
        says("gpt-5")
    assert 0 < int(limit.value.response.headers["retry-after"]) <= 61
    assert httpx.get(f"{url}/web/v1/models").status_code == 200
