"""Every change of a resource is told, once it is there to be read."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.postgres.resources import PostgresResources
from freehold.kernel.errors import Conflict
from freehold.ports.resources import ResourceKind

AGENT = ResourceKind(
    name="agent", noun="agent runtime", arn_resource="runtime/{id}", versioned=True
)
ENDPOINT = ResourceKind(
    name="endpoint",
    noun="endpoint",
    arn_resource="runtime/{parent}/endpoint/{id}",
    parent_kind="agent",
)

Told = Callable[[], Awaitable[str]]


@pytest.fixture
async def told(database: PostgresDatabase, tenant: str) -> Told:
    """The next notice of this tenant, without the tenant."""
    words: asyncio.Queue[str] = asyncio.Queue()
    database.listen("freehold_resources", words.put)
    while await asyncio.wait_for(words.get(), 5):
        pass

    async def next_one() -> str:
        while True:
            word = await asyncio.wait_for(words.get(), 5)
            if word.startswith(f"{tenant}/"):
                return word.removeprefix(f"{tenant}/")

    return next_one


async def test_each_change_is_told(database: PostgresDatabase, tenant: str, told: Told) -> None:
    resources = PostgresResources(database, region="us-west-2")
    made, _ = await resources.create(
        tenant, AGENT, id="a", name="a", status="CREATING", document={}
    )
    assert await told() == "agent/a"
    await resources.set_status(tenant, AGENT, "a", "READY")
    assert await told() == "agent/a"
    await resources.update(tenant, AGENT, "a", lambda _: {}, new_version=True)
    assert await told() == "agent/a"
    await resources.set_status(tenant, AGENT, "a", "OLD", version=1)
    assert await told() == "agent/a"
    await resources.tag(tenant, made.arn, {"k": "v"})
    assert await told() == "agent/a"
    await resources.untag(tenant, made.arn, ["k"])
    assert await told() == "agent/a"
    await resources.create(
        tenant, ENDPOINT, id="e", name="e", status="READY", document={}, parent="a"
    )
    assert await told() == "endpoint/a/e"
    await resources.delete(tenant, AGENT, "a")
    assert {await told(), await told()} == {"agent/a", "endpoint/a/e"}


async def test_what_did_not_happen_is_not_told(
    database: PostgresDatabase, tenant: str, told: Told
) -> None:
    resources = PostgresResources(database, region="us-west-2")
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as connection:
            await resources.create(
                tenant,
                AGENT,
                id="undone",
                name="undone",
                status="READY",
                document={},
                connection=connection,
            )
            raise ZeroDivisionError
    for id in ("first", "second"):
        try:
            await resources.create(tenant, AGENT, id=id, name="same", status="READY", document={})
        except Conflict:
            continue
    await resources.delete(tenant, AGENT, "first")
    assert [await told(), await told()] == ["agent/first", "agent/first"]
