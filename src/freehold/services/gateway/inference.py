"""Inference targets: which provider serves a model, on which path, under which name."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from freehold.kernel.errors import ValidationFailed
from freehold.ports.targets import Json, Place
from freehold.services.gateway.rules import Glob

PREFIX = "inference"
"""Below a gateway's own path."""
MODELS_PATH = "/v1/models"
CHAT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"
MESSAGES, COUNT_TOKENS = "/v1/messages", "/v1/messages/count_tokens"
_PATHS = (CHAT, RESPONSES, EMBEDDINGS, MESSAGES, COUNT_TOKENS)
_CHAT_LIKE = frozenset({CHAT, RESPONSES, MESSAGES, EMBEDDINGS})

_NAMED_MAX = 20
_BEDROCK_MODELS = (
    "openai.gpt-*", "anthropic.claude-*", "amazon.*", "deepseek.*", "google.*", "minimax.*",
    "mistral.*", "moonshotai.*", "nvidia.*", "qwen.*", "writer.*", "zai.*",
)  # fmt: skip


class Unroutable(Exception):
    """No target serves it. The message is for whoever asked."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """`models`: all where there are none."""

    provider_path: str
    models: tuple[str, ...] = ()


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """`operations` by the client's path. `separator` is "" where clients say a model's full name.
    `preferred` where several have a model; `credential` what of the outbound credential's
    configuration need not be said for it."""

    endpoint: str
    operations: Mapping[str, Operation]
    separator: str = ""
    preferred: bool = False
    headers: Mapping[str, str] = {}
    credential: Mapping[str, str] = {}


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """`model` as the provider calls it, `path` after its endpoint."""

    target: str
    model: str
    path: str


def _operations(*paths: str, models: Sequence[str] = ()) -> dict[str, Operation]:
    return {path: Operation(provider_path=path, models=tuple(models)) for path in paths}


def connectors(region: str) -> dict[str, Provider]:
    """Providers that need no more than a credential, by their connector ids."""
    openai = ("gpt-*", "o1*", "o3*", "o4*", "chatgpt-*", "codex-*", "text-embedding-*")
    mantle = {
        **_operations(CHAT, RESPONSES, models=_BEDROCK_MODELS),
        MESSAGES: Operation(provider_path="/anthropic/v1/messages", models=("anthropic.claude-*",)),
    }
    return {
        "openai": Provider(
            endpoint="https://api.openai.com",
            operations=_operations(CHAT, RESPONSES, EMBEDDINGS, models=openai),
            credential={
                "credentialLocation": "HEADER",
                "credentialParameterName": "Authorization",
                "credentialPrefix": "Bearer",
            },
        ),
        "anthropic": Provider(
            endpoint="https://api.anthropic.com",
            operations=_operations(MESSAGES, COUNT_TOKENS, models=("claude-*",)),
            headers={"anthropic-version": "2023-06-01"},
            credential={
                "credentialLocation": "HEADER",
                "credentialParameterName": "x-api-key",
                "credentialPrefix": "",
            },
        ),
        "bedrock-mantle": Provider(
            endpoint=f"https://bedrock-mantle.{region}.api.aws",
            operations=mantle,
            separator=".",
            preferred=True,
            headers={"anthropic-version": "2023-06-01"},
        ),
    }


def provider_of(place: Place, known: Mapping[str, Provider]) -> Provider:
    """Raises ValidationFailed for a connector that there is none of."""
    configuration = place.configuration
    if place.kind == "inference.connector":
        id = str(configuration["source"]["connectorId"])
        if id not in known:
            raise ValidationFailed(
                f"connectorId: {id[:100]} is none of {', '.join(sorted(known))}; a provider target"
                " names the endpoint of any other."
            )
        return known[id]
    prefix = (configuration.get("modelMapping") or {}).get("providerPrefix") or {}
    return Provider(
        endpoint=str(configuration["endpoint"]).rstrip("/"),
        operations=_configured(configuration.get("operations")),
        separator=str(prefix.get("separator") or ".") if prefix.get("strip") else "",
    )


def _configured(operations: list[Json] | None) -> dict[str, Operation]:
    if not operations:
        return _operations(*_PATHS)
    made = {}
    for each in operations:
        path = "/" + str(each["path"]).strip("/")
        made[path] = Operation(
            provider_path="/" + str(each.get("providerPath") or path).lstrip("/"),
            models=tuple(str(entry["model"]) for entry in each.get("models") or ()),
        )
    return made


def with_defaults(credential: Json, provider: Provider) -> Json:
    """A connector's API key goes where its provider looks for it."""
    if credential.get("credentialProviderType") != "API_KEY" or not provider.credential:
        return credential
    kinds = credential.get("credentialProvider") or {}
    own = kinds.get("apiKeyCredentialProvider") or {}
    if own.get("credentialParameterName") or own.get("credentialLocation"):
        return credential
    filled = {**provider.credential, **own}
    if not filled.get("credentialPrefix"):
        filled.pop("credentialPrefix", None)
    return {**credential, "credentialProvider": {**kinds, "apiKeyCredentialProvider": filled}}


class Inference:
    """All inference targets of one gateway, by name."""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        self.providers = dict(providers)
        self._turn = itertools.count()
        self._patterns = {
            (name, path): [_Pattern(model, provider.separator) for model in operation.models]
            for name, provider in self.providers.items()
            for path, operation in provider.operations.items()
        }

    def choose(self, path: str, model: str) -> Choice:
        """By the model alone: "target/model", or whoever has it; of several in turn, Bedrock
        before all. Raises Unroutable."""
        name, slash, rest = model.partition("/")
        if slash and name in self.providers:
            return self.at(name, path, rest)
        listed = [c for name in self.providers if (c := self._listed(name, path, model))]
        found = listed or [
            Choice(target=name, model=model, path=provider.operations[path].provider_path)
            for name, provider in self.providers.items()
            if path in provider.operations and not provider.operations[path].models
        ]
        if not found:
            raise Unroutable(self._nobody(path, model))
        best = [each for each in found if self.providers[each.target].preferred] or found
        return best[0] if len(best) == 1 else best[next(self._turn) % len(best)]

    def at(self, target: str, path: str, model: str, *, chosen: bool = False) -> Choice:
        """At that target. `chosen`: a rule says the model, which need not be listed then. Raises
        Unroutable."""
        provider = self.providers.get(target)
        if provider is None:
            raise Unroutable(f"this gateway has no inference target {target[:100]} that is ready")
        operation = provider.operations.get(path)
        if operation is None:
            raise Unroutable(f"{target} does not serve {path[:200]}")
        own = model.removeprefix(f"{target}/")
        found = self._listed(target, path, own)
        if found is not None:
            return found
        if operation.models and not chosen:
            raise Unroutable(f"{target} has no model {own[:200]} at {path}")
        return Choice(target=target, model=own, path=operation.provider_path)

    def serves(self, path: str) -> bool:
        return any(path in provider.operations for provider in self.providers.values())

    def named(self) -> list[tuple[str, str]]:
        """(target, model) of every model that a configuration names in full."""
        found = {
            (name, model): None
            for name, provider in self.providers.items()
            for operation in provider.operations.values()
            for model in operation.models
            if Glob(model).plain
        }
        return list(found)

    def asks_for_models(self, target: str) -> bool:
        """Whether only the provider itself knows all of them."""
        return any(
            not operation.models or not all(Glob(model).plain for model in operation.models)
            for path, operation in self.providers[target].operations.items()
            if path in _CHAT_LIKE
        )

    def offers(self, target: str, model: str) -> bool:
        return any(
            not operation.models or self._listed(target, path, model) is not None
            for path, operation in self.providers[target].operations.items()
        )

    def _listed(self, name: str, path: str, model: str) -> Choice | None:
        operation = self.providers[name].operations.get(path)
        if operation is None:
            return None
        for pattern in self._patterns[name, path]:
            sent = pattern.sent(model)
            if sent is not None:
                return Choice(target=name, model=sent, path=operation.provider_path)
        return None

    def _nobody(self, path: str, model: str) -> str:
        if not self.serves(path):
            return f"no inference target of this gateway serves {path[:200]}"
        names = [f"{target}/{each}" for target, each in self.named()][:_NAMED_MAX]
        known = f"; there are {', '.join(names)}" if names else ""
        return f"no target of this gateway has the model {model[:200]}{known}"


class _Pattern:
    """A model's name or glob; with a separator, its part before that may be left out."""

    def __init__(self, pattern: str, separator: str) -> None:
        self._full = Glob(pattern)
        self._prefix, self._rest = "", None
        if separator:
            prefix, found, rest = pattern.partition(separator)
            # "anthropic.*" without its prefix would be every model of everybody.
            if found and rest.strip("*") and Glob(prefix).plain:
                self._prefix, self._rest = prefix + separator, Glob(rest)

    def sent(self, model: str) -> str | None:
        """As the provider calls it; None where it is another model."""
        if self._full.matches(model):
            return model
        if self._rest is not None and self._rest.matches(model):
            return self._prefix + model
        return None


class Prompt:
    """The JSON of a call, members as they came: only what routing has to change is changed.

    A member that stands there twice goes on once, so that nobody reads another model than we did.
    """

    def __init__(self, raw: bytes) -> None:
        try:
            self._members = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
            self.model: str = self._member("model", str, "")
            self.streams = bool(self._member("stream", bool | None, None))
        except msgspec.MsgspecError:
            raise ValidationFailed("The body must be a JSON object with a model.") from None

    def _member(self, name: str, kind: Any, otherwise: Any) -> Any:
        raw = self._members.get(name)
        return otherwise if raw is None else msgspec.json.decode(raw, type=kind)

    @property
    def reports_usage(self) -> bool:
        """Whether a chat's stream tells at its end what it took: the client's wish."""
        try:
            options = self._member("stream_options", dict[str, Any] | None, None) or {}
        except msgspec.MsgspecError:
            return False
        return bool(options.get("include_usage") is True)

    def document(self) -> object:
        return {name: msgspec.json.decode(raw) for name, raw in self._members.items()}

    def encoded(self, model: str, *, with_usage: bool = False) -> bytes:
        changed: dict[str, object] = dict(self._members)
        if model:
            changed["model"] = model
        if with_usage:
            raw = self._members.get("stream_options")
            options = msgspec.json.decode(raw) if raw is not None else None
            changed["stream_options"] = {
                **(options if isinstance(options, dict) else {}),
                "include_usage": True,
            }
        return msgspec.json.encode(changed)


def models_document(found: Iterable[tuple[str, str]], unavailable: Sequence[str]) -> Json:
    """As OpenAI's clients and Anthropic's read a list of models. A model that two targets have is
    listed with each target's name before it. `unavailable`: targets that did not say theirs."""
    pairs = list(dict.fromkeys(found))
    names = [model for _, model in pairs]
    data = [
        {
            "id": model if names.count(model) == 1 else f"{target}/{model}",
            "object": "model", "type": "model", "created": 0, "owned_by": target,
            "display_name": model, "created_at": "1970-01-01T00:00:00Z",
        }
        for target, model in pairs
    ]  # fmt: skip
    ids = [each["id"] for each in data]
    document: Json = {
        "object": "list", "data": data, "has_more": False,
        "first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None,
    }  # fmt: skip
    if unavailable:
        document["unavailable_targets"] = list(unavailable)
    return document
