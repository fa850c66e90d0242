"""Agents by the names that people use: a runtime's name, its id or its ARN."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from freehold.cli import lookup
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
    if Arn.parse(wanted):
        identifier = lookup.identifier_in(wanted, "runtime", noun="runtime").split("/")[0]
        return Runtime(name=identifier.rpartition("-")[0], id=identifier, arn=wanted)
    found = by_name(platform, wanted, every := list_all(platform))
    if found is None:
        names = (row["agentRuntimeName"] for row in every)
        raise lookup.missing("agent", wanted, names, make="freehold create NAME")
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
