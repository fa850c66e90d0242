"""AgentCore's operations on credential providers and the token vault. No answer has a secret."""

from collections.abc import Callable
from typing import Any

from freehold.kernel import tracing
from freehold.kernel.pages import Page
from freehold.kernel.request import Handler, Request
from freehold.ports.credentials import CALLBACK_PATH
from freehold.ports.resources import Resource, ResourceKind
from freehold.services.vault.credentials import CredentialService
from freehold.services.vault.keys import TokenVault, VaultKeys
from freehold.services.vault.model import API_KEY, OAUTH2, VAULT_ID, Oauth2Document, oauth2_document
from freehold.services.vault.providers import ProviderService
from freehold.services.vault.vendors import VENDORS

Params = dict[str, Any]

_METHOD = {
    "client_secret_basic": "CLIENT_SECRET_BASIC",
    "client_secret_post": "CLIENT_SECRET_POST",
    "private_key_jwt": "PRIVATE_KEY_JWT",
}


def handlers(
    providers: ProviderService,
    credentials: CredentialService,
    keys: VaultKeys,
    *,
    public_url: str = "",
) -> dict[str, Handler]:
    """`public_url` is where browsers find the platform; else, where the request came to."""
    api_keys, oauth2 = _ApiKeys(providers, credentials), _Oauth2(providers, public_url)
    vault = _Vault(keys)
    service = "bedrock-agentcore-control"
    return {
        f"{service}:CreateApiKeyCredentialProvider": api_keys.create,
        f"{service}:GetApiKeyCredentialProvider": api_keys.get,
        f"{service}:ListApiKeyCredentialProviders": api_keys.page,
        f"{service}:UpdateApiKeyCredentialProvider": api_keys.update,
        f"{service}:DeleteApiKeyCredentialProvider": api_keys.delete,
        f"{service}:CreateOauth2CredentialProvider": oauth2.create,
        f"{service}:GetOauth2CredentialProvider": oauth2.get,
        f"{service}:ListOauth2CredentialProviders": oauth2.page,
        f"{service}:UpdateOauth2CredentialProvider": oauth2.update,
        f"{service}:DeleteOauth2CredentialProvider": oauth2.delete,
        f"{service}:GetTokenVault": vault.get,
        f"{service}:SetTokenVaultCMK": vault.set_key,
        f"{service}:ResetTokenVaultKeyMaterial": vault.reset,
        "bedrock-agentcore:GetResourceApiKey": api_keys.use,
    }


class _ApiKeys:
    def __init__(self, providers: ProviderService, credentials: CredentialService) -> None:
        self._providers = providers
        self._credentials = credentials

    async def create(self, request: Request, params: Params) -> Params:
        return _api_key(await self._providers.create_api_key(request.tenant, params))

    async def get(self, request: Request, params: Params) -> Params:
        provider = await self._providers.get(request.tenant, API_KEY, params["name"])
        return _api_key(provider) | _times(provider)

    async def page(self, request: Request, params: Params) -> Params:
        return await _page(self._providers, API_KEY, request, params, _summary)

    async def update(self, request: Request, params: Params) -> Params:
        provider = await self._providers.update_api_key(request.tenant, params)
        return _api_key(provider) | _times(provider)

    async def delete(self, request: Request, params: Params) -> Params:
        await self._providers.delete(request.tenant, API_KEY, params["name"])
        return {}

    async def use(self, request: Request, params: Params) -> Params:
        name = params["resourceCredentialProviderName"]
        tracing.describe(
            f"credential {name}",
            {"freehold.credential.provider": name, "freehold.credential.kind": "API_KEY"},
        )
        key = await self._credentials.api_key(request, params["workloadIdentityToken"], name)
        return {"apiKey": key}


class _Oauth2:
    def __init__(self, providers: ProviderService, public_url: str) -> None:
        self._providers = providers
        self._public_url = public_url.rstrip("/")

    async def create(self, request: Request, params: Params) -> Params:
        provider = await self._providers.create_oauth2(request.tenant, params)
        return self._shown(request, provider)

    async def get(self, request: Request, params: Params) -> Params:
        provider = await self._providers.get(request.tenant, OAUTH2, params["name"])
        return self._full(request, provider)

    async def update(self, request: Request, params: Params) -> Params:
        provider = await self._providers.update_oauth2(request.tenant, params)
        return self._full(request, provider)

    async def page(self, request: Request, params: Params) -> Params:
        def show(provider: Resource) -> Params:
            vendor = provider.document["vendor"]
            return _summary(provider) | {"credentialProviderVendor": vendor}

        return await _page(self._providers, OAUTH2, request, params, show)

    async def delete(self, request: Request, params: Params) -> Params:
        await self._providers.delete(request.tenant, OAUTH2, params["name"])
        return {}

    def _full(self, request: Request, provider: Resource) -> Params:
        vendor = provider.document["vendor"]
        return (
            self._shown(request, provider) | _times(provider) | {"credentialProviderVendor": vendor}
        )

    def _shown(self, request: Request, provider: Resource) -> Params:
        document = oauth2_document(provider)
        origin = self._public_url or request.origin
        answer: Params = {
            "name": provider.name,
            "credentialProviderArn": provider.arn,
            "clientSecretArn": {"secretArn": document.secret_arn},
            "callbackUrl": f"{origin}{CALLBACK_PATH}{document.callback_id}",
            "oauth2ProviderConfigOutput": {VENDORS[document.vendor].member: _config(document)},
            "status": provider.status,
        }
        if document.source is not None:
            answer["clientSecretSource"] = document.source
            answer["clientSecretJsonKey"] = document.json_key
        return answer


class _Vault:
    def __init__(self, keys: VaultKeys) -> None:
        self._keys = keys

    async def get(self, request: Request, params: Params) -> Params:
        return _vault(await self._keys.get(request.tenant, params.get("tokenVaultId")))

    async def set_key(self, request: Request, params: Params) -> Params:
        wanted = params["kmsConfiguration"]
        return _vault(
            await self._keys.set_key(
                request.tenant,
                params.get("tokenVaultId"),
                wanted["keyType"],
                wanted.get("kmsKeyArn"),
            )
        )

    async def reset(self, request: Request, params: Params) -> Params:
        return _vault(await self._keys.reset(request.tenant, params["tokenVaultId"]))


def _api_key(provider: Resource) -> Params:
    document = provider.document
    return {
        "name": provider.name,
        "credentialProviderArn": provider.arn,
        "apiKeySecretArn": {"secretArn": document["secret_arn"]},
        "apiKeySecretJsonKey": document["json_key"],
        "apiKeySecretSource": document["source"],
    }


def _config(document: Oauth2Document) -> Params:
    """Additional claims of assertions are left out: their model calls them sensitive."""
    config: Params = {"oauthDiscovery": document.discovery}
    if document.client_id:
        config["clientId"] = document.client_id
    if VENDORS[document.vendor].member != "customOauth2ProviderConfig":
        return config
    if document.auth_method in _METHOD:
        config["clientAuthenticationMethod"] = _METHOD[document.auth_method]
    if document.on_behalf_of is not None:
        config["onBehalfOfTokenExchangeConfig"] = document.on_behalf_of["given"]
    if document.signing_algorithm:
        key: Params = {"signingAlgorithm": document.signing_algorithm}
        if document.kms_key_arn:
            key["privateKeySource"] = {"kmsKeySource": {"kmsKeyArn": document.kms_key_arn}}
        config["privateKeyJwtConfig"] = key
    return config


def _summary(provider: Resource) -> Params:
    return {
        "name": provider.name,
        "credentialProviderArn": provider.arn,
        **_times(provider),
    }


def _times(provider: Resource) -> Params:
    return {"createdTime": provider.created_at, "lastUpdatedTime": provider.updated_at}


def _vault(vault: TokenVault) -> Params:
    configuration: Params = {"keyType": "ServiceManagedKey"}
    if vault.kms_key_arn is not None:
        configuration = {"keyType": "CustomerManagedKey", "kmsKeyArn": vault.kms_key_arn}
    return {
        "tokenVaultId": VAULT_ID,
        "kmsConfiguration": configuration,
        "lastModifiedDate": vault.modified_at,
    }


async def _page(
    providers: ProviderService,
    kind: ResourceKind,
    request: Request,
    params: Params,
    show: Callable[[Resource], Params],
) -> Params:
    page: Page[Resource] = await providers.page(
        request.tenant, kind, params.get("maxResults"), params.get("nextToken")
    )
    answer: Params = {"credentialProviders": [show(item) for item in page.items]}
    if page.next_token:
        answer["nextToken"] = page.next_token
    return answer
