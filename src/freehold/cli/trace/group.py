"""The group of `freehold trace`."""

import click

from freehold.cli.trace.comparing import compare
from freehold.cli.trace.explain import explain
from freehold.cli.trace.forks import fork, forks, unfork
from freehold.cli.trace.listing import list_traces, watch
from freehold.cli.trace.show import show
from freehold.cli.trace.sums import costs, series, sessions


@click.group()
def trace() -> None:
    """See what agents did, step by step, and why.

    TRACE is a trace's id, the beginning of one, or `latest`.
    """


for _command in (
    list_traces, show, watch, explain, fork, forks, compare, unfork, sessions, costs, series,
):  # fmt: skip
    trace.add_command(_command)
