"""`freehold policy generate`: plain English into Cedar, through the platform's model."""

import re
import secrets
import sys
from typing import Any

import click

from freehold.cli import lookup
from freehold.cli.failure import CliError
from freehold.cli.gateway import found as gateway_found
from freehold.cli.options import platform_options
from freehold.cli.output import Output, Progress
from freehold.cli.platform import Platform
from freehold.cli.policy import found, shown
from freehold.cli.policy.found import Engine
from freehold.cli.policy.making import Wanted, make

GENERATED_SECONDS_MAX = 300
_FIT = frozenset({"VALID"})


@click.command()
@click.argument("engine")
@click.argument("gateway")
@click.argument("text")
@click.option("--name", help="Of the generation, and of policies that --create makes.")
@click.option("--create", "creates", is_flag=True, help="Make those that are valid, once shown.")
@click.option("--log-only", is_flag=True, help="With --create: they take no part yet.")
@platform_options
def generate(
    platform: Platform,
    /,
    *,
    engine: str,
    gateway: str,
    text: str,
    name: str | None,
    creates: bool,
    log_only: bool,
) -> int:
    """Have policies written that say in Cedar what TEXT says in English, about GATEWAY's tools.

    `-` reads TEXT from standard input. Each is shown with what its analysis found. Exits with 1
    where one of them is not valid.

    \b
    Example:
      freehold policy generate bank bank "Clerks may read balances" --create --log-only
    """
    if text == "-":
        text = sys.stdin.read().strip()
    if log_only and not creates:
        raise click.UsageError("--log-only goes with --create.")
    which = found.find(platform, engine)
    at = gateway_found.find(platform, gateway)
    called = name or f"generated_{secrets.token_hex(4)}"
    output = platform.output
    with output.progress("Asking the model ...") as progress:
        started = platform.control.start_policy_generation(
            policyEngineId=which.id, resource={"arn": at.arn}, content={"rawText": text},
            name=called,
        )  # fmt: skip
        done = _generated(platform, which, started["policyGenerationId"], progress)
        assets = _assets(platform, which, done["policyGenerationId"])
    if not output.as_json:
        _show(output, done, assets)
    made: list[Any] = []
    if creates:
        with output.progress("Analysing ...") as progress:
            request = {"enforcementMode": "LOG_ONLY" if log_only else "ACTIVE"}
            made = make(platform, which, _wanted(called, done, assets), request, progress)
        for policy in made:
            found.tell(output, policy)
    if output.as_json:
        output.document(
            {
                "policyGeneration": found.plain(done),
                "policyGenerationAssets": assets,
                "policies": [found.plain(policy) for policy in made],
            }
        )
    good = bool(assets) and all(map(_valid, assets)) and not any(map(found.failed, made))
    return 0 if good else 1


def _generated(platform: Platform, which: Engine, id: str, progress: Progress) -> Any:
    def look() -> Any:
        got: Any = platform.control.get_policy_generation(
            policyEngineId=which.id, policyGenerationId=id
        )
        if got["status"] == "GENERATED":
            return got
        if got["status"] != "GENERATING":
            reasons = "; ".join(got.get("statusReasons") or ()) or got["status"]
            raise CliError(f"No policy was written: {reasons}", code=got["status"])
        progress.update("Asking the model ...")
        return None

    slow = CliError(
        f"The model has not answered in {GENERATED_SECONDS_MAX} seconds.", code="GenerationSlow"
    )
    return lookup.waited(look, slow, seconds_max=GENERATED_SECONDS_MAX)


def _assets(platform: Platform, which: Engine, id: str) -> list[Any]:
    pages = platform.control.get_paginator("list_policy_generation_assets").paginate(
        policyEngineId=which.id, policyGenerationId=id
    )
    return [row for page in pages for row in page.get("policyGenerationAssets") or ()]


def _show(output: Output, done: Any, assets: list[Any]) -> None:
    if findings := done.get("findings"):
        # Its other lines are said of each asset below.
        shown.paragraph(output, findings.partition("\n")[0], indent=0)
    for at, asset in enumerate(assets):
        if at:
            output.say("")
        output.say(click.style(f"# {asset['rawTextFragment']}", dim=True))
        if text := found.statement(asset):
            output.say(text)
        for finding in asset["findings"]:
            type = finding.get("type", "NOT PROVEN")
            color = "green" if type in _FIT else "red"
            said = finding.get("description") or ""
            output.say(f"{click.style(type, fg=color)}{f'  {said}' if said else ''}")


def _valid(asset: Any) -> bool:
    return bool(asset["findings"]) and all(each.get("type") in _FIT for each in asset["findings"])


def _wanted(called: str, done: Any, assets: list[Any]) -> list[Wanted]:
    # Cedar is slow to import, and only this needs it here.
    from freehold.cli.policy.offline import forbids

    base = re.sub(r"\W+", "_", called, flags=re.ASCII)[:44]
    return [
        Wanted(
            f"{base}_{at}" if len(assets) > 1 else base,
            forbids(found.statement(asset)),
            {
                "policyGeneration": {
                    "policyGenerationId": done["policyGenerationId"],
                    "policyGenerationAssetId": asset["policyGenerationAssetId"],
                }
            },
        )
        for at, asset in enumerate(filter(_valid, assets), start=1)
    ]
