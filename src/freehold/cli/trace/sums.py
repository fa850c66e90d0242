"""`freehold trace sessions`, `costs` and `series`."""

from typing import Any

import click

from freehold.cli.options import platform_options
from freehold.cli.output import when
from freehold.cli.platform import Platform
from freehold.cli.trace import shown
from freehold.cli.trace.found import (
    agent_id,
    agent_options,
    filters,
    limit_option,
    listed,
    since_option,
    until_option,
)

_BY = ("model", "agent", "session", "user", "day")
_GROUPS = ("agent", "version", "model", "tool", "operation", "status")
_MEASURED = {
    "traces": "traces",
    "model-calls": "model_calls",
    "tool-calls": "tool_calls",
    "spans": "spans",
}


@click.command()
@since_option
@until_option
@limit_option
@filters
def sessions(
    platform: Platform, *, query: dict[str, Any], since: str, until: str | None, limit: int
) -> None:
    """List sessions that have traces, newest first."""
    output = platform.output
    found, more = listed(
        platform, "traced-sessions", "sessions", limit=limit, since=since, until=until, **query
    )
    if output.as_json or not found:
        return
    columns = ("BEGAN", "SESSION", "AGENT", "USER", ">TRACES", ">FAILED", ">TOKENS", ">COST")
    output.table(
        columns,
        [
            (
                when(each["startedAt"]), shown.safe(each["sessionId"]), each["agentId"] or "-",
                shown.safe(each["user"]) or "-", str(each["traces"]), str(each["errors"]),
                shown.tokens(each["inputTokens"], each["outputTokens"]),
                shown.dollars(each["cost"]),
            )
            for each in found
        ],
    )  # fmt: skip
    if more:
        output.note(f"There are more: --limit shows more than {limit}.")


@click.command()
@click.option(
    "--by", type=click.Choice(_BY), default="model", show_default=True,
    help="What a row stands for.",
)  # fmt: skip
@since_option
@until_option
@click.option("--agent", metavar="NAME", help="Only of this agent.")
@platform_options
def costs(platform: Platform, *, by: str, since: str, until: str | None, agent: str | None) -> None:
    """Show the tokens of models and what they cost.

    What has no known price is a dash and stands in no sum. What sessions cost in processors and
    memory: freehold costs.
    """
    report = platform.own.get(
        "model-costs", by=by, since=since, until=until,
        agentId=agent_id(platform, agent) if agent else None,
    )  # fmt: skip
    output = platform.output
    if output.as_json:
        output.document(report)
        return
    if not report["rows"]:
        output.note(f"No model was called since {when(report['since'])}.")
        return
    output.table(
        (by.upper(), ">CALLS", ">INPUT", ">OUTPUT", ">COST USD"),
        [
            (
                shown.safe(row["key"]) or "-", f"{row['modelCalls']:,}",
                f"{row['inputTokens']:,}", f"{row['outputTokens']:,}", shown.dollars(row["cost"]),
            )
            for row in report["rows"]
        ],
    )  # fmt: skip
    output.say("")
    output.say(f"Total {shown.dollars(report['total'])} since {when(report['since'])}.")
    if report["unpriced"]:
        names = ", ".join(shown.safe(name) or "-" for name in report["unpriced"][:5])
        output.note(f"Without a known price: {names}. FREEHOLD_MODEL_PRICES names a file of yours.")
    if report["partial"]:
        output.note("There are more sessions than were added up: say a shorter time.")


@click.command()
@click.option(
    "--measured", type=click.Choice(tuple(_MEASURED)), default="traces", show_default=True,
    help="What is counted.",
)  # fmt: skip
@click.option("--by", type=click.Choice(_GROUPS), help="A row for each, in place of each step.")
@click.option("--step", help="How far rows are apart: 5m, 1h, 1d.")
@since_option
@until_option
@agent_options
@click.option("--model", help="Only of this model.")
@click.option("--tool", help="Only of this tool.")
@platform_options
def series(platform: Platform, /, *, measured: str, by: str | None, **given: Any) -> None:
    """Show counts, failures, percentiles, tokens and costs over time.

    With --by one row for each group, of the whole time.
    """
    query = {name: given[name] for name in ("step", "since", "until", "model", "tool")}
    query["agentId"] = agent_id(platform, given["agent"]) if given["agent"] else None
    query["agentVersion"] = given["agent_version"]
    found = platform.own.get("trace-series", measured=_MEASURED[measured], by=by, **query)
    output = platform.output
    if output.as_json:
        output.document(found)
        return
    if by is not None:
        rows = [(each["group"] or "-", each["total"]) for each in found["groups"]]
    else:
        rows = [(when(point["at"]), point) for point in found["groups"][0]["points"]]
    if not any(point["count"] for _, point in rows):
        output.note(f"Nothing was counted since {when(found['since'])}.")
        return
    first = by.upper() if by else "TIME"
    columns = (first, ">COUNT", ">FAILED", ">P50", ">P95", ">P99", ">TOKENS", ">COST")
    output.table(columns, [(shown.safe(label), *_cells(point)) for label, point in rows])


def _cells(point: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{point['count']:,}",
        f"{point['errors']:,}",
        shown.duration(point["p50Ms"]),
        shown.duration(point["p95Ms"]),
        shown.duration(point["p99Ms"]),
        shown.tokens(point["inputTokens"], point["outputTokens"]),
        shown.dollars(point["cost"]),
    )
