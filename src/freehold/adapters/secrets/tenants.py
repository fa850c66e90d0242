"""Tenants' own keys: made, kept wrapped, cached briefly, rotated. `ports.secrets.TenantSealer`."""

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Generic, TypeVar

import msgspec

from freehold.adapters.secrets import tenant_keys
from freehold.adapters.secrets.envelope import (
    TENANT_FORMAT,
    EnvelopeSealer,
    header_read,
)
from freehold.adapters.secrets.keyring import KEY_BYTES, Keyring
from freehold.adapters.secrets.local import LocalKey
from freehold.kernel.errors import Unavailable
from freehold.ports.database import Database
from freehold.ports.secrets import KeyEncryption, KeyGone, SealBroken

K = TypeVar("K")
V = TypeVar("V")

_CACHED_MAX = 2_000


class TenantKey(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a tenant's key; `wrapped_by` names what keeps it."""

    version: int
    wrapped_by: str
    created_at: datetime


class TenantKeys:
    """`own` keeps the keys of tenants that named none; `named` finds the others by their name.

    An unwrapped key is in memory for `cached_seconds_max`: for so long a key service may be away,
    or its key be disabled, before this process notices. Which version is the newest is believed
    for `newest_seconds_max`, and a change is heard at once.
    """

    def __init__(
        self,
        database: Database,
        *,
        own: KeyEncryption,
        named: Callable[[str], KeyEncryption | None],
        cached_seconds_max: float = 300.0,
        newest_seconds_max: float = 20.0,
    ) -> None:
        self._database = database
        self._own = own
        self._named = named
        self._sealers = _Cache[tuple[str, int], EnvelopeSealer](cached_seconds_max)
        self._newest = _Cache[str, int](newest_seconds_max)
        self._fetching: dict[tuple[str, int], asyncio.Task[EnvelopeSealer]] = {}
        self.newest_seconds_max = newest_seconds_max
        database.listen(tenant_keys.CHANNEL, self._heard)

    # -- sealing

    async def seal(self, tenant: str, plaintext: bytes, *, context: str) -> bytes:
        sealer = await self._sealer(tenant, await self._newest_version(tenant))
        return sealer.seal(plaintext, context=_bound(tenant, context))

    async def open(self, tenant: str, sealed: bytes, *, context: str) -> bytes:
        format, version = header_read(sealed)
        if format != TENANT_FORMAT:
            raise SealBroken("not sealed under a tenant's key")
        sealer = await self._sealer(tenant, version)
        return sealer.open(sealed, context=_bound(tenant, context))

    # -- keys

    async def newest(self, tenant: str) -> TenantKey:
        """The first is made by this."""
        async with self._database.connection() as connection:
            row = await tenant_keys.newest(connection, tenant)
        return _told(row or await self._first(tenant))

    async def add(self, tenant: str, wrapped_by: str | None) -> TenantKey:
        """A new newest version, kept by a named key or (None) the platform's. Nothing changes
        when that cannot wrap it."""
        keeper = self._keeper(wrapped_by)
        key = secrets.token_bytes(KEY_BYTES)
        async with self._database.transaction() as connection:
            await tenant_keys.lock(connection, tenant)
            version = await tenant_keys.last_version(connection, tenant) + 1
            wrapped = await keeper.wrap(key, context=_context(tenant, version))
            # What cannot be unwrapped must never seal anything.
            if await keeper.unwrap(wrapped, context=_context(tenant, version)) != key:
                raise Unavailable(f"{keeper.name} does not give back what it wrapped")
            made = await tenant_keys.insert(connection, tenant, version, keeper.name, wrapped)
            await self._database.notify(connection, tenant_keys.CHANNEL, tenant)
        self._forget(tenant)
        return TenantKey(version=version, wrapped_by=keeper.name, created_at=made)

    async def mover(self, tenant: str) -> tuple[int, Callable[[bytes], bytes]]:
        """The newest version, and what puts a value of any earlier one under it."""
        keys: dict[int, bytes] = {}
        async with self._database.connection() as connection:
            rows = await tenant_keys.all_of(connection, tenant)
        for row in rows:
            keys[row.version] = await self._unwrapped(tenant, row)
        ring = EnvelopeSealer(Keyring(keys), format=TENANT_FORMAT)
        return ring.newest, ring.rewrap

    async def drop_older(self, tenant: str, version: int) -> None:
        """Only when no value is sealed under them any more."""
        async with self._database.transaction() as connection:
            await tenant_keys.delete_older(connection, tenant, version)
            await self._database.notify(connection, tenant_keys.CHANNEL, tenant)
        self._forget(tenant)

    async def is_lost(self, tenant: str) -> bool:
        """Whether the key that keeps the newest version was deleted. Asks it, past the cache."""
        async with self._database.connection() as connection:
            row = await tenant_keys.newest(connection, tenant)
        if row is None:
            return False
        try:
            await self._unwrapped(tenant, row)
        except KeyGone:
            return True
        return False

    async def rewrap_kept(self) -> int:
        """Every key that the platform keeps, under the newest version of its key; also those that
        an earlier key service of the platform kept. How many moved."""
        moved = 0
        async with self._database.connection() as connection:
            rows = await tenant_keys.of_platform(connection)
        for tenant, row in rows:
            context = _context(tenant, row.version)
            if row.wrapped_by == self._own.name:
                wrapped = await self._own.rewrap(row.wrapped_key, context=context)
            else:
                key = await self._unwrapped(tenant, row)
                wrapped = await self._own.wrap(key, context=context)
            if wrapped != row.wrapped_key:
                async with self._database.connection() as connection:
                    moved += await tenant_keys.replace(
                        connection, tenant, row, wrapped_by=self._own.name, wrapped_key=wrapped
                    )
        return moved

    async def kept_versions(self) -> dict[int, int]:
        """How many keys each version of the platform's local key keeps."""
        counts: dict[int, int] = {}
        async with self._database.connection() as connection:
            rows = await tenant_keys.of_platform(connection)
        for _, row in rows:
            if row.wrapped_by == LocalKey.name:
                version = header_read(row.wrapped_key)[1]
                counts[version] = counts.get(version, 0) + 1
        return counts

    # -- inside

    async def _newest_version(self, tenant: str) -> int:
        known = self._newest.get(tenant)
        if known is not None:
            return known
        changes = self._newest.changes
        async with self._database.connection() as connection:
            row = await tenant_keys.newest(connection, tenant)
        if row is None:
            row = await self._first(tenant)
        if changes == self._newest.changes:
            self._newest.put(tenant, row.version)
        return row.version

    async def _first(self, tenant: str) -> tenant_keys.Row:
        version = 1
        wrapped = await self._own.wrap(
            secrets.token_bytes(KEY_BYTES), context=_context(tenant, version)
        )
        async with self._database.transaction() as connection:
            await tenant_keys.lock(connection, tenant)
            row = await tenant_keys.newest(connection, tenant)
            if row is None:
                await tenant_keys.insert(connection, tenant, version, self._own.name, wrapped)
                row = await tenant_keys.newest(connection, tenant)
        assert row is not None
        return row

    async def _sealer(self, tenant: str, version: int) -> EnvelopeSealer:
        known = self._sealers.get((tenant, version))
        if known is not None:
            return known
        # However many ask at once, the key service is asked once.
        fetching = self._fetching.get((tenant, version))
        if fetching is None:
            fetching = asyncio.create_task(self._fetch(tenant, version))
            self._fetching[tenant, version] = fetching
            fetching.add_done_callback(lambda _: self._fetching.pop((tenant, version), None))
        return await asyncio.shield(fetching)

    async def _fetch(self, tenant: str, version: int) -> EnvelopeSealer:
        changes = self._sealers.changes
        async with self._database.connection() as connection:
            row = await tenant_keys.get(connection, tenant, version)
        if row is None:
            raise SealBroken(f"version {version} of the tenant's key is not here")
        key = await self._unwrapped(tenant, row)
        sealer = EnvelopeSealer(Keyring({version: key}), format=TENANT_FORMAT)
        if changes == self._sealers.changes:
            self._sealers.put((tenant, version), sealer)
        return sealer

    async def _unwrapped(self, tenant: str, row: tenant_keys.Row) -> bytes:
        keeper = self._keeper(None if row.wrapped_by == self._own.name else row.wrapped_by)
        key = await keeper.unwrap(row.wrapped_key, context=_context(tenant, row.version))
        if len(key) != KEY_BYTES:
            raise SealBroken(f"{row.wrapped_by} gave back something else than a key")
        return key

    def _keeper(self, name: str | None) -> KeyEncryption:
        if name is None:
            return self._own
        keeper = self._named(name)
        if keeper is None:
            raise Unavailable(f"the key {name} is not among those that this platform may use")
        return keeper

    def _heard(self, tenant: str) -> None:
        """A tenant whose keys changed; "" when any may have."""
        if tenant:
            self._forget(tenant)
        else:
            self._newest.clear()
            self._sealers.clear()

    def _forget(self, tenant: str) -> None:
        self._newest.drop(lambda key: key == tenant)
        self._sealers.drop(lambda key: key[0] == tenant)


def _bound(tenant: str, context: str) -> str:
    return f"{tenant}|{context}"


def _context(tenant: str, version: int) -> str:
    return f"{tenant}|tenant-key|{version}"


def _told(row: tenant_keys.Row) -> TenantKey:
    return TenantKey(version=row.version, wrapped_by=row.wrapped_by, created_at=row.created_at)


class _Cache(Generic[K, V]):
    """Bounded in number and age. `changes` tells who read meanwhile that its reading is old."""

    def __init__(self, seconds_max: float) -> None:
        self._seconds_max = seconds_max
        self._items: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self.changes = 0

    def get(self, key: K) -> V | None:
        item = self._items.get(key)
        if item is None or item[0] < time.monotonic():
            self._items.pop(key, None)
            return None
        return item[1]

    def put(self, key: K, value: V) -> None:
        self._items[key] = (time.monotonic() + self._seconds_max, value)
        if len(self._items) > _CACHED_MAX:
            self._items.popitem(last=False)

    def drop(self, concerned: Callable[[K], bool]) -> None:
        self.changes += 1
        for key in [key for key in self._items if concerned(key)]:
            del self._items[key]

    def clear(self) -> None:
        self.drop(lambda _: True)
