"""What the tests of people stand on: the services, the real database, a clock of their own."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import msgspec

from freehold.adapters.oidc.verifier import OidcVerifier
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.adapters.secrets.keyring import Keyring
from freehold.ports.audit import AuditEvent
from freehold.ports.web import Unreachable, Web, WebAnswer
from freehold.services.people.claims import parse_rules
from freehold.services.people.credentials import PersonKeys
from freehold.services.people.devices import DeviceService
from freehold.services.people.model import Member
from freehold.services.people.passwords import Passwords
from freehold.services.people.provider import Provider, ProviderSettings
from freehold.services.people.service import PeopleService, TenantService
from freehold.services.people.sign_in import SessionLimits, SignInService

ORIGIN = "https://agents.example.test"
CALLBACK = f"{ORIGIN}/console/callback"
CLIENT: dict[str, Any] = {
    "client_id": "freehold", "client_secret": "a secret: with/odd+characters%",
    "grant_types": ["authorization_code"], "response_types": ["code"],
    "redirect_uris": [CALLBACK],
}  # fmt: skip


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.at = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.at

    def later(self, **span: float) -> None:
        self.at += timedelta(**span)


class Heard:
    """An audit that remembers."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    async def write(self, event: AuditEvent) -> None:
        self.events.append(event)


class Nowhere:
    """A web in which nothing is reached."""

    async def ask(self, method: str, url: str, **_: object) -> WebAnswer:
        raise Unreachable("nothing is reached in this test")


class Rewriting:
    """A real web, but for the paths that have a prepared answer."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self.answers: dict[str, WebAnswer] = {}

    async def ask(self, method: str, url: str, **more: Any) -> WebAnswer:
        prepared = self.answers.get(urlsplit(url).path)
        return prepared or await self._web.ask(method, url, **more)

    def prepare(self, path: str, document: Any, status: int = 200) -> None:
        body = msgspec.json.encode(document)
        self.answers[path] = WebAnswer(status=status, headers={}, body=body)


class Ground:
    """Everything of this service for one platform whose first account is `first`."""

    def __init__(
        self,
        database: PostgresDatabase,
        first: str,
        *,
        issuer: str | None = None,
        web: Web | None = None,
        verifier: OidcVerifier | None = None,
        rules: str = "",
        roles_claim: str = "groups",
    ) -> None:
        self.database, self.first = database, first
        self.clock, self.audit = Clock(), Heard()
        self.source = new_source()
        sealer = EnvelopeSealer(Keyring.parse(f"1:{_KEY}", source="a test"))
        passwords = Passwords()
        provider = None
        if issuer is not None:
            assert verifier is not None
            provider = Provider(
                ProviderSettings(
                    issuer=issuer, client_id=str(CLIENT["client_id"]),
                    client_secret=str(CLIENT["client_secret"]), redirect_uri=CALLBACK,
                    roles_claim=roles_claim,
                ),
                web=web or Nowhere(),
                tokens=verifier,
            )  # fmt: skip
        self.tenants = TenantService(database, first=first)
        self.people = PeopleService(
            database, first=first, passwords=passwords, with_provider=issuer is not None
        )
        self.keys = PersonKeys(database, sealer, now=self.clock)
        self.sign_in = SignInService(
            database,
            first=first,
            provider=provider,
            rules=parse_rules(rules, tenant=first),
            passwords=passwords,
            audit=self.audit,
            limits=SessionLimits(),
            now=self.clock,
        )
        self.devices = DeviceService(
            database, first=first, keys=self.keys, origin=ORIGIN, audit=self.audit, now=self.clock
        )

    async def person(
        self, *roles: str, tenant: str | None = None, name: str | None = None
    ) -> tuple[Member, str]:
        """Somebody local, and their password."""
        member, password = await self.people.add(
            tenant or self.first, name or new_name(), roles=frozenset(roles or ("developer",))
        )
        assert password is not None
        return member, password

    async def everything_stored(self) -> str:
        """Every row of every table of this service, as text."""
        found = []
        async with self.database.connection() as connection:
            for table in TABLES:
                rows = await (await connection.execute(f"SELECT * FROM {table}")).fetchall()  # type: ignore[arg-type]
                found += [repr(row) for row in rows]
        return "\n".join(found)


TABLES = (
    "people", "people_credentials", "people_devices", "people_guesses", "people_roles",
    "people_sessions", "people_sign_ins", "tenants",
)  # fmt: skip
_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def new_source() -> str:
    """An address of a network that no other test has."""
    return f"2001:db8:{secrets.token_hex(2)}:{secrets.token_hex(2)}::7"


def new_name() -> str:
    return f"ada-{secrets.token_hex(4)}"
