"""What a target is shown: from options to AgentCore's credentialProviderConfigurations."""

from typing import Any

import click

from freehold.cli.gateway.connectors import made_known, way_of
from freehold.cli.gateway.secrets import keep_key
from freehold.cli.options import applied, pairs
from freehold.cli.platform import Platform
from freehold.kernel.own_addresses import OwnAddresses

Given = dict[str, Any]
_GRANTS = {
    "client-credentials": "CLIENT_CREDENTIALS",
    "authorization-code": "AUTHORIZATION_CODE",
    "token-exchange": "TOKEN_EXCHANGE",
}

credential_options = applied(
    click.option(
        "--api-key", is_flag=True,
        help="Keep a key in the vault and show it: it is asked for, or in FREEHOLD_API_KEY,",
    ),
    click.option("--api-key-provider", metavar="NAME", help="or show one that is there,"),
    click.option("--header", metavar="NAME", help="in this header (default: Authorization)"),
    click.option("--prefix", help="after this word (default with Authorization: Bearer),"),
    click.option("--query", metavar="NAME", help="or in this query parameter."),
    click.option(
        "--client-id", metavar="ID",
        help="With --connector: make this OAuth client known, and show its tokens. Its secret is "
        "asked for, or in FREEHOLD_CLIENT_SECRET.",
    ),
    click.option("--oauth-provider", metavar="NAME", help="Show it an OAuth 2.0 access token:"),
    click.option("--scope", multiple=True, help="with this scope; may be given again,"),
    click.option(
        "--grant", type=click.Choice(list(_GRANTS)),
        help="the gateway's own (the default), the calling user's who agrees once, or one in "
        "exchange for the user's.",
    ),
    click.option(
        "--return-url", metavar="URL",
        help="Where people come back to who agreed, in place of the platform's own page.",
    ),
    click.option(
        "--oauth-parameter", multiple=True, callback=pairs, metavar="KEY=VALUE",
        help="Added to requests for a token; may be given again.",
    ),
    click.option(
        "--iam", metavar="SERVICE", help="Sign for this AWS service (auto: as the host says)."
    ),
    click.option("--iam-region", metavar="REGION", help="Another region than the host says."),
    click.option("--caller", is_flag=True, help="The caller's identity; on this platform only."),
    click.option(
        "--jwt-passthrough", is_flag=True, help="The caller's own token. It opens all it opens."
    ),
    click.option(
        "--allow-header", multiple=True, metavar="NAME", help="A request header that passes on."
    ),
    click.option(
        "--allow-query", multiple=True, metavar="NAME", help="A query parameter that passes on."
    ),
    click.option(
        "--allow-answer-header", multiple=True, metavar="NAME",
        help="A header of its answers that passes back.",
    ),
)  # fmt: skip


def credentials(
    platform: Platform, given: Given, target: dict[str, Any] | None
) -> list[dict[str, Any]] | None:
    """The credentialProviderConfigurations; None where no option says any."""
    ways = {
        "--api-key or --api-key-provider": given["api_key"] or given["api_key_provider"],
        "--oauth-provider or --client-id": given["oauth_provider"] or given["client_id"],
        "--iam": given["iam"],
        "--caller": given["caller"],
        "--jwt-passthrough": given["jwt_passthrough"],
    }
    named = [option for option, value in ways.items() if value]
    if len(named) > 1:
        raise click.UsageError(f"{named[0]} and {named[1]} exclude each other.")
    _check_companions(given)
    if given["api_key"] or given["api_key_provider"]:
        return [_api_key(platform, given)]
    if given["oauth_provider"] or given["client_id"]:
        return [_oauth(platform, given)]
    if given["iam"]:
        return [_iam(given)]
    kind = "CALLER_IAM_CREDENTIALS" if given["caller"] else "JWT_PASSTHROUGH"
    if given["caller"] or given["jwt_passthrough"]:
        return [{"credentialProviderType": kind}]
    return _by_kind(target or {})


def _by_kind(target: dict[str, Any]) -> list[dict[str, Any]] | None:
    kinds = [f"{first}.{second}" for first, inner in target.items() for second in inner]
    server = (target.get("mcp") or {}).get("mcpServer") or {}
    if kinds in (["mcp.lambda"], ["http.agentcoreRuntime"]) or _is_agent(server):
        # AWS wants one for these; within the platform it is the gateway's own identity.
        return [{"credentialProviderType": "GATEWAY_IAM_ROLE"}]
    return None


def _is_agent(server: dict[str, Any]) -> bool:
    url = server.get("endpoint", "")
    return bool(url) and OwnAddresses(url).is_runtime(url)


def _check_companions(given: Given) -> None:
    for option in ("header", "prefix", "query"):
        if given[option] is not None and not (given["api_key"] or given["api_key_provider"]):
            raise click.UsageError(f"--{option} goes with --api-key or --api-key-provider.")
    for option in ("scope", "return_url", "oauth_parameter"):
        if given[option] and not (given["oauth_provider"] or given["client_id"]):
            raise click.UsageError(f"--{option.replace('_', '-')} goes with --oauth-provider.")
    if given["query"] and given["header"]:
        raise click.UsageError("--header and --query exclude each other.")
    if given["iam_region"] and not given["iam"]:
        raise click.UsageError("--iam-region goes with --iam.")


def _api_key(platform: Platform, given: Given) -> dict[str, Any]:
    name = given["api_key_provider"] or given["name"]
    if given["api_key"]:
        arn = keep_key(platform, name)
    else:
        known = platform.control.get_api_key_credential_provider(name=name)
        arn = known["credentialProviderArn"]
    found = {"providerArn": arn}
    if given["query"]:
        found |= {
            "credentialLocation": "QUERY_PARAMETER", "credentialParameterName": given["query"],
        }  # fmt: skip
    elif given["header"]:
        found |= {"credentialLocation": "HEADER", "credentialParameterName": given["header"]}
    if given["prefix"] is not None:
        found["credentialPrefix"] = given["prefix"]
    return {
        "credentialProviderType": "API_KEY",
        "credentialProvider": {"apiKeyCredentialProvider": found},
    }


def _oauth(platform: Platform, given: Given) -> dict[str, Any]:
    name = given["oauth_provider"]
    if given["client_id"]:
        name = made_known(platform, name or given["name"], given)
    provider = platform.control.get_oauth2_credential_provider(name=name)
    found: dict[str, Any] = {
        "providerArn": provider["credentialProviderArn"],
        "scopes": list(given["scope"]),
    }
    if grant := _grant(platform, given):
        found["grantType"] = grant
    if given["return_url"]:
        found["defaultReturnUrl"] = given["return_url"]
    if given["oauth_parameter"]:
        found["customParameters"] = given["oauth_parameter"]
    return {
        "credentialProviderType": "OAUTH",
        "credentialProvider": {"oauthCredentialProvider": found},
    }


def _grant(platform: Platform, given: Given) -> str | None:
    """A connector knows its own where nobody says."""
    if given["grant"]:
        return _GRANTS[given["grant"]]
    if given["connector"] is None:
        return "CLIENT_CREDENTIALS"
    if given["way"] is None:
        return None
    grant: str | None = way_of(
        platform.own.get("connectors", given["connector"]), given["way"]
    ).get("grant")
    return grant


def _iam(given: Given) -> dict[str, Any]:
    found: dict[str, Any] = {"credentialProviderType": "GATEWAY_IAM_ROLE"}
    if given["iam"] != "auto":
        provider = {"service": given["iam"]}
        if given["iam_region"]:
            provider["region"] = given["iam_region"]
        found["credentialProvider"] = {"iamCredentialProvider": provider}
    return found


def metadata(given: Given) -> dict[str, Any] | None:
    names = {
        "allowedRequestHeaders": given["allow_header"],
        "allowedQueryParameters": given["allow_query"],
        "allowedResponseHeaders": given["allow_answer_header"],
    }
    return {key: list(value) for key, value in names.items() if value} or None
