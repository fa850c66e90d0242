"""Tenants and people as the service knows them, and the rules of their names and roles."""

import hashlib
import re
import secrets
from datetime import datetime

import msgspec

from freehold.kernel.errors import ValidationFailed
from freehold.kernel.roles import PERSON_ROLES

ADMIN = "admin"

TENANTS_MAX = 10_000
PEOPLE_PER_TENANT_MAX = 10_000
TENANT_NAME_CHARS_MAX = 100

_TENANT = re.compile(r"[0-9]{12}")
# As a user's name in an IAM ARN. A JWT's user is "{issuer}|{subject}": never one of these.
_NAME = re.compile(r"(?!p-)[\w+=,.@-]{1,64}", re.ASCII)  # p-: an id
_NOT_OF_A_NAME = re.compile(r"[^\w+=,.@-]+", re.ASCII)
_EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,189}")
_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]{0,2000}")


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    tenant: str
    name: str
    active: bool
    created_at: datetime


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """`home` is the tenant that added them; `issuer` and `subject` are those of their provider."""

    id: str
    home: str
    name: str
    email: str | None
    issuer: str | None
    subject: str | None
    active: bool
    created_at: datetime
    last_sign_in_at: datetime | None


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A person as one tenant sees them. `claimed` roles are of their provider's claims."""

    person: Person
    assigned: frozenset[str]
    claimed: frozenset[str]

    @property
    def roles(self) -> frozenset[str]:
        return self.assigned | self.claimed


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Temporary ones, in the clear, for the one answer that shows them."""

    tenant: str
    access_key_id: str
    secret_access_key: str
    session_token: str
    expires_at: datetime
    user: str

    def __repr__(self) -> str:
        return f"Credentials({self.access_key_id}, {self.user})"


def sha256(secret: str) -> str:
    """How random secrets of 128 bits and more are kept: nothing slower is needed for those."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_secret() -> str:
    """256 bits."""
    return secrets.token_urlsafe(32)


def checked_tenant(text: str) -> str:
    if not _TENANT.fullmatch(text):
        raise ValidationFailed("an account is a number of 12 digits")
    return text


def checked_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValidationFailed(
            "a person's name has 1 to 64 letters, digits and characters of +=,.@-_"
        )
    return text


def checked_email(text: str | None) -> str | None:
    if text is not None and not _EMAIL.fullmatch(text):
        raise ValidationFailed("that is no email address")
    return text


def checked_roles(roles: frozenset[str]) -> frozenset[str]:
    if unknown := roles - set(PERSON_ROLES):
        raise ValidationFailed(
            f"no such role: {', '.join(sorted(unknown))}; there are {', '.join(PERSON_ROLES)}"
        )
    return roles


def name_from(text: str) -> str:
    """The nearest name that is allowed, with room for a suffix; "" when nothing is left."""
    return _NOT_OF_A_NAME.sub("-", text).removeprefix("p-").strip("-")[:57]


def local_path(text: str, otherwise: str) -> str:
    """`text` when it is a path of this server that no browser takes for another server's."""
    return text if _PATH.fullmatch(text) else otherwise
