"""What the vault needs from others."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from freehold.services.vault.model import Reference


class ExternalSecrets(Protocol):
    async def read(self, tenant: str, reference: Reference) -> str:
        """Raises ValidationFailed for what the operator did not allow, or is not there."""


class Discovery(Protocol):
    async def discover(self, url: str) -> Mapping[str, Any]:
        """An authorization server's metadata, whose issuer was checked. Raises what
        `ports.oauth.OauthClient.discover` raises."""


class KeyVersion(Protocol):
    @property
    def version(self) -> int: ...
    @property
    def wrapped_by(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...


class TenantKeys(Protocol):
    """Tenants' own keys: see `adapters.secrets.tenants`."""

    newest_seconds_max: float

    async def newest(self, tenant: str) -> KeyVersion:
        """The first is made by this."""

    async def add(self, tenant: str, wrapped_by: str | None) -> KeyVersion: ...

    async def mover(self, tenant: str) -> tuple[int, Callable[[bytes], bytes]]: ...

    async def drop_older(self, tenant: str, version: int) -> None: ...

    async def is_lost(self, tenant: str) -> bool: ...

    async def rewrap_kept(self) -> int: ...

    async def kept_versions(self) -> dict[int, int]: ...


class Moved(Protocol):
    @property
    def values(self) -> int: ...
    @property
    def broken(self) -> int: ...


class SealedValues(Protocol):
    """All sealed values of the platform: see `adapters.secrets.rewrapping`.

    With a `tenant`, what is sealed under that tenant's key; without, under the platform's.
    """

    async def versions(self, tenant: str | None = None) -> dict[int, int]: ...

    async def move(
        self,
        newest: int,
        rewrap: Callable[[bytes], bytes],
        *,
        tenant: str | None = None,
    ) -> Moved: ...

    async def delete_below(self, version: int, tenant: str) -> int: ...


class PlatformKey(Protocol):
    """The key that the platform's own secrets are sealed under."""

    name: str

    @property
    def newest(self) -> int: ...

    async def add_version(self) -> int | None:
        """None where keys are given from outside, and new ones come from there."""

    async def refresh(self) -> None:
        """Takes up versions that another process added."""

    def rewrap(self, sealed: bytes) -> bytes: ...
