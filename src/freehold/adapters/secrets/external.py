"""Secrets that the operator keeps: in the environment, or in files under allowed directories."""

import asyncio
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from freehold.kernel.errors import ValidationFailed

_BYTES_MAX = 100 << 10
WHOLE = "*"


class Reference(Protocol):
    @property
    def secret_id(self) -> str: ...
    @property
    def json_key(self) -> str: ...


class Allowed(msgspec.Struct, frozen=True):
    """`place` is `env:NAME` or `file:/directory`."""

    tenant: str
    place: str


class OperatorSecrets:
    """Nothing is kept: a secret that the operator changes is new at its next use.

    `secret_id` is `env:NAME` or `file:/path`; `json_key` is a member of the JSON object there, or
    `*` for the whole text. What a tenant may not read and what is not there answer alike.
    """

    def __init__(
        self, allowed: tuple[Allowed, ...], *, environment: Mapping[str, str] | None = None
    ) -> None:
        self._allowed = allowed
        self._environment = os.environ if environment is None else environment

    async def read(self, tenant: str, reference: Reference) -> str:
        place = reference.secret_id
        if place.startswith("arn:"):
            raise ValidationFailed(
                "secretId: AWS Secrets Manager is not asked; say env:NAME or file:/path, which "
                "the operator lists in FREEHOLD_VAULT_EXTERNAL_SECRETS"
            )
        text = None
        if place.startswith("env:") and Allowed(tenant, place) in self._allowed:
            text = self._environment.get(place.removeprefix("env:"))
        elif place.startswith("file:/"):
            text = await asyncio.to_thread(self._file, tenant, place.removeprefix("file:"))
        if text is None:
            raise ValidationFailed(
                f"secretId: {place!r} is not among the secrets that the operator lists for this "
                "account (FREEHOLD_VAULT_EXTERNAL_SECRETS), or is not there"
            )
        return _member(text, reference.json_key)

    def _file(self, tenant: str, path: str) -> str | None:
        """Links are followed first, so that none leads out of what is allowed."""
        try:
            real = Path(path).resolve(strict=True)
            directories = [
                Path(allowed.place.removeprefix("file:")).resolve()
                for allowed in self._allowed
                if allowed.tenant == tenant and allowed.place.startswith("file:/")
            ]
            if not any(real == directory or directory in real.parents for directory in directories):
                return None
            with real.open("rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    return None
                data = file.read(_BYTES_MAX + 1)
            return None if len(data) > _BYTES_MAX else data.decode().rstrip("\r\n")
        except (OSError, ValueError, RuntimeError):
            return None


def _member(text: str, key: str) -> str:
    if key == WHOLE:
        value: object = text
    else:
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        value = document.get(key) if isinstance(document, dict) else None
    if not isinstance(value, str) or not value:
        raise ValidationFailed(
            f"jsonKey: the secret is no JSON object with a text {key!r}; {WHOLE!r} is all of it"
        )
    return value


def parse_allowed(text: str, *, own: str) -> tuple[Allowed, ...]:
    """From the setting. Raises ValueError for an entry that says nothing."""
    found = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        tenant, separator, place = entry.partition("=")
        if not separator:
            tenant, place = own, entry
        if not place.startswith(("env:", "file:/")) or not tenant.isdigit() or len(tenant) != 12:
            raise ValueError(f"{entry!r} is neither [ACCOUNT=]env:NAME nor [ACCOUNT=]file:/PATH")
        found.append(Allowed(tenant, place))
    return tuple(found)
