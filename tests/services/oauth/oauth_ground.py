"""A worker of the OAuth service over the real database, its browser's edge on loopback, and people
with browsers. What other services are for it, is fixed here."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import timedelta
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import aiohttp
from joserfc import jwt
from starlette.types import Receive, Scope, Send

from freehold.adapters.oauth.client import HttpOauthClient
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.adapters.secrets.keyring import Keyring
from freehold.edges.oauth.app import OauthEdge
from freehold.edges.serving import HttpServer
from freehold.kernel import clock, ids
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import NotFound
from freehold.kernel.request import Request
from freehold.ports.audit import AuditEvent
from freehold.ports.credentials import Oauth2Provider
from freehold.ports.oauth import Asked
from freehold.ports.tokens import TokenRefused, TokenRules, VerifiedToken
from freehold.ports.web import Web
from freehold.ports.workloads import Workload
from freehold.processes.web import make_web
from freehold.services.oauth.authorizations import Authorizations
from freehold.services.oauth.consent import ConsentPage
from freehold.services.oauth.grants import Grants
from freehold.services.oauth.model import Flow
from freehold.services.oauth.records import Records
from freehold.services.oauth.service import OauthService, TokenAsked, TokenGiven
from freehold.settings import load
from oidc_ground import OidcProvider
from oidc_visitor import Visitor

RETURN_URL = "https://app.example.test/back?from=agent"
KEYRING = "1:" + "A" * 43 + "="
SECONDS_MAX = 120


class Sealed:
    """`ports.secrets.TenantSealer` with one key."""

    def __init__(self) -> None:
        self._sealer = EnvelopeSealer(Keyring.parse(KEYRING, source="a test"))

    async def seal(self, tenant: str, plaintext: bytes, *, context: str) -> bytes:
        return self._sealer.seal(plaintext, context=f"{tenant}|{context}")

    async def open(self, tenant: str, sealed: bytes, *, context: str) -> bytes:
        return self._sealer.open(sealed, context=f"{tenant}|{context}")


class Providers:
    """`ports.credentials.Oauth2Providers` with what tests add."""

    def __init__(self) -> None:
        self.all: dict[tuple[str, str], Oauth2Provider] = {}

    def add(self, provider: Oauth2Provider) -> Oauth2Provider:
        self.all[provider.tenant, provider.name] = provider
        return provider

    async def oauth2_provider(self, tenant: str, name: str) -> Oauth2Provider:
        found = self.all.get((tenant, name))
        if found is None:
            raise NotFound(f"no provider {name}")
        return found

    async def oauth2_callback(self, callback_id: str) -> tuple[str, str] | None:
        for (tenant, name), provider in self.all.items():
            if provider.callback_id == callback_id:
                return tenant, name
        return None


class Workloads:
    """`ports.workloads.WorkloadTokens`: a token is a key of a table."""

    def __init__(self) -> None:
        self._known: dict[str, Workload] = {}

    async def issue(self, workload: Workload) -> str:
        token = ids.random_text(20)
        self._known[token] = workload
        return token

    async def read(self, token: str, *, tenant: str) -> Workload:
        found = self._known.get(token)
        if found is None or found.tenant != tenant:
            raise TokenRefused("not a workload access token of this tenant")
        return found

    async def return_urls(self, tenant: str, workload: str) -> Collection[str]:
        return [RETURN_URL]


class ProvidersOwnTokens:
    """`ports.tokens.TokenVerifier` for tokens that the provider of the test signed."""

    def __init__(self, provider: OidcProvider) -> None:
        self._provider = provider

    async def verify(self, token: str, rules: TokenRules) -> VerifiedToken:
        if rules.discovery_url != self._provider.discovery_url:
            raise TokenRefused("another issuer")
        try:
            claims = jwt.decode(token, self._provider.key("RS256"), algorithms=["RS256"]).claims
        except ValueError as error:
            raise TokenRefused("not signed by it") from error
        return VerifiedToken(
            issuer=claims["iss"], subject=claims["sub"], expires_at=claims["exp"], claims=claims
        )


class Kept:
    """`ports.audit.Audit` that a test can read."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    async def write(self, event: AuditEvent) -> None:
        self.events.append(event)

    def of(self, operation: str) -> list[AuditEvent]:
        return [e for e in self.events if e.operation.endswith(f":{operation}")]


class Ground:
    """What all workers of a test share."""

    def __init__(self, dsn: str, oidc: OidcProvider, web: Web) -> None:
        self.dsn, self.oidc, self.web = dsn, oidc, web
        self.providers, self.workloads, self.audit = Providers(), Workloads(), Kept()
        self.later = timedelta()
        """Set it, and every worker's clock is ahead."""

    @contextlib.asynccontextmanager
    async def worker(self, *, renewal_seconds: float = 25) -> AsyncIterator["Worker"]:
        database = PostgresDatabase(self.dsn, pool_size_max=4, application_name="oauth tests")
        sealer, client = Sealed(), HttpOauthClient(self.web)
        listening = socket.create_server(("127.0.0.1", 0))
        public_url = f"http://127.0.0.1:{listening.getsockname()[1]}"

        def now() -> Any:
            return clock.now() + self.later

        grants = Grants(database, sealer, now=now, renewal_seconds=renewal_seconds)
        records = Records(self.audit)
        authorizations = Authorizations(
            database=database, sealer=sealer, client=client, providers=self.providers,
            grants=grants, records=records, public_url=public_url,
        )  # fmt: skip
        service = OauthService(
            database=database, client=client, providers=self.providers,
            workload_tokens=self.workloads, return_urls=self.workloads,
            verifier=ProvidersOwnTokens(self.oidc), grants=grants, authorizations=authorizations,
            records=records,
        )  # fmt: skip
        consents = ConsentPage(authorizations, self.providers, records)
        edge = OauthEdge(authorizations, secure=False, otherwise=_absent)
        server = HttpServer(edge, drain_seconds_max=1)
        await database.start()
        serving = asyncio.create_task(server.serve(listening))
        try:
            yield Worker(self, database, service, consents, public_url)
        finally:
            server.stop()
            await serving
            await grants.close()
            await database.close()

    def add_provider(self, tenant: str, name: str = "calendar", **more: Any) -> Oauth2Provider:
        client = more.pop("client_id", "web")
        values: dict[str, Any] = {
            "tenant": tenant,
            "name": name,
            "arn": f"arn:aws:bedrock-agentcore:us-east-1:{tenant}:token-vault/default/"
            f"oauth2credentialprovider/{name}",
            "vendor": "CustomOauth2",
            "version": 1,
            "client_id": client,
            "client_secret": f"secret-of-{client}",
            "issuer": self.oidc.issuer,
            "authorization_endpoint": f"{self.oidc.issuer}/auth",
            "token_endpoint": self.oidc.token_url,
            "auth_method": "client_secret_basic",
            "callback_id": f"cb-{name}-{tenant}",
            # It grants offline access only where consent is asked for.
            "extra": {"prompt": "consent"},
            "metadata": {"authorization_response_iss_parameter_supported": True},
        }
        provider = self.providers.add(Oauth2Provider(**{**values, **more}))
        callback = f"http://127.0.0.1/identities/oauth2/callback/{provider.callback_id}"
        known = next((c for c in self.oidc.clients if c["client_id"] == client), None)
        if known and known["redirect_uris"] and callback not in known["redirect_uris"]:
            known["redirect_uris"].append(callback)
            self.oidc._serve()
        return provider


class Worker:
    def __init__(
        self,
        ground: Ground,
        database: PostgresDatabase,
        service: OauthService,
        consents: ConsentPage,
        public_url: str,
    ) -> None:
        self.ground, self.database, self.service = ground, database, service
        self.consents, self.public_url = consents, public_url

    @property
    def issuer(self) -> str:
        return self.ground.oidc.issuer

    async def ask(
        self,
        workload: Workload,
        flow: Flow = Flow.USER_FEDERATION,
        *,
        provider: str = "calendar",
        scopes: tuple[str, ...] = ("openid", "offline_access"),
        resources: tuple[str, ...] = (),
        audiences: tuple[str, ...] = (),
        parameters: Mapping[str, str] | None = None,
        return_url: str | None = RETURN_URL,
        caller: Caller | None = None,
        **more: Any,
    ) -> TokenGiven:
        wanted = TokenAsked(
            workload_token=await self.ground.workloads.issue(workload),
            provider=provider,
            flow=flow,
            asked=Asked(
                scopes=scopes, resources=resources, audiences=audiences, parameters=parameters or {}
            ),
            return_url=return_url,
            **more,
        )
        async with asyncio.timeout(SECONDS_MAX):
            return await self.service.token(request_of(workload.tenant, caller), wanted)

    async def complete(self, tenant: str, uri: str, **user: str) -> None:
        await self.service.complete(
            request_of(tenant), uri, user_id=user.get("user_id"), user_token=user.get("user_token")
        )

    async def consented(self, workload: Workload, **more: Any) -> str:
        """The user signs in and agrees, the application completes; the first token."""
        given = await self.ask(workload, **more)
        assert given.session_uri is not None
        assert given.authorization_url is not None
        async with Browser(self) as browser:
            await browser.go(given.authorization_url, user=str(workload.user))
        await self.complete(workload.tenant, given.session_uri, user_id=str(workload.user))
        after = await self.ask(workload, **more)
        assert after.access_token is not None
        return after.access_token

    async def stored(self, tenant: str) -> int:
        async with self.database.connection() as connection:
            found = await connection.execute(
                "SELECT count(*) FROM oauth_grants WHERE tenant = %s AND sealed IS NOT NULL",
                (tenant,),
            )
            row = await found.fetchone()
        assert row is not None
        return int(row[0])


class Browser:
    """Somebody's. It has cookies for the platform; at the provider a Visitor fills in the forms."""

    def __init__(self, where: "Worker | OidcProvider") -> None:
        self._issuer = where.issuer
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def open(
        self, url: str, form: Mapping[str, str] | None = None, *, origin: str = ""
    ) -> tuple[int, str]:
        """Status, and where it leads or what it says. With a `form`, that is posted."""
        assert self._session is not None
        method, headers = "GET" if form is None else "POST", {"accept": "text/html"}
        if origin:
            headers["origin"] = origin
        async with self._session.request(
            method, url, data=form, headers=headers, allow_redirects=False
        ) as answer:
            return answer.status, answer.headers.get("Location") or await answer.text()

    async def leave(self, authorization_url: str) -> str:
        """The provider's address."""
        status, location = await self.open(authorization_url)
        assert status == 302, location
        return location

    async def sign_in(self, url: str, user: str, *, agree: bool = True) -> str:
        """The address of the callback, not opened yet."""
        async with Visitor(self._issuer) as visitor:
            return await visitor.go_through(url, user, agree=agree)

    async def go(self, authorization_url: str, user: str, *, agree: bool = True) -> str:
        """All the way: where the browser ends up, outside."""
        callback = await self.sign_in(await self.leave(authorization_url), user, agree=agree)
        status, location = await self.open(callback)
        assert status == 302, location
        return location


def workload(tenant: str, name: str = "planner", user: str | None = "ada", **more: Any) -> Workload:
    return Workload(tenant=tenant, name=name, user=user, **more)


def person(tenant: str, name: str) -> Caller:
    return Caller(
        tenant=tenant, principal=f"arn:aws:iam::{tenant}:user/{name}", kind=CallerKind.PERSON,
        user=name,
    )  # fmt: skip


def asked_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def request_of(tenant: str, caller: Caller | None = None) -> Request:
    key = Caller(
        tenant=tenant, principal=f"arn:aws:iam::{tenant}:access-key/FHIA",
        kind=CallerKind.ACCESS_KEY,
    )  # fmt: skip
    return Request(caller=caller or key, request_id=ids.request_id())


async def _absent(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b"absent"})


def loopback_web() -> Any:
    return make_web(load({"FREEHOLD_OUTBOUND_PRIVATE_HOSTS": "127.0.0.1"}))
