"""Credential providers as they are stored: everything but the secret."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from freehold.kernel.ids import random_text
from freehold.ports.resources import Resource, ResourceKind

VAULT_ID = "default"

API_KEY = ResourceKind(
    name="api-key-credential-provider",
    noun="API key credential provider",
    arn_resource="token-vault/default/apikeycredentialprovider/{name}",
)
OAUTH2 = ResourceKind(
    name="oauth2-credential-provider",
    noun="OAuth2 credential provider",
    arn_resource="token-vault/default/oauth2credentialprovider/{name}",
)

Source = Literal["MANAGED", "EXTERNAL"]

SECRET_KIND = {API_KEY.name: "api-key", OAUTH2.name: "client-secret"}
"""Of what a provider hands out or signs in with; `{kind}-next` is the one beside it."""
SIGNING_KEY = "signing-key"
REGISTRATION = "registration"

DUE_TAG = "freehold:change-secret-by"
"""On a provider whose secret is to be changed now and then: the date."""

_JSON_KEY = {API_KEY.name: "api_key_value", OAUTH2.name: "client_secret_value"}


def next_of(kind: str) -> str:
    return f"{kind}-next"


class Reference(msgspec.Struct, frozen=True):
    """To a secret that the operator keeps: `env:NAME` or `file:/path`, and a member of the JSON
    there, or `*` for all of it."""

    secret_id: str
    json_key: str


class NewSecret(msgspec.Struct, frozen=True):
    """`value` is in the clear until it is sealed. `repr` hides it."""

    value: str | None = None
    reference: Reference | None = None

    def __repr__(self) -> str:
        return f"NewSecret(reference={self.reference})"

    @property
    def source(self) -> Source:
        return "MANAGED" if self.reference is None else "EXTERNAL"


class StoredSecret(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    sealed: bytes | None
    reference: Reference | None
    created_at: datetime


class Oauth2Document(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A provider's document. `discovery` is Oauth2Discovery of the model. `auth_method` is "" where
    the request left it to us. `public_jwk` belongs to the private key that is sealed elsewhere."""

    vendor: str
    client_id: str
    discovery: dict[str, Any]
    callback_id: str
    source: Source | None = None
    secret_arn: str = ""
    json_key: str = ""
    auth_method: str = ""
    on_behalf_of: dict[str, Any] | None = None
    signing_algorithm: str = ""
    kms_key_arn: str = ""
    public_jwk: dict[str, Any] | None = None


def oauth2_document(provider: Resource) -> Oauth2Document:
    return msgspec.convert(provider.document, Oauth2Document)


def secret_place(arn: str, kind: ResourceKind, secret: NewSecret) -> dict[str, str]:
    """What a document says of where its secret is. `arn` is the provider's."""
    if secret.reference is not None:
        return {
            "source": "EXTERNAL",
            "secret_arn": secret.reference.secret_id,
            "json_key": secret.reference.json_key,
        }
    return {
        "source": "MANAGED",
        "secret_arn": _secret_arn(arn, kind),
        "json_key": _JSON_KEY[kind.name],
    }


def _secret_arn(arn: str, kind: ResourceKind) -> str:
    """As AgentCore names the secrets that it manages; here it is a name and nothing more."""
    parts = arn.split(":")
    region, tenant, name = parts[3], parts[4], parts[5].rpartition("/")[2]
    sort = "apikey" if kind is API_KEY else "oauth2"
    return (
        f"arn:aws:secretsmanager:{region}:{tenant}:secret:"
        f"bedrock-agentcore-identity!{VAULT_ID}/{sort}/{name}-{random_text(6)}"
    )
