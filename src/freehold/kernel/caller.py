"""Who is calling, once a request is authenticated."""

from enum import StrEnum
from typing import Any

import msgspec


class CallerKind(StrEnum):
    ACCESS_KEY = "access_key"
    ADMIN = "admin"
    PERSON = "person"
    """Signed in to the platform."""
    OAUTH_USER = "oauth_user"
    """Of a token that a resource's own authorizer accepts; a stranger everywhere else."""
    SESSION = "session"
    """Code in a sandbox, known by its connection."""
    GATEWAY = "gateway"
    """A gateway of this platform's, which calls what is on it; its principal is its ARN."""
    ANONYMOUS = "anonymous"
    """Anybody, at a gateway that asks for nobody (authorizerType NONE); `resource` is its ARN."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """An authenticated principal.

    `tenant` is a 12-digit account; every resource that the caller may see carries the same one.
    `principal` is an ARN or a name that audit and metering can show to people. `user` is the human
    behind the call, where one is known: "{issuer}|{subject}" of a token, or a person's name here.
    `roles` are those of the tenant's that it has; `claims` a verified token's content, `token` the
    token itself, for an exchange on the user's behalf and nothing else, and `resource` what it was
    accepted for, as the request names it. `source` is the IP address that the call came from, where
    it came over the network, and `encrypted` whether that was TLS all the way to us.
    """

    tenant: str
    principal: str
    kind: CallerKind
    access_key_id: str | None = None
    user: str | None = None
    roles: frozenset[str] = frozenset()
    claims: dict[str, Any] = {}
    token: str | None = None
    resource: str | None = None
    source: str | None = None
    encrypted: bool = False

    def __repr__(self) -> str:
        return f"Caller({self.kind}, {self.principal}, tenant={self.tenant})"
