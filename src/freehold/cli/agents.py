"""`freehold list`, `status` and `destroy`: the agents that are deployed."""

import sys
from typing import Any

import click

from freehold.cli import code_bucket, lookup, runtimes
from freehold.cli.failure import CliError
from freehold.cli.options import platform_options
from freehold.cli.output import when
from freehold.cli.platform import Platform
from freehold.cli.runtimes import Runtime

DESTROY_SECONDS_MAX = 120


@click.command("list")
@platform_options
def list_agents(platform: Platform) -> None:
    """List the agents that are deployed."""
    rows = [
        {
            "name": row["agentRuntimeName"],
            "status": row["status"],
            "version": row["agentRuntimeVersion"],
            "updatedAt": row["lastUpdatedAt"],
            "id": row["agentRuntimeId"],
            "arn": row["agentRuntimeArn"],
        }
        for row in runtimes.list_all(platform)
    ]
    if platform.output.as_json:
        platform.output.document({"agents": rows})
    elif not rows:
        platform.output.note("No agents yet. Make one with: freehold create NAME")
    else:
        platform.output.table(
            ("NAME", "STATUS", ">VERSION", "UPDATED", "ID"),
            [(r["name"], r["status"], r["version"], when(r["updatedAt"]), r["id"]) for r in rows],
        )


@click.command()
@click.argument("name")
@platform_options
def status(platform: Platform, name: str) -> None:
    """Show an agent's state, versions, endpoints, sessions.

    NAME is the agent's name, id or ARN.
    """
    runtime = runtimes.find(platform, name)
    document = _status_document(platform, runtime)
    if platform.output.as_json:
        platform.output.document(document)
        return
    _show_status(platform, document)


def _status_document(platform: Platform, runtime: Runtime) -> dict[str, Any]:
    control = platform.control
    got = control.get_agent_runtime(agentRuntimeId=runtime.id)
    versions = control.get_paginator("list_agent_runtime_versions").paginate(
        agentRuntimeId=runtime.id
    )
    endpoints = control.get_paginator("list_agent_runtime_endpoints").paginate(
        agentRuntimeId=runtime.id
    )
    lifecycle = got["lifecycleConfiguration"]
    return {
        "name": got["agentRuntimeName"],
        "id": got["agentRuntimeId"],
        "arn": got["agentRuntimeArn"],
        "status": got["status"],
        "failureReason": got.get("failureReason"),
        "version": got["agentRuntimeVersion"],
        "protocol": got.get("protocolConfiguration", {}).get("serverProtocol", "HTTP"),
        "idleTimeoutSeconds": lifecycle.get("idleRuntimeSessionTimeout"),
        "lifetimeSeconds": lifecycle.get("maxLifetime"),
        "createdAt": got["createdAt"],
        "updatedAt": got["lastUpdatedAt"],
        "versions": [
            {
                "version": row["agentRuntimeVersion"],
                "status": row["status"],
                "updatedAt": row["lastUpdatedAt"],
            }
            for page in versions
            for row in page["agentRuntimes"]
        ],
        "endpoints": [
            {
                "name": row["name"],
                "status": row["status"],
                "liveVersion": row.get("liveVersion"),
                "targetVersion": row.get("targetVersion"),
            }
            for page in endpoints
            for row in page["runtimeEndpoints"]
        ],
        "sessions": platform.own.pages(
            "sessions", items="sessions", runtimeId=runtime.id, status="live"
        ),
    }


def _show_status(platform: Platform, document: dict[str, Any]) -> None:
    output = platform.output
    output.say(f"{document['name']}  {document['status']}  version {document['version']}")
    if document["failureReason"]:
        output.say(f"  reason     {document['failureReason']}")
    output.say(f"  arn        {document['arn']}")
    output.say(f"  protocol   {document['protocol']}")
    output.say(
        f"  sessions   stop after {document['idleTimeoutSeconds']} s idle, "
        f"{document['lifetimeSeconds']} s in all"
    )
    output.say(f"  updated    {when(document['updatedAt'])}")
    output.say("")
    output.table(
        ("ENDPOINT", "STATUS", ">LIVE", ">TARGET"),
        [
            (e["name"], e["status"], e["liveVersion"] or "-", e["targetVersion"] or "-")
            for e in document["endpoints"]
        ],
    )
    output.say("")
    output.table(
        (">VERSION", "STATUS", "UPDATED"),
        [(v["version"], v["status"], when(v["updatedAt"])) for v in document["versions"]],
    )
    output.say("")
    live = document["sessions"]
    if not live:
        output.say("No live sessions.")
        return
    output.table(
        ("SESSION", "STATUS", ">VERSION", ">CALLS", "LAST USED"),
        [
            (
                s["sessionId"],
                s["status"],
                str(s["version"]),
                str(s["invocations"]),
                when(s["lastUsedAt"]),
            )
            for s in live
        ],
    )


@click.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@platform_options
def destroy(platform: Platform, name: str, yes: bool) -> None:
    """Delete an agent and all that belongs to it.

    That is: its sessions, endpoints, versions and uploaded code.
    NAME is the agent's name, id or ARN.
    """
    runtime = runtimes.find(platform, name)
    if not yes:
        _confirm(platform, runtime)
    with platform.output.progress(f"Destroying {runtime.name} ...") as progress:
        _delete_endpoints(platform, runtime)
        platform.control.delete_agent_runtime(agentRuntimeId=runtime.id)
        _wait_until_gone(platform, runtime)
        progress.update("Removing its code ...")
        code_bucket.remove(platform, runtime.name)
    if platform.output.as_json:
        platform.output.document({"name": runtime.name, "id": runtime.id, "destroyed": True})
    platform.output.say(f"{runtime.name} is gone.")


def _confirm(platform: Platform, runtime: Runtime) -> None:
    if platform.output.as_json or not sys.stdin.isatty():
        raise CliError(
            f"Say --yes to destroy {runtime.name} without being asked.", code="NotConfirmed"
        )
    live = platform.own.pages("sessions", items="sessions", runtimeId=runtime.id, status="live")
    if not click.confirm(
        f"Destroy {runtime.name} ({runtime.id}) and end its {len(live)} live sessions?", err=True
    ):
        raise CliError("Nothing was destroyed.", code="NotConfirmed")


def _delete_endpoints(platform: Platform, runtime: Runtime) -> None:
    """Named endpoints first: a runtime that still has one may not be deleted."""
    pages = platform.control.get_paginator("list_agent_runtime_endpoints").paginate(
        agentRuntimeId=runtime.id
    )
    for row in [row for page in pages for row in page["runtimeEndpoints"]]:
        if row["name"] != "DEFAULT":
            platform.control.delete_agent_runtime_endpoint(
                agentRuntimeId=runtime.id, endpointName=row["name"]
            )


def _wait_until_gone(platform: Platform, runtime: Runtime) -> None:
    control = platform.control

    def look() -> bool | None:
        try:
            got = control.get_agent_runtime(agentRuntimeId=runtime.id)
        except control.exceptions.ResourceNotFoundException:
            return True
        if got["status"] == "DELETE_FAILED":
            raise CliError(
                f"{runtime.name} could not be deleted: {got.get('failureReason', 'no reason')}",
                code="DeleteFailed",
            )
        return None

    slow = CliError(
        f"{runtime.name} is still being deleted after {DESTROY_SECONDS_MAX} s.",
        code="DeleteSlow",
        hint=f"See: freehold status {runtime.name}",
    )
    lookup.waited(look, slow, seconds_max=DESTROY_SECONDS_MAX)
