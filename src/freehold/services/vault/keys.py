"""The token vault's key: who keeps it, its rotation, and that of the platform's own key."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from freehold.kernel.errors import AccessDenied, NotFound, ValidationFailed
from freehold.ports.database import Database
from freehold.ports.jobs import Job, Jobs
from freehold.ports.secrets import KeyGone, SealBroken
from freehold.services.vault.model import VAULT_ID
from freehold.services.vault.ports import PlatformKey, SealedValues, TenantKeys

log = logging.getLogger(__name__)

REWRAP_JOB = "vault-rewrap"
PLATFORM_CHANNEL = "freehold_platform_key"
_ATTEMPTS_MAX = 30


class TokenVault(msgspec.Struct, frozen=True, kw_only=True):
    """`kms_key_arn` is None where the platform's own key keeps the vault's."""

    kms_key_arn: str | None
    modified_at: datetime


class KeyUse(msgspec.Struct, frozen=True, kw_only=True):
    """How many values each version of a key seals; older ones than the newest can go at zero."""

    kept_by: str
    newest: int
    values: dict[int, int]


class VaultKeys:
    """A new version seals at once; what is there already is moved under it by a job, while reads
    and writes go on. The old version is deleted when nothing needs it.
    """

    def __init__(
        self,
        *,
        database: Database,
        keys: TenantKeys,
        platform: PlatformKey,
        sealed: SealedValues,
        jobs: Jobs,
        may_use: Callable[[str, str], bool],
        operator: str,
        grace_seconds: float | None = None,
    ) -> None:
        """`may_use(tenant, arn)`: whether the operator lets this tenant name that key.
        `operator` is the tenant that may rotate the platform's key. `grace_seconds`: how long
        others may still seal under the version before; by default, for as long as they believe
        what they know.
        """
        self._database = database
        self._keys, self._platform, self._sealed = keys, platform, sealed
        self._jobs = jobs
        self._may_use = may_use
        self._operator = operator
        self._grace_seconds = (
            keys.newest_seconds_max + 5 if grace_seconds is None else grace_seconds
        )
        jobs.register(REWRAP_JOB, self._work, concurrency=1, attempts_max=_ATTEMPTS_MAX)
        database.listen(PLATFORM_CHANNEL, self._heard)

    # -- the token vault

    async def get(self, tenant: str, vault_id: str | None) -> TokenVault:
        _check_vault(vault_id)
        key = await self._keys.newest(tenant)
        arn = key.wrapped_by if key.wrapped_by.startswith("arn:") else None
        return TokenVault(kms_key_arn=arn, modified_at=key.created_at)

    async def set_key(
        self, tenant: str, vault_id: str | None, key_type: str, arn: str | None
    ) -> TokenVault:
        before = await self.get(tenant, vault_id)
        if key_type == "ServiceManagedKey":
            if arn is not None:
                raise ValidationFailed("kmsKeyArn: goes with CustomerManagedKey")
        elif arn is None:
            raise ValidationFailed("kmsKeyArn: is missing, with CustomerManagedKey")
        elif not self._may_use(tenant, arn):
            raise ValidationFailed(
                "kmsKeyArn: the operator has not listed this key for this account "
                "(FREEHOLD_VAULT_CUSTOMER_KEYS)"
            )
        if before.kms_key_arn != arn:
            await self._add(tenant, arn)
        return await self.get(tenant, vault_id)

    async def reset(self, tenant: str, vault_id: str) -> TokenVault:
        """Gives up what a deleted key has sealed: there is no other way on."""
        before = await self.get(tenant, vault_id)
        if before.kms_key_arn is None or not await self._keys.is_lost(tenant):
            raise ValidationFailed(
                "the token vault's key was not deleted; use SetTokenVaultCMK for another one"
            )
        made = await self._keys.add(tenant, None)
        lost = await self._sealed.delete_below(made.version, tenant)
        await self._keys.drop_older(tenant, made.version)
        log.warning("token vault of %s: %d values were lost with their key", tenant, lost)
        return await self.get(tenant, vault_id)

    # -- rotation

    async def rotate(self, tenant: str) -> str:
        """The id of the job that moves the tenant's secrets under a new version of its key."""
        before = await self.get(tenant, None)
        return await self._add(tenant, before.kms_key_arn)

    async def rotate_platform(self, tenant: str) -> str:
        if tenant != self._operator:
            raise AccessDenied("only the platform's own account rotates its key")
        added = await self._platform.add_version()
        if added is not None:
            async with self._database.connection() as connection:
                await self._database.notify(connection, PLATFORM_CHANNEL, str(added))
        return await self._enqueue({})

    async def job(self, tenant: str, id: str) -> Job:
        if not id.startswith(f"vault-{tenant}-") and not (
            tenant == self._operator and id.startswith("vault-platform-")
        ):
            raise NotFound(f"rotation {id!r} does not exist")
        found = await self._jobs.get(id)
        if found is None:
            raise NotFound(f"rotation {id!r} does not exist")
        return found

    async def use(self, tenant: str) -> KeyUse:
        key = await self._keys.newest(tenant)
        return KeyUse(
            kept_by=key.wrapped_by,
            newest=key.version,
            values=await self._sealed.versions(tenant),
        )

    async def platform_use(self, tenant: str) -> KeyUse | None:
        """None for all but the platform's own account."""
        if tenant != self._operator:
            return None
        values = await self._sealed.versions()
        for version, count in (await self._keys.kept_versions()).items():
            values[version] = values.get(version, 0) + count
        return KeyUse(kept_by=self._platform.name, newest=self._platform.newest, values=values)

    # -- inside

    async def _add(self, tenant: str, arn: str | None) -> str:
        try:
            await self._keys.add(tenant, arn)
        except KeyGone as error:
            raise ValidationFailed(f"kmsKeyArn: {error}") from None
        return await self._enqueue({"tenant": tenant})

    async def _enqueue(self, payload: dict[str, Any]) -> str:
        id = f"vault-{payload.get('tenant', 'platform')}-{uuid.uuid4()}"
        await self._jobs.enqueue(REWRAP_JOB, payload, id=id)
        return id

    async def _work(self, payload: dict[str, Any]) -> None:
        tenant = payload.get("tenant")
        move = self._move_platform if tenant is None else lambda: self._move_tenant(tenant)
        await move()
        # Whoever has not heard yet seals under the old version for a little while.
        await asyncio.sleep(self._grace_seconds)
        newest = await move()
        if tenant is not None:
            left = await self._sealed.versions(tenant)
            if not any(count for version, count in left.items() if version < newest):
                await self._keys.drop_older(tenant, newest)

    async def _move_tenant(self, tenant: str) -> int:
        try:
            newest, rewrap = await self._keys.mover(tenant)
        except SealBroken as error:
            # Given up, once the reset that must follow is done: trying again changes nothing.
            raise ValidationFailed(f"an older key of {tenant} is lost: {error}") from None
        moved = await self._sealed.move(newest, rewrap, tenant=tenant)
        log.info("token vault of %s: %d values moved to key %d", tenant, moved.values, newest)
        if moved.broken:
            log.error("token vault of %s: %d values cannot be opened", tenant, moved.broken)
        return newest

    async def _move_platform(self) -> int:
        await self._platform.refresh()
        kept = await self._keys.rewrap_kept()
        moved = await self._sealed.move(self._platform.newest, self._platform.rewrap)
        log.info(
            "platform key %d: %d values and %d keys moved",
            self._platform.newest, moved.values, kept,
        )  # fmt: skip
        if moved.broken:
            log.error("platform key: %d values cannot be opened", moved.broken)
        return self._platform.newest

    async def _heard(self, _: str) -> None:
        with contextlib.suppress(Exception):  # the old versions still open all there is
            await self._platform.refresh()


def _check_vault(vault_id: str | None) -> None:
    if vault_id not in (None, VAULT_ID):
        raise NotFound(f"token vault {vault_id!r} does not exist; an account has one: {VAULT_ID}")
