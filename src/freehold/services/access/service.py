"""Access keys: made, listed, disabled, deleted; and looked up on every request."""

import asyncio
import contextlib
import logging
from collections.abc import Collection

from freehold.kernel import ids
from freehold.kernel.errors import NotFound, QuotaExceeded, Unavailable, ValidationFailed
from freehold.kernel.roles import ROLES
from freehold.ports.authorizer import AccessKey
from freehold.ports.database import Database
from freehold.ports.secrets import SealBroken, Sealer
from freehold.services.access import store
from freehold.services.access.cache import AgingCache
from freehold.services.access.model import (
    ADMIN,
    DESCRIPTION_CHARS_MAX,
    KEYS_PER_TENANT_MAX,
    AccessKeyRecord,
    NewAccessKey,
    is_access_key_id,
    is_tenant,
    seal_context,
)

log = logging.getLogger("freehold.access")

_CACHED_MAX = 10_000
# A change is heard at once. The age is for a worker cut off from the notifications.
_CACHED_SECONDS_MAX = 60.0
_UNKNOWN_SECONDS_MAX = 5.0
_USE_WRITTEN_EVERY_SECONDS = 60.0


class AccessKeyService:
    """Implements `ports.authorizer.AccessKeys`. `close` writes the last uses still in memory."""

    def __init__(
        self, database: Database, sealer: Sealer, *, use_delay_seconds: float = 1.0
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._use_delay_seconds = use_delay_seconds
        self._known: AgingCache[AccessKey] = AgingCache(
            items_max=_CACHED_MAX, seconds_max=_CACHED_SECONDS_MAX
        )
        self._unknown: AgingCache[bool] = AgingCache(
            items_max=_CACHED_MAX, seconds_max=_UNKNOWN_SECONDS_MAX
        )
        self._changes = 0
        self._used: set[str] = set()
        self._use_noted: AgingCache[bool] = AgingCache(
            items_max=_CACHED_MAX, seconds_max=_USE_WRITTEN_EVERY_SECONDS
        )
        self._writer: asyncio.Task[None] | None = None
        database.listen(store.CHANNEL, self._heard)

    async def create(
        self, tenant: str, description: str = "", roles: Collection[str] = ADMIN
    ) -> NewAccessKey:
        """The only time that the secret is shown."""
        if not is_tenant(tenant):
            raise ValidationFailed("a tenant is an account number of 12 digits")
        if len(description) > DESCRIPTION_CHARS_MAX or "\0" in description:
            raise ValidationFailed(
                f"a description has at most {DESCRIPTION_CHARS_MAX} characters and no NUL"
            )
        if not roles or not set(roles) <= set(ROLES):
            raise ValidationFailed(f"a key has one or more of the roles {', '.join(ROLES)}")
        new = NewAccessKey(id=ids.access_key_id(), secret=ids.secret_access_key())
        sealed = self._sealer.seal(new.secret.encode(), context=seal_context(tenant, new.id))
        async with self._database.connection() as connection:
            inserted = await store.insert(
                connection,
                tenant=tenant,
                id=new.id,
                sealed_secret=sealed,
                description=description,
                roles=frozenset(roles),
                keys_max=KEYS_PER_TENANT_MAX,
            )
        if not inserted:
            raise QuotaExceeded(f"a tenant has at most {KEYS_PER_TENANT_MAX} access keys")
        return new

    async def list(self, tenant: str) -> list[AccessKeyRecord]:
        """Oldest first."""
        async with self._database.connection() as connection:
            return await store.list_of(connection, tenant)

    async def set_active(self, tenant: str, id: str, *, active: bool) -> None:
        _check_id(id)
        async with self._database.connection() as connection:
            if not await store.set_active(connection, tenant, id, active=active):
                raise _absent(id)
        self._forget(id)

    async def delete(self, tenant: str, id: str) -> None:
        _check_id(id)
        async with self._database.connection() as connection:
            if not await store.delete(connection, tenant, id):
                raise _absent(id)
        self._forget(id)

    async def active(self, access_key_id: str) -> AccessKey | None:
        """Counts as a use of the key. Unavailable when it is not cached and the store is away."""
        key = self._known.get(access_key_id)
        if key is None:
            key = await self._load(access_key_id)
        if key is not None and self._use_noted.get(key.id) is None:
            self._note_use(key.id)
        return key

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer
            self._writer = None
        await self._write_uses()

    async def _load(self, id: str) -> AccessKey | None:
        if not is_access_key_id(id) or self._unknown.get(id):
            return None
        changes = self._changes
        async with self._database.connection() as connection:
            found = await store.active(connection, id)
        key = None
        if found is not None:
            tenant, sealed, roles = found
            secret = self._open(tenant, id, sealed)
            key = AccessKey(id=id, tenant=tenant, secret=secret.decode(), roles=roles)
        # What was read may be old by now: of a change in the meantime we have heard.
        if changes == self._changes:
            if key is None:
                self._unknown.put(id, value=True)
            else:
                self._known.put(id, key)
        return key

    def _open(self, tenant: str, id: str, sealed: bytes) -> bytes:
        try:
            return self._sealer.open(sealed, context=seal_context(tenant, id))
        except SealBroken as error:
            log.error("access key %s cannot be opened: %s", id, error)
            raise Unavailable("the access key cannot be checked just now") from error

    def _heard(self, payload: str) -> None:
        """The id of a key that changed; "" when any may have."""
        if payload:
            self._forget(payload)
        else:
            self._changes += 1
            self._known.clear()
            self._unknown.clear()

    def _forget(self, id: str) -> None:
        self._changes += 1
        self._known.drop(id)
        self._unknown.drop(id)

    def _note_use(self, id: str) -> None:
        self._use_noted.put(id, value=True)
        self._used.add(id)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_uses_soon())

    async def _write_uses_soon(self) -> None:
        while self._used:
            await asyncio.sleep(self._use_delay_seconds)  # gathers many uses into one statement
            await self._write_uses()

    async def _write_uses(self) -> None:
        used, self._used = self._used, set()
        if not used:
            return
        try:
            async with self._database.connection() as connection:
                await store.touch(connection, used)
        except Unavailable:
            log.warning("last use of %d access keys was not written", len(used))


def _check_id(id: str) -> None:
    if not is_access_key_id(id):
        raise _absent(id)


def _absent(id: str) -> NotFound:
    return NotFound(f"access key {id!r} does not exist")
