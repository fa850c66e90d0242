"""Try a tool: a call through its gateway as the person, with what came back or who refused it."""

import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from freehold.console import tool_forms
from freehold.console.answer import Answer, Page
from freehold.console.pages.gateways import ONE
from freehold.console.ports import Platform
from freehold.console.routes import Route
from freehold.console.tool_forms import Field
from freehold.console.visit import Visit
from freehold.kernel.errors import FreeholdError, ValidationFailed

_PATH = f"{ONE}/try"
_VERSION = "2026-07-28"
_ANSWER_BYTES_MAX = 8 << 20
_TOKEN_CHARS_MAX = 16_000


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """`outcome`: done, failed (by the tool), refused (by the gateway, `by` says by what of it) or
    error. `trace_id` is the trace that the call is in."""

    outcome: str
    text: str
    milliseconds: float
    trace_id: str
    by: str = ""
    structured: Any = None
    result: Any = None


class TryTool(msgspec.Struct, frozen=True, kw_only=True):
    """`tool` None: the gateway offers none of this name that is pinned. `written`: the arguments
    are given as JSON. `needs_token`: its callers show a token, which a person has not here."""

    gateway: dict[str, Any]
    name: str
    tool: dict[str, Any] | None
    fields: list[Field]
    written: bool
    arguments: str
    needs_token: bool
    tried: Tried | None = None
    problem: str = ""


class ToolPages:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        return [
            Route(method="GET", path=_PATH, act=self.show, operation="ReadGateways"),
            Route(method="POST", path=_PATH, act=self.try_it, operation="TryTool"),
        ]

    async def show(self, visit: Visit) -> Answer:
        written = visit.query.get("as") == "json"
        return await self._page(visit, visit.query.get("tool", "").strip(), written=written)

    async def try_it(self, visit: Visit) -> Answer:
        name, written = visit.form.get("tool", "").strip(), "arguments" in visit.form
        if not name:
            raise ValidationFailed("name the tool")
        visit.noted.update(gateway=visit.params["id"], tool=name[:200])
        page = await self._page(visit, name, written=written)
        try:
            if written:
                arguments = _object(visit.form["arguments"])
            else:
                arguments = tool_forms.arguments(page.data.fields, visit.form)
        except ValidationFailed as error:
            refused = msgspec.structs.replace(page.data, problem=error.message)
            return msgspec.structs.replace(page, data=refused, status=error.status)
        tried = await self._call(visit, name, arguments)
        return msgspec.structs.replace(
            page, data=msgspec.structs.replace(page.data, tried=tried)
        )  # fmt: skip

    async def _page(self, visit: Visit, name: str, *, written: bool) -> Page:
        id = visit.params["id"]
        gateway = await self._platform.get(visit, "/gateways/{gatewayId}/", gatewayId=id)
        found = await self._platform.get(
            visit, "/freehold/v1/gateways/{gatewayId}/tools", gatewayId=id, definitions=True
        )
        tool = next(
            (one for one in found["tools"] if one["name"] == name and one["kind"] == "tool"), None
        )
        schema = (tool or {}).get("definition") or {}
        fields = tool_forms.fields(schema.get("inputSchema") or {}, visit.form)
        data = TryTool(
            gateway=gateway, name=name, tool=tool, fields=fields,
            written=written or tool is None or not tool_forms.fits(fields),
            arguments=visit.form.get("arguments") or tool_forms.example(fields),
            needs_token=gateway["authorizerType"] in ("CUSTOM_JWT", "AUTHENTICATE_ONLY"),
        )  # fmt: skip
        return Page(template="gateway_try.html", title=f"Try {name or 'a tool'}", data=data)

    async def _call(self, visit: Visit, name: str, arguments: Mapping[str, Any]) -> Tried:
        trace_id = secrets.token_hex(16)
        headers = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": _VERSION,
            "mcp-method": "tools/call",
            "mcp-name": name,
            # AWS's form names a trace without a parent: what is called is its root.
            "x-amzn-trace-id": f"Root=1-{trace_id[:8]}-{trace_id[8:]}",
        }
        if token := visit.form.get("token", "").strip():
            if len(token) > _TOKEN_CHARS_MAX or not token.isascii() or not token.isprintable():
                raise ValidationFailed("that is no bearer token")
            headers["authorization"] = f"Bearer {token}"
        if not name.isascii() or not name.isprintable():
            raise ValidationFailed("a tool's name has printable ASCII characters alone")
        started = _now()
        try:
            stream = await self._platform.open(
                visit, "POST", "/gateway/{gatewayId}/mcp", _message(name, arguments),
                headers=headers, gatewayId=visit.params["id"],
            )  # fmt: skip
            try:
                content = await stream.read(_ANSWER_BYTES_MAX)
            finally:
                stream.close()
        except FreeholdError as error:
            return Tried(
                outcome="error", text=error.message, milliseconds=_now() - started,
                trace_id=trace_id, by=error.code,
            )  # fmt: skip
        return _tried(_last(content), trace_id, _now() - started)


def _now() -> float:
    return time.perf_counter() * 1e3


def _message(name: str, arguments: Mapping[str, Any]) -> bytes:
    meta = {
        "io.modelcontextprotocol/protocolVersion": _VERSION,
        "io.modelcontextprotocol/clientInfo": {"name": "freehold-console", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": name, "arguments": arguments, "_meta": meta}
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return msgspec.json.encode(request)


def _last(content: bytes) -> dict[str, Any]:
    """The JSON-RPC answer: alone, or the last event of a stream."""
    events = [line[5:] for line in content.splitlines() if line.startswith(b"data:")]
    try:
        found = msgspec.json.decode(events[-1] if events else content)
    except msgspec.DecodeError:
        found = None
    return found if isinstance(found, dict) else {}


def _tried(answer: dict[str, Any], trace_id: str, milliseconds: float) -> Tried:
    if "result" not in answer:
        error = answer.get("error") or {}
        return Tried(
            outcome="error", text=str(error.get("message") or "the gateway gave no answer"),
            trace_id=trace_id, milliseconds=milliseconds, by=str(error.get("code", "")),
        )  # fmt: skip
    result = answer["result"]
    said = [part.get("text", "") for part in result.get("content", ()) if isinstance(part, dict)]
    refused = (result.get("_meta") or {}).get("freehold/refused", "")
    outcome = "refused" if refused else "failed" if result.get("isError") else "done"
    return Tried(
        outcome=outcome, text="\n".join(one for one in said if one), trace_id=trace_id,
        milliseconds=milliseconds, by=str(refused), result=result,
        structured=result.get("structuredContent"),
    )  # fmt: skip


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise ValidationFailed(f"the arguments are no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValidationFailed("the arguments are a JSON object, such as {}")
    return found
