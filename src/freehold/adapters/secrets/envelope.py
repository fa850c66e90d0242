"""AES-256-GCM envelopes: a data key for each record, wrapped by a key-encryption key.

A sealed value is, in order:

    1   format: whose key wraps it, the platform's (1) or the tenant's own (2)
    4   version of the key-encryption key, big-endian
    12  nonce of the wrapped data key
    48  data key, encrypted, with its tag
    12  nonce of the secret
    n   secret, encrypted, with its tag (16)

The context is authenticated with the secret; format and version with the data key.
"""

import os
import struct
import time
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from freehold.adapters.secrets.keyring import KEY_BYTES, Keyring
from freehold.ports.secrets import SealBroken

PLATFORM_FORMAT, TENANT_FORMAT = 1, 2
_NONCE_BYTES = 12
_TAG_BYTES = 16
_WRAPPED_BYTES = KEY_BYTES + _TAG_BYTES
_HEADER = struct.Struct(">BI")
_BODY_AT = _HEADER.size + _NONCE_BYTES + _WRAPPED_BYTES
_SEALED_BYTES_MIN = _BODY_AT + _NONCE_BYTES + _TAG_BYTES
_ASKED_AGAIN_SECONDS = 1.0
_PURPOSE = b"freehold sealed secret\0"


class EnvelopeSealer:
    """Seals under the keyring's newest key; opens under any that it holds.

    `reload` reads the keyring anew: when `refresh` is called, and when a value names a version
    that is not here yet. So a key that another process added is known before its first use.
    """

    def __init__(
        self,
        keyring: Keyring,
        *,
        format: int = PLATFORM_FORMAT,
        reload: Callable[[], Keyring] | None = None,
    ) -> None:
        self._format = format
        self._reload = reload
        self._not_there: tuple[int, float] | None = None
        self._take(keyring)

    def __repr__(self) -> str:
        return f"EnvelopeSealer(versions={sorted(self._ciphers)})"

    @property
    def newest(self) -> int:
        return self._newest

    @property
    def versions(self) -> frozenset[int]:
        return frozenset(self._ciphers)

    def refresh(self) -> None:
        """Raises PlatformFailed when the keyring can no longer be read."""
        if self._reload is not None:
            self._take(self._reload())

    def seal(self, plaintext: bytes, *, context: str) -> bytes:
        data_key = AESGCM.generate_key(KEY_BYTES * 8)
        nonce = os.urandom(_NONCE_BYTES)
        body = AESGCM(data_key).encrypt(nonce, plaintext, _PURPOSE + context.encode())
        return self._wrap(data_key) + nonce + body

    def open(self, sealed: bytes, *, context: str) -> bytes:
        data_key = self._unwrap(sealed)
        nonce = sealed[_BODY_AT : _BODY_AT + _NONCE_BYTES]
        body = sealed[_BODY_AT + _NONCE_BYTES :]
        try:
            return AESGCM(data_key).decrypt(nonce, body, _PURPOSE + context.encode())
        except InvalidTag:
            raise SealBroken("a sealed value was changed or belongs elsewhere") from None

    def rewrap(self, sealed: bytes) -> bytes:
        """The secret itself is neither decrypted nor encrypted anew."""
        data_key = self._unwrap(sealed)
        if _HEADER.unpack_from(sealed)[1] == self._newest:
            return sealed
        return self._wrap(data_key) + sealed[_BODY_AT:]

    def _take(self, keyring: Keyring) -> None:
        self._ciphers = {version: AESGCM(keyring.key(version)) for version in keyring.versions}
        self._newest = keyring.newest

    def _may_be_new(self, version: int) -> bool:
        """Not asked again at once for one that was not there: a reload may cost a request."""
        if self._reload is None or version < self._newest:
            return False
        if self._not_there is None or self._not_there[0] != version:
            return True
        return time.monotonic() - self._not_there[1] > _ASKED_AGAIN_SECONDS

    def _wrap(self, data_key: bytes) -> bytes:
        header = header_of(self._format, self._newest)
        nonce = os.urandom(_NONCE_BYTES)
        return header + nonce + self._ciphers[self._newest].encrypt(nonce, data_key, header)

    def _unwrap(self, sealed: bytes) -> bytes:
        if len(sealed) < _SEALED_BYTES_MIN or sealed[0] != self._format:
            raise SealBroken("not a sealed value")
        header = sealed[: _HEADER.size]
        version = _HEADER.unpack(header)[1]
        cipher = self._ciphers.get(version)
        if cipher is None and self._may_be_new(version):
            self.refresh()
            cipher = self._ciphers.get(version)
            self._not_there = (version, time.monotonic()) if cipher is None else None
        if cipher is None:
            raise SealBroken(f"key-encryption key {version} is not here")
        nonce = sealed[_HEADER.size : _HEADER.size + _NONCE_BYTES]
        wrapped = sealed[_HEADER.size + _NONCE_BYTES : _BODY_AT]
        try:
            return cipher.decrypt(nonce, wrapped, header)
        except InvalidTag:
            raise SealBroken(f"not sealed under key-encryption key {version}") from None


def header_of(format: int, version: int) -> bytes:
    """How every value under this key begins."""
    return _HEADER.pack(format, version)


def header_read(sealed: bytes) -> tuple[int, int]:
    """Format and version of a sealed value, as it says itself: nothing of it is proven yet."""
    if len(sealed) < _SEALED_BYTES_MIN:
        raise SealBroken("not a sealed value")
    format, version = _HEADER.unpack_from(sealed)
    return format, version
