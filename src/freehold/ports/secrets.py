"""Sealing: what is secret at rest is stored only sealed."""

from typing import Protocol


class Sealer(Protocol):
    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        """Encrypt and authenticate. `context` (tenant|kind|id) must be the same when opened."""

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """Raises SealBroken for another context, another key or a changed byte."""

    def rewrap(self, sealed: bytes) -> bytes:
        """The same secret under the newest key-encryption key, without touching its data key."""


class SealBroken(Exception):
    """A sealed value cannot be opened. Says nothing of its content."""
