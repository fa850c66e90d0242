"""What every implementation of ports.resources.Resources promises."""

import asyncio
import json

import pytest

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.postgres.resources import PostgresResources
from freehold.kernel.errors import Conflict, NotFound, QuotaExceeded, ValidationFailed
from freehold.ports.resources import Idempotency, Resource, ResourceKind, Resources

AGENT = ResourceKind(
    name="agent", noun="agent runtime", arn_resource="runtime/{id}", versioned=True
)
ENDPOINT = ResourceKind(
    name="endpoint",
    noun="endpoint",
    arn_resource="runtime/{parent}/runtime-endpoint/{name}",
    parent_kind="agent",
)
NOTE = ResourceKind(
    name="note", noun="note", arn_resource="note/{id}", service="notes", name_unique=False
)


@pytest.fixture
def resources(database: PostgresDatabase) -> Resources:
    return PostgresResources(database, region="us-west-2")


async def make(
    resources: Resources,
    tenant: str,
    id: str,
    *,
    kind: ResourceKind = NOTE,
    name: str = "n",
    status: str = "READY",
    document: dict[str, object] | None = None,
    parent: str = "",
    tags: dict[str, str] | None = None,
    token: str | None = None,
) -> Resource:
    document = document or {}
    made, _ = await resources.create(
        tenant,
        kind,
        id=id,
        name=name,
        status=status,
        document=document,
        parent=parent,
        tags=tags,
        idempotency=Idempotency("Create", token, {"name": name, **document}),
    )
    return made


async def test_what_was_created_is_read_back_whole(resources: Resources, tenant: str) -> None:
    document = {"z": 1, "a": [None, True, 1.5, "ünï\u0000"], "nested": {"y": {}, "b": "x"}}
    made = await make(
        resources,
        tenant,
        "one",
        kind=AGENT,
        name="first",
        document=document,
        tags={"team": "x"},
        status="CREATING",
    )
    assert made.arn == f"arn:aws:bedrock-agentcore:us-west-2:{tenant}:runtime/one"
    assert (made.version, made.status, made.parent, made.name) == (1, "CREATING", "", "first")
    assert made.tags == {"team": "x"}
    assert made.created_at.tzinfo is not None
    assert await resources.get(tenant, AGENT, "one") == made
    assert await resources.get(tenant, AGENT, "one", version=1) == made
    assert await resources.find_by_arn(tenant, made.arn) == made
    assert await resources.find_by_name(tenant, AGENT, "first") == made


async def test_a_document_keeps_the_order_of_its_members(resources: Resources, tenant: str) -> None:
    await make(resources, tenant, "one", document={"zz": 1, "a": 2, "m": {"q": 1, "b": 2}})
    read = await resources.get(tenant, NOTE, "one")
    assert json.dumps(read.document) == '{"zz": 1, "a": 2, "m": {"q": 1, "b": 2}}'


async def test_an_arn_names_the_service_of_its_kind(resources: Resources, tenant: str) -> None:
    assert (await make(resources, tenant, "x")).arn == f"arn:aws:notes:us-west-2:{tenant}:note/x"


async def test_what_is_absent_is_not_found(resources: Resources, tenant: str) -> None:
    await make(resources, tenant, "here", kind=AGENT)
    for attempt in (
        resources.get(tenant, AGENT, "nowhere"),
        resources.get(tenant, AGENT, "here", version=7),
        resources.get(tenant, AGENT, "here", version=10**30),
        resources.get(tenant, NOTE, "here"),
        resources.get(tenant, AGENT, "here", parent="x"),
        resources.find_by_arn(tenant, "arn:aws:notes:us-west-2:1:note/x"),
        resources.list_versions(tenant, AGENT, "nowhere"),
        resources.update(tenant, AGENT, "nowhere", lambda _: {}),
        resources.set_status(tenant, AGENT, "nowhere", "READY"),
        resources.set_status(tenant, AGENT, "here", "READY", version=9),
        resources.delete(tenant, AGENT, "nowhere"),
        resources.tag(tenant, "arn:x", {"a": "b"}),
        resources.untag(tenant, "arn:x", ["a"]),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await resources.find_by_name(tenant, AGENT, "nowhere") is None


async def test_another_tenants_resource_is_as_absent(resources: Resources, tenant: str) -> None:
    theirs = await make(resources, "999999999999", f"id-{tenant}", kind=AGENT, name=tenant)
    id = theirs.id
    for attempt in (
        resources.get(tenant, AGENT, id),
        resources.get(tenant, AGENT, id, version=1),
        resources.find_by_arn(tenant, theirs.arn),
        resources.list_versions(tenant, AGENT, id),
        resources.update(tenant, AGENT, id, lambda _: {"stolen": True}),
        resources.set_status(tenant, AGENT, id, "FAILED"),
        resources.delete(tenant, AGENT, id),
        resources.tag(tenant, theirs.arn, {"a": "b"}),
        resources.untag(tenant, theirs.arn, ["a"]),
        make(resources, tenant, "child", kind=ENDPOINT, parent=id),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await resources.find_by_name(tenant, AGENT, tenant) is None
    assert (await resources.page(tenant, AGENT)).items == []
    assert await resources.get("999999999999", AGENT, id) == theirs


async def test_a_taken_name_is_a_conflict_that_names_the_holder(
    resources: Resources, tenant: str
) -> None:
    await make(resources, tenant, "first", kind=AGENT, name="same")
    with pytest.raises(Conflict, match=r"'same' is taken by agent runtime 'first'"):
        await make(resources, tenant, "second", kind=AGENT, name="same")
    with pytest.raises(Conflict, match="'first' exists already"):
        await make(resources, tenant, "first", kind=AGENT, name="other")
    await resources.delete(tenant, AGENT, "first")
    assert (await make(resources, tenant, "second", kind=AGENT, name="same")).id == "second"


async def test_names_are_free_across_parents_and_where_a_kind_does_not_care(
    resources: Resources, tenant: str
) -> None:
    for agent in ("a", "b"):
        await make(resources, tenant, agent, kind=AGENT, name=agent)
        await make(resources, tenant, "DEFAULT", kind=ENDPOINT, name="DEFAULT", parent=agent)
    for id in ("x", "y"):
        await make(resources, tenant, id, kind=NOTE, name="same")
    assert (await resources.get(tenant, ENDPOINT, "DEFAULT", parent="b")).parent == "b"


async def test_of_many_who_take_one_name_at_once_one_wins(
    resources: Resources, tenant: str
) -> None:
    results = await asyncio.gather(
        *(make(resources, tenant, f"id{i}", kind=AGENT, name="same") for i in range(12)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Resource) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 11


@pytest.mark.parametrize("status", sorted(AGENT.busy))
async def test_a_busy_resource_is_neither_updated_nor_deleted(
    resources: Resources, tenant: str, status: str
) -> None:
    await make(resources, tenant, "one", kind=AGENT, status=status)
    with pytest.raises(Conflict, match=f"agent runtime 'one' is in status {status}"):
        await resources.update(tenant, AGENT, "one", lambda _: {"changed": True})
    with pytest.raises(Conflict, match=f"in status {status}"):
        await resources.delete(tenant, AGENT, "one")
    assert (await resources.set_status(tenant, AGENT, "one", "READY")).status == "READY"
    assert (await resources.get(tenant, AGENT, "one")).document == {}
    await resources.delete(tenant, AGENT, "one")


async def test_an_update_sees_the_present_and_counts(resources: Resources, tenant: str) -> None:
    made = await make(resources, tenant, "one", document={"n": 1})
    changed = await resources.update(
        tenant, NOTE, "one", lambda now: {"n": now.document["n"] + 1}, status="UPDATING"
    )
    assert (changed.document, changed.version, changed.status) == ({"n": 2}, 2, "UPDATING")
    assert changed.created_at == made.created_at
    assert changed.updated_at > made.updated_at
    assert await resources.get(tenant, NOTE, "one") == changed


async def test_a_renamed_resource_leaves_its_name_to_others(
    resources: Resources, tenant: str
) -> None:
    await make(resources, tenant, "one", kind=AGENT, name="first")
    await make(resources, tenant, "two", kind=AGENT, name="second")
    with pytest.raises(Conflict, match="another agent runtime has the name 'second'"):
        await resources.update(tenant, AGENT, "one", lambda now: {"x": 1}, name="second")
    assert (await resources.get(tenant, AGENT, "one")).document == {}
    renamed = await resources.update(tenant, AGENT, "one", lambda now: {}, name="third")
    assert (renamed.name, renamed.id) == ("third", "one")
    await make(resources, tenant, "three", kind=AGENT, name="first")


async def test_of_two_renamed_to_one_name_at_once_one_wins(
    resources: Resources, tenant: str
) -> None:
    for id in ("one", "two", "three"):
        await make(resources, tenant, id, kind=AGENT, name=id)
    outcomes = await asyncio.gather(
        *(
            resources.update(tenant, AGENT, id, lambda now: {}, name="wanted")
            for id in ("one", "two", "three")
        ),
        return_exceptions=True,
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == [
        "Conflict", "Conflict", "Resource",
    ]  # fmt: skip


async def test_concurrent_updates_are_all_counted(resources: Resources, tenant: str) -> None:
    await make(resources, tenant, "one", document={"n": 0})
    await asyncio.gather(
        *(
            resources.update(tenant, NOTE, "one", lambda now: {"n": now.document["n"] + 1})
            for _ in range(20)
        )
    )
    after = await resources.get(tenant, NOTE, "one")
    assert (after.document, after.version) == ({"n": 20}, 21)


async def test_old_versions_stay_readable_with_their_own_status(
    resources: Resources, tenant: str
) -> None:
    await make(resources, tenant, "one", kind=AGENT, document={"v": 1})
    await resources.update(
        tenant, AGENT, "one", lambda _: {"v": 2}, status="CREATING", new_version=True
    )
    await resources.set_status(tenant, AGENT, "one", "CREATE_FAILED", version=2)
    await resources.update(
        tenant, AGENT, "one", lambda _: {"v": 3}, status="READY", new_version=True
    )
    versions = await resources.list_versions(tenant, AGENT, "one")
    assert [(each.version, each.status, each.document) for each in versions.items] == [
        (3, "READY", {"v": 3}),
        (2, "CREATE_FAILED", {"v": 2}),
        (1, "READY", {"v": 1}),
    ]
    old = await resources.set_status(
        tenant, AGENT, "one", "ARCHIVED", version=1, document={"v": "one"}
    )
    assert (old.version, old.status, old.document) == (1, "ARCHIVED", {"v": "one"})
    assert await resources.get(tenant, AGENT, "one", version=1) == old
    assert (await resources.get(tenant, AGENT, "one")).version == 3


async def test_an_update_without_a_new_version_changes_the_newest(
    resources: Resources, tenant: str
) -> None:
    await make(resources, tenant, "one", kind=AGENT, document={"v": 1})
    changed = await resources.update(tenant, AGENT, "one", lambda _: {"v": 2})
    assert changed.version == 1
    assert (await resources.list_versions(tenant, AGENT, "one")).items == [changed]


async def test_children_need_their_parent_and_go_with_it(resources: Resources, tenant: str) -> None:
    with pytest.raises(NotFound, match="agent 'absent' does not exist"):
        await make(resources, tenant, "e", kind=ENDPOINT, parent="absent")
    for agent in ("a", "ab"):
        await make(resources, tenant, agent, kind=AGENT, name=agent)
        await make(resources, tenant, "e", kind=ENDPOINT, name="e", parent=agent)
        await resources.update(tenant, AGENT, agent, lambda _: {}, new_version=True)
    # A resource of another kind with the same id takes nothing along.
    await make(resources, tenant, "a", kind=NOTE)
    await resources.delete(tenant, NOTE, "a")
    await resources.get(tenant, ENDPOINT, "e", parent="a")

    await resources.delete(tenant, AGENT, "a")
    with pytest.raises(NotFound):
        await resources.get(tenant, ENDPOINT, "e", parent="a")
    await resources.get(tenant, ENDPOINT, "e", parent="ab")
    # Nothing of the old one shows in a new one of the same name.
    await make(resources, tenant, "a", kind=AGENT, name="a")
    assert len((await resources.list_versions(tenant, AGENT, "a")).items) == 1
    assert (await resources.page(tenant, ENDPOINT, parent="a")).items == []


async def test_grandchildren_go_too(resources: Resources, tenant: str) -> None:
    rule = ResourceKind(
        name="rule", noun="rule", arn_resource="rule/{parent}/{id}", parent_kind="endpoint"
    )
    await make(resources, tenant, "a", kind=AGENT)
    await make(resources, tenant, "e", kind=ENDPOINT, parent="a")
    await make(resources, tenant, "r", kind=rule, parent="a/e")
    await resources.delete(tenant, AGENT, "a")
    assert (await resources.page(tenant, rule)).items == []


async def test_a_callers_transaction_decides(
    database: PostgresDatabase, resources: Resources, tenant: str
) -> None:
    class Undo(Exception):
        pass

    with pytest.raises(Undo):
        async with database.transaction() as connection:
            await resources.create(
                tenant, NOTE, id="x", name="x", status="READY", document={}, connection=connection
            )
            assert (await resources.get(tenant, NOTE, "x", connection=connection)).id == "x"
            raise Undo
    with pytest.raises(NotFound):
        await resources.get(tenant, NOTE, "x")

    async with database.transaction() as connection:
        await resources.create(
            tenant, AGENT, id="a", name="a", status="READY", document={}, connection=connection
        )
        with pytest.raises(Conflict):
            await resources.create(
                tenant, AGENT, id="b", name="a", status="READY", document={}, connection=connection
            )
        await resources.set_status(tenant, AGENT, "a", "ODD", connection=connection)
    assert (await resources.get(tenant, AGENT, "a")).status == "ODD"


async def test_tags_are_merged_and_removed(resources: Resources, tenant: str) -> None:
    made = await make(resources, tenant, "one", tags={"keep": "1", "change": "1"})
    await resources.tag(tenant, made.arn, {"change": "2", "new": ""})
    assert (await resources.get(tenant, NOTE, "one")).tags == {
        "keep": "1",
        "change": "2",
        "new": "",
    }
    await resources.untag(tenant, made.arn, ["keep", "never-there"])
    assert (await resources.get(tenant, NOTE, "one")).tags == {"change": "2", "new": ""}


async def test_tags_have_limits(resources: Resources, tenant: str) -> None:
    made = await make(resources, tenant, "one", tags={f"k{i}": "" for i in range(49)})
    await resources.tag(tenant, made.arn, {"k49": ""})
    with pytest.raises(QuotaExceeded, match="50"):
        await resources.tag(tenant, made.arn, {"k50": ""})
    await resources.tag(tenant, made.arn, {"k49": "again"})
    with pytest.raises(ValidationFailed, match="aws:"):
        await resources.tag(tenant, made.arn, {"AWS:mine": ""})
    with pytest.raises(ValidationFailed, match="aws:"):
        await make(resources, tenant, "two", tags={"aws:x": ""})


async def test_what_cannot_be_stored_is_the_requests_fault(
    resources: Resources, tenant: str
) -> None:
    with pytest.raises(ValidationFailed):
        await make(resources, tenant, "nul\x00")
    with pytest.raises(ValidationFailed):
        await make(resources, tenant, "one", document={"half": "\ud800"})
    made = await make(resources, tenant, "one")
    with pytest.raises(ValidationFailed):
        await resources.tag(tenant, made.arn, {"k": "\x00"})
