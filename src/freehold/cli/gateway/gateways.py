"""`freehold gateway create, update, list, show, delete`."""

from typing import Any

import click

from freehold.cli.failure import CliError
from freehold.cli.gateway import found
from freehold.cli.gateway.found import function_arn
from freehold.cli.options import applied, confirm, pairs, platform_options, yes_option
from freehold.cli.output import counted, when
from freehold.cli.platform import Platform

_AUTHORIZERS = {
    "iam": "AWS_IAM", "jwt": "CUSTOM_JWT", "none": "NONE", "authenticate-only": "AUTHENTICATE_ONLY",
}  # fmt: skip
_NAMES_TAG, _ACCESS_TAG = "freehold:tool-names", "freehold:tool-access"


_settings = applied(
    click.option(
        "--auth", type=click.Choice(list(_AUTHORIZERS)),
        help="Who gets in. Default: jwt with --discovery-url, else iam (signed requests).",
    ),
    click.option(
        "--discovery-url", metavar="URL", help="Of the OpenID provider whose tokens open it."
    ),
    click.option("--audience", multiple=True, help="A token's aud; may be given again."),
    click.option("--client", multiple=True, help="A token's client id; may be given again."),
    click.option("--scope", multiple=True, help="A scope it must have; may be given again."),
    click.option(
        "--search/--no-search", default=None, help="A tool with which agents find the others."
    ),
    click.option(
        "--names", type=click.Choice(["prefixed", "short", "plain"]),
        help="Tools as target___tool, the same within 64 characters, or as their targets call "
        "them.",
    ),
    click.option(
        "--tool-access", type=click.Choice(["allow", "deny"]),
        help="What a caller sees that no group names: all tools, or none.",
    ),
    click.option("--description", help="What it is for."),
    click.option("--instructions", help="What clients are told of it when they connect."),
    click.option("--role", metavar="ARN", help="Its role: which keys of AWS's it may sign with."),
    click.option(
        "--request-interceptor", metavar="FUNCTION", help="A function that sees each call first."
    ),
    click.option(
        "--response-interceptor", metavar="FUNCTION", help="A function that sees each answer."
    ),
    click.option(
        "--tag", multiple=True, callback=pairs, metavar="KEY=VALUE",
        help="freehold:limit-failure and the like are settings. May be given again.",
    ),
)  # fmt: skip


@click.command("create")
@click.argument("name")
@_settings
@platform_options
def create(platform: Platform, /, *, name: str, **given: Any) -> None:
    """Make the gateway NAME and show its address.

    Targets come next: freehold gateway target add.

    \b
    Examples:
      freehold gateway create tools --search
      freehold gateway create tools --discovery-url https://id.example.com/.well-known/openid-configuration --audience tools
      freehold gateway create tools --tool-access deny --names short
    """  # noqa: E501 - an example stands on one line
    role = f"arn:aws:iam::{platform.account}:role/{name}"
    request = {"name": name, "roleArn": role, "protocolType": "MCP", "authorizerType": "AWS_IAM"}
    made = platform.control.create_gateway(**_changed(platform, request, given), tags=_tags(given))
    if platform.output.as_json:
        platform.output.document(_plain(made))
        return
    _tell(platform, made)
    platform.output.note(f"Next: freehold gateway target add {name} TARGET --openapi FILE")


@click.command("update")
@click.argument("name")
@_settings
@click.option("--no-interceptors", is_flag=True, help="None any more, but those given with it.")
@platform_options
def update(platform: Platform, /, *, name: str, no_interceptors: bool, **given: Any) -> None:
    """Change what is said of the gateway NAME; the rest stays as it is."""
    which = found.find(platform, name)
    before: Any = platform.control.get_gateway(gatewayIdentifier=which.id)
    request = {key: before[key] for key in found.KEPT if key in before}
    if no_interceptors:
        request.pop("interceptorConfigurations", None)
    request = _changed(platform, request, given)
    tags = _tags(given)
    after = platform.control.update_gateway(gatewayIdentifier=which.id, **request)
    if tags:
        platform.control.tag_resource(resourceArn=which.arn, tags=tags)
    if platform.output.as_json:
        platform.output.document(_plain(after))
    else:
        _tell(platform, after)


@click.command("list")
@platform_options
def list_gateways(platform: Platform) -> None:
    """List the gateways of the account."""
    rows = found.list_all(platform)
    if platform.output.as_json:
        platform.output.document({"gateways": rows})
    elif not rows:
        platform.output.note("No gateways yet. Make one with: freehold gateway create NAME")
    else:
        platform.output.table(
            ("NAME", "STATUS", "AUTH", "UPDATED", "ID"),
            [
                (r["name"], r["status"], r["authorizerType"], when(r["updatedAt"]), r["gatewayId"])
                for r in rows
            ],
        )


@click.command("show")
@click.argument("name")
@platform_options
def show(platform: Platform, name: str) -> None:
    """Show the gateway NAME: its address, who gets in, its settings and targets."""
    which = found.find(platform, name)
    document = _plain(platform.control.get_gateway(gatewayIdentifier=which.id))
    tags = platform.control.list_tags_for_resource(resourceArn=which.arn).get("tags", {})
    rows = found.targets(platform, which)
    output = platform.output
    if output.as_json:
        output.document({**document, "tags": tags, "targets": rows})
        return
    _tell(platform, document)
    if engine := document.get("policyEngineConfiguration"):
        output.say(f"asks {engine['arn'].rpartition(':')[2]} ({engine['mode']})")
    for key, value in sorted(tags.items()):
        output.say(f"{key} = {value}")
    if rows:
        output.table(
            ("TARGET", "TYPE", "STATUS", "UPDATED"),
            [(r["name"], r["targetType"], r["status"], when(r["updatedAt"])) for r in rows],
        )
    else:
        output.note(f"No targets yet: freehold gateway target add {which.name} NAME --openapi FILE")


@click.command("delete")
@click.argument("name")
@click.option("--with-targets", is_flag=True, help="Its rules and targets first.")
@yes_option
@platform_options
def delete(platform: Platform, name: str, with_targets: bool, yes: bool) -> None:
    """Delete the gateway NAME: clients that use it are refused from then on."""
    which = found.find(platform, name)
    behind = found.targets(platform, which)
    if behind and not with_targets:
        raise CliError(
            f"{which.name} has {counted(len(behind), 'target')}.",
            code="ConflictException",
            hint=f"Delete them with it: freehold gateway delete {which.name} --with-targets",
        )
    also = f" and {counted(len(behind), 'target')}" if behind else ""
    confirm(platform, f"Delete the gateway {which.name}{also}?", yes=yes)
    control = platform.control
    if with_targets:
        pages = control.get_paginator("list_gateway_rules").paginate(gatewayIdentifier=which.id)
        for rule in [rule for page in pages for rule in page["gatewayRules"]]:
            control.delete_gateway_rule(gatewayIdentifier=which.id, ruleId=rule["ruleId"])
        for row in behind:
            control.delete_gateway_target(gatewayIdentifier=which.id, targetId=row["targetId"])
    control.delete_gateway(gatewayIdentifier=which.id)
    if platform.output.as_json:
        platform.output.document(
            {"gatewayId": which.id, "deleted": True, "targets": [row["name"] for row in behind]}
        )
    platform.output.say(f"Deleted: {which.name}{also}.")


def _changed(platform: Platform, request: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The request with what the options say; what they do not say stays."""
    rules = _authorizer(request, given)
    request.pop("authorizerConfiguration", None)
    request = {**request, **rules}
    if given["description"] is not None:
        request["description"] = given["description"]
    if given["role"]:
        request["roleArn"] = given["role"]
    mcp = dict((request.get("protocolConfiguration") or {}).get("mcp") or {})
    if given["instructions"] is not None:
        mcp["instructions"] = given["instructions"]
    if given["search"]:
        mcp["searchType"] = "SEMANTIC"
    elif given["search"] is False:
        mcp.pop("searchType", None)
    if mcp:
        request["protocolConfiguration"] = {"mcp": mcp}
    else:
        request.pop("protocolConfiguration", None)
    for point in ("request", "response"):
        if name := given[f"{point}_interceptor"]:
            request["interceptorConfigurations"] = [
                *_without(request.get("interceptorConfigurations") or [], point.upper()),
                {
                    "interceptor": {"lambda": {"arn": function_arn(platform, name)}},
                    "interceptionPoints": [point.upper()],
                },
            ]
    return request


def _without(configurations: list[Any], point: str) -> list[Any]:
    left = [
        {**each, "interceptionPoints": [p for p in each["interceptionPoints"] if p != point]}
        for each in configurations
    ]
    return [each for each in left if each["interceptionPoints"]]


def _authorizer(request: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    rules = {
        "discoveryUrl": given["discovery_url"],
        "allowedAudience": list(given["audience"]),
        "allowedClients": list(given["client"]),
        "allowedScopes": list(given["scope"]),
    }
    said = {key: value for key, value in rules.items() if value}
    before = (request.get("authorizerConfiguration") or {}).get("customJWTAuthorizer") or {}
    asked = _AUTHORIZERS.get(given["auth"]) if given["auth"] else None
    kind = asked or ("CUSTOM_JWT" if said and not before else request["authorizerType"])
    if kind not in ("CUSTOM_JWT", "AUTHENTICATE_ONLY"):
        if said:
            raise click.UsageError(
                "--discovery-url, --audience, --client and --scope go with --auth jwt or "
                "authenticate-only."
            )
        return {"authorizerType": kind}
    merged = {**before, **said}
    if not merged and kind == "AUTHENTICATE_ONLY":
        return {"authorizerType": kind}
    if "discoveryUrl" not in merged:
        raise click.UsageError("Say with --discovery-url whose tokens open the gateway.")
    return {
        "authorizerType": kind,
        "authorizerConfiguration": {"customJWTAuthorizer": merged},
    }


def _tags(given: dict[str, Any]) -> dict[str, str]:
    tags = dict(given["tag"])
    for option, key in (("names", _NAMES_TAG), ("tool_access", _ACCESS_TAG)):
        if given[option]:
            tags[key] = given[option]
    return tags


def _plain(answer: Any) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}


def _tell(platform: Platform, document: Any) -> None:
    output = platform.output
    reasons = "; ".join(document.get("statusReasons") or ())
    output.say(f"{document['name']} is {document['status']}{f' ({reasons})' if reasons else ''}")
    output.say(document["gatewayUrl"])
    output.say(f"opened by {document['authorizerType']}")
    if document["authorizerType"] == "NONE":
        output.note("Anybody who reaches the address may call its tools.")
