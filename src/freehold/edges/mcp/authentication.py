"""Who calls a gateway, by the gateway's own authorizer, and what a refused caller is told.

- CUSTOM_JWT: a bearer token that its rules accept. Nothing else, from a sandbox neither.
- AWS_IAM: Signature Version 4; a sandbox is known by its connection.
- AUTHENTICATE_ONLY: a token where the gateway has rules for tokens, else a signature; its policies,
  interceptors and targets decide what that opens.
- NONE: anybody.
"""

import re

from freehold.edges.mcp.admission import Headers
from freehold.edges.pipeline import Authenticator, Call
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied, FreeholdError, Unauthorized
from freehold.kernel.session import session_caller
from freehold.ports.authorizer import BearerTarget, BearerTokens
from freehold.ports.mcp import INVOKE, Door
from freehold.ports.tokens import ScopesMissing

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_QUOTED = re.compile(r'[^\x20-\x7e]|["\\]')
ANONYMOUS = "anonymous"


class TokenMissing(Unauthorized):
    """401, and no token was shown: RFC 6750 wants no error code then."""


class InsufficientScope(AccessDenied):
    """403: with more scopes it would do."""


class DoorAuthenticator:
    """The pipeline's authenticate step for one request. `signed` verifies signatures."""

    def __init__(
        self, door: Door, headers: Headers, *, bearer: BearerTokens, signed: Authenticator
    ) -> None:
        self._door, self._headers, self._bearer, self._signed = door, headers, bearer, signed

    async def __call__(self, call: Call) -> Caller:
        inside = session_caller(call.scope)
        if takes_tokens(self._door):
            return await self._by_token()
        if self._door.authorizer == "NONE":
            if inside is not None and inside.tenant == self._door.tenant:
                return inside
            return Caller(
                tenant=self._door.tenant,
                principal=ANONYMOUS,
                kind=CallerKind.ANONYMOUS,
                resource=self._door.arn,
            )
        if inside is not None:
            return inside
        return await self._signed(call)

    async def _by_token(self) -> Caller:
        scheme, _, token = self._headers.get("authorization", "").partition(" ")
        token = token.strip(" ")
        if scheme.lower() != "bearer" or not token:
            raise TokenMissing("Missing bearer token.")
        if not _TOKEN.fullmatch(token):
            raise Unauthorized("The Authorization header has no bearer token.")
        target = BearerTarget(operation=INVOKE, resource=self._door.arn)
        try:
            caller = await self._bearer.caller(token, target)
        except ScopesMissing as error:
            raise InsufficientScope(error.message) from None
        if caller.kind is not CallerKind.OAUTH_USER or not caller.user:
            raise Unauthorized("The token names nobody.")
        return caller


def takes_tokens(door: Door) -> bool:
    return door.authorizer == "CUSTOM_JWT" or (
        door.authorizer == "AUTHENTICATE_ONLY" and door.token_rules is not None
    )


def challenge(error: FreeholdError, door: Door, metadata_url: str, caller: Caller | None) -> bytes:
    """The WWW-Authenticate header (RFC 6750, RFC 9728); empty where a token would not help."""
    if not takes_tokens(door) or error.status not in (401, 403):
        return b""
    parts = []
    if isinstance(error, InsufficientScope) or (
        isinstance(error, AccessDenied) and caller is not None and _lacks(caller, door.scopes)
    ):
        parts.append('error="insufficient_scope"')
    elif isinstance(error, AccessDenied):
        return b""
    elif not isinstance(error, TokenMissing):
        parts.append('error="invalid_token"')
    if parts:
        parts.append(f'error_description="{_QUOTED.sub("", error.message)[:200]}"')
    if door.scopes:
        parts.append(f'scope="{_QUOTED.sub("", " ".join(door.scopes))}"')
    parts.append(f'resource_metadata="{_QUOTED.sub("", metadata_url)}"')
    return f"Bearer {', '.join(parts)}".encode("latin-1", "replace")


def _lacks(caller: Caller, scopes: tuple[str, ...]) -> bool:
    """Whether the token has not all of what the gateway advertises: else more will not help."""
    held: set[str] = set()
    for name in ("scope", "scp"):
        value = caller.claims.get(name, ())
        held.update(value.split(" ") if isinstance(value, str) else map(str, value))
    return not held.issuperset(scopes)
