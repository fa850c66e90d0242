"""Secrets of providers: sealed and opened, or read where the operator keeps them."""

import secrets

from freehold.kernel.errors import Unavailable, ValidationFailed
from freehold.ports.database import Connection, Database
from freehold.ports.secrets import SealBroken, TenantSealer
from freehold.services.vault import store
from freehold.services.vault.model import NewSecret, Reference, StoredSecret
from freehold.services.vault.ports import ExternalSecrets

SECRET_BYTES_MAX = 100 << 10


class Sealed:
    """A secret as it goes into its row."""

    def __init__(self, version: int, sealed: bytes | None, reference: Reference | None) -> None:
        self.version, self.sealed, self.reference = version, sealed, reference


class SecretBox:
    def __init__(self, database: Database, sealer: TenantSealer, external: ExternalSecrets) -> None:
        self._database = database
        self._sealer = sealer
        self._external = external

    async def seal(self, tenant: str, kind: str, name: str, value: bytes) -> Sealed:
        version = secrets.randbits(62)
        sealed = await self._sealer.seal(tenant, value, context=f"{kind}|{name}|{version}")
        return Sealed(version, sealed, None)

    async def take(self, tenant: str, kind: str, name: str, secret: NewSecret) -> Sealed:
        """A request's secret. What only refers to one is tried now, so that its mistakes show."""
        if secret.reference is not None:
            await self._external.read(tenant, secret.reference)
            return Sealed(secrets.randbits(62), None, secret.reference)
        assert secret.value is not None
        value = secret.value.encode()
        if len(value) > SECRET_BYTES_MAX:
            raise ValidationFailed(f"a secret has at most {SECRET_BYTES_MAX} bytes")
        return await self.seal(tenant, kind, name, value)

    @staticmethod
    async def put(
        connection: Connection, tenant: str, kind: str, name: str, sealed: Sealed
    ) -> None:
        await store.put_secret(
            connection,
            tenant=tenant,
            kind=kind,
            name=name,
            version=sealed.version,
            sealed=sealed.sealed,
            reference=sealed.reference,
        )

    async def read(self, tenant: str, name: str, *kinds: str) -> dict[str, bytes]:
        """The secrets of these kinds that there are, in the clear."""
        try:
            return await self._read(tenant, name, kinds)
        except SealBroken:
            # Its key may have been replaced between the row and the opening: the row has, too.
            return await self._again(tenant, name, kinds)

    async def _again(self, tenant: str, name: str, kinds: tuple[str, ...]) -> dict[str, bytes]:
        try:
            return await self._read(tenant, name, kinds)
        except SealBroken as error:
            raise Unavailable(f"the secret of {name!r} cannot be opened: {error}") from None

    async def _read(self, tenant: str, name: str, kinds: tuple[str, ...]) -> dict[str, bytes]:
        async with self._database.connection() as connection:
            rows = await store.secrets_of(connection, tenant, name, list(kinds))
        return {kind: await self._open(tenant, kind, name, row) for kind, row in rows.items()}

    async def _open(self, tenant: str, kind: str, name: str, row: StoredSecret) -> bytes:
        if row.reference is not None:
            return (await self._external.read(tenant, row.reference)).encode()
        assert row.sealed is not None
        context = f"{kind}|{name}|{row.version}"
        return await self._sealer.open(tenant, row.sealed, context=context)
