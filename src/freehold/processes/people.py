"""Tenants, people and their sign-in, put together; and the first admin, made at the first start."""

import logging
import os
from datetime import timedelta
from pathlib import Path

import msgspec

from freehold.kernel.operation import Operation
from freehold.ports.audit import Audit, AuditEvent
from freehold.ports.authorizer import AccessKey, AccessKeys
from freehold.ports.database import Database
from freehold.ports.secrets import Sealer
from freehold.ports.tokens import TokenVerifier
from freehold.ports.web import Web
from freehold.services.people import native
from freehold.services.people.claims import RoleRule, RuleBroken, parse_rules
from freehold.services.people.credentials import PREFIX, PersonKeys
from freehold.services.people.devices import DeviceService
from freehold.services.people.passwords import Passwords
from freehold.services.people.ports import NewKeys
from freehold.services.people.provider import Provider, ProviderSettings
from freehold.services.people.service import PeopleService, TenantService
from freehold.services.people.sign_in import SessionLimits, SignInService
from freehold.settings import Settings, SettingsError, variable

log = logging.getLogger("freehold.people")

CALLBACK = "/console/callback"
PASSWORD_FILE = "admin-password"  # noqa: S105 - its name


class AllKeys:
    """Access keys of every kind, and of no tenant that is disabled. Implements `AccessKeys`."""

    def __init__(self, keys: AccessKeys, person_keys: PersonKeys, tenants: TenantService) -> None:
        self._keys, self._person_keys, self._tenants = keys, person_keys, tenants

    async def active(self, access_key_id: str) -> AccessKey | None:
        of_person = access_key_id.startswith(PREFIX)
        key = await (self._person_keys if of_person else self._keys).active(access_key_id)
        if key is None or not await self._tenants.is_open(key.tenant):
            return None
        return key


class People(msgspec.Struct, frozen=True, kw_only=True):
    tenants: TenantService
    people: PeopleService
    sign_in: SignInService
    devices: DeviceService
    person_keys: PersonKeys
    keys: AllKeys


def people_operations(people: People, new_keys: NewKeys, region: str) -> list[Operation]:
    return native.operations(
        tenants=people.tenants,
        people=people.people,
        devices=people.devices,
        person_keys=people.person_keys,
        new_keys=new_keys,
        region=region,
    )


def make_people(
    settings: Settings,
    database: Database,
    sealer: Sealer,
    *,
    keys: AccessKeys,
    web: Web,
    tokens: TokenVerifier,
    audit: Audit | None = None,
) -> People:
    """Before `database.start`: it listens."""
    passwords = Passwords()
    audit = audit or _InTheLog()
    tenants = TenantService(database, first=settings.account)
    person_keys = PersonKeys(
        database, sealer, lifetime=timedelta(hours=settings.sign_in_credential_hours)
    )
    provider = _provider_settings(settings)
    return People(
        tenants=tenants,
        people=_people(settings, database, passwords),
        sign_in=SignInService(
            database,
            first=settings.account,
            provider=None if provider is None else Provider(provider, web=web, tokens=tokens),
            rules=role_rules(settings),
            passwords=passwords,
            audit=audit,
            limits=SessionLimits(
                idle=timedelta(minutes=settings.sign_in_idle_minutes),
                lifetime=timedelta(hours=settings.sign_in_session_hours),
            ),
        ),
        devices=DeviceService(
            database,
            first=settings.account,
            keys=person_keys,
            origin=settings.public_url,
            audit=audit,
        ),
        person_keys=person_keys,
        keys=AllKeys(keys, person_keys, tenants),
    )


def role_rules(settings: Settings) -> tuple[RoleRule, ...]:
    try:
        return parse_rules(settings.sign_in_roles, tenant=settings.account)
    except RuleBroken as error:
        raise SettingsError(f"{variable('sign_in_roles')}: {error}") from error


async def prepare(settings: Settings, database: Database) -> Path | None:
    """The first tenant's row, and a local admin where nobody could sign in. Where that one's
    password can be read, by this user alone; None when none was made."""
    role_rules(settings)  # a mistake there is told at the start
    await TenantService(database, first=settings.account).ensure_first()
    people = _people(settings, database, Passwords())
    path = settings.state / PASSWORD_FILE
    made = await people.ensure_local_admin()
    if made is None:
        return None
    name, password = made
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{name}\n{password}\n")
    fresh.replace(path)
    return path


def _people(settings: Settings, database: Database, passwords: Passwords) -> PeopleService:
    return PeopleService(
        database,
        first=settings.account,
        passwords=passwords,
        with_provider=settings.sign_in_issuer is not None,
    )


def _provider_settings(settings: Settings) -> ProviderSettings | None:
    if settings.sign_in_issuer is None or settings.sign_in_client_id is None:
        return None
    return ProviderSettings(
        issuer=settings.sign_in_issuer,
        client_id=settings.sign_in_client_id,
        client_secret=settings.sign_in_client_secret,
        redirect_uri=settings.public_url + CALLBACK,
        scopes=settings.sign_in_scopes,
        roles_claim=settings.sign_in_roles_claim,
    )


class _InTheLog:
    """Where no audit is kept."""

    async def write(self, event: AuditEvent) -> None:
        log.info("%s of %s: %s", event.operation, event.principal, event.outcome)
