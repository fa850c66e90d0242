"""`freehold trace list` and `watch`."""

from typing import Any

import click

from freehold.cli.output import when
from freehold.cli.platform import Platform
from freehold.cli.trace import shown
from freehold.cli.trace.found import filters, limit_option, listed, since_option, until_option

_COLUMNS = ("TIME", "TRACE", "NAME", "AGENT", "STATUS", ">DURATION", ">SPANS", ">TOKENS", ">COST")


@click.command("list")
@since_option
@until_option
@limit_option
@filters
def list_traces(
    platform: Platform, *, query: dict[str, Any], since: str, until: str | None, limit: int
) -> None:
    """List traces, newest first."""
    output = platform.output
    found, more = listed(
        platform, "traces", "traces", limit=limit, since=since, until=until, **query
    )
    if output.as_json or not found:
        return
    output.table(_COLUMNS, [_row(trace) for trace in found])
    if more:
        output.note(f"There are more: --limit shows more than {limit}.")


@click.command()
@filters
def watch(platform: Platform, *, query: dict[str, Any]) -> None:
    """Show traces as they come and change, until Ctrl-C.

    With --json one object on each line.
    """
    output = platform.output
    output.note("Waiting for traces; Ctrl-C ends it.")
    with platform.own.lines("traces", "live", **query) as lines:
        for line in lines:
            trace = line.get("trace")
            if trace is None:
                continue
            if output.as_json:
                output.line(trace)
            else:
                output.say("  ".join(_row(trace)))
    output.note("The platform ended it: it is stopping, or starting anew.")


def _row(trace: dict[str, Any]) -> list[str]:
    return [
        when(trace["startedAt"]),
        trace["traceId"],
        shown.safe(trace["name"]) + ("" if trace["complete"] else " ..."),
        trace["agentId"] or "-",
        trace["status"],
        shown.duration(trace["durationMs"]),
        str(trace["spans"]),
        shown.tokens(trace["inputTokens"], trace["outputTokens"]),
        shown.dollars(trace["cost"]),
    ]
