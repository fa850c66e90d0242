"""Workload identities, credential providers and the vault."""

from running import RunningPlatform
from tenant_tables.table import Table

_GITHUB = {
    "credentialProviderVendor": "GithubOauth2",
    "oauth2ProviderConfigInput": {
        "githubOauth2ProviderConfig": {"clientId": "i", "clientSecret": "s"}
    },
}
TABLE = Table(
    things=("name", "rotation"),
    marks=("name",),
    names={
        "name": "{name}",
        "resourceCredentialProviderName": "{name}",
        "workloadName": "{name}",
    },
    nameless=frozenset({
        "userId", "userToken", "apiKeySecretSource", "credentialProviderVendor", "apiKey",
        "customState", "resourceOauth2ReturnUrl", "oauth2Flow", "sessionUri", "kmsKeyArn",
        # There is one token vault in each tenant, and it has the same name in all.
        "tokenVaultId",
        # The stranger's own: what another's does is `test_another_tenants_workload_token`.
        "workloadIdentityToken",
    }),
    at_home=frozenset({
        "CompleteResourceTokenAuth", "CreateApiKeyCredentialProvider",
        "CreateOauth2CredentialProvider", "CreateWorkloadIdentity", "GetTokenVault",
        "ResetTokenVaultKeyMaterial", "SetTokenVaultCMK",
    }),
    good={
        "GetResourceApiKey": {"workloadIdentityToken": "{own_token}"},
        "GetResourceOauth2Token": {
            "workloadIdentityToken": "{own_token}", "oauth2Flow": "M2M", "scopes": ["read"],
        },
        "GetWorkloadAccessTokenForJWT": {"userToken": "a.b.c"},
        "UpdateApiKeyCredentialProvider": {"apiKey": "k"},
        "UpdateOauth2CredentialProvider": _GITHUB,
    },
    paths={
        # Made by a flow in a browser: that a grant is found only in its tenant,
        # tests/services/oauth shows. Here nobody has it.
        "grantId": "g-0000000000",
        "name": "{name}",
        "rotationId": "{rotation}",
        "type": "api-key",
    },
    bodies={
        "PutNextSecret": {"secret": "k"},
        "PutSecretSchedule": {"everyDays": 30},
        "RotateVaultKey": {},
    },
)  # fmt: skip


def made(platform: RunningPlatform, stranger: RunningPlatform, name: str) -> dict[str, str]:
    """A workload with a token, providers, a rotation; and `own_token`, which is the stranger's."""
    control = platform.client("bedrock-agentcore-control")
    control.create_workload_identity(name=name)
    control.create_api_key_credential_provider(name=name, apiKey="canary-of-the-first-tenant")
    control.create_oauth2_credential_provider(name=name, **_GITHUB)
    rotation = platform.own("/vault/rotations", method="POST", body={})["rotationId"]
    stranger.client("bedrock-agentcore-control").create_workload_identity(name="own-of-stranger")
    tokens = {
        whose: one.client("bedrock-agentcore").get_workload_access_token(workloadName=workload)
        for whose, one, workload in (
            ("token", platform, name), ("own_token", stranger, "own-of-stranger")
        )
    }  # fmt: skip
    return {
        "name": name, "rotation": rotation,
        **{whose: token["workloadAccessToken"] for whose, token in tokens.items()},
    }  # fmt: skip


def forget(platform: RunningPlatform, values: dict[str, str]) -> None:
    control, name = platform.client("bedrock-agentcore-control"), values["name"]
    control.delete_api_key_credential_provider(name=name)
    control.delete_oauth2_credential_provider(name=name)
    control.delete_workload_identity(name=name)
