"""What the operations of each service are asked with, and what the first tenant has of it: a file a
service. A new operation's members, bodies and paths go into the table of its service."""

from collections.abc import Mapping
from functools import reduce
from typing import Any

from tenant_tables import (
    forks,
    functions,
    gateways,
    identity,
    memories,
    people,
    policies,
    runtimes,
    traces,
)
from tenant_tables.table import Table

TABLES: tuple[Table, ...] = (
    runtimes.TABLE, people.TABLE, identity.TABLE, gateways.TABLE, policies.TABLE, memories.TABLE,
    functions.TABLE, traces.TABLE, forks.TABLE,
    Table(nameless=frozenset({"clientToken", "nextToken", "description", "roleArn"})),
)  # fmt: skip


def _together(member: str) -> dict[str, Any]:
    def joined(all: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
        assert not all.keys() & more.keys(), f"two tables have {member} of the same name"
        return {**all, **more}

    return reduce(joined, (getattr(table, member) for table in TABLES), {})


NAMES, GOOD = _together("names"), _together("good")
PATHS, BODIES, FILTERS = _together("paths"), _together("bodies"), _together("filters")
NAMELESS = frozenset[str]().union(*(table.nameless for table in TABLES))
ACTS_AT_HOME = frozenset[str]().union(*(table.at_home for table in TABLES))
THINGS = [key for table in TABLES for key in table.things]
MARKS = [key for table in TABLES for key in table.marks]
