"""The platform's own key as a key-encryption key: for those who have no key service."""

from freehold.ports.secrets import Sealer

_KIND = "tenant-key"


class LocalKey:
    """Implements `ports.secrets.KeyEncryption` with the key of a file or of the environment."""

    name = "platform"

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    async def wrap(self, key: bytes, *, context: str) -> bytes:
        return self._sealer.seal(key, context=f"{_KIND}|{context}")

    async def unwrap(self, wrapped: bytes, *, context: str) -> bytes:
        return self._sealer.open(wrapped, context=f"{_KIND}|{context}")

    async def rewrap(self, wrapped: bytes, *, context: str) -> bytes:
        return self._sealer.rewrap(wrapped)
