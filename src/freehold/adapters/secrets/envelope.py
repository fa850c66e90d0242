"""AES-256-GCM envelopes: a data key for each record, wrapped by a key-encryption key.

A sealed value is, in order:

    1   format (1)
    4   version of the key-encryption key, big-endian
    12  nonce of the wrapped data key
    48  data key, encrypted, with its tag
    12  nonce of the secret
    n   secret, encrypted, with its tag (16)

The context is authenticated with the secret; format and version with the data key.
"""

import os
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from freehold.adapters.secrets.keyring import KEY_BYTES, Keyring
from freehold.ports.secrets import SealBroken

_FORMAT = 1
_NONCE_BYTES = 12
_TAG_BYTES = 16
_WRAPPED_BYTES = KEY_BYTES + _TAG_BYTES
_HEADER = struct.Struct(">BI")
_BODY_AT = _HEADER.size + _NONCE_BYTES + _WRAPPED_BYTES
_SEALED_BYTES_MIN = _BODY_AT + _NONCE_BYTES + _TAG_BYTES
_PURPOSE = b"freehold sealed secret\0"


class EnvelopeSealer:
    """Seals under the keyring's newest key; opens under any that it holds."""

    def __init__(self, keyring: Keyring) -> None:
        self._newest = keyring.newest
        self._ciphers = {version: AESGCM(keyring.key(version)) for version in keyring.versions}

    def __repr__(self) -> str:
        return f"EnvelopeSealer(versions={sorted(self._ciphers)})"

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

    def _wrap(self, data_key: bytes) -> bytes:
        header = _HEADER.pack(_FORMAT, self._newest)
        nonce = os.urandom(_NONCE_BYTES)
        return header + nonce + self._ciphers[self._newest].encrypt(nonce, data_key, header)

    def _unwrap(self, sealed: bytes) -> bytes:
        if len(sealed) < _SEALED_BYTES_MIN or sealed[0] != _FORMAT:
            raise SealBroken("not a sealed value")
        header = sealed[: _HEADER.size]
        version = _HEADER.unpack(header)[1]
        cipher = self._ciphers.get(version)
        if cipher is None:
            raise SealBroken(f"key-encryption key {version} is not here")
        nonce = sealed[_HEADER.size : _HEADER.size + _NONCE_BYTES]
        wrapped = sealed[_HEADER.size + _NONCE_BYTES : _BODY_AT]
        try:
            return cipher.decrypt(nonce, wrapped, header)
        except InvalidTag:
            raise SealBroken(f"not sealed under key-encryption key {version}") from None
