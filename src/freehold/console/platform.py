"""The platform asked by its own console: its API and AWS's paths, as the person of a visit.

Each is a request of its own on the governed path, in this process: authorized by the person's
roles, and in the audit with their name. The console knows no service, and can show nobody what
the same person could not ask for with a key.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from math import inf
from typing import Any
from urllib.parse import quote, unquote, urlencode

import msgspec
from starlette.types import Scope

from freehold.console.ports import OpenInner
from freehold.console.visit import Visit
from freehold.kernel.errors import (
    AccessDenied,
    Conflict,
    FreeholdError,
    NotFound,
    NotImplementedYet,
    PlatformFailed,
    QuotaExceeded,
    RuntimeClientFailed,
    Throttled,
    Unavailable,
    ValidationFailed,
)
from freehold.kernel.session import CALLER_STATE
from freehold.ports.web import Unreachable, WebStream

_ANSWER_BYTES_MAX = 64 << 20
_ERROR_BYTES_MAX = 1 << 20
_LINE_BYTES_MAX = 8 << 20
_ANSWER_SECONDS_MAX = 120.0
_STREAM_IDLE_SECONDS_MAX = 3600.0
_PLACE = re.compile(r"\{(\w+)\}")
_ERRORS: Mapping[int, type[FreeholdError]] = {
    # Who asks is known, or there were no page: another credential is wanted than theirs.
    401: AccessDenied,
    **{
        kind.status: kind
        for kind in (
            ValidationFailed, AccessDenied, NotFound, Conflict, QuotaExceeded, Throttled,
            RuntimeClientFailed, NotImplementedYet, Unavailable,
        )
    },
}  # fmt: skip


class InnerPlatform:
    """`ports.Platform`, through the worker's own application."""

    def __init__(self, open_inner: OpenInner) -> None:
        self._open = open_inner

    async def get(self, visit: Visit, path: str, **params: Any) -> Any:
        return await self._ask(visit, "GET", path, None, params)

    async def post(self, visit: Visit, path: str, body: Any = None, **params: Any) -> Any:
        return await self._ask(visit, "POST", path, body, params)

    async def put(self, visit: Visit, path: str, body: Any = None, **params: Any) -> Any:
        return await self._ask(visit, "PUT", path, body, params)

    async def patch(self, visit: Visit, path: str, body: Any = None, **params: Any) -> Any:
        return await self._ask(visit, "PATCH", path, body, params)

    async def delete(self, visit: Visit, path: str, **params: Any) -> Any:
        return await self._ask(visit, "DELETE", path, None, params)

    async def open(
        self,
        visit: Visit,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        **params: Any,
    ) -> WebStream:
        scope = _scope(visit, method, address(path, params), body, headers or {})
        return await self._begun(scope, body, idle_seconds_max=_STREAM_IDLE_SECONDS_MAX)

    async def lines(self, visit: Visit, path: str, **params: Any) -> AsyncIterator[Any]:
        stream = await self.open(visit, "GET", path, **params)
        return _lines(stream)

    async def _ask(
        self, visit: Visit, method: str, path: str, body: Any, params: Mapping[str, Any]
    ) -> Any:
        sent = b"" if body is None else msgspec.json.encode(body)
        headers = {"content-type": "application/json"} if sent else {}
        scope = _scope(visit, method, address(path, params), sent, headers)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS_MAX):
                stream = await self._begun(scope, sent, idle_seconds_max=inf)
                try:
                    content = await stream.read(_ANSWER_BYTES_MAX)
                finally:
                    stream.close()
        except Unreachable as error:
            raise Unavailable(str(error)) from None
        except TimeoutError:
            late = f"the platform took longer than {_ANSWER_SECONDS_MAX:g} seconds for its answer"
            raise Unavailable(late) from None
        return msgspec.json.decode(content) if content else None

    async def _begun(self, scope: Scope, body: bytes, *, idle_seconds_max: float) -> WebStream:
        try:
            stream = await self._open(scope, body, idle_seconds_max=idle_seconds_max)
            if stream.status < 300:
                return stream
            try:
                content = await stream.read(_ERROR_BYTES_MAX)
            finally:
                stream.close()
        except Unreachable as error:
            raise Unavailable(str(error)) from None
        raise _error(stream, content)


def address(path: str, params: Mapping[str, Any]) -> tuple[str, str]:
    """The raw path and the query. `{name}` in the path is filled in, quoted; the rest of `params`
    is the query, without what is None or ""."""
    left = dict(params)

    def fill(found: re.Match[str]) -> str:
        value = str(left.pop(found[1]))
        # Our own edge routes on the decoded path: a slash must not lead to another operation.
        if value in ("", ".", "..") or ("/" in value and path.startswith("/freehold/")):
            raise NotFound("nothing has that name")
        return quote(value, safe="")

    raw_path = _PLACE.sub(fill, path)
    pairs = [(name, _said(value)) for name, value in left.items() if value not in (None, "")]
    return raw_path, urlencode(pairs)


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _scope(
    visit: Visit, method: str, address: tuple[str, str], body: bytes, headers: Mapping[str, str]
) -> Scope:
    """Nothing of the browser's own headers goes on: not its cookie, nor what it says of itself."""
    raw_path, query = address
    said = {"host": visit.headers.get("host", ""), "accept": "application/json", **headers}
    if body:
        said["content-length"] = str(len(body))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": visit.scope["scheme"],
        "path": unquote(raw_path),
        "raw_path": raw_path.encode("ascii"),
        "query_string": query.encode("ascii"),
        "root_path": "",
        "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in said.items()],
        "client": visit.scope.get("client"),
        "server": visit.scope.get("server"),
        "state": {CALLER_STATE: visit.person},
    }


async def _lines(stream: WebStream) -> AsyncIterator[Any]:
    rest = b""
    try:
        async for chunk in stream.chunks():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                if line.strip():
                    yield msgspec.json.decode(line)
            if len(rest) > _LINE_BYTES_MAX:
                raise PlatformFailed(f"a line is longer than {_LINE_BYTES_MAX} bytes")
    except Unreachable as error:
        raise Unavailable(str(error)) from None
    finally:
        stream.close()


class _Told(msgspec.Struct):
    """Of our own API `error`, of AWS's `message`."""

    error: dict[str, Any] = {}
    message: str = ""


def _error(stream: WebStream, content: bytes) -> FreeholdError:
    try:
        told = msgspec.json.decode(content, type=_Told)
    except msgspec.DecodeError:
        told = _Told()
    message = str(told.error.get("message") or told.message or "the platform refused this")
    kind = _ERRORS.get(stream.status, ValidationFailed if stream.status < 500 else PlatformFailed)
    error = kind(message)
    named = stream.headers.get("x-amzn-errortype", "").partition(":")[0]
    error.code = str(told.error.get("code") or named or error.code)
    return error
