"""Tenants and people: who is added, what they may, and who stays."""

import asyncio

import pytest
from people_ground import Ground, new_name

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.errors import AccessDenied, Conflict, NotFound, ValidationFailed
from freehold.services.people.passwords import Passwords
from freehold.services.people.service import PeopleService


async def test_a_tenant_is_made_with_an_account_of_its_own(ground: Ground) -> None:
    made = await ground.tenants.create("Research")
    assert len(made.tenant) == 12
    assert made.tenant.isdigit()
    assert made in await ground.tenants.list()
    with pytest.raises(Conflict):
        await ground.tenants.create("Research again", made.tenant)


@pytest.mark.parametrize("name", ["", "x" * 101, "a\nb", "a\0b"])
async def test_a_tenant_needs_a_name_that_can_be_shown(ground: Ground, name: str) -> None:
    with pytest.raises(ValidationFailed):
        await ground.tenants.create(name)


async def test_a_disabled_tenant_is_closed_for_every_worker_at_once(
    ground: Ground, database: PostgresDatabase
) -> None:
    other_worker = Ground(database, ground.first).tenants
    made = await ground.tenants.create("Gone soon")
    assert await other_worker.is_open(made.tenant)
    await ground.tenants.set_active(made.tenant, active=False)
    assert not await ground.tenants.is_open(made.tenant)
    await _until(lambda: _closed(other_worker, made.tenant))
    await ground.tenants.set_active(made.tenant, active=True)
    assert await ground.tenants.is_open(made.tenant)


async def test_the_first_tenant_cannot_be_disabled(ground: Ground) -> None:
    await ground.tenants.ensure_first()
    with pytest.raises(Conflict):
        await ground.tenants.set_active(ground.first, active=False)


async def test_a_person_is_listed_with_the_roles_of_this_tenant_alone(ground: Ground) -> None:
    other = (await ground.tenants.create("Other")).tenant
    member, _ = await ground.person("developer")
    await ground.people.set_roles(other, member.person.id, frozenset({"auditor"}))
    assert [m.roles for m in await ground.people.list(ground.first)] == [{"developer"}]
    assert [m.roles for m in await ground.people.list(other)] == [{"auditor"}]


@pytest.mark.parametrize("name", ["", "a b", "a|b", "a/b", "x" * 65, "p-abc", "Ädä", "a\n"])
async def test_names_fit_into_an_arn_and_are_no_id(ground: Ground, name: str) -> None:
    with pytest.raises(ValidationFailed):
        await ground.people.add(ground.first, name, roles=frozenset({"developer"}))


async def test_a_name_is_taken_in_any_case(ground: Ground) -> None:
    member, _ = await ground.person()
    with pytest.raises(Conflict):
        await ground.people.add(
            ground.first, member.person.name.upper(), roles=frozenset({"developer"})
        )


async def test_roles_that_do_not_exist_are_refused(ground: Ground) -> None:
    with pytest.raises(ValidationFailed, match="no such role: root"):
        await ground.person("root")
    with pytest.raises(ValidationFailed, match="no such role: ingester"):  # of keys alone
        await ground.person("ingester")


async def test_the_last_admin_stays(ground: Ground) -> None:
    last, _ = await ground.person("admin")
    for attempt in (
        ground.people.set_roles(ground.first, last.person.name, frozenset({"developer"})),
        ground.people.remove(ground.first, last.person.name),
        ground.people.set_active(ground.first, last.person.name, active=False),
    ):
        with pytest.raises(Conflict, match="last admin"):
            await attempt
    [member] = await ground.people.list(ground.first)
    assert member == last
    await ground.person("admin")
    await ground.people.remove(ground.first, last.person.name)


async def test_of_two_admins_who_remove_one_another_at_once_one_stays(ground: Ground) -> None:
    admins = [(await ground.person("admin"))[0] for _ in range(2)]
    outcomes = await asyncio.gather(
        *(ground.people.remove(ground.first, a.person.id) for a in admins), return_exceptions=True
    )
    assert sorted(type(o).__name__ for o in outcomes) == ["Conflict", "NoneType"]
    assert len(await ground.people.list(ground.first)) == 1


async def test_who_has_roles_elsewhere_is_only_taken_out_of_this_tenant(ground: Ground) -> None:
    other = (await ground.tenants.create("Other")).tenant
    member, _ = await ground.person("developer")
    await ground.people.set_roles(other, member.person.id, frozenset({"invoker"}))
    await ground.people.remove(ground.first, member.person.id)
    [still] = await ground.people.list(other)
    assert still.person.id == member.person.id


async def test_another_tenants_person_is_not_found_by_name(ground: Ground) -> None:
    other = (await ground.tenants.create("Other")).tenant
    member, _ = await ground.person("developer")
    with pytest.raises(NotFound):
        await ground.people.set_roles(other, member.person.name, frozenset({"admin"}))
    with pytest.raises(NotFound):
        await ground.people.new_password(other, member.person.id)


async def test_a_tenants_admin_cannot_take_over_somebody_with_roles_elsewhere(
    ground: Ground,
) -> None:
    """Else whoever may reset a password here would be an admin there."""
    other = (await ground.tenants.create("Other")).tenant
    theirs, _ = await ground.person("admin", tenant=other)
    await ground.people.set_roles(ground.first, theirs.person.id, frozenset({"admin"}))
    with pytest.raises(AccessDenied):
        await ground.people.new_password(other, theirs.person.name)
    with pytest.raises(AccessDenied):
        await ground.people.set_active(other, theirs.person.name, active=False)
    assert await ground.people.new_password(ground.first, theirs.person.name)


async def test_the_first_start_makes_one_admin_and_the_next_none(ground: Ground) -> None:
    made = await ground.people.ensure_local_admin()
    assert made is not None
    signed_in = await ground.sign_in.local(*made, source=ground.source)
    assert signed_in.caller.roles == {"admin"}
    assert await ground.people.ensure_local_admin() is None


async def test_where_the_provider_is_gone_its_admins_are_no_way_in(
    ground: Ground, database: PostgresDatabase
) -> None:
    with_provider = PeopleService(
        database, first=ground.first, passwords=Passwords(), with_provider=True
    )
    name = new_name()
    await with_provider.add(
        ground.first, name, email=f"{name}@example.test", roles=frozenset({"admin"})
    )
    assert await with_provider.ensure_local_admin() is None
    assert await ground.people.ensure_local_admin() is not None


async def test_no_password_is_stored_or_shown(ground: Ground) -> None:
    name = new_name()
    member, password = await ground.person(name=name)
    stored = await ground.everything_stored()
    assert name in stored
    assert password not in stored + repr(member)


def _closed(tenants: object, tenant: str) -> object:
    async def look() -> bool:
        return not await tenants.is_open(tenant)  # type: ignore[attr-defined]

    return look()


async def _until(true: object) -> None:
    async with asyncio.timeout(10):
        while not await true():  # type: ignore[operator]
            await asyncio.sleep(0.01)
