"""Tenants, people and sign-in of command lines in our own API."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from freehold.kernel.caller import CallerKind
from freehold.kernel.errors import AccessDenied, ValidationFailed
from freehold.kernel.operation import Operation, Parameter, Params
from freehold.kernel.request import Request
from freehold.services.people.credentials import PersonKeys
from freehold.services.people.devices import DeviceService, Loopback
from freehold.services.people.model import Member, Tenant
from freehold.services.people.ports import NewKeys
from freehold.services.people.service import PeopleService, TenantService

Status = Literal["Active", "Disabled"]


class _Unshown(msgspec.Struct, frozen=True):
    """Holds a secret, so its `repr` says nothing."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class TenantView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A tenant: an account of its own."""

    account: str
    name: str
    status: str
    created_at: datetime


class TenantList(msgspec.Struct, frozen=True):
    tenants: list[TenantView]


class CreateTenant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`account`: 12 digits; made up when not given."""

    name: str
    account: str | None = None


class NewTenant(_Unshown, frozen=True, kw_only=True, rename="camel"):
    """With its first access key, whose secret is shown this once."""

    account: str
    name: str
    status: str
    access_key_id: str
    secret_access_key: str


class ChangeStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    status: Status


class PersonView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`claimedRoles` come from the provider's claims at each sign-in; `home`: who added them."""

    person_id: str
    name: str
    email: str | None
    provider: str | None
    home: str
    roles: list[str]
    claimed_roles: list[str]
    status: str
    created_at: datetime
    last_sign_in_at: datetime | None


class PersonList(msgspec.Struct, frozen=True):
    people: list[PersonView]


class AddPerson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`email`: by which the provider's sign-in is known, where one is set."""

    name: str
    roles: list[str]
    email: str | None = None


class NewPerson(_Unshown, frozen=True, kw_only=True):
    """`password` is shown this once; null where people sign in with a provider."""

    person: PersonView
    password: str | None


class SetRoles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    roles: list[str]


class NewPassword(_Unshown, frozen=True):
    """Shown this once."""

    password: str


class StartDevice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`loopback`: where the answer can come to a port of the same machine as the browser."""

    description: str = ""
    loopback: Loopback | None = None


class DeviceStarted(_Unshown, frozen=True, kw_only=True, rename="camel"):
    """As RFC 8628 has it. `verificationUrlComplete` is there with `loopback` alone."""

    device_code: str
    user_code: str
    verification_url: str
    verification_url_complete: str | None
    expires_in: int
    interval: int


class RedeemDevice(_Unshown, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """`code` and `codeVerifier` where it was started with `loopback`."""

    device_code: str
    code: str = ""
    code_verifier: str = ""


class TemporaryCredentials(_Unshown, frozen=True, kw_only=True, rename="camel"):
    """Of a person, until `expiration`; any AWS client takes them."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    expiration: datetime
    account: str
    region: str
    user: str


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The caller, as this request was authenticated."""

    account: str
    principal: str
    kind: str
    user: str | None
    roles: list[str]


_WHO = (Parameter(name="person", meaning="The person's id or name", where="path"),)
_ACCOUNT = (Parameter(name="account", meaning="The tenant's account", where="path"),)


def operations(
    *,
    tenants: TenantService,
    people: PeopleService,
    devices: DeviceService,
    person_keys: PersonKeys,
    new_keys: NewKeys,
    region: str,
) -> list[Operation]:
    ours = _Tenants(tenants, new_keys)
    theirs = _People(people)
    own = _SignIn(devices, person_keys, region)
    return [*_of_tenants(ours), *_of_people(theirs), *_of_sign_in(own)]


def _of_tenants(own: "_Tenants") -> list[Operation]:
    return [
        Operation(
            name="ListTenants", method="GET", path="/tenants", act=own.list_tenants,
            summary="The platform's tenants; for its own admins", answer=TenantList,
        ),
        Operation(
            name="CreateTenant", method="POST", path="/tenants", act=own.create,
            summary="Make a tenant and its first access key", body=CreateTenant,
            answer=NewTenant, status=201,
        ),
        Operation(
            name="ChangeTenant", method="PATCH", path="/tenants/{account}", act=own.change,
            summary="Let nobody of a tenant in, or let them in again", parameters=_ACCOUNT,
            body=ChangeStatus, answer=TenantView,
        ),
    ]  # fmt: skip


def _of_people(own: "_People") -> list[Operation]:
    return [
        Operation(
            name="ListPeople", method="GET", path="/people", act=own.list_people,
            summary="The people of the tenant and their roles, oldest first", answer=PersonList,
        ),
        Operation(
            name="AddPerson", method="POST", path="/people", act=own.add,
            summary="Add a person", body=AddPerson, answer=NewPerson, status=201,
        ),
        Operation(
            name="SetPersonRoles", method="PUT", path="/people/{person}/roles", act=own.set_roles,
            summary="Say which roles a person has in the tenant", parameters=_WHO, body=SetRoles,
            answer=PersonView,
        ),
        Operation(
            name="ChangePerson", method="PATCH", path="/people/{person}", act=own.change,
            summary="Disable a person, or enable them again", parameters=_WHO, body=ChangeStatus,
            answer=PersonView,
        ),
        Operation(
            name="RemovePerson", method="DELETE", path="/people/{person}", act=own.remove,
            summary="Take a person out of the tenant", parameters=_WHO, status=204,
        ),
        Operation(
            name="ResetPassword", method="POST", path="/people/{person}/password",
            act=own.new_password, summary="Give a person a new password; it is shown this once",
            parameters=_WHO, answer=NewPassword,
        ),
    ]  # fmt: skip


def _of_sign_in(own: "_SignIn") -> list[Operation]:
    return [
        Operation(
            name="StartDeviceSignIn", method="POST", path="/sign-in/device", act=own.start,
            summary="Begin a command line's sign-in", body=StartDevice, answer=DeviceStarted,
            open=True,
        ),
        Operation(
            name="RedeemDeviceSignIn", method="POST", path="/sign-in/token", act=own.redeem,
            summary="Ask whether somebody gave leave; temporary credentials, once",
            body=RedeemDevice, answer=TemporaryCredentials, open=True,
        ),
        Operation(
            name="WhoAmI", method="GET", path="/whoami", act=own.who_am_i,
            summary="Who signed this request, and their roles", answer=Identity,
        ),
        Operation(
            name="SignOut", method="DELETE", path="/sign-in", act=own.sign_out,
            summary="End the temporary credentials that sign this request", status=204,
        ),
    ]  # fmt: skip


class _Tenants:
    def __init__(self, tenants: TenantService, new_keys: NewKeys) -> None:
        self._tenants, self._new_keys = tenants, new_keys

    async def list_tenants(self, request: Request, params: Params, _: Any) -> TenantList:
        self._only_first(request)
        return TenantList([_tenant_view(t) for t in await self._tenants.list()])

    async def create(self, request: Request, params: Params, body: CreateTenant) -> NewTenant:
        self._only_first(request)
        made = await self._tenants.create(body.name, body.account)
        key = await self._new_keys.create(made.tenant, "made with the tenant")
        return NewTenant(
            account=made.tenant,
            name=made.name,
            status="Active",
            access_key_id=key.id,
            secret_access_key=key.secret,
        )

    async def change(self, request: Request, params: Params, body: ChangeStatus) -> TenantView:
        self._only_first(request)
        active = body.status == "Active"
        return _tenant_view(await self._tenants.set_active(params["account"], active=active))

    def _only_first(self, request: Request) -> None:
        if request.tenant != self._tenants.first or request.caller.tenant != self._tenants.first:
            raise AccessDenied(f"only the admins of {self._tenants.first} see to tenants")


class _People:
    def __init__(self, people: PeopleService) -> None:
        self._people = people

    async def list_people(self, request: Request, params: Params, _: Any) -> PersonList:
        return PersonList([_person_view(m) for m in await self._people.list(request.tenant)])

    async def add(self, request: Request, params: Params, body: AddPerson) -> NewPerson:
        member, password = await self._people.add(
            request.tenant, body.name, email=body.email, roles=frozenset(body.roles)
        )
        return NewPerson(person=_person_view(member), password=password)

    async def set_roles(self, request: Request, params: Params, body: SetRoles) -> PersonView:
        roles = frozenset(body.roles)
        changed = await self._people.set_roles(request.tenant, params["person"], roles)
        return _person_view(changed)

    async def change(self, request: Request, params: Params, body: ChangeStatus) -> PersonView:
        active = body.status == "Active"
        changed = await self._people.set_active(request.tenant, params["person"], active=active)
        return _person_view(changed)

    async def remove(self, request: Request, params: Params, _: Any) -> None:
        await self._people.remove(request.tenant, params["person"])

    async def new_password(self, request: Request, params: Params, _: Any) -> NewPassword:
        return NewPassword(await self._people.new_password(request.tenant, params["person"]))


class _SignIn:
    def __init__(self, devices: DeviceService, keys: PersonKeys, region: str) -> None:
        self._devices, self._keys, self._region = devices, keys, region

    async def start(self, request: Request, params: Params, body: StartDevice) -> DeviceStarted:
        started = await self._devices.start(
            body.description, source=request.source, loopback=body.loopback
        )
        return DeviceStarted(
            device_code=started.device_code,
            user_code=started.user_code,
            verification_url=started.verification_url,
            verification_url_complete=started.verification_url_complete,
            expires_in=started.seconds_max,
            interval=started.interval_seconds,
        )

    async def redeem(
        self, request: Request, params: Params, body: RedeemDevice
    ) -> TemporaryCredentials:
        made = await self._devices.redeem(
            body.device_code, body.code, body.code_verifier, source=request.source
        )
        return TemporaryCredentials(
            access_key_id=made.access_key_id,
            secret_access_key=made.secret_access_key,
            session_token=made.session_token,
            expiration=made.expires_at,
            account=made.tenant,
            region=self._region,
            user=made.user,
        )

    async def who_am_i(self, request: Request, params: Params, _: Any) -> Identity:
        caller = request.caller
        return Identity(
            account=caller.tenant,
            principal=caller.principal,
            kind=caller.kind.value,
            user=caller.user,
            roles=sorted(caller.roles),
        )

    async def sign_out(self, request: Request, params: Params, _: Any) -> None:
        caller = request.caller
        if caller.kind is not CallerKind.PERSON or caller.access_key_id is None:
            raise ValidationFailed("an access key of its own is no sign-in: disable it instead")
        await self._keys.end(caller.tenant, caller.access_key_id)


def _tenant_view(tenant: Tenant) -> TenantView:
    return TenantView(
        account=tenant.tenant,
        name=tenant.name,
        status="Active" if tenant.active else "Disabled",
        created_at=tenant.created_at,
    )


def _person_view(member: Member) -> PersonView:
    person = member.person
    return PersonView(
        person_id=person.id,
        name=person.name,
        email=person.email,
        provider=person.issuer,
        home=person.home,
        roles=sorted(member.assigned),
        claimed_roles=sorted(member.claimed),
        status="Active" if person.active else "Disabled",
        created_at=person.created_at,
        last_sign_in_at=person.last_sign_in_at,
    )
