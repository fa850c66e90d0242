"""Access keys as people see them."""

import re
from datetime import datetime

import msgspec

KEYS_PER_TENANT_MAX = 100
DESCRIPTION_CHARS_MAX = 200

ADMIN = frozenset({"admin"})

_ID = re.compile(r"FHIA[A-Z2-7]{16}")
_TENANT = re.compile(r"[0-9]{12}")


class AccessKeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Without its secret. `last_used_at` is right to the minute."""

    tenant: str
    id: str
    description: str
    active: bool
    roles: frozenset[str]
    created_at: datetime
    last_used_at: datetime | None


class NewAccessKey(msgspec.Struct, frozen=True, kw_only=True):
    """`secret` is in the clear, for the one answer that shows it. `repr` hides it."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"NewAccessKey({self.id})"


def is_access_key_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def is_tenant(text: str) -> bool:
    return _TENANT.fullmatch(text) is not None


def seal_context(tenant: str, id: str) -> str:
    return f"{tenant}|access_key|{id}"
