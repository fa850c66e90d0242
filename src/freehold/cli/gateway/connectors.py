"""`freehold gateway connectors`: services that are prepared, and a client of theirs made known."""

from typing import Any

import click

from freehold.cli.failure import CliError
from freehold.cli.gateway.secrets import CLIENT_SECRET, asked, new_provider
from freehold.cli.options import platform_options
from freehold.cli.platform import Platform

_MEMBERS = {
    "GithubOauth2": "githubOauth2ProviderConfig",
    "SlackOauth2": "slackOauth2ProviderConfig",
    "SalesforceOauth2": "salesforceOauth2ProviderConfig",
    "AtlassianOauth2": "atlassianOauth2ProviderConfig",
    "GoogleOauth2": "googleOauth2ProviderConfig",
    "MicrosoftOauth2": "microsoftOauth2ProviderConfig",
    "LinkedinOauth2": "linkedinOauth2ProviderConfig",
}
_ADDRESSES = ("issuer", "authorizationEndpoint", "tokenEndpoint")


@click.command()
@click.argument("connector", required=False)
@platform_options
def connectors(platform: Platform, connector: str | None) -> None:
    """List prepared services; of one: its operations, its address, the ways in.

    Add one with: freehold gateway target add GATEWAY NAME --connector ID --client-id ID
    """
    output = platform.output
    if connector is not None:
        document = platform.own.get("connectors", connector)
        if output.as_json:
            output.document(document)
        else:
            _show(platform, document)
        return
    rows = platform.own.get("connectors")["connectors"]
    if output.as_json:
        output.document({"connectors": rows})
        return
    output.table(
        ("ID", ">OPERATIONS", "WAYS IN", "NEEDS", "WHAT"),
        [
            (
                row["id"],
                str(len(row.get("operations") or ())),
                ", ".join(way["name"] for way in row["ways"]),
                ", ".join(_needed(row)) or "-",
                row["about"],
            )
            for row in rows
        ],
    )


def _needed(document: dict[str, Any]) -> list[str]:
    return [p["name"] for p in document.get("parameters") or () if "default" not in p]


def _show(platform: Platform, document: dict[str, Any]) -> None:
    output = platform.output
    output.say(f"{document['title']} ({document['id']} {document['version']}): {document['about']}")
    if register := document.get("register"):
        output.say(f"Register an app at {register}")
    output.table(
        ("WAY IN", "TYPE", "GRANT", "WHAT IT IS"),
        [
            (way["name"], way["type"], way.get("grant", "-"), way["about"])
            for way in document["ways"]
        ],
    )
    if document.get("parameters"):
        output.say("")
        output.table(
            ("--parameter", "EXAMPLE", "DEFAULT", "WHAT IT IS"),
            [
                (p["name"], p["example"], p.get("default") or "-", p["meaning"])
                for p in document["parameters"]
            ],
        )
    output.say("")
    output.table(
        ("OPERATION", "DOES", "WHAT"),
        [(o["name"], _does(o), o["title"]) for o in document.get("operations") or ()],
    )


def _does(operation: dict[str, Any]) -> str:
    if operation.get("destroys"):
        return "changes"
    return "reads" if operation.get("reads") else "adds"


def way_of(document: dict[str, Any], name: str | None) -> dict[str, Any]:
    """The way in of this name; the connector's first where nobody says."""
    ways: list[dict[str, Any]] = document["ways"]
    for way in ways:
        if name in (None, way["name"]):
            return way
    known = ", ".join(way["name"] for way in ways)
    raise CliError(
        f"{document['title']} has no way in called {name}.", code="BadWay", hint=f"It has: {known}"
    )


def made_known(platform: Platform, name: str, given: dict[str, Any]) -> str:
    """Makes the OAuth credential provider `name` for the client that the options name; says what
    to register at the service. Gives the provider's name."""
    connector, parameters = given["connector"], given["parameter"]
    document = platform.own.get("connectors", connector)
    chosen = way_of(document, given["way"])
    registration = chosen.get("registration")
    if registration is None:
        raise CliError(
            f"{document['title']}: the way in {chosen['name']} takes an API key, not a client.",
            code="BadWay",
            hint="Keep it in the vault, and name it with --api-key-provider.",
        )
    known = {p["name"]: p["default"] for p in document.get("parameters") or () if "default" in p}
    missing = [each for each in _needed(document) if each not in parameters]
    if missing:
        raise CliError(
            f"{document['title']} needs --parameter {missing[0]}=...", code="MissingParameter",
            hint=f"See: freehold gateway connectors {connector}",
        )  # fmt: skip
    vendor = registration["vendor"]
    secret = asked(f"client secret of {document['title']}", CLIENT_SECRET)
    client = {"clientId": given["client_id"], "clientSecret": secret}
    with new_provider(name, "--oauth-provider", "--client-id"):
        made = platform.control.create_oauth2_credential_provider(
            name=name,
            credentialProviderVendor=vendor,
            oauth2ProviderConfigInput=_configuration(registration, client, {**known, **parameters}),
        )
    callback = made.get("callbackUrl")
    if chosen.get("grant") == "AUTHORIZATION_CODE" and callback:
        platform.output.note(f"Register this callback URL with {document['title']}: {callback}")
    return name


def _configuration(
    registration: dict[str, Any], client: dict[str, str], parameters: dict[str, str]
) -> Any:
    filled = {
        key: _filled(registration[key], parameters)
        for key in ("discoveryUrl", *_ADDRESSES)
        if registration.get(key)
    }
    vendor = registration["vendor"]
    if vendor != "CustomOauth2":
        member = _MEMBERS.get(vendor, "includedOauth2ProviderConfig")
        addresses = filled if member == "includedOauth2ProviderConfig" else {}
        return {member: {**client, **addresses}}
    discovery: dict[str, Any] = {"authorizationServerMetadata": filled}
    if "discoveryUrl" in filled:
        discovery = {"discoveryUrl": filled["discoveryUrl"]}
    custom: dict[str, Any] = {"oauthDiscovery": discovery, **client}
    if method := registration.get("authMethod"):
        custom["clientAuthenticationMethod"] = method
    return {"customOauth2ProviderConfig": custom}


def _filled(text: str, parameters: dict[str, str]) -> str:
    for name, value in parameters.items():
        text = text.replace(f"{{{name}}}", value)
    return text
