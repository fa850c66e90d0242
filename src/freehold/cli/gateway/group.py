"""The group of `freehold gateway`."""

import click

from freehold.cli.gateway.check import check
from freehold.cli.gateway.connectors import connectors
from freehold.cli.gateway.gateways import create, delete, list_gateways, show, update
from freehold.cli.gateway.governance import approve, changes, groups, problems, reject
from freehold.cli.gateway.limits import limits
from freehold.cli.gateway.rules import rules
from freehold.cli.gateway.status import status
from freehold.cli.gateway.targets import target
from freehold.cli.gateway.tools import call, search, tools


@click.group()
def gateway() -> None:
    """Make APIs, functions and MCP servers into governed tools behind one address."""


for _command in (
    create, update, list_gateways, show, delete, target, connectors, check, tools, call, search,
    status, problems, changes, approve, reject, groups, limits, rules,
):  # fmt: skip
    gateway.add_command(_command)
