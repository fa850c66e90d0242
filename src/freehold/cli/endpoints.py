"""`freehold endpoints`: which version of an agent answers where, forward, back and by shares."""

import sys
from typing import Any

import click

from freehold.cli import runtimes
from freehold.cli.failure import CliError
from freehold.cli.options import platform_options
from freehold.cli.output import when
from freehold.cli.platform import Platform
from freehold.cli.runtimes import Runtime

_SPLIT = "freehold:split"


@click.group()
def endpoints() -> None:
    """List, pin, split and delete an agent's endpoints.

    DEFAULT follows the newest version. A named endpoint stays with its version until it is told
    otherwise, and may give a share of its new sessions to another.
    """


@endpoints.command("list")
@click.argument("name")
@platform_options
def list_endpoints(platform: Platform, name: str) -> None:
    """List the endpoints of agent NAME."""
    runtime = runtimes.find(platform, name)
    pages = platform.control.get_paginator("list_agent_runtime_endpoints").paginate(
        agentRuntimeId=runtime.id
    )
    rows = [_view(platform, row) for page in pages for row in page["runtimeEndpoints"]]
    if platform.output.as_json:
        platform.output.document({"endpoints": rows})
        return
    platform.output.table(
        ("ENDPOINT", "STATUS", ">VERSION", "SPLIT", "UPDATED"),
        [
            (r["name"], r["status"], r["version"] or "-", r["split"] or "-", when(r["updatedAt"]))
            for r in rows
        ],
    )


@endpoints.command("set")
@click.argument("name")
@click.argument("which", metavar="ENDPOINT")
@click.option("--version", help="The version that answers. New endpoints: the newest if not said.")
@click.option(
    "--split",
    metavar="VERSION:PERCENT",
    help="Give a share of new sessions to another version; several in quotes: '3:10 4:5'.",
)
@click.option("--no-split", is_flag=True, help="All sessions to the endpoint's own version again.")
@platform_options
def set_endpoint(
    platform: Platform,
    *,
    name: str,
    which: str,
    version: str | None,
    split: str | None,
    no_split: bool,
) -> None:
    """Make ENDPOINT of agent NAME, or move it to another version: forward or back.

    Sessions that run stay with the version they began with.
    """
    if split and no_split:
        raise CliError("--split and --no-split exclude each other.", code="Usage", exit_code=2)
    runtime = runtimes.find(platform, name)
    before = _found(platform, runtime, which)
    _check_versions(platform, runtime, version, split)
    asked: dict[str, Any] = {"agentRuntimeVersion": version} if version else {}
    if before is None:
        tags: dict[str, Any] = {"tags": {_SPLIT: split}} if split else {}
        platform.control.create_agent_runtime_endpoint(
            agentRuntimeId=runtime.id, name=which, **asked, **tags
        )
    else:
        # What can be refused comes first: then nothing was changed.
        if split:
            platform.control.tag_resource(resourceArn=before["arn"], tags={_SPLIT: split})
        elif no_split:
            platform.control.untag_resource(resourceArn=before["arn"], tagKeys=[_SPLIT])
        if version:
            platform.control.update_agent_runtime_endpoint(
                agentRuntimeId=runtime.id, endpointName=which, **asked
            )
    after = _found(platform, runtime, which)
    if platform.output.as_json:
        platform.output.document({"before": before, "after": after})
        return
    assert after is not None, "it was made or changed just now"
    shares = f", split {after['split']}" if after["split"] else ""
    platform.output.say(f"{which} of {runtime.name} is at version {after['version']}{shares}.")
    if before is not None and before["version"] != after["version"]:
        platform.output.note(
            f"Undo: freehold endpoints set {runtime.name} {which} --version {before['version']}"
        )


@endpoints.command("delete")
@click.argument("name")
@click.argument("which", metavar="ENDPOINT")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@platform_options
def delete_endpoint(platform: Platform, name: str, which: str, yes: bool) -> None:
    """Delete ENDPOINT of agent NAME."""
    runtime = runtimes.find(platform, name)
    if not yes:
        if platform.output.as_json or not sys.stdin.isatty():
            raise CliError("Say --yes to do this without being asked.", code="NotConfirmed")
        if not click.confirm(f"Delete endpoint {which} of {runtime.name}?", err=True):
            raise CliError("Nothing was changed.", code="NotConfirmed")
    platform.control.delete_agent_runtime_endpoint(agentRuntimeId=runtime.id, endpointName=which)
    if platform.output.as_json:
        platform.output.document({"endpoint": which, "deleted": True})
    platform.output.say(f"{which} of {runtime.name} is deleted.")


def _found(platform: Platform, runtime: Runtime, endpoint: str) -> dict[str, Any] | None:
    from botocore.exceptions import ClientError

    try:
        row = platform.control.get_agent_runtime_endpoint(
            agentRuntimeId=runtime.id, endpointName=endpoint
        )
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return None
        raise
    return _view(platform, row)


def _view(platform: Platform, row: Any) -> dict[str, Any]:
    arn = row["agentRuntimeEndpointArn"]
    tags = platform.control.list_tags_for_resource(resourceArn=arn)["tags"]
    return {
        "name": row["name"],
        "arn": arn,
        "status": row["status"],
        "version": row.get("liveVersion"),
        "split": tags.get(_SPLIT),
        "updatedAt": row["lastUpdatedAt"],
    }


def _check_versions(
    platform: Platform, runtime: Runtime, version: str | None, split: str | None
) -> None:
    """A share of a version that is not there would go to nobody: a mistake, most likely."""
    named = [version] if version else []
    named += [word.partition(":")[0] for word in (split or "").split()]
    if not named:
        return
    pages = platform.control.get_paginator("list_agent_runtime_versions").paginate(
        agentRuntimeId=runtime.id
    )
    known = {row["agentRuntimeVersion"] for page in pages for row in page["agentRuntimes"]}
    for each in named:
        if each not in known:
            raise CliError(
                f"{runtime.name} has no version {each}.",
                code="ResourceNotFoundException",
                hint=f"There are: {', '.join(sorted(known, key=int))}",
            )
