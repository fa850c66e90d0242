"""Prepared services: what each offers, what of its address a person has to name, the ways in.

Curated sets of operations of well-known services, for targets of the kind mcp.connector.
"""

from typing import Literal

import msgspec

Grant = Literal["AUTHORIZATION_CODE", "CLIENT_CREDENTIALS", "TOKEN_EXCHANGE"]


class ConnectorParameter(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A part of the service's address, fixed when the target is made and never an agent's to say.
    Without `default` it has to be given."""

    name: str
    meaning: str
    pattern: str
    example: str
    default: str | None = None


class ConnectorOperation(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    omit_defaults=True,
    forbid_unknown_fields=True,
):
    """`scopes` are those that it needs where the way in asks for any."""

    name: str
    title: str
    reads: bool = False
    destroys: bool = False
    scopes: tuple[str, ...] = ()


class Registration(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    omit_defaults=True,
    forbid_unknown_fields=True,
):
    """What `CreateOauth2CredentialProvider` needs beside client id and secret. `vendor` is one of
    its vendors, `member` where its oauth2ProviderConfigInput has them; for CustomOauth2 either
    `discovery_url` or the other addresses, in which {parameters} of the connector may stand."""

    vendor: str
    member: str = "customOauth2ProviderConfig"
    discovery_url: str = ""
    issuer: str = ""
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    auth_method: Literal["", "CLIENT_SECRET_BASIC", "CLIENT_SECRET_POST"] = ""


class Way(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    omit_defaults=True,
    forbid_unknown_fields=True,
):
    """One way in; the first of a connector is what is meant where nobody says.

    `scopes` go with each request for a token, beside those of the operations, unless
    `asks_scopes` is False: then they are chosen where the app is registered. With
    `scopes_parameter` all of them go in that parameter, joined by `separator`. `parameters` are
    what else a request for a token has to say, by its name, with its meaning.
    """

    name: str
    about: str
    type: Literal["OAUTH", "API_KEY"]
    grant: Grant | None = None
    registration: Registration | None = None
    scopes: tuple[str, ...] = ()
    asks_scopes: bool = True
    scopes_parameter: str = ""
    separator: str = " "
    parameters: dict[str, str] = {}
    header: str = "Authorization"
    prefix: str = "Bearer"


class Fact(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Where what is said of the service comes from."""

    source: str
    version: str
    url: str = ""


class Connector(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    id: str
    title: str
    version: str
    about: str
    facts: tuple[Fact, ...]
    ways: tuple[Way, ...]
    operations: tuple[ConnectorOperation, ...] = ()
    parameters: tuple[ConnectorParameter, ...] = ()
    register: str = ""
    """Where a person registers the app that has the client id."""
