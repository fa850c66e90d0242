"""The platform's own key: from a file, the environment, or a file that a key service wrapped."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.adapters.secrets.key_service import KeyServiceClient
from freehold.adapters.secrets.keyring import Keyring, add_version, read_private, write_private
from freehold.kernel.errors import PlatformFailed
from freehold.ports.secrets import KeyEncryption, SealBroken

log = logging.getLogger(__name__)

_CONTEXT = "platform-key"


class PlatformKeys:
    """A sealer, and how its keyring gets a new version."""

    def __init__(
        self, sealer: EnvelopeSealer, *, name: str, add: Callable[[], int] | None = None
    ) -> None:
        self.sealer = sealer
        self.name = name
        self._add = add

    @property
    def newest(self) -> int:
        return self.sealer.newest

    async def add_version(self) -> int | None:
        if self._add is None:
            return None
        version = await asyncio.to_thread(self._add)
        await self.refresh()
        return version

    async def refresh(self) -> None:
        await asyncio.to_thread(self.sealer.refresh)

    def rewrap(self, sealed: bytes) -> bytes:
        return self.sealer.rewrap(sealed)


def from_text(text: str, *, source: str) -> PlatformKeys:
    return PlatformKeys(EnvelopeSealer(Keyring.parse(text, source=source)), name="environment")


def from_file(path: Path) -> PlatformKeys:
    """Made on first use."""
    keyring = Keyring.from_file(path)
    sealer = EnvelopeSealer(keyring, reload=lambda: Keyring.from_file(path))
    return PlatformKeys(sealer, name="file", add=lambda: add_version(path))


Keeper = Callable[[KeyServiceClient], KeyEncryption]


def from_service(path: Path, keeper: Keeper, *, name: str, before: Path) -> PlatformKeys:
    """`path` holds the keyring wrapped by the key service; it is unwrapped when a process starts,
    and kept in memory. `before` is the file in the clear of a platform that had no key service:
    its keys are taken over, and it is to be deleted then."""
    wrapped = _WrappedFile(path, keeper)
    if not path.exists():
        # A fresh keyring is in the clear in memory alone: it never touches the disk.
        taken_over = Keyring.from_file(before) if before.exists() else Keyring.fresh()
        wrapped.write(taken_over, replace=False)
    if before.exists():
        log.warning("%s holds the platform's key in the clear, and is not needed any more", before)
    sealer = EnvelopeSealer(wrapped.read(), reload=wrapped.read)
    return PlatformKeys(sealer, name=name, add=wrapped.add)


class _WrappedFile:
    def __init__(self, path: Path, keeper: Keeper) -> None:
        self._path = path
        self._keeper = keeper

    def read(self) -> Keyring:
        wrapped = bytes.fromhex(read_private(self._path))
        text = _run(self._keeper, lambda key: key.unwrap(wrapped, context=_CONTEXT))
        return Keyring.parse(text.decode(), source=str(self._path))

    def write(self, keyring: Keyring, *, replace: bool) -> None:
        text = keyring.text().encode()
        wrapped = _run(self._keeper, lambda key: key.wrap(text, context=_CONTEXT))
        write_private(self._path, wrapped.hex(), replace=replace)

    def add(self) -> int:
        keyring = self.read().with_new_version()
        self.write(keyring, replace=True)
        return keyring.newest


def _run(keeper: Keeper, ask: Callable[[KeyEncryption], Coroutine[Any, Any, bytes]]) -> bytes:
    """A sealer is made, and learns of a new version, in code that does not await: once a process,
    and once a rotation. A loop of its own, because the caller's stands still meanwhile."""

    async def once() -> bytes:
        client = KeyServiceClient()
        try:
            return await ask(keeper(client))
        except SealBroken as error:
            raise PlatformFailed(f"the platform's key cannot be had: {error}") from None
        finally:
            await client.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, once()).result()
