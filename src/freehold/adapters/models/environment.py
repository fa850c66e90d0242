"""Providers from the environment variables that each provider's own SDK reads."""

from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from freehold.ports.models import ModelKind, ModelProvider

_OPENAI_BASE_URL = "https://api.openai.com/v1"
_ANTHROPIC_BASE_URL = "https://api.anthropic.com"
_GEMINI_BASE_URL = "https://generativelanguage.googleapis.com"
_MISTRAL_BASE_URL = "https://api.mistral.ai/v1"
# Access keys that a Freehold made ("FHIA", "FHSESSION"): somebody's shell points boto3 at us.
_OUR_KEY_PREFIX = "FH"
_AWS_SOURCES = (
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)


def providers_from_environment(env: Mapping[str, str]) -> dict[str, ModelProvider]:
    """By kind; what is not configured is absent. The preferred one is first.

    FREEHOLD_MODEL is `{kind}/{model}`, or a model of the first provider that is configured.
    FREEHOLD_BEDROCK_REGION asks for Bedrock where only the machine itself has a role.
    """
    every = (_openai(env), _anthropic(env), _bedrock(env), _gemini(env), _mistral(env))
    found = [provider for provider in every if provider is not None]
    providers = {provider.kind.value: provider for provider in found}
    wanted = env.get("FREEHOLD_MODEL", "")
    if not wanted or not providers:
        return providers
    kind, slash, model = wanted.partition("/")
    if not slash or kind not in set(ModelKind):
        kind, model = next(iter(providers)), wanted
    if kind not in providers:
        return providers
    return {kind: msgspec.structs.replace(providers.pop(kind), default_model=model), **providers}


def _openai(env: Mapping[str, str]) -> ModelProvider | None:
    """A base URL without a key is a server of one's own that asks for none."""
    key, base_url = env.get("OPENAI_API_KEY", ""), env.get("OPENAI_BASE_URL", "")
    if not key and not base_url:
        return None
    base_url = base_url or _OPENAI_BASE_URL
    return ModelProvider(
        kind=ModelKind.OPENAI,
        base_url=base_url,
        api_key=key,
        default_model=env.get("OPENAI_MODEL", ""),
        proxy=_proxy(env, base_url),
    )


def _anthropic(env: Mapping[str, str]) -> ModelProvider | None:
    base_url = env.get("ANTHROPIC_BASE_URL") or _ANTHROPIC_BASE_URL
    key, model = env.get("ANTHROPIC_API_KEY", ""), env.get("ANTHROPIC_MODEL", "")
    return _with_key(env, ModelKind.ANTHROPIC, key, base_url, model)


def _gemini(env: Mapping[str, str]) -> ModelProvider | None:
    """Of two keys Google's SDK takes GOOGLE_API_KEY."""
    base_url = env.get("GOOGLE_GEMINI_BASE_URL") or _GEMINI_BASE_URL
    key = env.get("GOOGLE_API_KEY") or env.get("GEMINI_API_KEY", "")
    return _with_key(env, ModelKind.GEMINI, key, base_url, env.get("GEMINI_MODEL", ""))


def _mistral(env: Mapping[str, str]) -> ModelProvider | None:
    base_url = env.get("MISTRAL_BASE_URL") or _MISTRAL_BASE_URL
    key, model = env.get("MISTRAL_API_KEY", ""), env.get("MISTRAL_MODEL", "")
    return _with_key(env, ModelKind.MISTRAL, key, base_url, model)


def _with_key(
    env: Mapping[str, str], kind: ModelKind, key: str, base_url: str, model: str
) -> ModelProvider | None:
    if not key:
        return None
    return ModelProvider(
        kind=kind,
        base_url=base_url,
        api_key=key,
        default_model=model,
        proxy=_proxy(env, base_url),
    )


def _bedrock(env: Mapping[str, str]) -> ModelProvider | None:
    region = (
        env.get("FREEHOLD_BEDROCK_REGION")
        or env.get("AWS_REGION")
        or env.get("AWS_DEFAULT_REGION", "")
    )
    key_id, secret = env.get("AWS_ACCESS_KEY_ID", ""), env.get("AWS_SECRET_ACCESS_KEY", "")
    ours = key_id.startswith(_OUR_KEY_PREFIX)
    keys = (key_id, secret, env.get("AWS_SESSION_TOKEN", "")) if key_id and secret else None
    bearer = env.get("AWS_BEARER_TOKEN_BEDROCK", "")
    elsewhere = "FREEHOLD_BEDROCK_REGION" in env or any(env.get(name) for name in _AWS_SOURCES)
    if not region or (ours and not bearer) or not (keys or bearer or elsewhere):
        return None
    base_url = (
        env.get("AWS_ENDPOINT_URL_BEDROCK_RUNTIME")
        or f"https://bedrock-runtime.{region}.amazonaws.com"
    )
    return ModelProvider(
        kind=ModelKind.BEDROCK,
        base_url=base_url,
        api_key=bearer,
        aws_keys=None if bearer else keys,
        default_model=env.get("BEDROCK_MODEL_ID", ""),
        region=region,
        proxy=_proxy(env, base_url),
    )


def _proxy(env: Mapping[str, str], base_url: str) -> str:
    """The outbound proxy for a URL, by the usual variables (host names only); "" for none."""
    url = urlsplit(base_url)

    def variable(name: str) -> str:
        return env.get(name.lower()) or env.get(name.upper(), "")

    direct = [host.strip().lower().lstrip(".*") for host in variable("no_proxy").split(",")]
    host = (url.hostname or "").lower()
    if any(name and (host == name or host.endswith(f".{name}")) for name in direct):
        return ""
    return variable(f"{url.scheme}_proxy") or variable("all_proxy")
