"""A gateway's outbound credentials over the real vault, the real OAuth service and their database,
with a real OpenID provider to ask."""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import aiohttp
from joserfc import jwt
from starlette.types import Receive, Scope, Send

from freehold.adapters.aws_signing.roles import OperatorRoles
from freehold.adapters.oauth.client import HttpOauthClient
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.postgres.resource_sql import CHANNEL
from freehold.adapters.postgres.resources import PostgresResources
from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.adapters.secrets.external import OperatorSecrets
from freehold.adapters.secrets.keyring import Keyring
from freehold.edges.oauth.app import OauthEdge
from freehold.edges.serving import HttpServer
from freehold.kernel import ids
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.request import Request
from freehold.ports.audit import AuditEvent
from freehold.ports.targets import Credential, Json, Place
from freehold.ports.tokens import TokenRefused, TokenRules, VerifiedToken
from freehold.ports.workloads import Workload
from freehold.processes.web import make_web
from freehold.services.gateway.outbound import OutboundCredentials
from freehold.services.oauth.authorizations import Authorizations
from freehold.services.oauth.grants import Grants
from freehold.services.oauth.records import Records
from freehold.services.oauth.service import OauthService
from freehold.services.vault.credentials import CredentialService
from freehold.services.vault.model import API_KEY, OAUTH2, oauth2_document
from freehold.services.vault.providers import ProviderService
from freehold.services.vault.secrets import SecretBox
from freehold.settings import load
from oidc_ground import OidcProvider
from oidc_visitor import Visitor

REGION = "us-east-1"
RETURN_URL = "https://app.example.test/back?from=gateway"
KEYRING = "1:" + "A" * 43 + "="
AWS_KEY, AWS_SECRET = "AKIAFAKEFAKEFAKEFAKE", "canary-aws-secret"
ROLE = "arn:aws:iam::444455556666:role/gateway"


class Sealed:
    """`ports.secrets.TenantSealer` with one key."""

    def __init__(self) -> None:
        self._sealer = EnvelopeSealer(Keyring.parse(KEYRING, source="a test"))

    async def seal(self, tenant: str, plaintext: bytes, *, context: str) -> bytes:
        return self._sealer.seal(plaintext, context=f"{tenant}|{context}")

    async def open(self, tenant: str, sealed: bytes, *, context: str) -> bytes:
        return self._sealer.open(sealed, context=f"{tenant}|{context}")


class NoWorkloadTokens:
    """A gateway has none to show: whoever asks for one has taken the wrong way."""

    async def issue(self, workload: Workload) -> str:
        raise AssertionError("no token is needed")

    async def read(self, token: str, *, tenant: str) -> Workload:
        raise TokenRefused("no token is taken")

    async def return_urls(self, tenant: str, workload: str) -> Collection[str]:
        return []


class ProvidersOwnTokens:
    """`ports.tokens.TokenVerifier` for tokens that the provider of the test signed."""

    def __init__(self, provider: OidcProvider) -> None:
        self._provider = provider

    async def verify(self, token: str, rules: TokenRules) -> VerifiedToken:
        claims = jwt.decode(token, self._provider.key("RS256"), algorithms=["RS256"]).claims
        return VerifiedToken(
            issuer=claims["iss"], subject=claims["sub"], expires_at=claims["exp"], claims=claims
        )


class Kept:
    """`ports.audit.Audit` that a test can read."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    async def write(self, event: AuditEvent) -> None:
        self.events.append(event)


class Ground:
    """`restarted` is another worker on the same database."""

    def __init__(self, dsn: str, oidc: OidcProvider, web: Any, directory: Path) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self._listening, self.oidc = listening, oidc
        self.public_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        self.audit, sealer = Kept(), Sealed()
        self.database = PostgresDatabase(dsn, pool_size_max=4, application_name="outbound tests")
        resources = PostgresResources(self.database, region=REGION)
        box = SecretBox(self.database, sealer, OperatorSecrets((), environment={}))
        client = HttpOauthClient(web)
        self.providers = ProviderService(
            database=self.database, resources=resources, secrets=box, region=REGION
        )
        self.vault = CredentialService(
            database=self.database, resources=resources, secrets=box, workloads=NoWorkloadTokens(),
            audit=self.audit, discovery=client, region=REGION, kept_seconds=60,
        )  # fmt: skip
        self.database.listen(CHANNEL, self.vault.heard_change)
        records, self.grants = Records(self.audit), Grants(self.database, sealer)
        self.authorizations = Authorizations(
            database=self.database, sealer=sealer, client=client, providers=self.vault,
            grants=self.grants, records=records, public_url=self.public_url,
        )  # fmt: skip
        self.oauth = OauthService(
            database=self.database, client=client, providers=self.vault,
            workload_tokens=NoWorkloadTokens(), return_urls=NoWorkloadTokens(),
            verifier=ProvidersOwnTokens(oidc), grants=self.grants,
            authorizations=self.authorizations, records=records,
        )  # fmt: skip
        self.database.listen(
            CHANNEL, lambda payload: self.oauth.provider_changed(payload.partition("/")[0])
        )
        self.outbound = OutboundCredentials(
            tokens=self.oauth, api_keys=self.vault, roles=OperatorRoles(directory / "roles.json"),
            public_url=self.public_url, region=REGION,
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Ground"]:
        edge = OauthEdge(self.authorizations, secure=False, otherwise=_absent)
        server = HttpServer(edge, drain_seconds_max=1)
        await self.database.start()
        serving = asyncio.create_task(server.serve(self._listening))
        try:
            yield self
        finally:
            server.stop()
            await serving
            await self.grants.close()
            await self.database.close()

    # -- what tenants set up

    async def api_key(self, tenant: str, key: str, name: str = "weather") -> Json:
        made = await self.providers.create_api_key(tenant, {"name": name, "apiKey": key})
        return {"providerArn": made.arn}

    async def change_api_key(self, tenant: str, key: str, name: str = "weather") -> None:
        await self.providers.update_api_key(tenant, {"name": name, "apiKey": key})

    async def delete_api_key(self, tenant: str, name: str = "weather") -> None:
        await self.providers.delete(tenant, API_KEY, name)

    async def oauth2(
        self, tenant: str, client: str = "web", name: str = "crm", **more: Any
    ) -> Json:
        """A custom provider at the test's own; its callback is registered there."""
        made = await self.providers.create_oauth2(
            tenant,
            {
                "name": name,
                "credentialProviderVendor": "CustomOauth2",
                "oauth2ProviderConfigInput": {
                    "customOauth2ProviderConfig": {
                        "oauthDiscovery": {"discoveryUrl": self.oidc.discovery_url},
                        "clientId": client, "clientSecret": self.oidc.secret(client), **more,
                    }
                },
            },
        )  # fmt: skip
        callback = (
            f"http://127.0.0.1/identities/oauth2/callback/{oauth2_document(made).callback_id}"
        )
        known = next(each for each in self.oidc.clients if each["client_id"] == client)
        if known["redirect_uris"]:
            known["redirect_uris"].append(callback)
            self.oidc._serve()
        return {"providerArn": made.arn}

    async def delete_oauth2(self, tenant: str, name: str = "crm") -> None:
        await self.providers.delete(tenant, OAUTH2, name)

    # -- calls

    async def ask(
        self, place: Place, configuration: Json, caller: Caller | None = None
    ) -> Credential:
        async with asyncio.timeout(30):
            return await self.outbound.credential(
                place, configuration, caller=caller, request_id="call-1"
            )

    def user(self, tenant: str, subject: str = "ada", token: str | None = None) -> Caller:
        """Whom the gateway's authorizer made out by their bearer token."""
        token = token or self.oidc.sign({"sub": subject})
        claims = dict(jwt.decode(token, self.oidc.key("RS256"), algorithms=["RS256"]).claims)
        return Caller(
            tenant=tenant, principal=f"user {subject}", kind=CallerKind.OAUTH_USER,
            user=f"{claims['iss']}|{claims['sub']}", claims=claims, token=token,
        )  # fmt: skip

    async def consent(self, url: str, session: str, caller: Caller) -> None:
        """In the person's browser; then their application says who sat there."""
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:

            async def opened(address: str) -> str:
                async with browser.get(address, allow_redirects=False) as answer:
                    assert answer.status == 302, await answer.text()
                    return answer.headers["Location"]

            async with Visitor(self.oidc.issuer) as visitor:
                subject = str(caller.claims["sub"])
                callback = await visitor.go_through(await opened(url), subject)
            assert (await opened(callback)).startswith(RETURN_URL)
        request = Request(caller=access_key(caller.tenant), request_id=ids.request_id())
        await self.oauth.complete(request, session, user_id=None, user_token=caller.token)


def place(tenant: str, kind: str = "mcp.openApiSchema", **more: Any) -> Place:
    values: dict[str, Any] = {
        "tenant": tenant, "gateway_id": "tools-1",
        "gateway_arn": f"arn:aws:bedrock-agentcore:{REGION}:{tenant}:gateway/tools-1",
        "target_id": "T1", "name": "crm", "kind": kind, "configuration": {}, "role_arn": ROLE,
    }  # fmt: skip
    return Place(**{**values, **more})


def access_key(tenant: str) -> Caller:
    principal = f"arn:aws:iam::{tenant}:access-key/FHIA"
    return Caller(tenant=tenant, principal=principal, kind=CallerKind.ACCESS_KEY)


def person(tenant: str, name: str = "ada", **claims: Any) -> Caller:
    return Caller(
        tenant=tenant, principal=f"arn:aws:iam::{tenant}:user/{name}", kind=CallerKind.PERSON,
        user=name, claims=claims,
    )  # fmt: skip


def canary() -> str:
    return f"canary-{secrets.token_hex(8)}"


async def _absent(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b"absent"})


def loopback_web() -> Any:
    return make_web(load({"FREEHOLD_OUTBOUND_PRIVATE_HOSTS": "127.0.0.1"}))
