"""Which tenant may sign as which role, and with what keys: a file of the operator's.

    [[roles]]
    tenant = "111122223333"
    role = "arn:aws:iam::444455556666:role/gateway"
    access_key_id = "AKIA..."
    secret_access_key = "..."
    session_token = "..."         # where there is one
    services = ["lambda"]         # all, where it is not said

`keys = "environment"` in place of the keys means the platform's own AWS_ACCESS_KEY_ID and so on.
The same as JSON: {"roles": [{...}]}. What is not listed signs nothing.
"""

import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from freehold.adapters.aws_signing.signer import Keys, sigv4_signer
from freehold.kernel.errors import AccessDenied, Unavailable
from freehold.ports.targets import RequestSigner

_BYTES_MAX = 1 << 20


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    tenant: str
    role: str
    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str | None = None
    keys: Literal["", "environment"] = ""
    services: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"_Entry({self.tenant}, {self.role})"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    roles: tuple[_Entry, ...] = ()


class RolesUnreadable(ValueError):
    """Says what is wrong with the file, and nothing of its content."""


class OperatorRoles:
    """`ports.outbound.AwsRoles`. The file is read again when it changed; while it cannot be read,
    nobody signs."""

    def __init__(self, path: Path | None, *, environment: Mapping[str, str] | None = None) -> None:
        """Raises RolesUnreadable. None: there is no file, so no role."""
        self._path = path
        self._environment = os.environ if environment is None else environment
        self._seen: tuple[int, int, int] | None = None
        self._entries: dict[tuple[str, str], _Entry] = {}
        if path is not None:
            self._read(path)

    def has(self, tenant: str, role: str) -> bool:
        self._refresh()
        return (tenant, role) in self._entries

    async def signer(self, tenant: str, role: str, *, service: str, region: str) -> RequestSigner:
        self._refresh()
        entry = self._entries.get((tenant, role))
        if entry is None:
            raise AccessDenied(
                f"the operator of this platform gave no keys for the role {role or '(none)'} to "
                f"account {tenant} (FREEHOLD_AWS_ROLES)"
            )
        if entry.services is not None and service not in entry.services:
            raise AccessDenied(
                f"the role {role} may sign for {', '.join(entry.services) or 'nothing'} here, "
                f"not for {service}"
            )
        return sigv4_signer(self._keys(entry), service=service, region=region)

    def _keys(self, entry: _Entry) -> Keys:
        if entry.keys != "environment":
            return Keys(entry.access_key_id, entry.secret_access_key, entry.session_token)
        found = self._environment
        if not found.get("AWS_ACCESS_KEY_ID") or not found.get("AWS_SECRET_ACCESS_KEY"):
            raise Unavailable(f"the role {entry.role} signs with keys that are not there")
        return Keys(
            found["AWS_ACCESS_KEY_ID"],
            found["AWS_SECRET_ACCESS_KEY"],
            found.get("AWS_SESSION_TOKEN") or None,
        )

    def _refresh(self) -> None:
        if self._path is None:
            return
        try:
            now = _identity(self._path)
            if now != self._seen:
                self._read(self._path)
        except (OSError, RolesUnreadable):
            self._entries, self._seen = {}, None
            raise Unavailable("the operator's file of AWS roles cannot be read") from None

    def _read(self, path: Path) -> None:
        try:
            seen = _identity(path)
            if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise RolesUnreadable(f"{path} holds keys: only its owner may have access to it")
            text = path.read_bytes()[: _BYTES_MAX + 1]
        except OSError as error:
            raise RolesUnreadable(f"{path} cannot be read: {error.strerror}") from None
        self._entries, self._seen = _parsed(path, text), seen


def _identity(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _parsed(path: Path, text: bytes) -> dict[tuple[str, str], _Entry]:
    if len(text) > _BYTES_MAX:
        raise RolesUnreadable(f"{path} is larger than {_BYTES_MAX} bytes")
    try:
        if path.suffix == ".json":
            found = msgspec.json.decode(text, type=_File)
        else:
            found = msgspec.convert(tomllib.loads(text.decode()), _File)
    except (msgspec.MsgspecError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        # Their words may repeat what stands there.
        raise RolesUnreadable(f"{path} is no list of roles; docs/outbound-credentials.md") from None
    entries = {}
    for entry in found.roles:
        if not entry.tenant or not entry.role.startswith("arn:"):
            raise RolesUnreadable(f"{path}: an entry needs `tenant` and the ARN of a `role`")
        given = bool(entry.access_key_id and entry.secret_access_key)
        if given == (entry.keys == "environment"):
            raise RolesUnreadable(
                f"{path}: {entry.role} of {entry.tenant} needs access_key_id and "
                'secret_access_key, or keys = "environment"'
            )
        if (entry.tenant, entry.role) in entries:
            raise RolesUnreadable(f"{path}: {entry.role} of {entry.tenant} is there twice")
        entries[entry.tenant, entry.role] = entry
    return entries
