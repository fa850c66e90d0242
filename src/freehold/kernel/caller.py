"""Who is calling, once a request is authenticated."""

from enum import StrEnum

import msgspec


class CallerKind(StrEnum):
    ACCESS_KEY = "access_key"
    ADMIN = "admin"
    SESSION = "session"


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """An authenticated principal.

    `tenant` is a 12-digit account; every resource that the caller may see carries the same one.
    `principal` is an ARN or a name that audit and metering can show to people.
    """

    tenant: str
    principal: str
    kind: CallerKind
    access_key_id: str | None = None
