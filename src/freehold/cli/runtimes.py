"""Agents by the names that people use: a runtime's name, its id or its ARN."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from freehold.cli.failure import CliError
from freehold.cli.platform import Platform
from freehold.kernel.arns import Arn

# What AgentCore's model demands of agentRuntimeName.
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,47}")


@dataclass(frozen=True)
class Runtime:
    name: str
    id: str
    arn: str


def checked_name(name: str) -> str:
    """The name of a new agent. Raises CliError with one that would do."""
    if _NAME.fullmatch(name):
        return name
    better = re.sub(r"[^a-zA-Z0-9_]+", "_", name).lstrip("_0123456789")[:48]
    hint = f"Try: {better}" if _NAME.fullmatch(better) else None
    raise CliError(
        f"{name!r} cannot be an agent's name: up to 48 letters, digits and underscores, "
        "a letter first.",
        code="BadName",
        hint=hint,
    )


def find(platform: Platform, wanted: str) -> Runtime:
    """The runtime that is meant. Raises CliError that lists those there are."""
    if arn := Arn.parse(wanted):
        kind, _, rest = arn.resource.partition("/")
        identifier = rest.split("/")[0]
        if arn.service != "bedrock-agentcore" or kind != "runtime" or not identifier:
            raise CliError(f"{wanted} is not the ARN of a runtime.", code="BadName")
        return Runtime(name=identifier.rpartition("-")[0], id=identifier, arn=wanted)
    found = by_name(platform, wanted, every := list_all(platform))
    if found is None:
        raise _unknown(wanted, sorted(row["agentRuntimeName"] for row in every))
    return found


def by_name(
    platform: Platform, wanted: str, every: list[Mapping[str, Any]] | None = None
) -> Runtime | None:
    """The runtime of this name or id, or None."""
    for row in list_all(platform) if every is None else every:
        if wanted in (row["agentRuntimeName"], row["agentRuntimeId"]):
            return Runtime(row["agentRuntimeName"], row["agentRuntimeId"], row["agentRuntimeArn"])
    return None


def list_all(platform: Platform) -> list[Mapping[str, Any]]:
    pages = platform.control.get_paginator("list_agent_runtimes").paginate()
    return [row for page in pages for row in page["agentRuntimes"]]


def _unknown(wanted: str, names: list[str]) -> CliError:
    hint = f"There are: {', '.join(names)}" if names else "There is none yet: freehold create NAME"
    return CliError(f"No agent called {wanted}.", code="ResourceNotFoundException", hint=hint)
