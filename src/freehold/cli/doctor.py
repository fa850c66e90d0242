"""`freehold doctor`: what this machine offers to the platform, and what is missing."""

import click

from freehold.cli.options import json_option
from freehold.cli.output import Output


@click.command()
@json_option
def doctor(output: Output) -> None:
    """Say what this machine offers and what is missing.

    That is: sandbox tiers, Postgres, KVM and cgroups.
    """
    raise NotImplementedError("the composition root fills this in")
