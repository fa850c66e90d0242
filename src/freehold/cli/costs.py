"""`freehold costs`: what sessions used, and what that comes to."""

import re
from datetime import datetime

import click

from freehold.cli.failure import CliError
from freehold.cli.options import platform_options
from freehold.cli.output import number, when
from freehold.cli.platform import Platform

_TITLES = {"agent": "AGENT", "session": "SESSION", "user": "USER", "day": "DAY"}


@click.command()
@click.option(
    "--by",
    type=click.Choice(tuple(_TITLES)),
    default="agent",
    show_default=True,
    help="What a row of the report stands for.",
)
@click.option(
    "--since",
    default="24h",
    show_default=True,
    help="A time span such as 24h or 7d, or a date and time in ISO 8601.",
)
@platform_options
def costs(platform: Platform, by: str, since: str) -> None:
    """Report CPU, memory and cost by agent, session, user or day.

    A session that waits costs no CPU. What could not be measured shows as a dash.
    """
    report = platform.own.get("costs", by=by, since=_checked_since(since))
    output = platform.output
    if output.as_json:
        output.document(report)
        return
    if not report["rows"]:
        output.note(f"Nothing was used since {when(report['since'])}.")
        return
    currency = report["currency"]
    output.table(
        (_TITLES[by], ">SESSIONS", ">CALLS", ">CPU s", ">GB s", f">COST {currency}"),
        [
            (
                row["name"] or row["key"] or "-",
                str(row["sessions"]),
                str(row["invocations"]),
                number(row["cpuSeconds"], 2),
                number(row["memoryGbSeconds"], 2),
                number(row["cost"], 6),
            )
            for row in report["rows"]
        ],
    )
    if report.get("unmeasured"):
        output.note(f"{report['unmeasured']} sessions could not be measured: not in these sums.")
    output.say("")
    output.say(f"Total {number(report['total'], 6)} {currency} since {when(report['since'])}.")


def _checked_since(since: str) -> str:
    if re.fullmatch(r"[1-9][0-9]{0,4}[mhd]", since):
        return since
    try:
        datetime.fromisoformat(since)
    except ValueError:
        raise CliError(
            f"--since {since!r}: expected a span such as 24h or 7d, or a time such as "
            "2026-09-01T00:00:00Z",
            code="Usage",
            exit_code=2,
        ) from None
    return since
