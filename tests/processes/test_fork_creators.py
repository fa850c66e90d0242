"""As whom a fork invokes its agent: who forked it, with the rights of now and no others."""

from collections.abc import AsyncIterator

import pytest

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.adapters.secrets.keyring import Keyring
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied
from freehold.processes.forks import StoredCreators
from freehold.processes.people import AllKeys
from freehold.services.access.service import AccessKeyService
from freehold.services.forks.model import Creator
from freehold.services.people.credentials import PersonKeys
from freehold.services.people.passwords import Passwords
from freehold.services.people.service import PeopleService, TenantService

STRANGER = "999900001111"


class Ground:
    def __init__(self, database: PostgresDatabase, tenant: str) -> None:
        sealer = EnvelopeSealer(Keyring({1: bytes(32)}))
        self.tenant = tenant
        self.keys = AccessKeyService(database, sealer, use_delay_seconds=0)
        self.tenants = TenantService(database, first=STRANGER)
        self.people = PeopleService(
            database, first=STRANGER, passwords=Passwords(), with_provider=False
        )
        self.person_keys = PersonKeys(database, sealer)
        keys = AllKeys(self.keys, self.person_keys, self.tenants)
        self._creators = StoredCreators(database, keys=keys, tenants=self.tenants)

    async def caller(self, creator: Creator, *, tenant: str = "") -> Caller:
        return await self._creators.caller(tenant or self.tenant, creator)

    async def is_refused(self, creator: Creator, *, tenant: str = "") -> bool:
        with pytest.raises(AccessDenied, match="let in no more"):
            await self.caller(creator, tenant=tenant)
        return True


@pytest.fixture
async def ground(database: PostgresDatabase, tenant: str) -> AsyncIterator[Ground]:
    ground = Ground(database, tenant)
    await ground.tenants.create("of a test", tenant)
    yield ground
    await ground.keys.close()


def by_key(id: str) -> Creator:
    return Creator(kind="access_key", principal=f"access-key/{id}", access_key_id=id)


def signed_in(name: str) -> Creator:
    return Creator(kind="person", principal=f"arn:aws:iam::1:user/{name}", user=name)


async def test_a_key_that_is_good_has_the_roles_that_it_has_now(ground: Ground) -> None:
    key = await ground.keys.create(ground.tenant, "", ("operator",))
    caller = await ground.caller(by_key(key.id))
    assert (caller.tenant, caller.access_key_id) == (ground.tenant, key.id)
    assert (caller.kind, caller.roles) == (CallerKind.ACCESS_KEY, {"operator"})


async def test_a_key_that_was_disabled_or_deleted_opens_nothing(ground: Ground) -> None:
    for end in (
        lambda id: ground.keys.set_active(ground.tenant, id, active=False),
        lambda id: ground.keys.delete(ground.tenant, id),
    ):
        key = await ground.keys.create(ground.tenant, "", ("operator",))
        await end(key.id)
        assert await ground.is_refused(by_key(key.id))


async def test_a_key_opens_its_own_account_alone(ground: Ground) -> None:
    key = await ground.keys.create(ground.tenant, "", ("admin",))
    assert await ground.is_refused(by_key(key.id), tenant=STRANGER)


async def test_a_person_has_the_roles_that_they_have_now(ground: Ground) -> None:
    name = f"anna-{ground.tenant}"
    await ground.people.add(ground.tenant, name, roles=frozenset({"operator"}))
    caller = await ground.caller(signed_in(name))
    assert (caller.kind, caller.user, caller.roles) == (CallerKind.PERSON, name, {"operator"})
    await ground.people.set_roles(ground.tenant, name, frozenset({"auditor"}))
    assert (await ground.caller(signed_in(name))).roles == {"auditor"}
    assert await ground.is_refused(signed_in(name), tenant=STRANGER)
    await ground.people.set_active(ground.tenant, name, active=False)
    assert await ground.is_refused(signed_in(name))


async def test_a_persons_temporary_key_is_good_as_long_as_it_lives(ground: Ground) -> None:
    name = f"bert-{ground.tenant}"
    member, _ = await ground.people.add(ground.tenant, name, roles=frozenset({"developer"}))
    made = await ground.person_keys.create(ground.tenant, member.person.id, name)
    caller = await ground.caller(by_key(made.access_key_id))
    assert (caller.kind, caller.user, caller.roles) == (CallerKind.PERSON, name, {"developer"})
    await ground.person_keys.end(ground.tenant, made.access_key_id)
    assert await ground.is_refused(by_key(made.access_key_id))


async def test_in_an_account_that_is_disabled_nothing_is_run(ground: Ground) -> None:
    key = await ground.keys.create(ground.tenant, "", ("operator",))
    name = f"carl-{ground.tenant}"
    await ground.people.add(ground.tenant, name, roles=frozenset({"operator"}))
    await ground.tenants.set_active(ground.tenant, active=False)
    assert await ground.is_refused(by_key(key.id))
    assert await ground.is_refused(signed_in(name))


async def test_whoever_else_it_says_it_was_is_nobody(ground: Ground) -> None:
    assert await ground.is_refused(Creator(kind="admin", principal="a"))
    assert await ground.is_refused(Creator(kind="session", principal="s", user="anna"))
