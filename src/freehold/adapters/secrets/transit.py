"""A key-encryption key in the transit engine of OpenBao or HashiCorp Vault."""

import base64
import binascii
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec

from freehold.adapters.secrets.key_service import KeyServiceClient
from freehold.kernel.errors import Unavailable
from freehold.ports.secrets import KeyGone, SealBroken

_BROKEN = ("message authentication failed", "invalid ciphertext", "invalid key version")


class TransitKey:
    """The key must exist, of an AEAD type (aes256-gcm96, the default).

    Give the token `update` on encrypt/{key} and decrypt/{key} and nothing more: with `create` a
    misspelt name would make a new key. Wrapped again by decrypt and encrypt, because the engine's
    own rewrap does not take the associated data that ties a key to its tenant.
    """

    def __init__(
        self,
        client: KeyServiceClient,
        *,
        url: str,
        mount: str,
        key: str,
        token: Callable[[], str],
        name: str | None = None,
    ) -> None:
        """`token` is asked at each call: whoever renews it writes it where that reads. `name` is
        what tenants call the key, where that is not `transit:{key}`."""
        self.name = name or f"transit:{key}"
        self._client = client
        self._base = f"{url.rstrip('/')}/v1/{mount.strip('/')}"
        self._key = key
        self._token = token

    def __repr__(self) -> str:
        return f"TransitKey({self.name})"

    async def wrap(self, key: bytes, *, context: str) -> bytes:
        data = await self._ask("encrypt", {"plaintext": _text(key)}, context)
        return str(data["ciphertext"]).encode()

    async def unwrap(self, wrapped: bytes, *, context: str) -> bytes:
        try:
            ciphertext = wrapped.decode("ascii")
        except UnicodeDecodeError:
            raise SealBroken("not a value that the transit engine wrapped") from None
        data = await self._ask("decrypt", {"ciphertext": ciphertext}, context)
        try:
            return base64.b64decode(str(data["plaintext"]), validate=True)
        except binascii.Error:
            raise Unavailable(f"{self.name}: an answer without a key") from None

    async def rewrap(self, wrapped: bytes, *, context: str) -> bytes:
        return await self.wrap(await self.unwrap(wrapped, context=context), context=context)

    async def _ask(self, verb: str, fields: dict[str, str], context: str) -> dict[str, Any]:
        body = msgspec.json.encode({**fields, "associated_data": _text(context.encode())})
        headers = {"X-Vault-Token": self._token(), "Content-Type": "application/json"}
        url = f"{self._base}/{verb}/{self._key}"
        try:
            status, answer = await self._client.post(url, headers, body)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"{self.name} does not answer: {type(error).__name__}") from None
        if status == 200 and isinstance(answer.get("data"), dict):
            data: dict[str, Any] = answer["data"]
            return data
        said = " ".join(map(str, answer.get("errors") or ()))
        if status == 400 and "encryption key not found" in said:
            raise KeyGone(f"{self.name} does not exist")
        if status == 400 and any(word in said for word in _BROKEN):
            raise SealBroken(f"not wrapped by {self.name} in this place")
        raise Unavailable(f"{self.name} refused ({status})" + (f": {said}" if said else ""))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
