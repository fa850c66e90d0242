"""A tenant's telemetry configuration: kept, and heard of by every worker."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.errors import ValidationFailed
from freehold.services.observability.configuration import (
    Redaction,
    TelemetryConfiguration,
    TelemetryConfigurations,
)
from freehold.services.observability.redaction import SECRETS, Rule


@pytest.fixture
async def other(database_dsn: str) -> AsyncIterator[TelemetryConfigurations]:
    """As another worker has it."""
    database = PostgresDatabase(database_dsn, pool_size_max=2, application_name="other worker")
    configurations = TelemetryConfigurations(database)
    await database.start()
    yield configurations
    await database.close()


async def test_without_a_word_of_the_tenants_secrets_are_redacted_and_clients_not_captured(
    database: PostgresDatabase, tenant: str
) -> None:
    found = await TelemetryConfigurations(database).of(tenant)
    assert found.configuration.redaction.built_in == list(SECRETS)
    assert found.capture_clients is False
    assert found.redactor.text("sk-proj-abcdefghijklmnop1234") == "[API key]"


async def test_a_change_is_heard_by_every_worker(
    database: PostgresDatabase, other: TelemetryConfigurations, tenant: str
) -> None:
    here = TelemetryConfigurations(database)
    assert not (await other.of(tenant)).capture_clients
    rules = [Rule(name="order", pattern="order-[0-9]+", replacement="order")]
    wanted = TelemetryConfiguration(
        redaction=Redaction(built_in=["emails"], rules=rules), capture_clients=True
    )
    await here.put(tenant, wanted)
    assert (await here.of(tenant)).configuration == wanted
    async with asyncio.timeout(30):
        while not (await other.of(tenant)).capture_clients:
            await asyncio.sleep(0.01)
    assert (await other.of(tenant)).redactor.text("order-17, a@b.de") == "order, [email]"
    assert not (await other.of("9" * 12)).capture_clients


async def test_what_cannot_be_is_not_kept(database: PostgresDatabase, tenant: str) -> None:
    configurations = TelemetryConfigurations(database)
    with pytest.raises(ValidationFailed):
        await configurations.put(
            tenant, TelemetryConfiguration(redaction=Redaction(built_in=["nothing"]))
        )
    assert (await configurations.of(tenant)).configuration == TelemetryConfiguration()
