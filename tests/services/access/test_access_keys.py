"""Access keys, over the real store, as two workers see them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.adapters.secrets.keyring import Keyring
from freehold.kernel.errors import NotFound, QuotaExceeded, Unavailable, ValidationFailed
from freehold.ports.authorizer import AccessKey, AccessKeys
from freehold.ports.database import Connection
from freehold.services.access.service import AccessKeyService

UNKNOWN = "FHIA" + "A" * 16


@pytest.fixture
def sealer() -> EnvelopeSealer:
    return EnvelopeSealer(Keyring({1: bytes(32)}))


@pytest.fixture
async def keys(
    database: PostgresDatabase, sealer: EnvelopeSealer
) -> AsyncIterator[AccessKeyService]:
    service = AccessKeyService(database, sealer, use_delay_seconds=0)
    yield service
    await service.close()


@pytest.fixture
async def other_worker(
    database_dsn: str, sealer: EnvelopeSealer
) -> AsyncIterator[AccessKeyService]:
    """Another process in all but name: its own pool, its own ear, its own cache."""
    database = PostgresDatabase(database_dsn, pool_size_max=2)
    await database.start()
    service = AccessKeyService(database, sealer, use_delay_seconds=0)
    yield service
    await service.close()
    await database.close()


async def soon(condition: Callable[[], Awaitable[bool]], *, within_seconds: float) -> float:
    """How long until the condition held. It is asked again whenever the loop is free."""
    started = time.monotonic()
    async with asyncio.timeout(within_seconds):
        while not await condition():
            await asyncio.sleep(0.005)
    return time.monotonic() - started


async def test_a_key_is_made_and_looked_up(keys: AccessKeyService, tenant: str) -> None:
    new = await keys.create(tenant, "laptop")
    port: AccessKeys = keys
    everything = frozenset({"admin"})
    assert await port.active(new.id) == AccessKey(
        id=new.id, tenant=tenant, secret=new.secret, roles=everything
    )
    [listed] = await keys.list(tenant)
    assert (listed.id, listed.description, listed.active) == (new.id, "laptop", True)
    assert (listed.tenant, listed.roles) == (tenant, everything)


async def test_a_key_has_the_roles_that_it_was_made_with(
    keys: AccessKeyService, other_worker: AccessKeyService, tenant: str
) -> None:
    new = await keys.create(tenant, "a robot", ["invoker", "auditor"])
    for worker in (keys, other_worker):
        found = await worker.active(new.id)
        assert found is not None and found.roles == {"invoker", "auditor"}
    [listed] = await keys.list(tenant)
    assert listed.roles == {"invoker", "auditor"}


@pytest.mark.parametrize("roles", [[], ["root"], ["admin", "Admin"], [""]])
async def test_a_key_has_only_roles_that_there_are(
    keys: AccessKeyService, tenant: str, roles: list[str]
) -> None:
    with pytest.raises(ValidationFailed, match="admin, developer, operator, invoker, auditor"):
        await keys.create(tenant, "", roles)
    assert await keys.list(tenant) == []


async def test_the_secret_is_stored_sealed_and_shown_once(
    database: PostgresDatabase, keys: AccessKeyService, tenant: str
) -> None:
    new = await keys.create(tenant)
    async with database.connection() as connection:
        rows = await connection.execute("SELECT * FROM access_keys WHERE id = %s", (new.id,))
        dump = repr(await rows.fetchall())
    assert new.secret not in dump
    assert new.secret not in repr(await keys.list(tenant))
    assert new.secret not in repr(new)
    assert new.secret not in repr(await keys.active(new.id))


async def test_a_sealed_secret_moved_to_another_key_does_not_authenticate(
    database: PostgresDatabase, keys: AccessKeyService, tenant: str
) -> None:
    mine, theirs = await keys.create(tenant), await keys.create(str(int(tenant) - 1))
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE access_keys SET sealed_secret ="
            " (SELECT sealed_secret FROM access_keys WHERE id = %s) WHERE id = %s",
            (mine.id, theirs.id),
        )
    with pytest.raises(Unavailable):
        await keys.active(theirs.id)


@pytest.mark.parametrize("text", ["", "x", "AKIA" + "A" * 16, UNKNOWN + "A", "FHIA" + "a" * 16])
async def test_what_is_no_key_id_is_not_even_looked_up(
    sealer: EnvelopeSealer, postgres_dsn: str, text: str
) -> None:
    never_started = AccessKeyService(PostgresDatabase(postgres_dsn), sealer)
    assert await never_started.active(text) is None


async def test_an_unknown_key_is_nobody(keys: AccessKeyService) -> None:
    assert await keys.active(UNKNOWN) is None
    assert await keys.active(UNKNOWN) is None


async def test_a_known_key_needs_no_database(
    keys: AccessKeyService, sealer: EnvelopeSealer, database_dsn: str, tenant: str
) -> None:
    new = await keys.create(tenant)
    database = PostgresDatabase(database_dsn, pool_size_max=1)
    knowing = AccessKeyService(database, sealer, use_delay_seconds=3600)
    await database.start()
    assert await knowing.active(new.id) is not None
    await database.close()
    for _ in range(100):
        assert await knowing.active(new.id) is not None


@pytest.mark.parametrize("how", ["disabled", "deleted"])
async def test_a_key_dies_within_a_second_on_every_worker(
    keys: AccessKeyService, other_worker: AccessKeyService, tenant: str, how: str
) -> None:
    new = await keys.create(tenant)
    assert await keys.active(new.id)
    assert await other_worker.active(new.id)
    if how == "disabled":
        await keys.set_active(tenant, new.id, active=False)
    else:
        await keys.delete(tenant, new.id)
    assert await keys.active(new.id) is None

    async def dead() -> bool:
        return await other_worker.active(new.id) is None

    await soon(dead, within_seconds=1)


async def test_a_key_comes_back_on_every_worker(
    keys: AccessKeyService, other_worker: AccessKeyService, tenant: str
) -> None:
    new = await keys.create(tenant)
    await keys.set_active(tenant, new.id, active=False)
    assert await other_worker.active(new.id) is None
    await keys.set_active(tenant, new.id, active=True)

    async def alive() -> bool:
        return await other_worker.active(new.id) is not None

    await soon(alive, within_seconds=1)


async def test_a_key_that_is_disabled_while_it_is_read_is_not_kept(
    database: PostgresDatabase, sealer: EnvelopeSealer, keys: AccessKeyService, tenant: str
) -> None:
    new = await keys.create(tenant)
    meanwhile = Meanwhile(database, lambda: keys.set_active(tenant, new.id, active=False))
    reader = AccessKeyService(meanwhile, sealer, use_delay_seconds=0)
    await asyncio.wait_for(meanwhile.heard.wait(), 5)  # listening
    meanwhile.heard.clear()
    assert await reader.active(new.id) is not None  # was read before it was disabled
    assert await reader.active(new.id) is None
    await reader.close()


class Meanwhile:
    """A database after whose first read something happens, and is heard of."""

    def __init__(self, database: PostgresDatabase, happens: Callable[[], Awaitable[None]]) -> None:
        self._database = database
        self._happens: Callable[[], Awaitable[None]] | None = happens
        self.heard = asyncio.Event()
        self.notify = database.notify
        self.transaction = database.transaction

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        async with self._database.connection() as connection:
            yield connection
        if self._happens is not None:
            happens, self._happens = self._happens, None
            await happens()
            await asyncio.wait_for(self.heard.wait(), 5)

    def listen(self, channel: str, heard: Callable[[str], Awaitable[None] | None]) -> None:
        def told(payload: str) -> None:
            heard(payload)
            self.heard.set()

        self._database.listen(channel, told)


async def test_another_tenants_key_is_not_found(keys: AccessKeyService, tenant: str) -> None:
    theirs = await keys.create(str(int(tenant) - 1))
    for id in (theirs.id, UNKNOWN, "nonsense\0"):
        with pytest.raises(NotFound):
            await keys.set_active(tenant, id, active=False)
        with pytest.raises(NotFound):
            await keys.delete(tenant, id)
    assert await keys.list(tenant) == []
    assert await keys.active(theirs.id) is not None


async def test_the_last_use_is_written_after_the_request_and_once_a_minute(
    keys: AccessKeyService, other_worker: AccessKeyService, tenant: str
) -> None:
    new = await keys.create(tenant)
    assert (await keys.list(tenant))[0].last_used_at is None
    await keys.active(new.id)

    async def written() -> bool:
        return (await keys.list(tenant))[0].last_used_at is not None

    await soon(written, within_seconds=5)
    first = (await keys.list(tenant))[0].last_used_at
    for worker in (keys, other_worker):
        await worker.active(new.id)
        await worker.close()
    assert (await keys.list(tenant))[0].last_used_at == first


async def test_what_is_asked_for_is_checked(keys: AccessKeyService, tenant: str) -> None:
    for wrong in ("", "12345678901", "1234567890123", "12345678901x", "١٢٣٤٥٦٧٨٩٠١٢"):
        with pytest.raises(ValidationFailed):
            await keys.create(wrong)
    with pytest.raises(ValidationFailed):
        await keys.create(tenant, "d" * 201)


async def test_a_tenant_has_a_bounded_number_of_keys(keys: AccessKeyService, tenant: str) -> None:
    for _ in range(100):
        await keys.create(tenant)
    with pytest.raises(QuotaExceeded, match="100"):
        await keys.create(tenant)
    await keys.delete(tenant, (await keys.list(tenant))[0].id)
    await keys.create(tenant)
