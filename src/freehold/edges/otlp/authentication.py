"""Who sends telemetry: a signature, or an access key as collectors and SDKs can be given one.

- Signature Version 4, for any of the services that AWS's own exporters sign for, or ours.
- `Authorization: Basic` of the access key's id and its secret, or `Authorization: Bearer` of
  "{id}:{secret}": over TLS, or from this machine. A temporary key's session token comes in
  `x-amz-security-token`.
- A session's connection, which knows whose it is.
"""

import base64
import binascii
import hmac
import ipaddress
import secrets
from collections.abc import Callable
from datetime import datetime

from starlette.types import Scope

from freehold.edges.pipeline import Call
from freehold.edges.sigv4 import caller_of, check_token, header_text
from freehold.edges.spool import Inbound, SignatureAuthenticator, SpoolSpace, spool
from freehold.kernel import clock
from freehold.kernel.body import Body, BytesBody
from freehold.kernel.caller import Caller
from freehold.kernel.errors import AccessDenied, Unauthorized
from freehold.kernel.session import session_caller
from freehold.ports.authorizer import AccessKeys

SIGNING_NAMES = frozenset({"xray", "logs", "monitoring", "bedrock-agentcore", "freehold"})
CHALLENGE = b'Basic realm="freehold", charset="UTF-8"'
_SECRET_OF_NOBODY = secrets.token_urlsafe(30)
_CREDENTIAL_BYTES_MAX = 4096
_MEMORY_BYTES_MAX = 1 << 20


class KeyRefused(Unauthorized):
    """401: no key was shown, or one that is not good. Which of the two says the message alone."""


class NotEncrypted(AccessDenied):
    """The secret itself went over the network for all to read, and should be changed."""


class TelemetryAuthenticator:
    """The pipeline's authenticate step. `call.receive` is an Inbound; leaves the whole body in
    `call.body`, which the edge closes. `trusts_network`: a proxy before us ends TLS."""

    def __init__(
        self,
        keys: AccessKeys,
        signed: SignatureAuthenticator,
        space: SpoolSpace,
        *,
        body_bytes_max: int,
        trusts_network: bool = False,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._keys, self._signed, self._space = keys, signed, space
        self._body_bytes_max, self._trusts_network, self._now = body_bytes_max, trusts_network, now

    async def __call__(self, call: Call) -> Caller:
        assert isinstance(call.receive, Inbound)
        caller = session_caller(call.scope)
        if caller is None:
            shown = _shown_key(call.scope)
            if shown is None:
                return await self._signed(call)
            if not (self._trusts_network or is_private(call.scope)):
                raise NotEncrypted(
                    "an access key's secret is taken over https, or from this machine; sign the "
                    "request instead"
                )
            caller = await self._by_key(*shown, _header(call.scope, b"x-amz-security-token"))
        call.body = await self._read(call.receive)
        return caller

    async def _read(self, inbound: Inbound) -> Body:
        """What most batches are is kept in memory: nothing needs its hash here."""
        declared = inbound.declared_bytes
        if declared is None or declared > _MEMORY_BYTES_MAX:
            return await spool(inbound, self._space, bytes_max=self._body_bytes_max)
        pieces = []
        while not inbound.body_ended:
            pieces.append(await inbound.chunk())
            inbound.refuse_over(declared)
        return BytesBody(b"".join(pieces))

    async def _by_key(self, id: str, secret: str, token: str | None) -> Caller:
        key = await self._keys.active(id)
        # An unknown key costs and answers like a wrong secret.
        wanted = key.secret if key is not None else _SECRET_OF_NOBODY
        if not hmac.compare_digest(wanted.encode(), secret.encode()) or key is None:
            raise KeyRefused("the access key's id or its secret is not right")
        check_token(key, token, self._now())
        return caller_of(key)


def is_private(scope: Scope) -> bool:
    """Whether nobody else could read what came: TLS, a socket file, or this machine."""
    host, port = scope.get("client") or ("", 0)
    if scope.get("scheme") == "https" or not port:
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _shown_key(scope: Scope) -> tuple[str, str] | None:
    """Id and secret. None where there is none, and a signature is to be looked for."""
    shown = _header(scope, b"authorization")
    scheme, _, credential = (shown or "").partition(" ")
    credential = credential.strip(" ")
    if scheme.lower() not in ("basic", "bearer"):
        if shown is None and b"X-Amz-Signature=" not in scope["query_string"]:
            raise KeyRefused("no access key: give one in the Authorization header, or sign")
        return None
    if len(credential) > _CREDENTIAL_BYTES_MAX:
        raise KeyRefused("the Authorization header is too long")
    if scheme.lower() == "basic":
        try:
            credential = base64.b64decode(credential, validate=True).decode()
        except (binascii.Error, ValueError):
            raise KeyRefused("Basic is followed by base64 of {id}:{secret}") from None
    id, colon, secret = credential.partition(":")
    if not colon or not id or not secret:
        raise KeyRefused("a key is shown as {id}:{secret}")
    return id, secret


def _header(scope: Scope, wanted: bytes) -> str | None:
    found = [header_text(value) for name, value in scope["headers"] if name == wanted]
    if len(found) > 1:
        raise KeyRefused(f"the header {wanted.decode()} must not be repeated")
    return found[0].strip() if found else None
