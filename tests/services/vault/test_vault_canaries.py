"""The bar: secrets in no output, error or log, of any operation of the vault."""

import asyncio
import json
import logging
from typing import Any

import pytest
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from vault_ground import ARN, VaultGround

from edge_ground import REGION
from freehold.kernel.errors import Unavailable
from freehold.services.vault.changing import Registration
from freehold.services.vault.configuration import PrivateKeyWish, api_key_secret
from freehold.services.vault.native import NextSecret, RegistrationGiven

CANARY = "canary-e1b6"


def own(vault: VaultGround, tenant: str, method: str, path: str, body: Any = None) -> str:
    """Our own API, signed; the whole answer as text."""
    key = vault.access_keys.of(tenant)
    data = b"" if body is None else json.dumps(body).encode()
    url = f"{vault.endpoint}/freehold/v1{path}"
    request = AWSRequest(method=method, url=url, data=data)
    SigV4Auth(Credentials(key.id, key.secret), "freehold", REGION).add_auth(request)
    with urllib3.PoolManager(retries=False) as pool:
        answer = pool.request(
            method, url, body=data or None, headers=dict(request.headers.items()), timeout=20
        )
        return f"{answer.status} {answer.headers} {answer.data.decode()}"


async def test_bar_no_operation_shows_a_secret(
    vault: VaultGround, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="freehold")
    said: list[str] = []

    async def aws(operation: str, **parameters: Any) -> None:
        try:
            said.append(str(await getattr(vault.control(tenant), operation)(**parameters)))
        except ClientError as error:
            said.append(f"{error} {error.response}")

    async def ours(method: str, path: str, body: Any = None) -> None:
        said.append(await asyncio.to_thread(own, vault, tenant, method, path, body))

    github = {"githubOauth2ProviderConfig": {"clientId": "c", "clientSecret": CANARY}}
    custom = {
        "customOauth2ProviderConfig": {
            "oauthDiscovery": {"discoveryUrl": "https://x/.well-known/openid-configuration"},
            "clientId": "c",
            "clientSecret": CANARY,
            "privateKeyJwtConfig": {"additionalHeaderClaims": {"x": CANARY}},
        }
    }
    for _ in range(2):  # the second time most are refused
        await aws("create_api_key_credential_provider", name="k", apiKey=CANARY)
        for name, vendor, config in (("o", "GithubOauth2", github), ("j", "CustomOauth2", custom)):
            await aws(
                "create_oauth2_credential_provider", name=name, credentialProviderVendor=vendor,
                oauth2ProviderConfigInput=config,
            )  # fmt: skip
    await aws("create_api_key_credential_provider", name="e", apiKey=CANARY,
              apiKeySecretSource="EXTERNAL")  # fmt: skip
    schedule = {
        "everyDays": 30,
        "registration": {
            "registrationClientUri": "https://as.example.com/c",
            "registrationAccessToken": CANARY,
        },
    }
    for kind, name in (("api-key", "k"), ("oauth2", "o"), ("oauth2", "absent")):
        place = f"/vault/providers/{kind}/{name}"
        await ours("PUT", f"{place}/next-secret", {"secret": CANARY})
        await ours("PUT", f"{place}/next-secret", {"secrets": CANARY})
        await ours("PUT", f"{place}/schedule", schedule)
        await ours("GET", f"{place}/jwks")
        await ours("POST", f"{place}/promotion")
        await ours("PUT", f"{place}/next-secret", {"secret": CANARY})
    await ours("GET", "/vault/providers/oauth2/j/jwks")
    await ours("GET", "/vault")
    await ours("POST", "/vault/rotations", {})
    await vault.settled()
    for name in ("k", "o", "j"):
        await aws("get_api_key_credential_provider", name=name)
        await aws("get_oauth2_credential_provider", name=name)
    await aws("list_api_key_credential_providers")
    await aws("list_oauth2_credential_providers")
    await aws("update_api_key_credential_provider", name="k", apiKey=CANARY)
    await aws(
        "update_oauth2_credential_provider", name="o", credentialProviderVendor="GithubOauth2",
        oauth2ProviderConfigInput=github,
    )  # fmt: skip
    vault.named[ARN].trouble = Unavailable("away")
    for configuration in ({"keyType": "ServiceManagedKey"},
                          {"keyType": "CustomerManagedKey", "kmsKeyArn": ARN}):  # fmt: skip
        await aws("set_token_vault_cmk", kmsConfiguration=configuration)
    await aws("get_token_vault")
    await aws("reset_token_vault_key_material", tokenVaultId="default")
    for name in ("k", "o", "j"):
        await aws("delete_api_key_credential_provider", name=name)
        await aws("delete_oauth2_credential_provider", name=name)

    assert len(said) > 40
    assert any("200 " in line and "kty" in line for line in said)
    leaking = [line for line in [*said, caplog.text] if CANARY in line]
    assert leaking == []
    private = [line for line in said if '"d":' in line or "'d':" in line]
    assert private == []


def test_what_holds_a_secret_hides_it_from_repr() -> None:
    secret = api_key_secret({"apiKey": CANARY})
    for holder in (
        secret,
        NextSecret(CANARY),
        RegistrationGiven("u", CANARY),
        Registration(uri="u", token=CANARY),
        PrivateKeyWish(
            algorithm="RS256", kms_key_arn="", header={"x": CANARY}, payload={"y": CANARY}
        ),
    ):
        assert CANARY not in repr(holder) + str(holder) + f"{holder}"
