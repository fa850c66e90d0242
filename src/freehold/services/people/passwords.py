"""Passwords of local people: made by us, kept as scrypt hashes."""

import asyncio
import base64
import hashlib
import hmac
import secrets

# 32 MiB and some 60 ms a guess. Whoever changes these: old hashes carry their own numbers.
_N, _R, _P = 1 << 15, 8, 1
_MEMORY_BYTES_MAX = 64 << 20
_SALT_BYTES = 16
_HASH_BYTES = 32
PASSWORD_CHARS_MAX = 256
_AT_ONCE = 2
# Nobody confuses these with one another.
_ALPHABET = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"


def new_password() -> str:
    """20 characters, 116 bits, in groups that can be typed."""
    groups = ("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4))
    return "-".join(groups)


class Passwords:
    """Hashes on threads, few at once: each takes 32 MiB."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(_AT_ONCE)
        # For a name that nobody has: the answer takes as long.
        self._hash_of_nobody = _encoded(secrets.token_bytes(_SALT_BYTES), bytes(_HASH_BYTES))

    async def hash(self, password: str) -> str:
        salt = secrets.token_bytes(_SALT_BYTES)
        async with self._turn:
            made = await asyncio.to_thread(_scrypt, password, salt, (_N, _R, _P))
        return _encoded(salt, made)

    async def matches(self, password: str, encoded: str | None) -> bool:
        """False, and no sooner, for None: a name that is not known."""
        n, r, p, salt, wanted = _decoded(encoded or self._hash_of_nobody)
        async with self._turn:
            made = await asyncio.to_thread(_scrypt, password, salt, (n, r, p))
        return hmac.compare_digest(made, wanted) and encoded is not None


def _scrypt(password: str, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    n, r, p = cost
    return hashlib.scrypt(
        password.encode(), salt=salt, n=n, r=r, p=p, maxmem=_MEMORY_BYTES_MAX, dklen=_HASH_BYTES
    )


def _encoded(salt: bytes, made: bytes) -> str:
    texts = (base64.b64encode(part).decode() for part in (salt, made))
    return "$".join(("scrypt", str(_N), str(_R), str(_P), *texts))


def _decoded(encoded: str) -> tuple[int, int, int, bytes, bytes]:
    kind, n, r, p, salt, made = encoded.split("$")
    assert kind == "scrypt", "no other hash was ever written"
    return int(n), int(r), int(p), base64.b64decode(salt), base64.b64decode(made)
