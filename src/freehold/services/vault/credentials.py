"""Credentials in use: an API key for an agent, an OAuth 2.0 provider for `services/oauth`."""

import time
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from freehold.kernel import tracing
from freehold.kernel.arns import agentcore_arn
from freehold.kernel.caller import Caller
from freehold.kernel.clock import now
from freehold.kernel.errors import FreeholdError, NotFound, Unavailable, ValidationFailed
from freehold.kernel.request import Request
from freehold.ports.audit import Audit, AuditEvent
from freehold.ports.credentials import AuthMethod, Oauth2Provider, OnBehalfOf
from freehold.ports.database import Database
from freehold.ports.oauth import OauthRefused, OauthUnavailable
from freehold.ports.resources import Resource, Resources
from freehold.ports.workloads import Workload, WorkloadTokens, check_presenter
from freehold.services.vault import store
from freehold.services.vault.assertions import JwtSigner
from freehold.services.vault.model import (
    API_KEY,
    OAUTH2,
    SIGNING_KEY,
    Oauth2Document,
    next_of,
    oauth2_document,
)
from freehold.services.vault.ports import Discovery
from freehold.services.vault.secrets import SecretBox
from freehold.services.vault.vendors import VENDORS

_OPERATION = "GetResourceApiKey"
_KEPT_MAX = 10_000


class CredentialService:
    """Implements `ports.credentials.Oauth2Providers`.

    No key leaves before its use is in the audit; no use of a key that cannot be had is silent.
    """

    def __init__(
        self,
        *,
        database: Database,
        resources: Resources,
        secrets: SecretBox,
        workloads: WorkloadTokens,
        audit: Audit,
        discovery: Discovery,
        region: str,
        kept_seconds: float = 0.0,
    ) -> None:
        """`kept_seconds`: how long a gateway's API keys stay at hand. Only with `heard_change`
        listening to the resources' channel."""
        self._kept_seconds, self._changes = kept_seconds, 0
        self._kept: dict[tuple[str, str], tuple[float, str]] = {}
        self._database = database
        self._resources = resources
        self._secrets = secrets
        self._workloads = workloads
        self._audit = audit
        self._discovery = discovery
        self._region = region

    # -- API keys

    async def api_key(self, request: Request, token: str, name: str) -> str:
        """For the workload that the token says, of the caller's own tenant."""
        tenant = request.tenant
        workload = await self._workloads.read(token, tenant=tenant)
        check_presenter(request.caller, workload)
        if workload.tenant != tenant:
            raise NotFound(f"{API_KEY.noun} {name!r} does not exist")
        try:
            key = await self._api_key(tenant, name)
        except FreeholdError as error:
            outcome = "failed" if error.status >= 500 else "denied"
            await self._write(request, workload, name, outcome, error.status)
            raise
        await self._write(request, workload, name, "allowed", 200)
        return key

    async def api_key_for(
        self, workload: Workload, name: str, *, caller: Caller, request_id: str
    ) -> str:
        """Implements `ports.outbound.ApiKeys`: for a part of the platform that is the workload."""
        request = Request(caller=caller, request_id=request_id, acts_in=workload.tenant)
        try:
            key = await self._kept_api_key(workload.tenant, name)
        except FreeholdError as error:
            outcome = "failed" if error.status >= 500 else "denied"
            await self._write(request, workload, name, outcome, error.status)
            raise
        await self._write(request, workload, name, "allowed", 200)
        return key

    async def _kept_api_key(self, tenant: str, name: str) -> str:
        """As `services/oauth` keeps access tokens: for a moment, and until the provider changes."""
        kept = self._kept.get((tenant, name))
        cached = kept is not None and kept[0] > time.monotonic()
        tracing.describe(attributes={"freehold.credential.cached": cached})
        if kept is not None and cached:
            return kept[1]
        changes = self._changes
        key = await self._api_key(tenant, name)
        if self._kept_seconds > 0 and changes == self._changes:
            if len(self._kept) >= _KEPT_MAX:
                del self._kept[next(iter(self._kept))]
            self._kept[tenant, name] = (time.monotonic() + self._kept_seconds, key)
        return key

    def heard_change(self, payload: str) -> None:
        """A resource changed ("{tenant}/{kind}/{id}"), or anything may have ("")."""
        tenant, _, rest = payload.partition("/")
        if payload and not rest.startswith(API_KEY.name + "/"):
            return
        self._changes += 1
        for known in list(self._kept):
            if tenant in ("", known[0]):
                del self._kept[known]

    async def _api_key(self, tenant: str, name: str) -> str:
        found = (await self._secrets.read(tenant, name, "api-key")).get("api-key")
        if found is not None:
            return found.decode()
        await self._resources.get(tenant, API_KEY, name)
        raise ValidationFailed(
            f"{API_KEY.noun} {name!r} has lost its key; update it with a new one"
        )

    async def _write(
        self, request: Request, workload: Workload, name: str, outcome: str, status: int
    ) -> None:
        path = API_KEY.arn_resource.format(name=name)
        await self._audit.write(
            AuditEvent(
                tenant=request.tenant,
                call_id=request.request_id,
                phase="use",
                at=now(),
                operation=_OPERATION,
                principal=request.caller.principal,
                kind=str(request.caller.kind),
                user=workload.user,
                resource=agentcore_arn(self._region, request.tenant, path),
                outcome=outcome,
                status=status,
                detail={
                    "workload": workload.name,
                    "provider": name,
                    **({"session": workload.session} if workload.session else {}),
                },
            )
        )

    # -- OAuth 2.0

    async def oauth2_callback(self, callback_id: str) -> tuple[str, str] | None:
        async with self._database.connection() as connection:
            return await store.callback(connection, callback_id)

    async def oauth2_provider(self, tenant: str, name: str) -> Oauth2Provider:
        provider = await self._resources.get(tenant, OAUTH2, name)
        document = oauth2_document(provider)
        secrets = await self._secrets.read(
            tenant, name, "client-secret", next_of("client-secret"), SIGNING_KEY
        )
        metadata = await self._metadata(document)
        signer = None
        if document.public_jwk is not None and SIGNING_KEY in secrets:
            signer = JwtSigner(
                secrets[SIGNING_KEY],
                client_id=document.client_id,
                public_jwk=document.public_jwk,
            )
        return _provider(provider, document, secrets, metadata, signer)

    async def _metadata(self, document: Oauth2Document) -> Mapping[str, Any]:
        url = document.discovery.get("discoveryUrl")
        if url is None:
            return _as_metadata(document.discovery["authorizationServerMetadata"])
        try:
            return await self._discovery.discover(url)
        except OauthUnavailable as error:
            raise Unavailable(f"the provider's metadata cannot be had: {error}") from None
        except OauthRefused as error:
            raise ValidationFailed(f"the provider's metadata is of no use: {error}") from None


def _as_metadata(given: Mapping[str, Any]) -> dict[str, Any]:
    names = {
        "issuer": "issuer",
        "authorizationEndpoint": "authorization_endpoint",
        "tokenEndpoint": "token_endpoint",
        "tokenEndpointAuthMethods": "token_endpoint_auth_methods_supported",
        "responseTypes": "response_types_supported",
    }
    return {names[member]: value for member, value in given.items() if value}


def _provider(
    provider: Resource,
    document: Oauth2Document,
    secrets: Mapping[str, bytes],
    metadata: Mapping[str, Any],
    signer: JwtSigner | None,
) -> Oauth2Provider:
    vendor = VENDORS[document.vendor]
    method = document.auth_method or vendor.auth_method or _offered(metadata)
    secret = secrets.get("client-secret")
    following = secrets.get(next_of("client-secret"))
    token_endpoint = metadata.get("token_endpoint")
    if not isinstance(token_endpoint, str):
        raise ValidationFailed(f"{provider.name}: its metadata names no token endpoint")
    if method == "private_key_jwt" and signer is None:
        raise ValidationFailed(f"{provider.name} has lost its private key; update it")
    if method.startswith("client_secret") and secret is None:
        raise ValidationFailed(f"{provider.name} has lost its client secret; update it")
    on_behalf_of = None
    if document.on_behalf_of is not None:
        fields = {k: v for k, v in document.on_behalf_of.items() if k != "given"}
        on_behalf_of = msgspec.convert(fields, OnBehalfOf)
    return Oauth2Provider(
        tenant=provider.tenant,
        name=provider.name,
        arn=provider.arn,
        vendor=document.vendor,
        version=provider.version,
        client_id=document.client_id,
        client_secret=secret.decode() if secret else None,
        client_secret_next=following.decode() if following else None,
        issuer=str(metadata.get("issuer") or ""),
        authorization_endpoint=str(metadata.get("authorization_endpoint") or ""),
        token_endpoint=token_endpoint,
        auth_method=cast(AuthMethod, method),
        signer=signer,
        on_behalf_of=on_behalf_of,
        callback_id=document.callback_id,
        pkce=vendor.pkce,
        scope_separator=vendor.scope_separator,
        extra=vendor.extra,
        machine_grant=vendor.machine_grant,
        metadata=metadata,
    )


def _offered(metadata: Mapping[str, Any]) -> str:
    """RFC 8414: a server that says nothing takes client_secret_basic."""
    offered = metadata.get("token_endpoint_auth_methods_supported")
    if isinstance(offered, list) and "client_secret_basic" not in offered:
        return "client_secret_post"
    return "client_secret_basic"
