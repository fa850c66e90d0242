"""Lists of resources: complete, in order, and only with tokens that the same list returned."""

import pytest

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.postgres.resources import PostgresResources
from freehold.kernel.errors import ValidationFailed
from freehold.kernel.pages import encode_token
from freehold.ports.resources import Resource, ResourceKind, Resources

THING = ResourceKind(name="thing", noun="thing", arn_resource="thing/{id}", versioned=True)
PART = ResourceKind(name="part", noun="part", arn_resource="part/{parent}/{id}", name_unique=False)


@pytest.fixture
def resources(database: PostgresDatabase) -> Resources:
    return PostgresResources(database, region="us-west-2")


async def make(
    resources: Resources, tenant: str, id: str, *, kind: ResourceKind = THING, parent: str = ""
) -> None:
    await resources.create(tenant, kind, id=id, name=id, status="READY", document={}, parent=parent)


async def all_pages(
    resources: Resources, tenant: str, kind: ResourceKind, *, parent: str | None, limit: int
) -> list[Resource]:
    seen: list[Resource] = []
    token = None
    for _ in range(50):
        page = await resources.page(tenant, kind, parent=parent, limit=limit, token=token)
        assert len(page.items) <= limit
        seen += page.items
        token = page.next_token
        if token is None:
            return seen
    raise AssertionError("the list never ends")


@pytest.mark.parametrize("limit", [1, 3, 7, 8])
async def test_pages_join_into_the_whole_list_oldest_first(
    resources: Resources, tenant: str, limit: int
) -> None:
    ids = ["m", "c", "z", "a", "q", "b", "y"]
    for id in ids:
        await make(resources, tenant, id)
    seen = await all_pages(resources, tenant, THING, parent=None, limit=limit)
    assert [each.id for each in seen] == ids


async def test_resources_of_one_transaction_are_paged_too(
    database: PostgresDatabase, resources: Resources, tenant: str
) -> None:
    async with database.transaction() as connection:
        for id in "dacb":
            await resources.create(
                tenant,
                THING,
                id=id,
                name=id,
                status="READY",
                document={},
                connection=connection,
            )
    seen = await all_pages(resources, tenant, THING, parent=None, limit=1)
    assert [each.id for each in seen] == list("dacb")


async def test_a_list_can_be_of_one_parent_or_of_all(resources: Resources, tenant: str) -> None:
    for parent in ("p", "q"):
        for id in ("1", "2", "3"):
            await make(resources, tenant, id, kind=PART, parent=parent)
    of_one = await all_pages(resources, tenant, PART, parent="q", limit=2)
    assert [(each.parent, each.id) for each in of_one] == [("q", "1"), ("q", "2"), ("q", "3")]
    of_all = await all_pages(resources, tenant, PART, parent=None, limit=2)
    assert [each.parent for each in of_all] == ["p"] * 3 + ["q"] * 3
    assert await all_pages(resources, tenant, PART, parent="", limit=2) == []


async def test_a_list_can_be_of_one_name(resources: Resources, tenant: str) -> None:
    for parent in ("p", "q"):
        await make(resources, tenant, "same", kind=PART, parent=parent)
        await make(resources, tenant, "other", kind=PART, parent=parent)
    page = await resources.page(tenant, PART, name="same")
    assert [each.parent for each in page.items] == ["p", "q"]


async def test_what_is_made_while_one_pages_comes_last(resources: Resources, tenant: str) -> None:
    for id in ("a", "b"):
        await make(resources, tenant, id)
    first = await resources.page(tenant, THING, limit=1)
    await make(resources, tenant, "0-late")
    await resources.delete(tenant, THING, "a")
    rest = await resources.page(tenant, THING, token=first.next_token)
    assert [each.id for each in rest.items] == ["b", "0-late"]


async def test_versions_are_paged_newest_first(resources: Resources, tenant: str) -> None:
    await make(resources, tenant, "one")
    for n in range(4):
        await resources.update(tenant, THING, "one", lambda _, n=n: {"n": n}, new_version=True)
    seen = []
    token = None
    for _ in range(10):
        page = await resources.list_versions(tenant, THING, "one", limit=2, token=token)
        seen += [each.version for each in page.items]
        token = page.next_token
        if token is None:
            break
    assert seen == [5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    "token",
    [
        "nonsense!",
        "",
        encode_token(),
        encode_token("thing"),
        encode_token("part", "2026-01-01T00:00:00+00:00", "", "a"),
        encode_token("thing", "yesterday", "", "a"),
        encode_token("thing", 1, 2, 3),
        encode_token("thing", "2026-01-01T00:00:00+00:00", "", "\x00"),
    ],
)
async def test_a_token_of_another_list_is_refused(
    resources: Resources, tenant: str, token: str
) -> None:
    with pytest.raises(ValidationFailed):
        await resources.page(tenant, THING, token=token)


@pytest.mark.parametrize(
    "token",
    [
        encode_token("thing", "one", 0),
        encode_token("thing", "two", 3),
        encode_token("part", "one", 3),
        encode_token("thing", "one", 10**30),
        encode_token("thing", "one", "3"),
    ],
)
async def test_a_version_token_of_another_list_is_refused(
    resources: Resources, tenant: str, token: str
) -> None:
    await make(resources, tenant, "one")
    with pytest.raises(ValidationFailed):
        await resources.list_versions(tenant, THING, "one", token=token)


async def test_a_page_has_a_default_and_a_greatest_size(
    database: PostgresDatabase, resources: Resources, tenant: str
) -> None:
    async with database.transaction() as connection:
        for n in range(1002):
            await resources.create(
                tenant,
                PART,
                id=str(n),
                name="n",
                status="READY",
                document={},
                connection=connection,
            )
    assert len((await resources.page(tenant, PART)).items) == 100
    assert len((await resources.page(tenant, PART, limit=5000)).items) == 1000
    assert len((await resources.page(tenant, PART, limit=0)).items) == 1
