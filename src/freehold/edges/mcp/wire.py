"""JSON-RPC as MCP has it: versions, error codes, and bytes to messages with nothing left to doubt.

Two readers of one body must see the same in it: a key that stands twice, or one that differs from
a known key by case alone, is refused, because the next reader may take it for the other one.
"""

import re
from typing import Any, Literal

import msgspec

from freehold.kernel.errors import FreeholdError

MODERN = ("2026-07-28",)
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
VERSIONS = (*MODERN, *LEGACY)
"""Newest first. A version of the legacy era begins with `initialize` and has sessions."""
WITHOUT_HEADER = "2025-03-26"
"""What a client speaks that names no version: the first revision with this transport."""
BATCHES = "2025-03-26"
RESUMES_FROM = "2025-11-25"
"""Clients from here on understand an event without data, from which a stream is resumed."""

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = (
    -32700, -32600, -32601, -32602, -32603,
)  # fmt: skip
HEADER_MISMATCH, CAPABILITY_MISSING, VERSION_UNSUPPORTED = -32020, -32021, -32022
CANCELLED = -32800
"""LSP's, and the reference implementation's."""
# Of the range that JSON-RPC leaves to servers; the first two are AgentCore's.
CODE_OF_STATUS = {401: -32001, 403: -32002, 404: -32004, 409: -32009, 429: -32029, 503: -32053}

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")

META_VERSION = "io.modelcontextprotocol/protocolVersion"
META_INFO = "io.modelcontextprotocol/clientInfo"
META_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
META_LOG_LEVEL = "io.modelcontextprotocol/logLevel"
META_SERVER = "io.modelcontextprotocol/serverInfo"
META_SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"

DEPTH_MAX = 64
BATCH_MESSAGES_MAX = 50
METHOD_CHARACTERS_MAX = 128
ID_CHARACTERS_MAX = 256

Id = str | int | None
Json = dict[str, Any]

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_ENVELOPE = ("jsonrpc", "id", "method", "params", "result", "error")
_PARAMS = (
    "_meta", "argument", "arguments", "capabilities", "clientInfo", "context", "cursor",
    "inputResponses", "level", "name", "notifications", "protocolVersion", "reason", "ref",
    "requestId", "requestState", "task", "taskId", "uri",
)  # fmt: skip
_META = (META_VERSION, META_INFO, META_CAPABILITIES, META_LOG_LEVEL, "progressToken")


class Refused(FreeholdError):
    """A request that is refused as a JSON-RPC error with an HTTP status. `id` is the request's,
    as far as it is known."""

    code = "McpRequestRefused"

    def __init__(
        self, status: int, rpc_code: int, message: str, *, data: Any = None, id: Id = None
    ) -> None:
        super().__init__(message)
        self.status, self.rpc_code, self.data, self.id = status, rpc_code, data, id


class Incoming(msgspec.Struct, frozen=True):
    """One message. A response has no method, and `outcome` is all of it."""

    kind: Literal["request", "notification", "response"]
    id: Id
    method: str
    params: Json
    outcome: Json = {}


def parse(body: bytes) -> tuple[list[Incoming], bool]:
    """The messages, and whether they came as a batch. Raises Refused."""
    document = _decode(body)
    if isinstance(document, list):
        if not 0 < len(document) <= BATCH_MESSAGES_MAX:
            raise _invalid(f"A batch has 1 to {BATCH_MESSAGES_MAX} messages.")
        return [_message(each) for each in document], True
    return [_message(document)], False


def _decode(body: bytes) -> Any:
    try:
        document = msgspec.json.decode(body)
    except RecursionError:
        raise _parse_error("The JSON is nested too deeply.") from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # What it says names bytes of the body; the client knows them.
        raise _parse_error("The body is not JSON in UTF-8.") from None
    keys = _count_keys(document, 0)
    # As many colons in all as there are keys: no text has one, and no key is there twice.
    if body.count(b":") != keys and _STRING.sub(b"", body).count(b":") != keys:
        raise _parse_error("A JSON object has a key twice.")
    return document


def _count_keys(value: Any, depth: int) -> int:
    if depth > DEPTH_MAX:
        raise _parse_error(f"The JSON is nested deeper than {DEPTH_MAX} levels.")
    below = depth + 1
    if type(value) is dict:
        count = len(value)
        for item in value.values():
            if type(item) is dict or type(item) is list:
                count += _count_keys(item, below)
        return count
    count = 0
    if type(value) is list:
        for item in value:
            if type(item) is dict or type(item) is list:
                count += _count_keys(item, below)
    return count


def _message(document: Any) -> Incoming:
    if type(document) is not dict:
        raise _invalid("A message is a JSON object.")
    raw_id = document.get("id")
    if type(raw_id) is not int and type(raw_id) is not str:
        id: Id = None
    else:
        id = raw_id
    if isinstance(id, str) and len(id) > ID_CHARACTERS_MAX:
        raise _invalid(f"An id has at most {ID_CHARACTERS_MAX} characters.")
    _check_case(document, _ENVELOPE_FOLDED, id)
    if document.get("jsonrpc") != "2.0":
        raise _invalid('"jsonrpc" must be "2.0".', id)
    if "id" in document and id is None:
        raise _invalid('"id" must be a string or an integer.')
    if "method" not in document:
        return _response(document, id)
    method, params = document["method"], document.get("params", {})
    if type(method) is not str or not 0 < len(method) <= METHOD_CHARACTERS_MAX:
        raise _invalid('"method" must be a string.', id)
    if "result" in document or "error" in document:
        raise _invalid("A message is either a request or a response.", id)
    if type(params) is not dict:
        raise Refused(400, INVALID_PARAMS, '"params" must be an object.', id=id)
    _check_case(params, _PARAMS_FOLDED, id)
    meta = params.get("_meta")
    if meta is not None:
        if type(meta) is not dict:
            raise Refused(400, INVALID_PARAMS, '"_meta" must be an object.', id=id)
        _check_case(meta, _META_FOLDED, id)
    return Incoming("request" if "id" in document else "notification", id, method, params)


def _response(document: Json, id: Id) -> Incoming:
    if ("result" in document) == ("error" in document) or id is None:
        raise _invalid("A message has a method, or an id and either a result or an error.", id)
    body = document.get("result", document.get("error"))
    if type(body) is not dict:
        raise _invalid("A result or an error is an object.", id)
    return Incoming("response", id, "", {}, document)


def _folded(names: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(names), frozenset(name.casefold() for name in names)


_ENVELOPE_FOLDED, _PARAMS_FOLDED, _META_FOLDED = map(_folded, (_ENVELOPE, _PARAMS, _META))


def _check_case(document: Json, known: tuple[frozenset[str], frozenset[str]], id: Id) -> None:
    names, folded = known
    for key in document:
        if key not in names and key.casefold() in folded:
            raise _invalid(f'"{key[:100]}" must be spelled with the right case.', id)


def _parse_error(message: str) -> Refused:
    return Refused(400, PARSE_ERROR, message)


def _invalid(message: str, id: Id = None) -> Refused:
    return Refused(400, INVALID_REQUEST, message, id=id)


def result_message(id: Id, result: Json) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", "id": id, "result": result})


def error_message(id: Id, code: int, message: str, data: Any = None) -> bytes:
    error: Json = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return msgspec.json.encode({"jsonrpc": "2.0", "id": id, "error": error})


def sent_message(method: str, params: Json, id: Id = None) -> bytes:
    """A notification to the client; with an id, a request."""
    document: Json = {"jsonrpc": "2.0", "method": method, "params": params}
    if id is not None:
        document["id"] = id
    return msgspec.json.encode(document)
