"""Credential providers: made, shown, changed, deleted."""

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from freehold.kernel.arns import agentcore_arn
from freehold.kernel.errors import ValidationFailed
from freehold.kernel.pages import Page
from freehold.ports.database import Connection, Database
from freehold.ports.resources import Document, Resource, ResourceKind, Resources
from freehold.services.vault import assertions, store
from freehold.services.vault.configuration import (
    Configuration,
    Params,
    api_key_secret,
    oauth2_configuration,
)
from freehold.services.vault.model import (
    API_KEY,
    DUE_TAG,
    OAUTH2,
    REGISTRATION,
    SECRET_KIND,
    SIGNING_KEY,
    NewSecret,
    Oauth2Document,
    next_of,
    oauth2_document,
    secret_place,
)
from freehold.services.vault.secrets import Sealed, SecretBox

_Sealings = dict[str, Sealed]


class ProviderService:
    """Names are unique in a tenant; a provider and its secret are written together or not."""

    def __init__(
        self, *, database: Database, resources: Resources, secrets: SecretBox, region: str
    ) -> None:
        self._database = database
        self._resources = resources
        self._secrets = secrets
        self._region = region

    # -- both kinds

    async def get(self, tenant: str, kind: ResourceKind, name: str) -> Resource:
        return await self._resources.get(tenant, kind, name)

    async def page(
        self, tenant: str, kind: ResourceKind, limit: int | None, token: str | None
    ) -> Page[Resource]:
        return await self._resources.page(tenant, kind, limit=limit, token=token)

    async def delete(self, tenant: str, kind: ResourceKind, name: str) -> None:
        """With its secrets, at once."""
        secret = SECRET_KIND[kind.name]
        async with self._database.transaction() as connection:
            await self._resources.delete(tenant, kind, name, connection=connection)
            await store.delete_secrets(connection, tenant, name, _kinds(kind))
            await store.delete_schedule(connection, tenant, secret, name)
            if kind is OAUTH2:
                await store.delete_callbacks(connection, tenant, name)

    # -- API keys

    async def create_api_key(self, tenant: str, params: Params) -> Resource:
        secret = api_key_secret(params)
        name = params["name"]
        sealings = {"api-key": await self._secrets.take(tenant, "api-key", name, secret)}
        document = self._place(tenant, API_KEY, name, secret)
        return await self._create(tenant, API_KEY, params, document, sealings=sealings)

    async def update_api_key(self, tenant: str, params: Params) -> Resource:
        """The key is given anew: there is nothing else to change."""
        name = params["name"]
        await self._resources.get(tenant, API_KEY, name)
        secret = api_key_secret(params)
        sealings = {"api-key": await self._secrets.take(tenant, "api-key", name, secret)}

        def change(before: Resource) -> Document:
            return _kept_place(before.document, self._place(tenant, API_KEY, name, secret))

        return await self._update(tenant, API_KEY, name, change, sealings=sealings)

    # -- OAuth 2.0

    async def create_oauth2(self, tenant: str, params: Params) -> Resource:
        name = params["name"]
        wanted = oauth2_configuration(params)
        sealings, public = await self._sealings(tenant, name, wanted)
        callback_id = str(uuid.uuid4())
        document = self._document(tenant, name, wanted, callback_id, public)
        return await self._create(
            tenant, OAUTH2, params, document, sealings=sealings, callback_id=callback_id
        )

    async def update_oauth2(self, tenant: str, params: Params) -> Resource:
        """Replaces all of its configuration. The callback stays; so does a private key whose
        algorithm stays, because the provider knows its public half."""
        name = params["name"]
        before = oauth2_document(await self._resources.get(tenant, OAUTH2, name))
        wanted = oauth2_configuration(params)
        if wanted.vendor != before.vendor:
            raise ValidationFailed(
                f"credentialProviderVendor: {name} is a provider of {before.vendor}; "
                "make another one for another vendor"
            )
        sealings, public = await self._sealings(tenant, name, wanted, before)
        document = self._document(tenant, name, wanted, before.callback_id, public)

        def change(now: Resource) -> Document:
            return _kept_place(now.document, document)

        gone = [] if wanted.private_key else [SIGNING_KEY]
        gone += [] if wanted.secret else ["client-secret"]
        return await self._update(tenant, OAUTH2, name, change, sealings=sealings, gone=gone)

    async def _sealings(
        self, tenant: str, name: str, wanted: Configuration, before: Oauth2Document | None = None
    ) -> tuple[_Sealings, dict[str, Any] | None]:
        """What is to be sealed, and the public half of a private key."""
        sealings: _Sealings = {}
        public = None
        if wanted.secret is not None:
            sealings["client-secret"] = await self._secrets.take(
                tenant, "client-secret", name, wanted.secret
            )
        if wanted.private_key is not None:
            private, public = await self._key(tenant, name, wanted, before)
            sealings[SIGNING_KEY] = await self._secrets.seal(
                tenant, SIGNING_KEY, name, assertions.sealed_key(wanted.private_key, private)
            )
        return sealings, public

    async def _key(
        self, tenant: str, name: str, wanted: Configuration, before: Oauth2Document | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        assert wanted.private_key is not None
        algorithm = wanted.private_key.algorithm
        if before is not None and before.signing_algorithm == algorithm and before.public_jwk:
            kept = (await self._secrets.read(tenant, name, SIGNING_KEY)).get(SIGNING_KEY)
            if kept is not None:
                stored = msgspec.json.decode(kept, type=assertions.SigningKey)
                return stored.jwk, before.public_jwk
        return await assertions.new_key_in_thread(algorithm)

    def _document(
        self,
        tenant: str,
        name: str,
        wanted: Configuration,
        callback_id: str,
        public: dict[str, Any] | None,
    ) -> Document:
        place: dict[str, Any] = {}
        if wanted.secret is not None:
            place = self._place(tenant, OAUTH2, name, wanted.secret)
        key = wanted.private_key
        document = Oauth2Document(
            vendor=wanted.vendor,
            client_id=wanted.client_id,
            discovery=wanted.discovery,
            callback_id=callback_id,
            auth_method=wanted.auth_method,
            on_behalf_of=wanted.on_behalf_of,
            signing_algorithm=key.algorithm if key else "",
            kms_key_arn=key.kms_key_arn if key else "",
            public_jwk=public,
            **place,
        )
        built: Document = msgspec.to_builtins(document)
        return built

    # -- inside

    def _place(
        self, tenant: str, kind: ResourceKind, name: str, secret: NewSecret
    ) -> dict[str, Any]:
        arn = agentcore_arn(self._region, tenant, kind.arn_resource.format(name=name))
        return dict(secret_place(arn, kind, secret))

    async def _create(
        self,
        tenant: str,
        kind: ResourceKind,
        params: Params,
        document: Document,
        *,
        sealings: _Sealings,
        callback_id: str | None = None,
    ) -> Resource:
        name, tags = params["name"], params.get("tags") or {}
        for key in tags:
            if key.startswith("freehold:"):
                raise ValidationFailed(f"tag {key}: this kind of resource has no such setting")
        async with self._database.transaction() as connection:
            made, _ = await self._resources.create(
                tenant, kind, id=name, name=name, status="READY", document=document, tags=tags,
                connection=connection,
            )  # fmt: skip
            # Of an earlier one of this name nothing may be left over.
            await store.delete_secrets(connection, tenant, name, _kinds(kind))
            await self._put_all(connection, tenant, name, sealings)
            if callback_id is not None:
                await store.put_callback(connection, callback_id, tenant, name)
        return made

    async def _update(
        self,
        tenant: str,
        kind: ResourceKind,
        name: str,
        change: Callable[[Resource], Document],
        *,
        sealings: _Sealings,
        gone: Sequence[str] = (),
    ) -> Resource:
        async with self._database.transaction() as connection:
            changed = await self._resources.update(
                tenant, kind, name, change, connection=connection
            )
            await self._put_all(connection, tenant, name, sealings)
            if gone:
                await store.delete_secrets(connection, tenant, name, list(gone))
            due = await store.schedule_done(connection, tenant, SECRET_KIND[kind.name], name)
        if due is not None:
            await self._resources.tag(tenant, changed.arn, {DUE_TAG: f"{due:%Y-%m-%d}"})
        return changed

    async def _put_all(
        self, connection: Connection, tenant: str, name: str, sealings: _Sealings
    ) -> None:
        for kind, sealed in sealings.items():
            await self._secrets.put(connection, tenant, kind, name, sealed)


def _kinds(kind: ResourceKind) -> list[str]:
    secret = SECRET_KIND[kind.name]
    return [secret, next_of(secret), *((SIGNING_KEY, REGISTRATION) if kind is OAUTH2 else ())]


def _kept_place(before: Document, after: Document) -> Document:
    """A managed secret keeps its ARN when its value changes."""
    if before.get("source") == after.get("source") == "MANAGED":
        return {**after, "secret_arn": before["secret_arn"]}
    return after
