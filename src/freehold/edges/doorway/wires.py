"""The wires of models that a session may speak: paths, headers, and the shape of an error.

Only calls that stand alone are let through. A provider's files, batches, stored responses or
organisation belong to the key, and so to every tenant at once.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import msgspec
from starlette.types import Scope

from freehold.edges.doorway.refusals import ProviderUnusable
from freehold.kernel.errors import FreeholdError, NotFound
from freehold.ports.models import ModelKind


class Target(NamedTuple):
    """`operation` is what the authorizer sees; `path` goes after the provider's base URL, raw."""

    operation: str
    path: str
    model: str = ""


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """`routes`: (method, pattern of the raw path below `prefix`) -> operation.

    `settings` are what an operator sets to configure the provider, in words.
    `unconfigured_status`, `key_refused_codes` and `key_refused_mark` (a text that only such a
    refusal's body holds): see the decision record. `query_names`: what passes of a query; all
    when None.
    """

    kind: ModelKind
    prefix: str
    routes: tuple[tuple[str, re.Pattern[str], str], ...]
    request_headers: frozenset[str]
    settings: str
    unconfigured_status: int = 503
    key_refused_codes: frozenset[str] = frozenset()
    key_refused_mark: bytes = b""
    query_names: frozenset[str] | None = None

    def target(self, method: str, path: str) -> Target:
        below = path[len(self.prefix) :]
        for allowed, pattern, operation in self.routes:
            if allowed == method and (match := pattern.fullmatch(below)) is not None:
                return Target(operation, below, unquote(match.groupdict().get("model", "")))
        raise NotFound(f"{method} {path[:200]} is not a call that the doorway passes on")

    def naming(self, target: Target, model: str) -> Target:
        """The same call of another model, where the path names it; else the same target."""
        for method, pattern, operation in self.routes:
            match = pattern.fullmatch(target.path)
            if operation == target.operation and match and "model" in match.groupdict():
                start, end = match.span("model")
                named = target.path[:start] + quote(model, safe="") + target.path[end:]
                return self.target(method, self.prefix + named)
        return target

    def query(self, query: str) -> str:
        if self.query_names is None:
            return query
        pairs = query.split("&")
        return "&".join(p for p in pairs if unquote(p.partition("=")[0]) in self.query_names)

    def error(self, error: FreeholdError, status: int) -> tuple[bytes, dict[str, str]]:
        """The body and further headers, as this wire's own SDK reads an error."""
        document, headers = _ERRORS[self.kind](error, status)
        return msgspec.json.encode(document), headers


def raw_path(scope: Scope) -> str:
    """Still percent-encoded: a model's name may hold an encoded slash."""
    raw: bytes | None = scope.get("raw_path")
    return raw.decode("latin-1") if raw else quote(scope["path"])


def wire_of(path: str) -> Wire | None:
    return next((wire for wire in WIRES if path.startswith(wire.prefix + "/")), None)


def _routes(*rows: tuple[str, str, str]) -> tuple[tuple[str, re.Pattern[str], str], ...]:
    return tuple((method, re.compile(pattern), name) for method, pattern, name in rows)


# Of the percent-encoded characters, ":" and "/" alone; a ".." is never part of a model's name, and
# a server behind us might walk up it to a path that is not passed on.
_MODEL = r"(?P<model>(?!\S*\.\.)(?:[A-Za-z0-9._:~-]|%3[Aa]|%2[Ff]){1,2048})"
_NAMED = r"(?P<model>(?!\S*\.\.)(?:[A-Za-z0-9._:~/-]|%3[Aa]|%2[Ff]){1,512})"
_MODEL_NAME = r"(?P<model>(?!\S*\.\.)[A-Za-z0-9._~-]{1,512})"
_EVERY_WIRE = frozenset({"accept", "content-type", "content-encoding", "user-agent"})

_OPENAI = Wire(
    kind=ModelKind.OPENAI,
    prefix="/model/openai/v1",
    routes=_routes(
        ("POST", "/chat/completions", "ChatCompletions"),
        ("POST", "/responses", "Responses"),
        ("POST", "/embeddings", "Embeddings"),
        ("GET", "/models", "ListModels"),
        ("GET", f"/models/{_NAMED}", "GetModel"),
    ),
    request_headers=_EVERY_WIRE | {"openai-beta", "idempotency-key"},
    settings="OPENAI_API_KEY, or OPENAI_BASE_URL for another OpenAI-compatible server",
)
_ANTHROPIC = Wire(
    kind=ModelKind.ANTHROPIC,
    prefix="/model/anthropic",
    routes=_routes(
        ("POST", "/v1/messages", "Messages"),
        ("POST", "/v1/messages/count_tokens", "CountTokens"),
        ("GET", "/v1/models", "ListModels"),
        ("GET", f"/v1/models/{_NAMED}", "GetModel"),
    ),
    request_headers=_EVERY_WIRE | {"anthropic-version", "anthropic-beta", "idempotency-key"},
    settings="ANTHROPIC_API_KEY",
)
_BEDROCK = Wire(
    kind=ModelKind.BEDROCK,
    prefix="/model/bedrock",
    routes=_routes(
        ("POST", f"/model/{_MODEL}/converse", "Converse"),
        ("POST", f"/model/{_MODEL}/converse-stream", "ConverseStream"),
        ("POST", f"/model/{_MODEL}/invoke", "InvokeModel"),
        ("POST", f"/model/{_MODEL}/invoke-with-response-stream", "InvokeModelStream"),
        ("POST", f"/model/{_MODEL}/count-tokens", "CountTokens"),
    ),
    request_headers=_EVERY_WIRE
    | {
        "x-amzn-bedrock-accept",
        "x-amzn-bedrock-trace",
        "x-amzn-bedrock-guardrailidentifier",
        "x-amzn-bedrock-guardrailversion",
        "x-amzn-bedrock-performanceconfig-latency",
        "x-amzn-bedrock-service-tier",
    },
    settings="AWS_REGION with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or "
    "AWS_BEARER_TOKEN_BEDROCK",
    # boto3 tries 503 again with back-off; 424 is modelled (ModelErrorException) and is not.
    unconfigured_status=424,
    key_refused_codes=frozenset(
        {
            "ExpiredTokenException",
            "IncompleteSignatureException",
            "InvalidSignatureException",
            "MissingAuthenticationTokenException",
            "UnrecognizedClientException",
        }
    ),
)
_GEMINI_CALL = rf"/v1(?:alpha|beta)?/models/{_MODEL_NAME}"
_GEMINI = Wire(
    kind=ModelKind.GEMINI,
    prefix="/model/gemini",
    routes=_routes(
        ("POST", f"{_GEMINI_CALL}:generateContent", "GenerateContent"),
        ("POST", f"{_GEMINI_CALL}:streamGenerateContent", "StreamGenerateContent"),
        ("POST", f"{_GEMINI_CALL}:countTokens", "CountTokens"),
        ("POST", f"{_GEMINI_CALL}:embedContent", "Embeddings"),
        ("POST", f"{_GEMINI_CALL}:batchEmbedContents", "Embeddings"),
        ("GET", "/v1(?:alpha|beta)?/models", "ListModels"),
        ("GET", _GEMINI_CALL, "GetModel"),
    ),
    request_headers=_EVERY_WIRE | {"x-goog-api-client"},
    settings="GEMINI_API_KEY",
    # Google's clients may try 503 again; 400 (FAILED_PRECONDITION) they do not.
    unconfigured_status=400,
    # A key that is wrong, expired or restricted is a 400 or 403 whose details say so.
    key_refused_mark=b'"API_KEY_',
    # Not "key": whose key it is, the platform says.
    query_names=frozenset({"alt", "$alt", "pageSize", "pageToken"}),
)
_MISTRAL = Wire(
    kind=ModelKind.MISTRAL,
    prefix="/model/mistral/v1",
    routes=_routes(
        ("POST", "/chat/completions", "ChatCompletions"),
        ("POST", "/fim/completions", "FimCompletions"),
        ("POST", "/embeddings", "Embeddings"),
        ("GET", "/models", "ListModels"),
        ("GET", f"/models/{_NAMED}", "GetModel"),
    ),
    request_headers=_EVERY_WIRE,
    settings="MISTRAL_API_KEY",
)
WIRES = (_OPENAI, _ANTHROPIC, _BEDROCK, _GEMINI, _MISTRAL)

_OPENAI_TYPES = {
    400: "invalid_request_error",
    403: "permission_error",
    404: "invalid_request_error",
    409: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    403: "permission_error",
    404: "not_found_error",
    409: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_BEDROCK_CODES = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    409: "ConflictException",
    413: "ValidationException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
    504: "ModelTimeoutException",
}
_GEMINI_STATUSES = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

Shaped = tuple[Mapping[str, Any], dict[str, str]]


def _openai_error(error: FreeholdError, status: int) -> Shaped:
    kind = _OPENAI_TYPES.get(status, "server_error")
    code = error.fields.get("reason", error.code)
    body = {"message": error.message, "type": kind, "param": None, "code": code}
    return {"error": body}, {}


def _anthropic_error(error: FreeholdError, status: int) -> Shaped:
    kind = _ANTHROPIC_TYPES.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": error.message}}, {}


def _bedrock_error(error: FreeholdError, status: int) -> Shaped:
    code = _BEDROCK_CODES.get(status, "InternalServerException")
    return {"message": error.message}, {"x-amzn-errortype": code}


def _gemini_error(error: FreeholdError, status: int) -> Shaped:
    name = _GEMINI_STATUSES.get(status, "INTERNAL")
    if isinstance(error, ProviderUnusable):
        name = "FAILED_PRECONDITION"
    return {"error": {"code": status, "message": error.message, "status": name}}, {}


def _mistral_error(error: FreeholdError, status: int) -> Shaped:
    kind = _OPENAI_TYPES.get(status, "server_error")
    shown = {"object": "error", "message": error.message, "type": kind, "param": None}
    return {**shown, "code": error.code}, {}


_ERRORS = {
    ModelKind.OPENAI: _openai_error,
    ModelKind.ANTHROPIC: _anthropic_error,
    ModelKind.BEDROCK: _bedrock_error,
    ModelKind.GEMINI: _gemini_error,
    ModelKind.MISTRAL: _mistral_error,
}
