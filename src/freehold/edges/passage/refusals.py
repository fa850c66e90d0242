"""Errors, in one document that plain clients, OpenAI's and Anthropic's read alike."""

import math
from typing import Any

import msgspec

from freehold.kernel.errors import FreeholdError

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_SHOWN = ("authorizationUrl", "sessionUri")
_RETRY_SECONDS = 2


def document(error: FreeholdError, request_id: str) -> bytes:
    kind = _KINDS.get(error.status, "api_error")
    shown: dict[str, Any] = {
        "message": error.message,
        "code": error.code,
        "requestId": request_id,
        "type": "error",
        "error": {"type": kind, "message": error.message, "code": error.code, "param": None},
    }
    if target := error.fields.get("target"):
        shown["target"] = target
    shown |= {name: error.fields[name] for name in _SHOWN if name in error.fields}
    return msgspec.json.encode(shown)


def headers(error: FreeholdError, challenged: bytes) -> dict[str, str]:
    found = {"content-type": "application/json", "x-amzn-errortype": error.code}
    if challenged:
        found["www-authenticate"] = challenged.decode("latin-1")
    if error.status == 409:
        found["x-should-retry"] = "false"  # heeded by OpenAI's and Anthropic's SDKs
    if error.status in (429, 503):
        seconds = float(error.fields.get("retry_after", _RETRY_SECONDS))
        found["retry-after"] = str(max(1, math.ceil(seconds)))
    return found
