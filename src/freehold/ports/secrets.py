"""Sealing: what is secret at rest is stored only sealed.

A table keeps sealed values in `bytea` columns whose names begin with `sealed`: by that they are
found when keys rotate.
"""

from typing import Protocol


class Sealer(Protocol):
    """Under the platform's key: what the platform itself must open to run."""

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        """Encrypt and authenticate. `context` (tenant|kind|id) must be the same when opened."""

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """Raises SealBroken for another context, another key or a changed byte."""

    def rewrap(self, sealed: bytes) -> bytes:
        """The same secret under the newest key-encryption key, without touching its data key."""


class TenantSealer(Protocol):
    """Under the tenant's own key: credentials and grants, all that its token vault holds.

    The key is itself kept by the platform's key or by one that the tenant named (SetTokenVaultCMK).
    Unavailable while that cannot be had: nothing is opened or sealed under another key instead.
    """

    async def seal(self, tenant: str, plaintext: bytes, *, context: str) -> bytes:
        """`context`: kind|id|version of the row; the tenant is added."""

    async def open(self, tenant: str, sealed: bytes, *, context: str) -> bytes:
        """Raises SealBroken for another tenant or context, or a changed byte."""


class SealBroken(Exception):
    """A sealed value cannot be opened. Says nothing of its content."""


class KeyEncryption(Protocol):
    """A key-encryption key somewhere: wraps the 32 bytes of a key. Unavailable when it is away."""

    name: str
    """For people and for the record of what wrapped a key: no secret."""

    async def wrap(self, key: bytes, *, context: str) -> bytes: ...

    async def unwrap(self, wrapped: bytes, *, context: str) -> bytes:
        """Raises SealBroken for what it did not wrap in this context; KeyGone when the key is
        no more."""

    async def rewrap(self, wrapped: bytes, *, context: str) -> bytes:
        """Under the newest version of the same key."""


class KeyGone(SealBroken):
    """The key-encryption key was deleted: what it wrapped is lost for good."""
