"""`freehold sessions` and `stop`: the sandboxes that agents run in."""

from typing import Any

import click

from freehold.cli import runtimes
from freehold.cli.failure import CliError
from freehold.cli.options import platform_options
from freehold.cli.output import number, when
from freehold.cli.platform import Platform
from freehold.cli.runtimes import Runtime


@click.command()
@click.argument("name", required=False)
@click.option("--all", "ended_too", is_flag=True, help="Ended sessions as well.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most this many."
)
@platform_options
def sessions(platform: Platform, name: str | None, ended_too: bool, limit: int) -> None:
    """List live sessions, of one agent or of all.

    NAME is the agent's name, id or ARN. What could not be measured shows as a dash.
    """
    runtime = runtimes.find(platform, name) if name else None
    rows = platform.own.pages(
        "sessions",
        items="sessions",
        limit=limit + 1,
        runtimeId=runtime.id if runtime else None,
        status="all" if ended_too else "live",
    )
    more, rows = len(rows) > limit, rows[:limit]
    output = platform.output
    if output.as_json:
        output.document({"sessions": rows, "more": more})
        return
    if not rows:
        output.note("No sessions." if ended_too else "No live sessions. --all shows ended ones.")
        return
    output.table(
        (
            "SESSION",
            "AGENT",
            "STATUS",
            "TIER",
            "START",
            "STARTED",
            ">CALLS",
            ">CPU s",
            ">GB s",
            ">COST $",
        ),
        [_row(session) for session in rows],
    )
    if more:
        output.note(f"There are more: --limit shows more than {limit}.")


def _row(session: dict[str, Any]) -> tuple[str, ...]:
    status = session["status"]
    if session.get("endReason"):
        status += f" ({session['endReason']})"
    return (
        session["sessionId"],
        session["runtimeName"],
        status,
        session["tier"],
        session["start"],
        when(session["startedAt"]),
        str(session["invocations"]),
        number(session["cpuSeconds"], 2),
        number(session["memoryGbSeconds"], 2),
        number(session["cost"], 6),
    )


@click.command()
@click.argument("name")
@click.argument("session_id", required=False)
@click.option("--all", "every", is_flag=True, help="Every live session of this agent.")
@click.option("--qualifier", help="The endpoint that the session belongs to.")
@platform_options
def stop(
    platform: Platform, name: str, session_id: str | None, every: bool, qualifier: str | None
) -> None:
    """End a session of an agent, or all of its sessions.

    NAME is the agent's name, id or ARN. What a session kept in memory and in its files is gone.
    """
    if (session_id is None) != every:
        raise click.UsageError("Name one SESSION_ID, or say --all.")
    runtime = runtimes.find(platform, name)
    output = platform.output
    failed: dict[str, str] = {}
    if session_id is not None:
        _stop(platform, runtime, session_id, qualifier)
        stopped = [session_id]
    else:
        stopped, failed = _stop_all(platform, runtime, qualifier)
    if output.as_json and not failed:
        output.document({"stopped": stopped})
    for one in stopped:
        output.say(f"Stopped {one}")
    if every and not stopped and not failed:
        output.note(f"{runtime.name} has no live sessions.")
    if failed:
        raise CliError(
            f"Stopped {len(stopped)} sessions; could not stop "
            + ", ".join(f"{one} ({why})" for one, why in failed.items()),
            code="StopFailed",
        )


def _stop(platform: Platform, runtime: Runtime, session_id: str, qualifier: str | None) -> None:
    platform.data.stop_runtime_session(
        agentRuntimeArn=runtime.arn,
        runtimeSessionId=session_id,
        **({"qualifier": qualifier} if qualifier else {}),
    )


def _stop_all(
    platform: Platform, runtime: Runtime, qualifier: str | None
) -> tuple[list[str], dict[str, str]]:
    """The sessions that ended, and why others did not."""
    from botocore.exceptions import ClientError

    stopped: list[str] = []
    failed: dict[str, str] = {}
    rows = platform.own.pages("sessions", items="sessions", runtimeId=runtime.id, status="live")
    for row in rows:
        if qualifier not in (None, row["endpoint"]):
            continue
        try:
            _stop(platform, runtime, row["sessionId"], row["endpoint"])
        except ClientError as error:
            # One that ended by itself in between is what was asked for.
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                failed[row["sessionId"]] = error.response["Error"]["Message"]
                continue
        stopped.append(row["sessionId"])
    return stopped, failed
