"""`/otlp/v1/traces`, `/otlp/v1/metrics`, `/otlp/v1/logs`, and the same without `/otlp`."""

import logging

from starlette.types import ASGIApp, Receive, Scope, Send

from freehold.edges.otlp.authentication import (
    CHALLENGE,
    SIGNING_NAMES,
    TelemetryAuthenticator,
)
from freehold.edges.otlp_wire import (
    SIGNALS,
    checked_type,
    content_type,
    refusal,
    retry_headers,
    taken,
)
from freehold.edges.pipeline import Call, Pipeline
from freehold.edges.sigv4 import SignatureRules, Verifier, header_text
from freehold.edges.spool import (
    ClientDisconnected,
    Inbound,
    SignatureAuthenticator,
    SpooledBody,
    SpoolSpace,
)
from freehold.kernel.errors import (
    FreeholdError,
    PlatformFailed,
    Unavailable,
    ValidationFailed,
)
from freehold.kernel.session import doorway_session
from freehold.ports.authorizer import AccessKeys
from freehold.ports.exports import Exports, RequestTooLarge, Signal, Source, Taken, source_of

log = logging.getLogger("freehold.telemetry")

OPERATION = "freehold:ExportTelemetry"
PREFIX = "/otlp"
BODY_BYTES_MAX = 16 << 20
_SPOOL_BYTES_MAX = 512 << 20


class MethodNotAllowed(FreeholdError):
    code = "MethodNotAllowed"
    status = 405


class OtlpEdge:
    """An ASGI application. Paths that are no signal's go `otherwise`.

    `trusts_network`: something in front of this process ends TLS, so that a key in the clear is
    none on the network.
    """

    def __init__(
        self,
        exports: Exports,
        *,
        pipeline: Pipeline,
        keys: AccessKeys,
        region: str,
        spool_directory: str,
        otherwise: ASGIApp,
        trusts_network: bool = False,
        body_bytes_max: int = BODY_BYTES_MAX,
    ) -> None:
        self._exports, self._pipeline, self._otherwise = exports, pipeline, otherwise
        self._body_bytes_max = body_bytes_max
        space = SpoolSpace(spool_directory, bytes_max=_SPOOL_BYTES_MAX)
        rules = SignatureRules(region=region, services=SIGNING_NAMES)
        signed = SignatureAuthenticator(Verifier(keys, rules), space, body_bytes_max=body_bytes_max)
        self._authenticator = TelemetryAuthenticator(
            keys, signed, space, body_bytes_max=body_bytes_max, trusts_network=trusts_network
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["raw_path"].decode("latin-1") if scope["type"] == "http" else ""
        signal = SIGNALS.get(path.removeprefix(PREFIX).removesuffix("/"))
        if signal is None:
            await self._otherwise(scope, receive, send)
            return
        try:
            await self._serve(signal, scope, Inbound(scope, receive), send)
        except ClientDisconnected:
            log.debug("a client went away")

    async def _serve(self, signal: Signal, scope: Scope, inbound: Inbound, send: Send) -> None:
        headers = {name.decode("latin-1"): header_text(value) for name, value in scope["headers"]}
        call = Call(
            edge="otlp",
            operation=OPERATION,
            scope=scope,
            receive=inbound,
            authenticator=self._authenticator,
            prepare=self._prepare,
        )
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed("telemetry is sent with POST")
            kind = checked_type(headers)
            if (inbound.declared_bytes or 0) > self._body_bytes_max:
                raise RequestTooLarge(_too_large(self._body_bytes_max))
            async with self._pipeline.governed(call):
                outcome = await self._export(call, signal, kind, headers)
                call.status = 200
                await call.acknowledge(200)
                await _answer(send, 200, taken(signal, outcome, kind), kind, {})
        except FreeholdError as error:
            await self._refuse(error, call, inbound, headers, send)
        except ClientDisconnected:
            raise
        except Exception:  # the boundary: whatever it was, it must not leak
            log.exception("an export failed (request %s)", call.request_id)
            message = f"an error of the platform's own; its log names request {call.request_id}"
            # Who could not be authenticated for our fault is told to come again.
            failed = PlatformFailed(message) if call.caller else Unavailable(message)
            await self._refuse(failed, call, inbound, headers, send)
        finally:
            if isinstance(call.body, SpooledBody):
                call.body.close()

    async def _prepare(self, call: Call) -> None:
        """Nothing: what was sent is looked at once its sender is let in."""

    async def _export(
        self, call: Call, signal: Signal, kind: str, headers: dict[str, str]
    ) -> Taken:
        assert call.body is not None and call.tenant is not None, "authenticated and authorized"
        body = await call.body.read()
        source = _source(call.scope, call.tenant)
        encoding = headers.get("content-encoding", "identity")
        return await self._exports.take(source, signal, body, content_type=kind, encoding=encoding)

    async def _refuse(
        self,
        error: FreeholdError,
        call: Call,
        inbound: Inbound,
        headers: dict[str, str],
        send: Send,
    ) -> None:
        if isinstance(error, ValidationFailed) and inbound.received_bytes > self._body_bytes_max:
            error = RequestTooLarge(_too_large(self._body_bytes_max))
        call.status = error.status
        body, kind = refusal(error, content_type(headers))
        more = retry_headers(error)
        if error.status == 401:
            more["www-authenticate"] = CHALLENGE.decode()
        if error.status == 405:
            more["allow"] = "POST"
        if not await inbound.drain():
            more["connection"] = "close"
        await _answer(send, error.status, body, kind, more)


def _source(scope: Scope, tenant: str) -> Source:
    """Through a doorway the connection says who sends; from elsewhere a client names itself."""
    session = doorway_session(scope)
    return source_of(session) if session else Source(tenant=tenant, origin="client")


def _too_large(bytes_max: int) -> str:
    return f"the body is larger than {bytes_max >> 20} MiB; send less at once"


async def _answer(send: Send, status: int, body: bytes, kind: str, more: dict[str, str]) -> None:
    headers = {"content-type": kind, "content-length": str(len(body)), **more}
    raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
