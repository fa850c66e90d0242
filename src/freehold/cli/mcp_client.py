"""A client of a gateway's MCP endpoint, of the era without sessions: one request, one answer.

Signed like everything here, or with a bearer token.
"""

import base64
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from freehold import __version__
from freehold.cli.answer import events
from freehold.cli.connection import Connection
from freehold.cli.errors import refused
from freehold.cli.failure import CliError

VERSION = "2026-07-28"
_META = "io.modelcontextprotocol/"
_VERSION_UNSUPPORTED, _HEADER_MISMATCH = -32022, -32020
_NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
# A call may take a target's whole time, and more while it says how far it is.
_ANSWER_SECONDS_MAX = 960.0
_CONNECT_SECONDS_MAX = 5.0
_CHUNK_BYTES = 65536
Told = Callable[[str], None]
Json = dict[str, Any]


class RpcError(CliError):
    """`rpc_code` and `data` are JSON-RPC's."""

    def __init__(self, message: str, *, rpc_code: int, data: Any, code: str) -> None:
        super().__init__(message, code=code)
        self.rpc_code, self.data = rpc_code, data


class McpClient:
    """`told` gets what a target says while it works."""

    def __init__(
        self, connection: Connection, gateway_id: str, *, token: str | None, told: Told
    ) -> None:
        self._connection, self._token, self._told = connection, token, told
        self._url = f"{connection.endpoint}/gateway/{gateway_id}/mcp"
        self._version = VERSION
        self._ids = itertools.count(1)
        self._pool = urllib3.PoolManager(
            retries=False,
            ca_certs=connection.ca_certificate or os.environ.get("AWS_CA_BUNDLE") or None,
        )

    def tools(self) -> Iterator[Json]:
        """All that this caller sees, page by page."""
        cursor = None
        while True:
            page = self.request("tools/list", {"cursor": cursor} if cursor else {})
            yield from page["tools"]
            cursor = page.get("nextCursor")
            if not cursor:
                return

    def tool(self, name: str) -> Json | None:
        return next((tool for tool in self.tools() if tool["name"] == name), None)

    def call(self, name: str, arguments: Json) -> Json:
        """The result, whatever it says. Raises RpcError, CliError."""
        params = {"name": name, "arguments": arguments}
        try:
            return self.request("tools/call", params)
        except RpcError as error:
            if error.rpc_code != _HEADER_MISMATCH:
                raise
        # The tool wants some arguments in headers too: its schema says which.
        schema = (self.tool(name) or {}).get("inputSchema") or {}
        return self.request("tools/call", params, headers=dict(_of_schema(schema, arguments)))

    def request(self, method: str, params: Json, headers: Mapping[str, str] | None = None) -> Json:
        try:
            return self._request(method, params, headers or {})
        except RpcError as error:
            served = (error.data or {}).get("supported") if isinstance(error.data, dict) else None
            if error.rpc_code != _VERSION_UNSUPPORTED or not served or self._version in served:
                raise
            # A gateway of the older revisions alone; they are served without a session, too.
            self._version = str(served[0])
        return self._request(method, params, headers or {})

    def _request(self, method: str, params: Json, headers: Mapping[str, str]) -> Json:
        id = next(self._ids)
        sent = {"Mcp-Protocol-Version": self._version, **headers}
        if self._version == VERSION:
            client = {"name": "freehold", "version": __version__}
            meta: Json = {"protocolVersion": VERSION, "clientInfo": client,
                    "clientCapabilities": {"elicitation": {"url": {}}}}  # fmt: skip
            told = {"progressToken": id} if method == "tools/call" else {}
            meta = {f"{_META}{key}": value for key, value in meta.items()}
            params = {**params, "_meta": {**meta, **told}}
            sent["Mcp-Method"] = method
            if member := _NAMED_BY.get(method):
                sent["Mcp-Name"] = _header(str(params[member]))
        body = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
        with self._open(json.dumps(body).encode(), sent) as answer:
            for message in self._messages(answer):
                if message.get("id") == id or (message.get("id") is None and "error" in message):
                    return self._outcome(message, answer)
                self._tell(message)
        raise CliError("The answer broke off.", code="ConnectionLost")

    def _open(self, body: bytes, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        request = AWSRequest(
            method="POST",
            url=self._url,
            data=body,
            headers={
                "Content-Type": "application/json",
                "Accept": "application/json, text/event-stream",
                **headers,
            },
        )
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        else:
            connection = self._connection
            keys = Credentials(
                connection.access_key_id, connection.secret_access_key, connection.session_token
            )
            SigV4Auth(keys, "bedrock-agentcore", connection.region).add_auth(request)
        return self._pool.request(
            "POST",
            self._url,
            body=body,
            headers=dict(request.headers.items()),
            preload_content=False,
            redirect=False,
            timeout=urllib3.Timeout(connect=_CONNECT_SECONDS_MAX, read=_ANSWER_SECONDS_MAX),
        )

    def _messages(self, answer: urllib3.BaseHTTPResponse) -> Iterator[Json]:
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind == "text/event-stream":
            texts: Iterator[str] = events(_chunks(answer))
        else:
            texts = iter([answer.read().decode(errors="replace")])
        for text in texts:
            try:
                message = json.loads(text) if text else {}
            except ValueError:
                message = None
            if isinstance(message, dict) and "jsonrpc" in message:
                yield message
            elif text:
                raise self._not_mcp(answer)
        if answer.status >= 300:
            raise self._not_mcp(answer)

    def _not_mcp(self, answer: urllib3.BaseHTTPResponse) -> CliError:
        return CliError(
            f"{self._connection.endpoint} answered {answer.status}, and not as a gateway does.",
            code=f"Http{answer.status}",
        )

    def _outcome(self, message: Json, answer: urllib3.BaseHTTPResponse) -> Json:
        error = message.get("error")
        if error is None:
            result: Json = message.get("result") or {}
            return result
        code, text, data = error.get("code"), str(error.get("message")), error.get("data")
        if answer.status in (401, 403):
            raise self._not_let_in(answer, text, data)
        raise RpcError(text, rpc_code=code, data=data, code=f"JsonRpc{code}")

    def _not_let_in(self, answer: urllib3.BaseHTTPResponse, text: str, data: Any) -> CliError:
        request_id = data.get("requestId") if isinstance(data, dict) else None
        challenge = answer.headers.get("WWW-Authenticate", "")
        code = "AccessDeniedException" if answer.status == 403 else "UnauthorizedException"
        if not challenge.startswith("Bearer"):
            return refused(code, text, request_id, self._connection)
        hint = "The gateway wants a bearer token: give it with --token, or in FREEHOLD_TOKEN."
        if self._token:
            hint = f"The gateway asks for: {challenge}"
        return CliError(text, code=code, hint=hint, request_id=request_id)

    def _tell(self, message: Json) -> None:
        params = message.get("params") or {}
        if message.get("method") == "notifications/progress":
            done, total = params.get("progress"), params.get("total")
            of = f" of {total}" if total is not None else ""
            self._told(f"{params.get('message') or 'at'} {done}{of}".strip())
        elif message.get("method") == "notifications/message":
            self._told(f"{params.get('level')}: {params.get('data')}")


def _chunks(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    while chunk := answer.read1(_CHUNK_BYTES):
        yield chunk


def _header(text: str) -> str:
    """As MCP wraps what no header may have as it is."""
    if text.isascii() and text.isprintable() and text == text.strip():
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def _of_schema(schema: Json, arguments: Json) -> Iterator[tuple[str, str]]:
    """Headers of the arguments that are marked with x-mcp-header."""
    for name, below in (schema.get("properties") or {}).items():
        if not isinstance(below, dict) or name not in arguments:
            continue
        value = arguments[name]
        if header := below.get("x-mcp-header"):
            text = json.dumps(value) if isinstance(value, bool | int | float) else str(value)
            yield f"Mcp-Param-{header}", _header(text)
        elif isinstance(value, dict):
            yield from _of_schema(below, value)
