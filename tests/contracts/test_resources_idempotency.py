"""Client tokens: what is asked twice is done once."""

import asyncio

import pytest

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.postgres.resources import PostgresResources
from freehold.kernel.errors import Conflict, FreeholdError
from freehold.ports.resources import Idempotency, Resource, ResourceKind, Resources

THING = ResourceKind(name="thing", noun="thing", arn_resource="thing/{id}")


@pytest.fixture
def resources(database: PostgresDatabase) -> Resources:
    return PostgresResources(database, region="us-west-2")


async def create(
    resources: Resources,
    tenant: str,
    id: str,
    *,
    token: str | None = "t",
    name: str = "name",
    operation: str = "CreateThing",
    request: object = None,
) -> tuple[Resource, bool]:
    return await resources.create(
        tenant,
        THING,
        id=id,
        name=name,
        status="READY",
        document={},
        idempotency=Idempotency(operation, token, request or {"name": name, "blob": b"\xff"}),
    )


async def test_the_same_token_gives_the_same_resource(resources: Resources, tenant: str) -> None:
    first, made = await create(resources, tenant, "id-1")
    assert made
    second, made = await create(resources, tenant, "id-2")
    assert not made
    assert second == first
    assert len((await resources.page(tenant, THING)).items) == 1


async def test_the_order_of_members_in_the_request_does_not_matter(
    resources: Resources, tenant: str
) -> None:
    await create(resources, tenant, "id-1", request={"a": 1, "b": {"c": 1, "d": 2}})
    _, made = await create(resources, tenant, "id-2", request={"b": {"d": 2, "c": 1}, "a": 1})
    assert not made


async def test_the_same_token_with_another_request_is_a_conflict(
    resources: Resources, tenant: str
) -> None:
    await create(resources, tenant, "id-1")
    with pytest.raises(Conflict, match="different request"):
        await create(resources, tenant, "id-2", name="other")


async def test_tokens_are_apart_by_tenant_and_operation(resources: Resources, tenant: str) -> None:
    await create(resources, tenant, "id-1")
    _, made = await create(resources, str(int(tenant) - 1), "id-1")
    assert made
    _, made = await create(resources, tenant, "id-2", name="b", operation="CreateOther")
    assert made


async def test_without_a_token_each_request_counts(resources: Resources, tenant: str) -> None:
    await create(resources, tenant, "id-1", token=None, name="a")
    _, made = await create(resources, tenant, "id-2", token=None, name="b")
    assert made


async def test_a_failed_request_leaves_its_token_free(resources: Resources, tenant: str) -> None:
    await create(resources, tenant, "id-1", token="first")
    with pytest.raises(Conflict, match="taken"):
        await create(resources, tenant, "id-2", token="second")
    await resources.delete(tenant, THING, "id-1")
    _, made = await create(resources, tenant, "id-2", token="second")
    assert made


async def test_of_many_at_once_with_one_token_one_makes_it(
    resources: Resources, tenant: str
) -> None:
    results = await asyncio.gather(
        *(create(resources, tenant, f"id-{i}") for i in range(16)), return_exceptions=True
    )
    outcomes = [result for result in results if not isinstance(result, BaseException)]
    assert len(outcomes) == 16, results
    assert sum(made for _, made in outcomes) == 1
    assert len({resource.id for resource, _ in outcomes}) == 1


async def test_a_token_does_not_bring_back_what_was_deleted(
    resources: Resources, tenant: str
) -> None:
    await create(resources, tenant, "id-1")
    await resources.delete(tenant, THING, "id-1")
    with pytest.raises(Conflict, match="deleted since"):
        await create(resources, tenant, "id-2")


async def test_a_token_is_forgotten_after_its_time(database: PostgresDatabase, tenant: str) -> None:
    short = PostgresResources(database, region="us-west-2", idempotency_seconds=0)
    await create(short, tenant, "id-1", name="a")
    _, made = await create(short, tenant, "id-2", name="b")
    assert made


async def test_an_update_with_a_token_is_done_once(resources: Resources, tenant: str) -> None:
    await create(resources, tenant, "id-1", token=None)

    async def update(n: int, request: object) -> Resource:
        return await resources.update(
            tenant,
            THING,
            "id-1",
            lambda now: {"n": now.document.get("n", 0) + n},
            idempotency=Idempotency("UpdateThing", "t", request),
        )

    first = await update(1, {"n": 1})
    assert (first.document, first.version) == ({"n": 1}, 2)
    assert await update(1, {"n": 1}) == first
    with pytest.raises(FreeholdError, match="different request"):
        await update(5, {"n": 5})
    assert await resources.get(tenant, THING, "id-1") == first
