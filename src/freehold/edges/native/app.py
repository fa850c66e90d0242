"""Serves our own API: the governed path, JSON in, JSON (or JSON lines) out, errors of one shape."""

import hashlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from freehold.edges.auditing import note_created
from freehold.edges.native.followers import Followers
from freehold.edges.native.openapi import PREFIX, ErrorAnswer, ErrorDetail, document
from freehold.edges.pipeline import Call, Pipeline
from freehold.edges.sigv4 import SignatureRules, Verifier
from freehold.kernel import ids
from freehold.kernel.arns import memory_arn
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import FreeholdError, NotFound, PlatformFailed, ValidationFailed
from freehold.kernel.operation import Operation, Parameter
from freehold.kernel.request import Request
from freehold.kernel.session import session_caller
from freehold.ports.authorizer import AccessKeys

log = logging.getLogger(__name__)

SIGNING_NAME = "freehold"
_BODY_BYTES_MAX = 1 << 20


class NativeEdge:
    """An ASGI application for everything under /freehold/v1."""

    def __init__(
        self,
        operations: Sequence[Operation],
        *,
        pipeline: Pipeline,
        keys: AccessKeys,
        region: str,
        version: str,
    ) -> None:
        rules = SignatureRules(region=region, services=frozenset({SIGNING_NAME}))
        self._verifier = Verifier(keys, rules)
        self._pipeline, self._region = pipeline, region
        self._followers = Followers()
        self.document = document(operations, version=version)
        described = msgspec.json.encode(self.document)
        routes = [Route(PREFIX + "/openapi.json", _answering(described))]
        by_path: dict[str, dict[str, Operation]] = {}
        for operation in operations:
            by_path.setdefault(operation.path, {})[operation.method] = operation
        routes += [
            Route(PREFIX + path, self._endpoint(methods), methods=list(methods))
            for path, methods in by_path.items()
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: _http_error})
        app.router.redirect_slashes = False
        self._app: ASGIApp = app

    def stop(self) -> None:
        """Before the server drains: streams that wait for news would hold it up."""
        self._followers.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def _endpoint(self, methods: dict[str, Operation]) -> ASGIApp:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            await self._serve(methods[method], scope, receive, send)

        return _Raw(serve)

    async def _serve(
        self, operation: Operation, scope: Scope, receive: Receive, send: Send
    ) -> None:
        http = HttpRequest(scope, receive)
        asked: dict[str, Any] = {}
        body = b""

        async def authenticate(call: Call) -> Caller:
            nonlocal body
            body = await _read(http)
            if inside := session_caller(scope):
                return inside
            signed = self._verifier.read(scope)
            return await self._verifier.verify(signed, hashlib.sha256(body).hexdigest())

        async def prepare(call: Call) -> None:
            params = asked["params"] = _params(operation, http)
            asked["body"] = _decode(operation, body)
            if memory := params.get("memoryId"):
                # Named in full, so that the memory's own policy is asked.
                call.resource_arn = memory_arn(memory, call.known_caller.tenant, self._region)

        call = Call(
            edge="native", operation=f"{SIGNING_NAME}:{operation.name}", scope=scope,
            receive=receive, authenticator=authenticate, prepare=prepare,
        )  # fmt: skip
        started = _Started(send, call)
        try:
            if operation.open:
                request = Request(caller=_NOBODY, request_id=call.request_id, source=_source(scope))
                sent = _decode(operation, await _read(http) if operation.body else b"")
                answer = await operation.act(request, _params(operation, http), sent)
                await _respond(operation, answer, call, send=started)
                return
            async with self._pipeline.governed(call):
                request = Request(
                    caller=call.known_caller,
                    request_id=call.request_id,
                    acts_in=call.tenant,
                    source=_source(scope),
                    headers={k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]},
                )
                answer = await operation.act(request, asked["params"], asked["body"])
                if operation.follows and asked["params"].get("follow", True):
                    answer = self._followers.until_stopped(answer)
                call.status = operation.status
                note_created(call, answer)
                await _respond(operation, answer, call, send=started)
        except FreeholdError as error:
            await self._refuse(error, call, started)
        except ClientDisconnect:
            return
        except Exception:  # the boundary: whatever it was, it must not leak
            log.exception("%s failed (request %s)", operation.name, call.request_id)
            failed = PlatformFailed("an error of the platform's own; its log names this request")
            await self._refuse(failed, call, started)

    async def _refuse(self, error: FreeholdError, call: Call, started: "_Started") -> None:
        call.status = error.status
        if started.begun:
            log.warning("%s broke off in its answer: %s", call.operation, error.message)
            return
        response = _error(error.status, error.code, error.message, call.request_id)
        await response(call.scope, call.receive, started)


_NOBODY = Caller(tenant="000000000000", principal="nobody", kind=CallerKind.ACCESS_KEY)


def _source(scope: Scope) -> str:
    """The client's address; empty on a socket that has none."""
    client = scope.get("client")
    return str(client[0]) if client else ""


class _Raw:
    """Starlette takes a class instance for a plain ASGI application."""

    def __init__(self, serve: ASGIApp) -> None:
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._serve(scope, receive, send)


class _Started:
    """Passes messages on, and knows whether an answer has begun. Of a stream the last one waits
    for the audit; what is sent at once has waited before it began."""

    def __init__(self, send: Send, call: Call) -> None:
        self._send, self._call, self.begun = send, call, False

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            await self._call.acknowledge(self._call.status)
        self.begun = True
        await self._send(message)


async def _read(http: HttpRequest) -> bytes:
    body = b""
    async for chunk in http.stream():
        body += chunk
        if len(body) > _BODY_BYTES_MAX:
            raise ValidationFailed(f"the body is larger than {_BODY_BYTES_MAX} bytes")
    return body


def _params(operation: Operation, http: HttpRequest) -> dict[str, Any]:
    known = {p.name for p in operation.parameters if p.where == "query"}
    signing = {k for k in http.query_params if k.lower().startswith("x-amz-")}
    if unknown := set(http.query_params) - known - signing:
        raise ValidationFailed(
            f"unknown parameter {', '.join(sorted(unknown))}; "
            f"{operation.name} has {', '.join(sorted(known)) or 'none'}"
        )
    values = {}
    for parameter in operation.parameters:
        source = http.path_params if parameter.where == "path" else http.query_params
        text = source.get(parameter.name)
        values[parameter.name] = parameter.default if text is None else _value(parameter, text)
    return values


def _value(parameter: Parameter, text: str) -> Any:
    value: Any = text
    if "\0" in text:
        raise ValidationFailed(f"{parameter.name} must not hold a NUL character")
    if parameter.kind == "integer":
        try:
            value = int(text)
        except ValueError:
            raise ValidationFailed(f"{parameter.name}={text}: expected a whole number") from None
        low, high = parameter.minimum, parameter.maximum
        if (low is not None and value < low) or (high is not None and value > high):
            raise ValidationFailed(f"{parameter.name}={value}: expected {low} to {high}")
    elif parameter.kind == "boolean":
        if text not in ("true", "false"):
            raise ValidationFailed(f"{parameter.name}={text}: expected true or false")
        value = text == "true"
    if parameter.choices and value not in parameter.choices:
        raise ValidationFailed(
            f"{parameter.name}={value}: expected one of {', '.join(parameter.choices)}"
        )
    return value


def _decode(operation: Operation, body: bytes) -> Any:
    if operation.body is None:
        return None
    try:
        return msgspec.json.decode(body or b"{}", type=operation.body)
    except msgspec.DecodeError as error:
        raise ValidationFailed(f"body: {error}") from None


async def _respond(operation: Operation, answer: Any, call: Call, *, send: Send) -> None:
    headers = {"x-request-id": call.request_id, "cache-control": "no-store"}
    response: Response
    if operation.streams:
        lines: AsyncIterator[bytes] = answer
        response = StreamingResponse(lines, media_type="application/x-ndjson", headers=headers)
    else:
        body = b"" if answer is None else msgspec.json.encode(answer)
        await call.acknowledge(operation.status)
        response = Response(body, operation.status, headers, media_type="application/json")
    await response(call.scope, call.receive, send)


def _error(status: int, code: str, message: str, request_id: str) -> Response:
    answer = ErrorAnswer(ErrorDetail(code, message, request_id))
    return Response(
        msgspec.json.encode(answer), status, {"x-request-id": request_id},
        media_type="application/json",
    )  # fmt: skip


async def _http_error(request: HttpRequest, error: Exception) -> Response:
    """No such path, or a path that has no such method."""
    assert isinstance(error, HTTPException)
    code, message = NotFound.code, f"no such path: {request.url.path}; see {PREFIX}/openapi.json"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        code, message = "MethodNotAllowed", f"{request.url.path} has {allowed}"
    response = _error(error.status_code, code, message, ids.request_id())
    response.headers.update(error.headers or {})
    return response


def _answering(body: bytes) -> Any:
    async def answer(_: HttpRequest) -> Response:
        return Response(body, media_type="application/json")

    return answer
