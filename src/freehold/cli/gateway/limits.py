"""`freehold gateway limits`: how much of a gateway anybody may use."""

import re
from typing import Any

import click

from freehold.cli.failure import CliError
from freehold.cli.gateway import found
from freehold.cli.gateway.found import Gateway
from freehold.cli.options import confirm, platform_options, yes_option
from freehold.cli.platform import Platform

_PLAIN_DIMENSIONS = {
    "principal": "$.context.iam.principal",
    "user": "$.context.jwt.sub",
    "target": "targetName",
    "tool": "toolName",
    "model": "qualifiedModelId",
}
_PREFIXED = {
    "claim:": "$.context.jwt.",
    "header:": "$.context.request.header.",
    "body:": "$.context.request.body.",
}
_RATE = re.compile(r"(\d+(?:\.\d+)?)/(second|minute)")
_METRICS = ("requests", "tokens", "connections")


@click.group()
def limits() -> None:
    """Limit how much agents and people may use a gateway."""


@limits.command("list")
@click.argument("gateway")
@platform_options
def list_limits(platform: Platform, gateway: str) -> None:
    """List the limits of GATEWAY: a call must keep within all that fit it."""
    which = found.find(platform, gateway)
    rows = _all(platform, which)
    if platform.output.as_json:
        platform.output.document({"rateLimits": rows})
    elif not rows:
        platform.output.note(f"No limits yet: freehold gateway limits set {which.name} NAME ...")
    else:
        platform.output.table(
            ("LIMIT", "FOR", "REQUESTS", "TOKENS", "CONNECTIONS"),
            [
                (
                    row["rateLimitId"],
                    ", ".join(
                        f"{_short(key)}={entry['dimensions'][key]}" for key in row["dimensionKeys"]
                    ),
                    *(_told(metric, entry) for metric in _METRICS),
                )
                for row in rows
                for entry in row["entries"]
            ],
        )


@limits.command("set")
@click.argument("gateway")
@click.argument("limit")
@click.option(
    "--for", "dimensions", multiple=True, required=True, metavar="WHAT=VALUE",
    help="Whom it is for: principal, user, tool, target, model, claim:NAME, header:NAME or "
    "body:PATH, and a value, or * for each one by itself (in the last). May be given again.",
)  # fmt: skip
@click.option("--requests", metavar="N/second|minute", help="Calls.")
@click.option("--tokens", metavar="N/second|minute", help="Tokens of models.")
@click.option("--connections", type=click.IntRange(min=1), help="Calls at the same time.")
@click.option("--description", help="What it is for.")
@platform_options
def set_limit(
    platform: Platform,
    *,
    gateway: str,
    limit: str,
    dimensions: tuple[str, ...],
    requests: str | None,
    tokens: str | None,
    connections: int | None,
    description: str | None,
) -> None:
    """Make the limit LIMIT of GATEWAY, or add to it, or change what it says for the same values.

    \b
    Examples:
      freehold gateway limits set tools each-agent --for 'principal=*' --requests 10/second
      freehold gateway limits set tools each-agent --for principal=arn:... --requests 1/second
      freehold gateway limits set tools models --for user=ada --for 'model=*' --tokens 9000/minute
    """
    keys, values = _dimensions(dimensions)
    entry: Any = {"dimensions": dict(zip(keys, values, strict=True))}
    for metric, rate in (("requests", requests), ("tokens", tokens)):
        if rate is not None:
            entry[metric] = [_rate(rate, metric)]
    if connections is not None:
        entry["connections"] = [{"rate": float(connections), "period": "second"}]
    if not any(metric in entry for metric in _METRICS):
        raise click.UsageError("Say how much: --requests, --tokens or --connections.")
    which = found.find(platform, gateway)
    said: dict[str, Any] = {"description": description} if description is not None else {}
    before = next((row for row in _all(platform, which) if row["rateLimitId"] == limit), None)
    if before is None:
        put: Any = platform.control.create_gateway_rate_limit(
            gatewayIdentifier=which.id, rateLimitId=limit, dimensionKeys=keys, entries=[entry],
            **said,
        )  # fmt: skip
    else:
        if before["dimensionKeys"] != keys:
            raise CliError(
                f"{limit} is for {', '.join(map(_short, before['dimensionKeys']))}, in this order.",
                code="ValidationException",
                hint="Make one of another name, or delete it first.",
            )
        others = [e for e in before["entries"] if e["dimensions"] != entry["dimensions"]]
        put = platform.control.update_gateway_rate_limit(
            gatewayIdentifier=which.id, rateLimitId=limit, entries=[*others, entry], **said
        )
    if platform.output.as_json:
        platform.output.document({k: v for k, v in put.items() if k != "ResponseMetadata"})
    else:
        much = ", ".join(
            f"{metric} {_told(metric, entry)}" for metric in _METRICS if metric in entry
        )
        platform.output.say(f"{limit}: {', '.join(dimensions)} may have {much}.")


@limits.command("delete")
@click.argument("gateway")
@click.argument("limit")
@yes_option
@platform_options
def delete_limit(platform: Platform, gateway: str, limit: str, yes: bool) -> None:
    """Delete the limit LIMIT of GATEWAY, with all that it says."""
    which = found.find(platform, gateway)
    confirm(platform, f"Delete the limit {limit} of {which.name}?", yes=yes)
    platform.control.delete_gateway_rate_limit(gatewayIdentifier=which.id, rateLimitId=limit)
    if platform.output.as_json:
        platform.output.document({"rateLimitId": limit, "deleted": True})
    platform.output.say(f"{limit} is deleted.")


def _all(platform: Platform, which: Gateway) -> list[Any]:
    pages = platform.control.get_paginator("list_gateway_rate_limits").paginate(
        gatewayIdentifier=which.id
    )
    return [row for page in pages for row in page["rateLimits"]]


def _dimensions(given: tuple[str, ...]) -> tuple[list[str], list[str]]:
    keys, values = [], []
    for each in given:
        # A claim's own name may not have `=`; a value may.
        name, equals, value = each.partition("=")
        if not equals or not value:
            raise click.UsageError(f"--for {each}: expected WHAT=VALUE, such as 'principal=*'.")
        keys.append(_key(name))
        values.append(value)
    return keys, values


def _key(name: str) -> str:
    if name in _PLAIN_DIMENSIONS:
        return _PLAIN_DIMENSIONS[name]
    for prefix, path in _PREFIXED.items():
        if name.startswith(prefix):
            return path + name.removeprefix(prefix)
    known = ", ".join([*_PLAIN_DIMENSIONS, *(f"{prefix}NAME" for prefix in _PREFIXED)])
    if name.startswith("$.") or name in _PLAIN_DIMENSIONS.values():
        return name
    raise click.UsageError(f"--for {name}: there are {known}.")


def _short(key: str) -> str:
    for name, path in _PLAIN_DIMENSIONS.items():
        if key == path:
            return name
    for prefix, path in _PREFIXED.items():
        if key.startswith(path):
            return prefix + key.removeprefix(path)
    return key


def _rate(text: str, metric: str) -> dict[str, Any]:
    found = _RATE.fullmatch(text)
    if found is None:
        raise click.UsageError(f"--{metric} {text}: expected such as 10/second or 100/minute.")
    return {"rate": float(found[1]), "period": found[2]}


def _told(metric: str, entry: dict[str, Any]) -> str:
    rates = entry.get(metric)
    if not rates:
        return "-"
    if metric == "connections":
        return f"{rates[0]['rate']:g} at once"
    return ", ".join(f"{rate['rate']:g}/{rate['period']}" for rate in rates)
