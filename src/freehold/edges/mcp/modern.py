"""The stateless era, 2026-07-28: every request says all of itself, and its headers say it again."""

import base64
import binascii
from collections.abc import Sequence

from freehold.edges.mcp.admission import Headers
from freehold.edges.mcp.wire import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    LEGACY,
    META_CAPABILITIES,
    META_INFO,
    META_LOG_LEVEL,
    META_SERVER,
    META_VERSION,
    METHOD_NOT_FOUND,
    MODERN,
    VERSION_UNSUPPORTED,
    Id,
    Incoming,
    Json,
    Refused,
)

VERSION_HEADER, METHOD_HEADER, NAME_HEADER = "mcp-protocol-version", "mcp-method", "mcp-name"
# What names the thing that a request is about, for those who route by headers.
_NAMED_BY = {
    "tools/call": "name", "prompts/get": "name", "resources/read": "uri",
    "tasks/get": "taskId", "tasks/update": "taskId", "tasks/cancel": "taskId",
}  # fmt: skip
_GONE = frozenset(
    {"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"}
)
_CACHEABLE = frozenset(
    {"tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read",
     "server/discover"}
)  # fmt: skip
STATUS_OF_CODE = {
    -32700: 400, -32600: 400, -32602: 400, -32020: 400, -32021: 400, -32022: 400, -32601: 404,
}  # fmt: skip
"""The HTTP status that goes with an error's code; every other goes with 200."""


class Declared:
    """What a request's `_meta` says of its client."""

    __slots__ = ("capabilities", "info", "log_level", "version")

    def __init__(self, version: str, capabilities: Json, info: Json, log_level: str) -> None:
        self.version, self.capabilities = version, capabilities
        self.info, self.log_level = info, log_level


def is_modern(headers: Headers, messages: Sequence[Incoming]) -> bool:
    """By the header, or by the body where a client that speaks it left the header out: it is
    told so then, and not taken for another."""
    named = headers.get(VERSION_HEADER)
    if named is not None and named not in LEGACY:
        return True
    return any(META_VERSION in (message.params.get("_meta") or ()) for message in messages)


def check_version(version: str, supported: Sequence[str], id: Id) -> None:
    """`supported`: all versions of this gateway, of both eras."""
    served = [each for each in supported if each in MODERN]
    if version not in served:
        # A client of both eras goes on with `initialize` where the list says so.
        data = {"supported": served or list(supported), "requested": version[:64]}
        raise Refused(
            400, VERSION_UNSUPPORTED, "This protocol version is not supported.", data=data, id=id
        )


def declared(headers: Headers, message: Incoming, supported: Sequence[str]) -> Declared:
    """Of a request, its headers checked. Raises Refused."""
    meta = message.params.get("_meta")
    missing = [key for key in (META_VERSION, META_CAPABILITIES) if key not in (meta or ())]
    if meta is None or missing:
        raise _bad_params(f"params._meta must have {' and '.join(missing)}.", message.id)
    version, capabilities = meta[META_VERSION], meta[META_CAPABILITIES]
    info, log_level = meta.get(META_INFO) or {}, meta.get(META_LOG_LEVEL) or ""
    if type(version) is not str:
        raise _bad_params(f"{META_VERSION} must be a string.", message.id)
    _check_headers(headers, message, version)
    check_version(version, supported, message.id)
    if type(capabilities) is not dict or type(info) is not dict or type(log_level) is not str:
        raise _bad_params("params._meta has a value of a wrong type.", message.id)
    if message.method in _GONE:
        raise Refused(
            404, METHOD_NOT_FOUND, f"{message.method} is not in this revision.", id=message.id
        )
    return Declared(version, capabilities, info, log_level)


def _check_headers(headers: Headers, message: Incoming, version: str) -> None:
    for name in (VERSION_HEADER, METHOD_HEADER, NAME_HEADER):
        if name in headers.repeated:
            raise _mismatch(f"{name} is sent more than once.", message.id)
    if headers.get(VERSION_HEADER) != version:
        raise _mismatch(f"{VERSION_HEADER} differs from params._meta.", message.id)
    if headers.get(METHOD_HEADER) != message.method:
        raise _mismatch(f'{METHOD_HEADER} differs from "method".', message.id)
    member = _NAMED_BY.get(message.method)
    value = message.params.get(member) if member is not None else None
    if value is not None and header_value(headers.get(NAME_HEADER)) != value:
        raise _mismatch(f'{NAME_HEADER} differs from params["{member}"].', message.id)


def header_value(text: str | None) -> str | None:
    """As it is, or decoded where it had to be wrapped: =?base64?...?=. None for one that is no
    base64."""
    if text is None or not (text.startswith("=?base64?") and text.endswith("?=")):
        return text
    try:
        return base64.b64decode(text[9:-2], validate=True).decode()
    except (binascii.Error, ValueError):
        return None


def shaped(method: str, result: Json, server: Json) -> Json:
    """A result as this revision wants it: its type, who says it, how long it may be kept."""
    # Ours, whatever a target said of itself: the client talks to the gateway.
    meta = {**(result.get("_meta") or {}), META_SERVER: server}
    shape = {"resultType": "complete", **result, "_meta": meta}
    if method in _CACHEABLE and shape["resultType"] == "complete":
        # Lists are what this caller may use: nobody else's. 0: ask again when you need it again.
        shape.setdefault("ttlMs", 0)
        shape.setdefault("cacheScope", "private")
    return shape


def _mismatch(message: str, id: Id) -> Refused:
    return Refused(400, HEADER_MISMATCH, message, id=id)


def _bad_params(message: str, id: Id) -> Refused:
    return Refused(400, INVALID_PARAMS, message, id=id)
