"""The environment variables through which ordinary SDKs inside a session find the doorway."""

from collections.abc import Mapping

from freehold.ports.models import ModelKind, ModelProvider

DOORWAY_PORT = 7400
PLACEHOLDER_KEY = "provided-by-freehold"

_LOOPBACK = "127.0.0.1,localhost,::1"
_AWS_SERVICES = (
    "BEDROCK_AGENTCORE",
    "BEDROCK_AGENTCORE_CONTROL",
    "AGENT_REGISTRY",
    "AGENT_REGISTRY_CONTROL",
)


def session_environment(
    doorway_port: int | str = DOORWAY_PORT,
    *,
    region: str,
    providers: Mapping[str, ModelProvider] | None = None,
    telemetry: bool = False,
) -> dict[str, str]:
    """No value here is a secret. Put the customer's own variables over these.

    A base URL is set even where its provider is not configured: the doorway then answers with
    what to set, where the SDK's own default would only find a closed network.
    """
    root = f"http://127.0.0.1:{doorway_port}"
    environment = {
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{root}/credentials",
        "AWS_EC2_METADATA_DISABLED": "true",  # there is none; asking costs seconds
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": f"{root}/model/bedrock",
        "OPENAI_BASE_URL": f"{root}/model/openai/v1",
        "OPENAI_API_KEY": PLACEHOLDER_KEY,
        "ANTHROPIC_BASE_URL": f"{root}/model/anthropic",
        "ANTHROPIC_API_KEY": PLACEHOLDER_KEY,
        "GOOGLE_GEMINI_BASE_URL": f"{root}/model/gemini",
        "GEMINI_API_KEY": PLACEHOLDER_KEY,  # not GOOGLE_API_KEY too: the SDK warns of both
        "MISTRAL_BASE_URL": f"{root}/model/mistral/v1",
        "MISTRAL_API_KEY": PLACEHOLDER_KEY,
        "FREEHOLD_GATEWAY_URL": f"{root}/gateway",  # and then /GATEWAY_ID/mcp
        "NO_PROXY": _LOOPBACK,
        "no_proxy": _LOOPBACK,
    }
    environment |= {f"AWS_ENDPOINT_URL_{service}": root for service in _AWS_SERVICES}
    for kind, variable in _MODEL_VARIABLES.items():
        provider = (providers or {}).get(kind)
        if provider is not None and provider.default_model:
            environment[variable] = provider.default_model
    if telemetry:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = root
        environment["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf"
    return environment


_MODEL_VARIABLES = {
    ModelKind.OPENAI: "OPENAI_MODEL",
    ModelKind.ANTHROPIC: "ANTHROPIC_MODEL",
    ModelKind.BEDROCK: "BEDROCK_MODEL_ID",
    ModelKind.GEMINI: "GEMINI_MODEL",
    ModelKind.MISTRAL: "MISTRAL_MODEL",
}
