"""Gateways and targets by the names that people use."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from freehold.cli import lookup
from freehold.cli.platform import Platform
from freehold.kernel.arns import Arn

# What AgentCore's model demands of gatewayIdentifier.
_ID = re.compile(r"([0-9a-z]-?){1,100}-[0-9a-z]{10}")
_DENIED = "AccessDeniedException"
KEPT = (
    "name", "description", "roleArn", "protocolType", "protocolConfiguration", "authorizerType",
    "authorizerConfiguration", "interceptorConfigurations", "exceptionLevel",
    "policyEngineConfiguration",
)  # fmt: skip
"""Members that UpdateGateway takes away where they are not said again."""


@dataclass(frozen=True)
class Gateway:
    name: str
    id: str
    arn: str


@dataclass(frozen=True)
class Target:
    name: str
    id: str


def find(platform: Platform, wanted: str) -> Gateway:
    """By name, id or ARN. Raises CliError that lists those there are."""
    identifier = lookup.identifier_in(wanted, "gateway", noun="gateway")
    rows = list_all(platform)
    for row in rows:
        if identifier in (row["name"], row["gatewayId"]):
            return _gateway(platform, row)
    names = (row["name"] for row in rows)
    raise lookup.missing("gateway", wanted, names, make="freehold gateway create NAME")


def find_to_call(platform: Platform, wanted: str) -> Gateway:
    """The same for somebody who may call gateways and not list them: then by id or ARN alone."""
    from botocore.exceptions import ClientError

    try:
        return find(platform, wanted)
    except ClientError as error:
        identifier = lookup.identifier_in(wanted, "gateway", noun="gateway")
        if error.response["Error"]["Code"] != _DENIED or not _ID.fullmatch(identifier):
            raise
    return Gateway(identifier, identifier, wanted)


def list_all(platform: Platform) -> list[Mapping[str, Any]]:
    pages = platform.control.get_paginator("list_gateways").paginate()
    return [row for page in pages for row in page["items"]]


def every(platform: Platform) -> list[Gateway]:
    return [_gateway(platform, row) for row in list_all(platform)]


def _gateway(platform: Platform, row: Mapping[str, Any]) -> Gateway:
    region, account, id = platform.connection.region, platform.account, row["gatewayId"]
    return Gateway(row["name"], id, f"arn:aws:bedrock-agentcore:{region}:{account}:gateway/{id}")


def targets(platform: Platform, gateway: Gateway) -> list[Mapping[str, Any]]:
    pages = platform.control.get_paginator("list_gateway_targets").paginate(
        gatewayIdentifier=gateway.id
    )
    return [row for page in pages for row in page["items"]]


def find_target(platform: Platform, gateway: Gateway, wanted: str) -> Target:
    rows = targets(platform, gateway)
    for row in rows:
        if wanted in (row["name"], row["targetId"]):
            return Target(row["name"], row["targetId"])
    add = f"freehold gateway target add {gateway.name} NAME --openapi FILE"
    raise lookup.missing_in(gateway.name, "target", wanted, (row["name"] for row in rows), make=add)


def function_arn(platform: Platform, wanted: str) -> str:
    """Of a function of this platform by its name; an ARN is what it is."""
    if Arn.parse(wanted):
        return wanted
    return str(platform.own.get("functions", wanted)["arn"])
