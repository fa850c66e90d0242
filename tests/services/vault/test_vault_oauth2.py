"""OAuth 2.0 providers with real boto3 and the SDK's client: every vendor, and what others see."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError
from joserfc import jwt
from joserfc.jwk import KeySet
from vault_ground import VaultGround

from freehold.kernel.errors import Unavailable, ValidationFailed
from freehold.services.vault.vendors import VENDORS

CANARY = "cs-canary-51c0"
ISSUER = "https://login.example.com"
METADATA = {
    "issuer": ISSUER,
    "authorizationEndpoint": f"{ISSUER}/authorize",
    "tokenEndpoint": f"{ISSUER}/token",
}
KMS_ARN = f"arn:aws:kms:us-east-1:111122223333:key/{'1' * 36}"


@pytest.fixture(scope="module")
async def vault(
    fresh_dsn: Callable[[], Awaitable[str]], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[VaultGround]:
    """One for all of them: they keep apart by tenant."""
    async with VaultGround(await fresh_dsn(), tmp_path_factory.mktemp("vault")).open() as ground:
        yield ground


def modelled_vendors() -> list[str]:
    model = botocore.session.get_session().get_service_model("bedrock-agentcore-control")
    return list(model.shape_for("CredentialProviderVendorType").enum)


def isolated(vendor: str) -> dict[str, str]:
    return {"issuer": ISSUER} if VENDORS[vendor].isolated else {}


async def create(vault: VaultGround, tenant: str, name: str, vendor: str, **config: Any) -> Any:
    member = VENDORS[vendor].member
    return await vault.control(tenant).create_oauth2_credential_provider(
        name=name, credentialProviderVendor=vendor, oauth2ProviderConfigInput={member: config}
    )


def custom(**more: Any) -> dict[str, Any]:
    return {"oauthDiscovery": {"authorizationServerMetadata": METADATA}, "clientId": "c", **more}


def test_every_vendor_of_the_model_is_known() -> None:
    assert sorted(VENDORS) == sorted(modelled_vendors())
    assert len(VENDORS) == 25


@pytest.mark.parametrize("vendor", [v for v in modelled_vendors() if v != "CustomOauth2"])
async def test_a_vendors_server_is_filled_in(vault: VaultGround, tenant: str, vendor: str) -> None:
    made = await create(
        vault, tenant, "p", vendor, clientId="c", clientSecret=CANARY, **isolated(vendor)
    )
    shown = await vault.control(tenant).get_oauth2_credential_provider(name="p")
    assert shown["credentialProviderVendor"] == vendor
    assert shown["callbackUrl"] == made["callbackUrl"]
    assert shown["status"] == "READY"
    (config,) = shown["oauth2ProviderConfigOutput"].values()
    assert config["clientId"] == "c"
    discovery = config["oauthDiscovery"]
    if "discoveryUrl" in discovery:
        vault.servers.metadata[discovery["discoveryUrl"]] = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/a",
            "token_endpoint": f"{ISSUER}/t",
        }
    provider = await vault.credentials.oauth2_provider(tenant, "p")
    assert provider.client_secret == CANARY
    assert provider.token_endpoint.startswith("https://")
    assert provider.authorization_endpoint.startswith("https://")
    assert provider.auth_method in ("client_secret_basic", "client_secret_post")
    assert CANARY not in repr(provider) + str(shown) + str(made)


async def test_each_provider_has_a_callback_of_its_own(vault: VaultGround, tenant: str) -> None:
    made = [
        await create(vault, tenant, name, "CustomOauth2", **custom(clientSecret="s"))
        for name in ("one", "two")
    ]
    urls = [m["callbackUrl"] for m in made]
    assert len(set(urls)) == 2
    assert all(u.startswith(f"{vault.endpoint}/identities/oauth2/callback/") for u in urls)
    callback_id = urls[0].rpartition("/")[2]
    assert await vault.credentials.oauth2_callback(callback_id) == (tenant, "one")
    await vault.control(tenant).update_oauth2_credential_provider(
        name="one", credentialProviderVendor="CustomOauth2",
        oauth2ProviderConfigInput={"customOauth2ProviderConfig": custom(clientSecret="t")},
    )  # fmt: skip
    shown = await vault.control(tenant).get_oauth2_credential_provider(name="one")
    assert shown["callbackUrl"] == urls[0]
    await vault.control(tenant).delete_oauth2_credential_provider(name="one")
    assert await vault.credentials.oauth2_callback(callback_id) is None


async def test_discovery_away_is_unavailable_and_nothing_else(
    vault: VaultGround, tenant: str
) -> None:
    discovery = {"discoveryUrl": f"{ISSUER}/.well-known/openid-configuration"}
    await create(
        vault, tenant, "p", "CustomOauth2",
        oauthDiscovery=discovery, clientId="c", clientSecret=CANARY,
    )  # fmt: skip
    vault.servers.metadata.clear()
    with pytest.raises(Unavailable) as away:
        await vault.credentials.oauth2_provider(tenant, "p")
    assert CANARY not in str(away.value)
    vault.servers.metadata[discovery["discoveryUrl"]] = {"issuer": ISSUER}
    with pytest.raises(ValidationFailed):
        await vault.credentials.oauth2_provider(tenant, "p")


async def test_the_servers_own_list_of_methods_decides_where_the_request_does_not(
    vault: VaultGround, tenant: str
) -> None:
    discovery = {"discoveryUrl": f"{ISSUER}/.well-known/openid-configuration"}
    await create(
        vault, tenant, "p", "CustomOauth2",
        oauthDiscovery=discovery, clientId="c", clientSecret="s",
    )  # fmt: skip
    for offered, method in (
        (None, "client_secret_basic"),
        (["client_secret_post"], "client_secret_post"),
        (["client_secret_post", "client_secret_basic"], "client_secret_basic"),
    ):
        vault.servers.metadata[discovery["discoveryUrl"]] = {
            "issuer": ISSUER,
            "token_endpoint": f"{ISSUER}/t",
            "token_endpoint_auth_methods_supported": offered,
        }
        assert (await vault.credentials.oauth2_provider(tenant, "p")).auth_method == method


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256"])
async def test_private_keys_are_made_here_kept_here_and_shown_by_their_public_half(
    vault: VaultGround, tenant: str, algorithm: str
) -> None:
    key_config = {
        "signingAlgorithm": algorithm,
        "privateKeySource": {"kmsKeySource": {"kmsKeyArn": KMS_ARN}},
        "additionalPayloadClaims": {"sub_id": CANARY},
    }
    config = custom(clientAuthenticationMethod="PRIVATE_KEY_JWT", privateKeyJwtConfig=key_config)
    await create(vault, tenant, "p", "CustomOauth2", **config)
    shown = await vault.control(tenant).get_oauth2_credential_provider(name="p")
    output = shown["oauth2ProviderConfigOutput"]["customOauth2ProviderConfig"]
    assert output["privateKeyJwtConfig"]["signingAlgorithm"] == algorithm
    assert CANARY not in str(shown)
    provider = await vault.credentials.oauth2_provider(tenant, "p")
    assert provider.auth_method == "private_key_jwt" and provider.signer is not None
    public = dict(provider.signer.public_jwk)
    assert not {"d", "p", "q"} & set(public)
    token = jwt.decode(
        provider.signer.sign(audience=f"{ISSUER}/token"),
        KeySet.import_key_set({"keys": [public]}), algorithms=[algorithm],
    )  # fmt: skip
    assert token.header["kid"] == public["kid"]
    claims = token.claims
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("c", "c", f"{ISSUER}/token")
    assert claims["sub_id"] == CANARY and claims["exp"] - claims["iat"] <= 300
    await vault.control(tenant).update_oauth2_credential_provider(
        name="p", credentialProviderVendor="CustomOauth2",
        oauth2ProviderConfigInput={"customOauth2ProviderConfig": config},
    )  # fmt: skip
    again = await vault.credentials.oauth2_provider(tenant, "p")
    assert again.signer is not None and dict(again.signer.public_jwk) == public
    assert again.version == provider.version + 1


async def test_exchange_on_behalf_of_users(vault: VaultGround, tenant: str) -> None:
    exchange = {
        "grantType": "TOKEN_EXCHANGE",
        "tokenExchangeGrantTypeConfig": {"actorTokenContent": "M2M", "actorTokenScopes": ["a"]},
        "onBehalfOfAuthenticationConfig": {"clientAuthenticationMethod": "NO_CLIENT"},
    }
    await create(
        vault, tenant, "p", "CustomOauth2",
        **custom(clientSecret="s", onBehalfOfTokenExchangeConfig=exchange),
    )  # fmt: skip
    shown = await vault.control(tenant).get_oauth2_credential_provider(name="p")
    output = shown["oauth2ProviderConfigOutput"]["customOauth2ProviderConfig"]
    assert output["onBehalfOfTokenExchangeConfig"] == exchange
    wanted = (await vault.credentials.oauth2_provider(tenant, "p")).on_behalf_of
    assert wanted is not None and wanted.actor == "M2M" and wanted.no_client
    assert wanted.actor_scopes == ("a",)


LATTICE = {"selfManagedLatticeResource": {"resourceConfigurationIdentifier": "rcfg-" + "0" * 17}}


@pytest.mark.parametrize(
    ("vendor", "member", "config", "named"),
    [
        ("GoogleOauth2", "githubOauth2ProviderConfig", {"clientId": "c", "clientSecret": "s"},
         "googleOauth2ProviderConfig"),
        ("GithubOauth2", "githubOauth2ProviderConfig", {"clientId": "c"}, "clientSecret"),
        ("OktaOauth2", "includedOauth2ProviderConfig", {"clientId": "c", "clientSecret": "s"},
         "issuer"),
        ("MicrosoftOauth2", "microsoftOauth2ProviderConfig",
         {"clientId": "c", "clientSecret": "s", "tenantId": "../x"}, "tenantId"),
        ("CustomOauth2", "customOauth2ProviderConfig",
         custom(clientSecret="s", privateEndpoint=LATTICE), "privateEndpoint"),
        ("CustomOauth2", "customOauth2ProviderConfig",
         custom(clientAuthenticationMethod="AWS_IAM_ID_TOKEN_JWT"), "AWS_IAM_ID_TOKEN_JWT"),
        ("CustomOauth2", "customOauth2ProviderConfig",
         custom(clientAuthenticationMethod="PRIVATE_KEY_JWT"), "privateKeyJwtConfig"),
        ("CustomOauth2", "customOauth2ProviderConfig",
         custom(privateKeyJwtConfig={"additionalPayloadClaims": {"iss": "x"}}), "iss"),
        ("CustomOauth2", "customOauth2ProviderConfig",
         custom(privateKeyJwtConfig={"additionalHeaderClaims": {"ALG": "none"}}), "ALG"),
        ("CustomOauth2", "customOauth2ProviderConfig",
         {"oauthDiscovery": {"authorizationServerMetadata": {
             **METADATA, "tokenEndpoint": "file:///etc/passwd"}},
          "clientId": "c", "clientSecret": "s"}, "tokenEndpoint"),
        ("CustomOauth2", "customOauth2ProviderConfig",
         {"oauthDiscovery": {"authorizationServerMetadata": {
             **METADATA, "issuer": "https://user:pass@example.com"}},
          "clientId": "c", "clientSecret": "s"}, "issuer"),
        ("CustomOauth2", "customOauth2ProviderConfig",
         custom(clientSecretSource="EXTERNAL",
                clientSecretConfig={"secretId": "env:HOME", "jsonKey": "*"}), "secretId"),
    ],
)  # fmt: skip
async def test_what_cannot_be_had_is_refused_by_its_name(
    vault: VaultGround, tenant: str, vendor: str, member: str, config: Any, named: str
) -> None:
    with pytest.raises(ClientError) as refused:
        await vault.control(tenant).create_oauth2_credential_provider(
            name="p", credentialProviderVendor=vendor, oauth2ProviderConfigInput={member: config}
        )
    error = refused.value.response["Error"]
    assert error["Code"] == "ValidationException" and named in error["Message"]


async def test_a_provider_stays_of_its_vendor(vault: VaultGround, tenant: str) -> None:
    await create(vault, tenant, "p", "GithubOauth2", clientId="c", clientSecret="s")
    with pytest.raises(ClientError, match="GithubOauth2"):
        await vault.control(tenant).update_oauth2_credential_provider(
            name="p", credentialProviderVendor="CustomOauth2",
            oauth2ProviderConfigInput={"customOauth2ProviderConfig": custom(clientSecret="s")},
        )  # fmt: skip


_SDK = """
import asyncio, sys
from bedrock_agentcore.services.identity import IdentityClient

client = IdentityClient("us-east-1")
client.create_api_key_credential_provider({"name": "k", "apiKey": sys.argv[1]})
made = client.create_oauth2_credential_provider({
    "name": "o",
    "credentialProviderVendor": "GithubOauth2",
    "oauth2ProviderConfigInput": {
        "githubOauth2ProviderConfig": {"clientId": "c", "clientSecret": sys.argv[1]}
    },
})
assert client.get_oauth2_credential_provider(name="o")["callbackUrl"] == made["callbackUrl"]
listed = client.list_oauth2_credential_providers()["credentialProviders"]
assert [provider["name"] for provider in listed] == ["o"]
client.delete_oauth2_credential_provider(name="o")
client.get_api_key_credential_provider(name="k")
print(asyncio.run(client.get_api_key(provider_name="k", agent_identity_token=sys.argv[2])))
"""


async def test_the_sdks_identity_client_works_unmodified(vault: VaultGround, tenant: str) -> None:
    """In a process of its own: importing it warns of its own dependencies."""
    key = vault.access_keys.of(tenant)
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("AWS_")},
        "AWS_ACCESS_KEY_ID": key.id,
        "AWS_SECRET_ACCESS_KEY": key.secret,
        "AWS_ENDPOINT_URL": vault.endpoint,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SDK, CANARY, f"wat|{tenant}|agent|", env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    assert out.decode().strip() == CANARY
