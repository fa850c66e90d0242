"""The group of `freehold policy`."""

import click

from freehold.cli.policy.check import check, diff, schema
from freehold.cli.policy.engines import attach, detach, engine
from freehold.cli.policy.generate import generate
from freehold.cli.policy.history import decisions, explain, view
from freehold.cli.policy.policies import (
    acknowledge,
    create,
    delete,
    list_policies,
    mode,
    show,
    update,
)
from freehold.cli.policy.trying import try_


@click.group()
def policy() -> None:
    """Say in Cedar who may call which tool with what, and prove it."""


for _command in (
    check, diff, schema, engine, create, update, mode, list_policies, show, delete, generate,
    attach, detach, decisions, explain, try_, view, acknowledge,
):  # fmt: skip
    policy.add_command(_command)
