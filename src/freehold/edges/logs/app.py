"""Serves CloudWatch Logs' operations: POST / with the operation in X-Amz-Target, JSON both ways."""

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from freehold.edges.pipeline import Call, Pipeline
from freehold.edges.sigv4 import SignatureRules, Verifier
from freehold.edges.spool import ClientDisconnected, Inbound, StreamingBody
from freehold.kernel.arns import Arn
from freehold.kernel.body import BytesBody
from freehold.kernel.caller import Caller
from freehold.kernel.errors import (
    FreeholdError,
    NotFound,
    PlatformFailed,
    Unavailable,
    ValidationFailed,
)
from freehold.kernel.request import Handler, Request
from freehold.kernel.session import session_caller
from freehold.ports.authorizer import AccessKeys

log = logging.getLogger(__name__)

SIGNING_NAME = "logs"
OPERATIONS = (
    "DescribeLogGroups", "DescribeLogStreams", "FilterLogEvents", "GetLogEvents",
    "GetQueryResults", "StartQuery", "StopQuery",
)  # fmt: skip
_TARGET = b"x-amz-target"
_PREFIX = "Logs_20140328."
_JSON = b"application/x-amz-json-1.1"
_BODY_BYTES_MAX = 1 << 20
_STATUSES = {NotFound.code: 400, ValidationFailed.code: 400}
"""AWS's JSON protocols answer 400 where others have a status for each error."""


class UnknownLogsOperation(FreeholdError):
    code = "UnknownOperationException"
    status = 404


class LogsEdge:
    """Takes what names an operation of CloudWatch Logs; `otherwise` gets everything else.

    `handlers` are by "logs:{Operation}", all of OPERATIONS.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        pipeline: Pipeline,
        keys: AccessKeys,
        region: str,
        otherwise: ASGIApp,
    ) -> None:
        assert handlers.keys() == {f"{SIGNING_NAME}:{name}" for name in OPERATIONS}
        self.handlers = dict(handlers)
        self._pipeline, self._region, self._otherwise = pipeline, region, otherwise
        rules = SignatureRules(region=region, services=frozenset({SIGNING_NAME}))
        self._verifier = Verifier(keys, rules)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = _operation(scope)
        if operation is None:
            await self._otherwise(scope, receive, send)
            return
        try:
            await self._serve(operation, scope, Inbound(scope, receive), send)
        except ClientDisconnected:
            log.debug("a client went away")

    async def _serve(self, operation: str, scope: Scope, inbound: Inbound, send: Send) -> None:
        handler = self.handlers.get(f"{SIGNING_NAME}:{operation}")
        params: dict[str, Any] = {}

        async def authenticate(call: Call) -> Caller:
            # A session inside a sandbox is known by its connection, never by what it signed.
            if inside := session_caller(scope):
                await _read(call, inbound)
                return inside
            signed = self._verifier.read(scope)
            body = await _read(call, inbound)
            return await self._verifier.verify(signed, hashlib.sha256(body).hexdigest())

        async def prepare(call: Call) -> None:
            if handler is None:
                raise UnknownLogsOperation(f"{operation} is not served here.")
            assert call.body is not None, "authenticate leaves it"
            params.update(_decoded(await call.body.read()))
            call.resource_arn = self._arn(params, call.known_caller)

        call = Call(
            edge="logs", operation=f"{SIGNING_NAME}:{operation if handler else 'Unknown'}",
            scope=scope, receive=inbound, authenticator=authenticate, prepare=prepare,
        )  # fmt: skip
        try:
            async with self._pipeline.governed(call):
                assert handler is not None, "prepare refuses what has no handler"
                request = Request(
                    caller=call.known_caller, request_id=call.request_id, acts_in=call.tenant
                )
                answer = msgspec.json.encode(await handler(request, params) or {})
                await call.acknowledge(200)
                call.status = 200
                await _send(send, 200, answer, call.request_id)
        except FreeholdError as error:
            await self._refuse(error, call, inbound, send)
        except ClientDisconnected:
            raise
        except Exception:  # the boundary: whatever it was, it must not leak
            log.exception("%s failed (request %s)", call.operation, call.request_id)
            # A caller whom nobody could authenticate is told to come again, never let in.
            failed = PlatformFailed if call.caller is not None else Unavailable
            message = f"An internal error; its request id is {call.request_id}."
            await self._refuse(failed(message), call, inbound, send)

    async def _refuse(self, error: FreeholdError, call: Call, inbound: Inbound, send: Send) -> None:
        status = _STATUSES.get(error.code, error.status)
        call.status = status
        document = {"__type": error.code, "message": error.message, **error.fields}
        kept = await inbound.drain()
        await _send(
            send, status, msgspec.json.encode(document), call.request_id,
            more=[(b"x-amzn-errortype", error.code.encode())]
            + ([] if kept else [(b"connection", b"close")]),
        )  # fmt: skip

    def _arn(self, params: Mapping[str, Any], caller: Caller) -> str:
        """Of the group that is named first: all are looked up in the caller's own tenant."""
        named = params.get("logGroupName") or params.get("logGroupIdentifier")
        for member in ("logGroupNames", "logGroupIdentifiers"):
            several = params.get(member)
            if not named and isinstance(several, list) and several:
                named = several[0]
        name = named if isinstance(named, str) and len(named) <= 2048 else "*"
        if Arn.parse(name) is not None:
            return name
        return f"arn:aws:logs:{self._region}:{caller.tenant}:log-group:{name}"


def _operation(scope: Scope) -> str | None:
    if scope["method"] != "POST" or scope["raw_path"] not in (b"/", b""):
        return None
    target = next((v for k, v in scope["headers"] if k == _TARGET), b"").decode("latin-1")
    return target.removeprefix(_PREFIX)[:64] if target.startswith(_PREFIX) else None


async def _read(call: Call, inbound: Inbound) -> bytes:
    body = await StreamingBody(inbound, bytes_max=_BODY_BYTES_MAX).read()
    call.body = BytesBody(body)
    return body


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body or b"{}", type=dict[str, Any])
    except msgspec.DecodeError as error:
        refused = ValidationFailed(f"The body is not a JSON object: {error}.")
        refused.code = "SerializationException"
        raise refused from None


async def _send(
    send: Send,
    status: int,
    body: bytes,
    request_id: str,
    *,
    more: list[tuple[bytes, bytes]] | None = None,
) -> None:
    headers = [
        (b"content-type", _JSON),
        (b"content-length", str(len(body)).encode()),
        (b"x-amzn-requestid", request_id.encode()),
        *(more or []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
