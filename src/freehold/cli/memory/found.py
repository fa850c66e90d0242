"""Memories by the names that people use, and what the commands on them share."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import click

from freehold.cli import lookup
from freehold.cli.options import applied
from freehold.cli.platform import Platform

PAGE_ITEMS = 100
NOTICE = "x-freehold-notice"
# What AgentCore's model demands of memoryId. A name holds no dash.
_ID = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,99}-[a-zA-Z0-9]{10}")


@dataclass(frozen=True)
class Memory:
    id: str

    @property
    def name(self) -> str:
        return name_in(self.id)


@dataclass(frozen=True)
class Place:
    """Exactly one of the two: a namespace alone, or all at and below a path."""

    namespace: str | None = None
    path: str | None = None

    @property
    def members(self) -> dict[str, str]:
        """As AWS's operations and the query of ours name them."""
        if self.namespace is not None:
            return {"namespace": self.namespace}
        return {"namespacePath": self.path or "/"}


def name_in(id: str) -> str:
    """The name in the id of a memory or of a strategy: what comes before the last dash."""
    return id.rpartition("-")[0] or id


def find(platform: Platform, wanted: str, *, gone: bool = False) -> Memory:
    """By name, id or ARN. Raises CliError that lists those there are. Who may use memories and not
    list them says the id; with `gone` it may be the id of one that is not there any more."""
    from botocore.exceptions import ClientError

    identifier = lookup.identifier_in(wanted, "memory", noun="memory")
    try:
        rows = every(platform)
    except ClientError as error:
        if error.response["Error"]["Code"] != "AccessDeniedException" or not _ID.fullmatch(
            identifier
        ):
            raise
        return Memory(identifier)
    # One that is being deleted leaves its name to the next.
    for row in sorted(rows, key=lambda row: row["status"] == "DELETING"):
        if identifier in (row["id"], name_in(row["id"])):
            return Memory(row["id"])
    if gone and _ID.fullmatch(identifier):
        return Memory(identifier)
    names = {name_in(row["id"]) for row in rows}
    raise lookup.missing("memory", wanted, names, make="freehold memory create NAME")


def every(platform: Platform) -> list[Mapping[str, Any]]:
    pages = platform.control.get_paginator("list_memories").paginate()
    return [row for page in pages for row in page["memories"]]


def pages(platform: Platform, operation: str, **parameters: Any) -> Iterator[dict[str, Any]]:
    """Of a list of the data plane, as they are asked for: at least one."""
    paginator: Any = platform.data.get_paginator(operation)  # type: ignore[call-overload]
    size = {"PageSize": parameters.pop("page_items", PAGE_ITEMS)}
    yield from paginator.paginate(**parameters, PaginationConfig=size)


def listed(platform: Platform, operation: str, items: str, **parameters: Any) -> Iterator[Any]:
    for page in pages(platform, operation, **parameters):
        yield from page[items]


def own_listed(platform: Platform, *path: str, items: str, **query: Any) -> Iterator[Any]:
    """The same of our own API."""
    token = None
    while True:
        page = platform.own.get(*path, **query, maxResults=PAGE_ITEMS, nextToken=token)
        yield from page[items]
        token = page.get("nextToken")
        if not token:
            return


def first(items: Iterator[Any], limit: int) -> tuple[list[Any], bool]:
    """So many of them, and whether there are more."""
    found = list(islice(items, limit + 1))
    return found[:limit], len(found) > limit


def notice_of(answer: Mapping[str, Any]) -> str | None:
    """What the platform says beside an answer of AWS's, which has no member for it."""
    said: str | None = answer["ResponseMetadata"].get("HTTPHeaders", {}).get(NOTICE)
    return said


def plain(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}


place_options = applied(
    click.option("--namespace", metavar="NAMESPACE", help="Only in exactly this one."),
    click.option("--path", metavar="PATH", help="Only at or below this path of namespaces."),
)


def place_of(namespace: str | None, path: str | None) -> Place | None:
    if namespace is not None and path is not None:
        raise click.UsageError("Say --namespace (that one) or --path (all below it), not both.")
    if namespace is None and path is None:
        return None
    return Place(namespace, path)


limit_option = click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most this many."
)
full_option = click.option("--full", is_flag=True, help="Long texts whole.")


def strategies(platform: Platform, memory: Memory) -> Sequence[Mapping[str, Any]]:
    got: Any = platform.control.get_memory(memoryId=memory.id)
    found: Sequence[Mapping[str, Any]] = got["memory"].get("strategies") or ()
    return found
