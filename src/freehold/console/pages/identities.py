"""Who agents are, how they get in elsewhere, and what people let them do. Never a secret."""

from typing import Any

import msgspec

from freehold.console.answer import Answer, GoTo, Page
from freehold.console.parts import Part, parts
from freehold.console.ports import Platform
from freehold.console.routes import Route
from freehold.console.visit import Visit
from freehold.kernel.errors import FreeholdError, NotFound, ValidationFailed

_LIST = "/console/identities"
_PROVIDERS = f"{_LIST}/providers"
_GRANTS = f"{_LIST}/grants"
_PAGE = 20
"""As many as ListWorkloadIdentities gives at once."""
_KINDS = {"api-key": "ApiKeyCredentialProvider", "oauth2": "Oauth2CredentialProvider"}
_DONE = {"revoked": "The grant is forgotten: its agent must ask again."}


class Identities(msgspec.Struct, frozen=True, kw_only=True):
    identities: list[dict[str, Any]]
    next_token: str | None
    tab: str = "identities"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    identity: dict[str, Any]


class Providers(msgspec.Struct, frozen=True, kw_only=True):
    api_keys: Part
    oauth2: Part
    vault: Part
    tab: str = "providers"


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """`next_secret` and `schedule` are of our own API, where there are any."""

    kind: str
    provider: dict[str, Any]
    next_secret: dict[str, Any] | None
    schedule: dict[str, Any] | None


class Grants(msgspec.Struct, frozen=True, kw_only=True):
    grants: list[dict[str, Any]]
    user: str
    done: str = ""
    problem: str = ""
    tab: str = "grants"


class Vault(msgspec.Struct, frozen=True, kw_only=True):
    vault: Part
    token_vault: Part
    tab: str = "vault"


class IdentityPages:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        read = "ReadIdentities"
        return [
            Route(method="GET", path=_LIST, act=self.listing, operation=read),
            Route(method="GET", path=_PROVIDERS, act=self.providers, operation=read),
            Route(
                method="GET", path=f"{_PROVIDERS}/{{kind}}/{{name}}", act=self.provider,
                operation=read,
            ),
            Route(method="GET", path=_GRANTS, act=self.grants, operation=read),
            Route(method="POST", path=_GRANTS, act=self.revoke, operation="RevokeOauthGrant"),
            Route(method="GET", path=f"{_LIST}/vault", act=self.vault, operation=read),
            Route(method="GET", path=f"{_LIST}/workloads/{{name}}", act=self.one, operation=read),
        ]  # fmt: skip

    async def listing(self, visit: Visit) -> Answer:
        asked: dict[str, Any] = {"maxResults": _PAGE}
        if token := visit.query.get("nextToken"):
            asked["nextToken"] = token
        found = await self._platform.post(visit, "/identities/ListWorkloadIdentities", asked)
        data = Identities(identities=found["workloadIdentities"], next_token=found.get("nextToken"))
        return Page(template="identities.html", title="Identities", data=data)

    async def one(self, visit: Visit) -> Answer:
        name = visit.params["name"]
        found = await self._platform.post(visit, "/identities/GetWorkloadIdentity", {"name": name})
        return Page(template="identity.html", title=name, data=Identity(identity=found))

    async def providers(self, visit: Visit) -> Answer:
        api_keys, oauth2, vault = await parts(
            self._all_of(visit, "/identities/ListApiKeyCredentialProviders"),
            self._all_of(visit, "/identities/ListOauth2CredentialProviders"),
            self._platform.get(visit, "/freehold/v1/vault"),
        )
        data = Providers(api_keys=api_keys, oauth2=oauth2, vault=vault)
        return Page(template="providers.html", title="Credential providers", data=data)

    async def _all_of(self, visit: Visit, path: str) -> list[dict[str, Any]]:
        """They are few: an account has a hundred of a kind at most."""
        found: list[dict[str, Any]] = []
        token = None
        while True:
            asked: dict[str, Any] = {"nextToken": token} if token else {}
            page = await self._platform.post(visit, path, asked)
            found += page["credentialProviders"]
            token = page.get("nextToken")
            if not token:
                return found

    async def provider(self, visit: Visit) -> Answer:
        kind, name = visit.params["kind"], visit.params["name"]
        if kind not in _KINDS:
            raise NotFound("a credential provider is of the kind api-key or oauth2")
        found = await self._platform.post(visit, f"/identities/Get{_KINDS[kind]}", {"name": name})
        (vault,) = await parts(self._platform.get(visit, "/freehold/v1/vault"))
        state = vault.value or {}
        data = Provider(
            kind=kind, provider=found, next_secret=_named(state.get("nextSecrets"), kind, name),
            schedule=_named(state.get("schedules"), kind, name),
        )  # fmt: skip
        return Page(template="provider.html", title=name, data=data)

    async def grants(self, visit: Visit, refused: FreeholdError | None = None) -> Answer:
        user = visit.query.get("user", "").strip()
        found = await self._platform.get(visit, "/freehold/v1/oauth/grants", user=user)
        data = Grants(
            grants=found["grants"], user=user, done=_DONE.get(visit.query.get("done", ""), ""),
            problem="" if refused is None else refused.message,
        )  # fmt: skip
        status = 200 if refused is None else refused.status
        return Page(template="grants.html", title="Grants of people", data=data, status=status)

    async def revoke(self, visit: Visit) -> Answer:
        grant = visit.form.get("grant", "")
        if not grant:
            raise ValidationFailed("name the grant")
        visit.noted["grant"] = grant[:100]
        try:
            await self._platform.delete(visit, "/freehold/v1/oauth/grants/{grant}", grant=grant)
        except FreeholdError as error:
            return await self.grants(visit, error)
        return GoTo(location=f"{_GRANTS}?done=revoked")

    async def vault(self, visit: Visit) -> Answer:
        vault, token_vault = await parts(
            self._platform.get(visit, "/freehold/v1/vault"),
            self._platform.post(visit, "/identities/get-token-vault", {}),
        )
        data = Vault(vault=vault, token_vault=token_vault)
        return Page(template="vault.html", title="Token vault", data=data)


def _named(found: Any, kind: str, name: str) -> dict[str, Any] | None:
    for each in found or ():
        if each["providerType"] == kind and each["name"] == name:
            one: dict[str, Any] = each
            return one
    return None
