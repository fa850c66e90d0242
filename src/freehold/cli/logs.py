"""`freehold logs`: what an agent and its builds wrote."""

from typing import Any

import click

from freehold.cli import runtimes
from freehold.cli.options import platform_options
from freehold.cli.output import when
from freehold.cli.platform import Platform

_SOURCE_CHARACTERS = 8


@click.command()
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.option("--session", help="Only this session.")
@click.option("--build", is_flag=True, help="The build log in place of the sessions'.")
@click.option(
    "--tail",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="How many of the last lines to begin with.",
)
@platform_options
def logs(
    platform: Platform, *, name: str, follow: bool, session: str | None, build: bool, tail: int
) -> None:
    """Show the log of an agent's sessions, or of its build.

    NAME is the agent's name, id or ARN. With --json, one object on each line.
    """
    runtime = runtimes.find(platform, name)
    shown = 0
    with platform.own.lines(
        "runtimes",
        runtime.id,
        "logs",
        follow=follow,
        sessionId=session,
        tail=tail,
        build="true" if build else "false",
    ) as lines:
        for line in lines:
            shown += 1
            _show(platform, line, with_source=session is None and not build)
    if not shown and tail:
        platform.output.note("No log lines yet.")


def _show(platform: Platform, line: dict[str, Any], *, with_source: bool) -> None:
    if platform.output.as_json:
        platform.output.line(line)
        return
    source = ""
    if with_source:
        source = click.style(f"{line['source'][:_SOURCE_CHARACTERS]:8} ", fg="cyan")
    # Lines of a build carry no time.
    stamp = click.style(when(line["time"]) + " ", dim=True) if line["time"] else ""
    platform.output.say(f"{stamp}{source}{line['line']}")
