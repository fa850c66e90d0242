"""OAuth 2.0 on behalf of agents, put together once a worker."""

import contextlib
from collections.abc import Collection

import msgspec
from starlette.types import ASGIApp

from freehold.adapters.oauth.client import HttpOauthClient
from freehold.adapters.postgres.resource_sql import CHANNEL as RESOURCES_CHANNEL
from freehold.edges.oauth.app import OauthEdge
from freehold.kernel.errors import NotFound, Unavailable
from freehold.kernel.operation import Operation
from freehold.kernel.request import Handler
from freehold.ports.audit import Audit
from freehold.ports.credentials import Oauth2Providers
from freehold.ports.database import Database
from freehold.ports.resources import Resources
from freehold.ports.secrets import TenantSealer
from freehold.ports.tokens import TokenVerifier
from freehold.processes.identity import Identity
from freehold.services.identity.service import WorkloadIdentities, return_urls
from freehold.services.oauth import api, native
from freehold.services.oauth.authorizations import Authorizations
from freehold.services.oauth.consent import ConsentPage
from freehold.services.oauth.grants import Grants
from freehold.services.oauth.records import Records
from freehold.services.oauth.service import OauthService
from freehold.services.vault.model import OAUTH2
from freehold.settings import Settings


class Oauth(msgspec.Struct, frozen=True, kw_only=True):
    """`consents` is `ports.consent.Consents`, for the console. `grants` is to be closed before the
    database: what a provider rotated is still to be stored."""

    service: OauthService
    authorizations: Authorizations
    consents: ConsentPage
    grants: Grants


def make_oauth(
    settings: Settings,
    database: Database,
    *,
    client: HttpOauthClient,
    sealer: TenantSealer,
    providers: Oauth2Providers,
    identity: Identity,
    verifier: TokenVerifier,
    audit: Audit,
    resources: Resources,
) -> Oauth:
    """Before `database.start`: it listens."""
    records, grants = Records(audit), Grants(database, sealer)
    authorizations = Authorizations(
        database=database, sealer=sealer, client=client, providers=providers, grants=grants,
        records=records, public_url=settings.public_url,
    )  # fmt: skip
    service = OauthService(
        database=database, client=client, providers=providers, workload_tokens=identity.tokens,
        return_urls=_OfIdentities(identity.identities), verifier=verifier, grants=grants,
        authorizations=authorizations, records=records,
    )  # fmt: skip

    async def heard_change(payload: str) -> None:
        tenant, _, rest = payload.partition("/")
        kind, _, name = rest.partition("/")
        if not payload or kind == OAUTH2.name:
            service.provider_changed(tenant)
        if kind != OAUTH2.name:
            return
        with contextlib.suppress(Unavailable):
            try:
                await resources.get(tenant, OAUTH2, name)
            except NotFound:
                await service.forget_provider(tenant, name)

    database.listen(RESOURCES_CHANNEL, heard_change)
    identity.identities.forget = service.forget_workload
    return Oauth(
        service=service,
        authorizations=authorizations,
        consents=ConsentPage(authorizations, providers, records),
        grants=grants,
    )


def oauth_handlers(oauth: Oauth) -> dict[str, Handler]:
    return api.handlers(oauth.service)


def oauth_operations(oauth: Oauth) -> list[Operation]:
    return native.operations(oauth.service)


def oauth_edge(settings: Settings, oauth: Oauth, *, otherwise: ASGIApp) -> OauthEdge:
    secure = settings.public_url.startswith("https://")
    return OauthEdge(oauth.authorizations, secure=secure, otherwise=otherwise)


class _OfIdentities:
    """`services.oauth.ports.ReturnUrls`."""

    def __init__(self, identities: WorkloadIdentities) -> None:
        self._identities = identities

    async def return_urls(self, tenant: str, workload: str) -> Collection[str]:
        return return_urls(await self._identities.get(tenant, workload))
