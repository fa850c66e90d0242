"""The group of `freehold memory`."""

import click

from freehold.cli.memory.conversations import actors, events, sessions
from freehold.cli.memory.erase import erase, erasures
from freehold.cli.memory.export import export
from freehold.cli.memory.jobs import jobs
from freehold.cli.memory.memories import create, delete, list_memories, show
from freehold.cli.memory.provenance import record, retrievals
from freehold.cli.memory.records import forget, profile, records, search


@click.group()
def memory() -> None:
    """See what agents remember, and take it away.

    MEMORY is a memory's name, id or ARN.
    """


for _command in (
    list_memories, create, show, delete, actors, sessions, events, records, record, search,
    profile, retrievals, jobs, forget, export, erase, erasures,
):  # fmt: skip
    memory.add_command(_command)
