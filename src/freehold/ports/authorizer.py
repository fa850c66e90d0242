"""Who may call: access keys, and the one authorization step."""

from datetime import datetime
from typing import Any, Protocol

import msgspec

from freehold.kernel.caller import Caller


class AccessKey(msgspec.Struct, frozen=True, kw_only=True):
    """`secret` is in the clear: never log, never store. `__repr__` hides it.

    A person's temporary key has `user`, their `roles` of now, an end, and the SHA-256 (hex) of the
    session token that must come with it.
    """

    id: str
    tenant: str
    secret: str
    user: str | None = None
    roles: frozenset[str] = frozenset()
    token_sha256: str | None = None
    expires_at: datetime | None = None

    def __repr__(self) -> str:
        return f"AccessKey({self.id}, tenant={self.tenant})"


class AccessKeys(Protocol):
    async def active(self, access_key_id: str) -> AccessKey | None:
        """Of a key that exists and is not disabled. Cached: a disabled key dies within a second."""


class BearerTarget(msgspec.Struct, frozen=True, kw_only=True):
    """What a request with a token is for, as it names it: an ARN, or an id and an account."""

    operation: str
    resource: str
    account: str | None = None
    qualifier: str | None = None


class BearerTokens(Protocol):
    """Tokens that resources accept by their own authorizers (AgentCore's CUSTOM_JWT)."""

    async def caller(self, token: str, target: BearerTarget) -> Caller:
        """Raises Unauthorized, for a target that is absent too; Unavailable."""

    async def demanded(self, target: BearerTarget, *, tenant: str | None = None) -> bool:
        """Whether only a token opens it. `tenant` is the caller's, for a target without one."""

    async def metadata(self, target: BearerTarget, resource_url: str) -> dict[str, Any] | None:
        """Where to get a token for it (RFC 9728). None where none is demanded."""


class Authorizer(Protocol):
    async def authorize(self, caller: Caller, operation: str, resource_arn: str | None) -> str:
        """The tenant to act in, when allowed: the caller's, or that of a resource whose policy lets
        it in. AccessDenied, or NotFound where telling would leak a tenant."""
