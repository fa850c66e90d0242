"""Tokens in place of signatures, for resources whose own authorizer says which (CUSTOM_JWT)."""

import base64
import binascii
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, unquote

from starlette.types import Scope

from freehold.edges.aws.parse import Headers
from freehold.edges.pipeline import Authenticator, Call
from freehold.edges.sigv4 import NotSigned
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied, Unauthorized
from freehold.kernel.session import session_caller
from freehold.ports.authorizer import BearerTarget, BearerTokens

_RESOURCE_LABEL = "agentRuntimeArn"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_SUBPROTOCOL = "base64urlbearerauthorization."
# An operator ends a session whoever began it.
_BY_SIGNATURE_TOO = frozenset({"bedrock-agentcore:StopRuntimeSession"})


class TokenMissing(Unauthorized):
    """`resource` is what the token would be for, as the path names it."""

    def __init__(self, message: str, resource: str) -> None:
        super().__init__(message)
        self.resource = resource


class BearerAuthenticator:
    """Asks for a token where the target demands one, and for what `otherwise` does elsewhere."""

    def __init__(
        self, tokens: BearerTokens, target: BearerTarget, headers: Headers, otherwise: Authenticator
    ) -> None:
        self._tokens, self._target = tokens, target
        self._headers, self._otherwise = headers, otherwise

    async def __call__(self, call: Call) -> Caller:
        inside = session_caller(call.scope)
        token = None if _is_presigned(call.scope) else bearer_token(self._headers)
        tenant = inside.tenant if inside else None
        if token is not None and (
            inside is None or await self._tokens.demanded(self._target, tenant=tenant)
        ):
            return await self._by_token(token)
        try:
            return await self._otherwise(call)
        except NotSigned:
            if await self._tokens.demanded(self._target):
                raise TokenMissing(
                    "This agent runtime takes a bearer token.", self._target.resource
                ) from None
            raise

    async def check_method(self, call: Call) -> None:
        """Once it is authorized: before, it would tell strangers of what exists."""
        if (
            call.known_caller.kind is not CallerKind.OAUTH_USER
            and self._target.operation not in _BY_SIGNATURE_TOO
            and await self._tokens.demanded(self._target, tenant=call.tenant)
        ):
            raise AccessDenied(
                "Authorization method mismatch: the agent runtime has a JWT authorizer, and takes "
                "a bearer token in place of a signature."
            )

    async def _by_token(self, token: str) -> Caller:
        try:
            caller = await self._tokens.caller(token, self._target)
        except Unauthorized as error:
            raise TokenMissing(error.message, self._target.resource) from error
        if caller.kind is not CallerKind.OAUTH_USER or not caller.user:
            raise TokenMissing("The token names nobody.", self._target.resource)
        return caller


def target_of(operation: str, labels: Mapping[str, str], scope: Scope) -> BearerTarget | None:
    """None for an operation that knows signatures alone."""
    resource = labels.get(_RESOURCE_LABEL)
    if resource is None:
        return None
    query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
    return BearerTarget(
        operation=operation,
        resource=resource,
        account=query.get("accountId"),
        qualifier=query.get("qualifier"),
    )


def _is_presigned(scope: Scope) -> bool:
    return b"X-Amz-Signature=" in scope["query_string"]


def bearer_token(headers: Headers) -> str | None:
    """Of the Authorization header, or, where there is none, of a WebSocket's subprotocols:
    browsers can set no header.

    Raises Unauthorized for one that is none.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        if scheme:
            return None
        token = _of_subprotocols(headers.get("sec-websocket-protocol", ""))
        if not token:
            return None
    token = token.strip(" ")
    if not _TOKEN.fullmatch(token):
        raise Unauthorized("The Authorization header has no bearer token.")
    return token


def _of_subprotocols(offered: str) -> str:
    for each in offered.split(","):
        name = each.strip()
        if name.lower().startswith(_SUBPROTOCOL):
            encoded = name[len(_SUBPROTOCOL) :]
            try:
                padded = encoded + "=" * (-len(encoded) % 4)
                return base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
            except (ValueError, binascii.Error):
                raise Unauthorized("The subprotocol has no bearer token.") from None
    return ""


METADATA_PATH = "/.well-known/oauth-protected-resource"
# RFC 9728 puts it before the resource's path; AWS has it behind.
_METADATA = re.compile(
    rb"(?:/runtimes/([^/]+)/invocations/\.well-known/oauth-protected-resource"
    rb"|/\.well-known/oauth-protected-resource/runtimes/([^/]+)/invocations)/?"
)


def metadata_of(scope: Scope) -> str | None:
    """The runtime whose metadata is asked for."""
    found = _METADATA.fullmatch(scope["raw_path"]) if scope["method"] == "GET" else None
    return unquote((found[1] or found[2]).decode("latin-1")) if found else None


def challenge(error: Unauthorized, origin: str) -> bytes:
    """The WWW-Authenticate header: RFC 6750, RFC 9728."""
    if not isinstance(error, TokenMissing) or not origin:
        return b"Bearer"
    path = f"/runtimes/{quote(error.resource, safe='')}/invocations{METADATA_PATH}"
    return f'Bearer resource_metadata="{origin}{path}"'.encode("latin-1", "replace")
