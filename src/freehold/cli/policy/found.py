"""Policy engines and policies by the names that people use, and what their commands share."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freehold.cli import lookup
from freehold.cli.failure import CliError
from freehold.cli.gateway import found as gateway_found
from freehold.cli.output import Output, Progress
from freehold.cli.platform import Platform
from freehold.kernel.arns import Arn

FILE_BYTES_MAX = 1 << 20
SETTLED_SECONDS_MAX = 120
_GATEWAY = re.compile(r'(\bAgentCore::Gateway::")([^"\\\n]+)(?=")')
_BUSY = frozenset({"CREATING", "UPDATING", "DELETING"})
_FAILED = frozenset({"CREATE_FAILED", "UPDATE_FAILED", "DELETE_FAILED"})


@dataclass(frozen=True)
class Engine:
    name: str
    id: str
    arn: str


@dataclass(frozen=True)
class Policy:
    name: str
    id: str


def find(platform: Platform, wanted: str) -> Engine:
    """By name, id or ARN. Raises CliError that lists those there are."""
    identifier = lookup.identifier_in(wanted, "policy-engine", noun="policy engine")
    rows = engines(platform)
    for row in rows:
        if identifier in (row["name"], row["policyEngineId"]):
            return Engine(row["name"], row["policyEngineId"], row["policyEngineArn"])
    names = (row["name"] for row in rows)
    raise lookup.missing("policy engine", wanted, names, make="freehold policy engine create NAME")


def engines(platform: Platform) -> list[Mapping[str, Any]]:
    pages = platform.control.get_paginator("list_policy_engines").paginate()
    return [row for page in pages for row in page["policyEngines"]]


def policies(platform: Platform, engine: Engine) -> list[Mapping[str, Any]]:
    pages = platform.control.get_paginator("list_policies").paginate(policyEngineId=engine.id)
    return [row for page in pages for row in page["policies"]]


def find_policy(platform: Platform, engine: Engine, wanted: str) -> Policy:
    rows = policies(platform, engine)
    for row in rows:
        if wanted in (row["name"], row["policyId"], row["policyArn"]):
            return Policy(row["name"], row["policyId"])
    make = f"freehold policy create {engine.name} FILE"
    raise lookup.missing_in(engine.name, "policy", wanted, (row["name"] for row in rows), make=make)


def settled(platform: Platform, engine: Engine, policy: Policy, progress: Progress) -> Any:
    """The policy, once its analysis is done."""

    def look() -> Any:
        got = platform.control.get_policy(policyEngineId=engine.id, policyId=policy.id)
        if got["status"] not in _BUSY:
            return got
        progress.update(f"{policy.name}: {got['status'].lower()} ...")
        return None

    slow = CliError(
        f"{policy.name} is still being analysed after {SETTLED_SECONDS_MAX} seconds.",
        code="PolicySlow",
        hint=f"See: freehold policy show {engine.name} {policy.name}",
    )
    return lookup.waited(look, slow, seconds_max=SETTLED_SECONDS_MAX)


def failed(policy: Any) -> bool:
    return policy["status"] in _FAILED


def tell(output: Output, policy: Any) -> None:
    """A policy's state in a line or more: findings are among its reasons."""
    mode = policy.get("enforcementMode") or "ACTIVE"
    output.say(f"{policy['name']} is {policy['status']}, mode {mode}")
    for reason in policy.get("statusReasons") or ():
        output.say(f"  {reason}")


def statement(policy: Any) -> str:
    """What it says in Cedar, whichever member of the definition holds it."""
    definition = policy.get("definition") or {}
    return str((definition.get("cedar") or definition.get("policy") or {}).get("statement") or "")


def read(path: Path) -> str:
    """A file's text, or standard input for `-`."""
    import click

    try:
        with click.open_file(str(path), encoding="utf-8") as file:
            text: str = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}", code="NoFile") from None
    except UnicodeDecodeError:
        raise CliError(f"{path} is no text in UTF-8.", code="BadFile") from None
    if len(text) > FILE_BYTES_MAX:
        raise CliError(f"{path} has more than {FILE_BYTES_MAX} characters.", code="BadFile")
    return text


def resolved(platform: Platform, text: str) -> str:
    """Policies that call a gateway by its name, with its ARN in the name's place: the same file
    then serves platforms on which its ARN is another."""

    def arn(match: re.Match[str]) -> str:
        name = match[2]
        return match[1] + (name if Arn.parse(name) else gateway_found.find(platform, name).arn)

    return _GATEWAY.sub(arn, text)


def plain(answer: Any) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}
