"""Tenants and people: added, given roles, taken out; never the last admin of a tenant."""

import asyncio
import secrets
import time
from collections.abc import Callable
from datetime import datetime

from freehold.kernel import clock, ids
from freehold.kernel.errors import (
    AccessDenied,
    Conflict,
    NotFound,
    QuotaExceeded,
    ValidationFailed,
)
from freehold.ports.database import Connection, Database
from freehold.services.people import store
from freehold.services.people.model import (
    ADMIN,
    PEOPLE_PER_TENANT_MAX,
    TENANT_NAME_CHARS_MAX,
    TENANTS_MAX,
    Member,
    Tenant,
    checked_email,
    checked_name,
    checked_roles,
    checked_tenant,
)
from freehold.services.people.passwords import Passwords, new_password

LOCAL_ADMIN = "admin"
# A change is heard at once. The age is for a worker cut off from the notifications.
_DISABLED_SECONDS_MAX = 60.0


class TenantService:
    """`first` is the platform's own account: its admins make the others."""

    def __init__(self, database: Database, *, first: str) -> None:
        self.first = first
        self._database = database
        self._disabled: frozenset[str] = frozenset()
        self._disabled_until = 0.0
        self._loading = asyncio.Lock()
        self._changes = 0
        database.listen(store.CHANNEL, self._heard)

    async def create(self, name: str, tenant: str | None = None) -> Tenant:
        if not 0 < len(name) <= TENANT_NAME_CHARS_MAX or not name.isprintable():
            raise ValidationFailed(
                f"a tenant's name has 1 to {TENANT_NAME_CHARS_MAX} characters that can be printed"
            )
        wanted = checked_tenant(tenant) if tenant is not None else _new_account()
        async with self._database.connection() as connection:
            made = await store.insert_tenant(connection, wanted, name, tenants_max=TENANTS_MAX)
            if made is None:
                if len(await store.tenants(connection)) >= TENANTS_MAX:
                    raise QuotaExceeded(f"there are {TENANTS_MAX} tenants, which is the most")
                raise Conflict(f"the account {wanted} exists")
        return made

    async def ensure_first(self) -> None:
        async with self._database.connection() as connection:
            await store.insert_tenant(connection, self.first, "first", tenants_max=TENANTS_MAX + 1)

    async def list(self) -> list[Tenant]:
        async with self._database.connection() as connection:
            return await store.tenants(connection)

    async def set_active(self, tenant: str, *, active: bool) -> Tenant:
        """Nothing is lost of a disabled one; nobody is let in."""
        if tenant == self.first and not active:
            raise Conflict("the first account keeps the platform running: it cannot be disabled")
        async with self._database.transaction() as connection:
            changed = await store.set_tenant_active(connection, tenant, active=active)
            if changed is None:
                raise NotFound(f"there is no account {tenant}")
            await store.tell(connection)
        self._heard("")
        return changed

    async def is_open(self, tenant: str) -> bool:
        """Not disabled: a look at a set. Unavailable when that is stale and the store away."""
        if time.monotonic() >= self._disabled_until:
            await self._load()
        return tenant not in self._disabled

    async def _load(self) -> None:
        async with self._loading:
            if time.monotonic() < self._disabled_until:
                return
            changes = self._changes
            async with self._database.connection() as connection:
                self._disabled = await store.disabled_tenants(connection)
            # What was read may be old by now: of a change in the meantime we have heard.
            if changes == self._changes:
                self._disabled_until = time.monotonic() + _DISABLED_SECONDS_MAX

    def _heard(self, _: str) -> None:
        self._changes += 1
        self._disabled_until = 0.0


class PeopleService:
    """`tenant` is whose admin asks: it sees those whom it added, and those with a role in it."""

    def __init__(
        self,
        database: Database,
        *,
        first: str,
        passwords: Passwords,
        with_provider: bool,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._database = database
        self._first = first
        self._passwords = passwords
        self._with_provider = with_provider
        self._now = now

    async def list(self, tenant: str) -> list[Member]:
        async with self._database.connection() as connection:
            return await store.members(connection, tenant)

    async def add(
        self, tenant: str, name: str, *, email: str | None = None, roles: frozenset[str]
    ) -> tuple[Member, str | None]:
        """With a password, shown this once, when no provider is set. With one, the person is
        known by the verified email of the first sign-in."""
        checked_name(name), checked_email(email)
        if not checked_roles(roles):
            raise ValidationFailed("a person has at least one role")
        if self._with_provider and email is None:
            raise ValidationFailed("people sign in with the provider: say by which email")
        password = None if self._with_provider else new_password()
        hashed = None if password is None else await self._passwords.hash(password)
        id = _new_person()
        async with self._database.transaction() as connection:
            await store.lock(connection)
            if await store.count_of_home(connection, tenant) >= PEOPLE_PER_TENANT_MAX:
                raise QuotaExceeded(f"a tenant has at most {PEOPLE_PER_TENANT_MAX} people")
            if not await store.insert_person(
                connection, tenant=tenant, id=id, name=name, email=email, password_hash=hashed
            ):
                raise Conflict("a person of this name or email exists on this platform")
            await store.put_roles(connection, tenant, id, roles, "assigned")
            return await self._member(connection, tenant, id), password

    async def set_roles(self, tenant: str, who: str, roles: frozenset[str]) -> Member:
        """`who`: an id, or the name of somebody here. One of another tenant gets in by their id."""
        checked_roles(roles)
        async with self._database.transaction() as connection:
            await store.lock(connection)
            id = await self._anybody(connection, tenant, who)
            before = await store.admins(connection, tenant)
            await store.put_roles(connection, tenant, id, roles, "assigned")
            await _keep_an_admin(connection, tenant, before)
            await store.tell(connection, id)
            return await self._member(connection, tenant, id)

    async def set_active(self, tenant: str, who: str, *, active: bool) -> Member:
        async with self._database.transaction() as connection:
            member = await self._of_home(connection, tenant, who)
            before = await self._admins_everywhere(connection, member.person.id)
            await store.set_person_active(connection, member.person.id, active=active)
            if not active:
                await store.end_sign_ins(connection, member.person.id)
                for each, count in before.items():
                    await _keep_an_admin(connection, each, count)
            await store.tell(connection, member.person.id)
            return await self._member(connection, tenant, member.person.id)

    async def remove(self, tenant: str, who: str) -> None:
        """Out of this tenant; for good when it added them and they have a role nowhere else."""
        async with self._database.transaction() as connection:
            await store.lock(connection)
            member = await self._member(connection, tenant, who)
            id = member.person.id
            before = await store.admins(connection, tenant)
            for source in ("assigned", "claims"):
                await store.put_roles(connection, tenant, id, frozenset(), source)
            if member.person.home == tenant and not await store.tenants_of(connection, id):
                await store.delete_person(connection, id)
            await _keep_an_admin(connection, tenant, before)
            await store.end_sign_ins(connection, id, tenant)
            await store.tell(connection, id)

    async def new_password(self, tenant: str, who: str) -> str:
        """Ends every session and every credential of theirs."""
        if self._with_provider:
            raise Conflict("people sign in with the provider: there are no passwords here")
        password = new_password()
        hashed = await self._passwords.hash(password)
        async with self._database.transaction() as connection:
            person = (await self._of_home(connection, tenant, who)).person
            if person.subject is not None:
                raise Conflict(f"{person.name} is known by a provider and has no password")
            await store.set_password(connection, person.id, hashed)
            await store.end_sign_ins(connection, person.id)
            await store.tell(connection, person.id)
        return password

    async def ensure_local_admin(self) -> tuple[str, str] | None:
        """Name and password of an admin made now, when nobody could sign in as one."""
        if self._with_provider:
            return None
        async with self._database.connection() as connection:
            if await store.local_admins(connection, self._first):
                return None
        name, roles = LOCAL_ADMIN, frozenset({ADMIN})
        try:
            _, password = await self.add(self._first, name, roles=roles)
        except Conflict:  # somebody of another tenant has it, or lost their roles here
            name = f"{LOCAL_ADMIN}-{ids.random_text(6).lower()}"
            _, password = await self.add(self._first, name, roles=roles)
        assert password is not None, "there is no provider"
        return name, password

    async def _member(self, connection: Connection, tenant: str, who: str) -> Member:
        found = await store.members(connection, tenant, who)
        by_id = [m for m in found if m.person.id == who] or found
        if not by_id:
            raise NotFound(f"there is no person {who!r} here")
        return by_id[0]

    async def _anybody(self, connection: Connection, tenant: str, who: str) -> str:
        """One of this tenant's, by id or name; or one of another's, by id."""
        if found := await store.members(connection, tenant, who):
            return next((m for m in found if m.person.id == who), found[0]).person.id
        person = await store.person_by_id(connection, who)
        if person is None:
            raise NotFound(f"there is no person {who!r} here")
        return person.id

    async def _of_home(self, connection: Connection, tenant: str, who: str) -> Member:
        """Whose sign-in this tenant decides on: its own people with roles in it alone. All of the
        first tenant's admins' are theirs: else an admin of one tenant could become one of another.
        """
        await store.lock(connection)
        member = await self._member(connection, tenant, who)
        if tenant == self._first:
            return member
        elsewhere = await store.tenants_of(connection, member.person.id) - {tenant}
        if member.person.home != tenant or elsewhere:
            raise AccessDenied(
                f"{member.person.name} belongs to another account too: "
                "only the platform's own admins may do that"
            )
        return member

    async def _admins_everywhere(self, connection: Connection, id: str) -> dict[str, int]:
        held = await store.tenants_of(connection, id)
        return {tenant: await store.admins(connection, tenant) for tenant in sorted(held)}


async def _keep_an_admin(connection: Connection, tenant: str, before: int) -> None:
    """Inside the transaction that changed it, which ends with this error."""
    if before and not await store.admins(connection, tenant):
        raise Conflict(f"this is the last admin of {tenant}: make another one first")


def _new_account() -> str:
    return f"{secrets.randbelow(9 * 10**11) + 10**11}"


def _new_person() -> str:
    return "p-" + ids.random_text(16)
