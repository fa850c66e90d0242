"""`freehold memory records`, `search`, `profile` and `forget`: what is remembered."""

import heapq
import itertools
from collections.abc import Iterator
from typing import Any

import click

from freehold.cli.failure import CliError
from freehold.cli.memory import found, places, shown
from freehold.cli.memory.found import (
    Memory,
    Place,
    full_option,
    limit_option,
    place_of,
    place_options,
)
from freehold.cli.options import confirm, platform_options, yes_option
from freehold.cli.platform import Platform

TOP_K_MAX = 100
TOP_K_DEFAULT = 10
_EVERYWHERE = Place(path="/")

View = dict[str, Any]

history_option = click.option(
    "--history", is_flag=True, help="With what is not so any more, and since when."
)


@click.command()
@click.argument("memory")
@click.option("--actor", help="Only what was learned of this actor.")
@place_options
@history_option
@full_option
@limit_option
@platform_options
def records(
    platform: Platform,
    *,
    memory: str,
    actor: str | None,
    namespace: str | None,
    path: str | None,
    history: bool,
    full: bool,
    limit: int,
) -> None:
    """List what MEMORY learned, or was given.

    Newest first, without turns (what was said, as it was said): those are listed with --path
    /turns/, and read with `freehold memory events`.
    """
    place = place_of(namespace, path)
    if actor is not None and place is not None:
        raise click.UsageError("Say --actor, or where: --namespace or --path.")
    which, notice = found.find(platform, memory), None
    if place is None or history:
        views = _learned(platform, which, place, actor)
        if not history:
            views = (view for view in views if not view.get("validUntil"))
    else:
        views, notice = _there(platform, which, place)
    rows, more = found.first(views, limit)
    _tell(platform, which, rows, notice=notice, full=full, more=more, limit=limit)


def _there(platform: Platform, memory: Memory, place: Place) -> tuple[Iterator[View], str | None]:
    """What is exactly or below there, turns too; and what is said where that is nothing."""
    pages = found.pages(platform, "list_memory_records", memoryId=memory.id, **place.members)
    first = next(pages)
    rows = (
        row for page in itertools.chain([first], pages) for row in page["memoryRecordSummaries"]
    )
    return (shown.viewed(row) for row in rows), found.notice_of(first)


def history_of(platform: Platform, memory: Memory, place: Place) -> Iterator[View]:
    """All records there, superseded ones too, newest first."""
    return found.own_listed(
        platform, "memories", memory.id, "history", items="records", **place.members
    )


def _learned(
    platform: Platform, memory: Memory, place: Place | None, actor: str | None
) -> Iterator[View]:
    if actor is None:
        return history_of(platform, memory, place or _EVERYWHERE)
    theirs = places.of_actor(found.strategies(platform, memory), actor)
    if not theirs.paths:
        raise CliError(
            f"No strategy of {memory.name} keeps what it learns apart by actor.",
            code="NoActors",
            hint=f"All that it knows: freehold memory records {memory.name}",
        )
    lists = [history_of(platform, memory, Place(path=path)) for path in theirs.paths]
    newest = heapq.merge(*lists, key=lambda view: str(view["createdAt"]), reverse=True)
    return (view for view in newest if theirs.hold(view["namespaces"]))


@click.command()
@click.argument("memory")
@click.argument("query")
@place_options
@click.option(
    "--top-k", type=click.IntRange(1, TOP_K_MAX), default=TOP_K_DEFAULT, show_default=True,
    help="So many of the best.",
)  # fmt: skip
@history_option
@full_option
@platform_options
def search(
    platform: Platform,
    *,
    memory: str,
    query: str,
    namespace: str | None,
    path: str | None,
    top_k: int,
    history: bool,
    full: bool,
) -> None:
    """Search MEMORY as an agent does.

    Records, and turns where they are searchable. The best first, with their scores. Without
    --namespace or --path everywhere.
    """
    place = place_of(namespace, path) or _EVERYWHERE
    which, notice = found.find(platform, memory), None
    if history:
        # One page: what is on it counts as used, as `retrievals` shows.
        rows = platform.own.get(
            "memories", which.id, "history", query=query, maxResults=top_k, **place.members
        )["records"]
    else:
        criteria: Any = {"searchQuery": query, "topK": top_k}
        request: Any = {"memoryId": which.id, **place.members, "searchCriteria": criteria}
        answer: Any = platform.data.retrieve_memory_records(**request, maxResults=top_k)
        notice = found.notice_of(answer)
        rows = [shown.viewed(row) for row in answer["memoryRecordSummaries"]]
    _tell(platform, which, rows, notice=notice, full=full)


@click.command()
@click.argument("memory")
@click.argument("actor")
@platform_options
def profile(platform: Platform, memory: str, actor: str) -> None:
    """Show preferences and instructions of ACTOR.

    All that stand, and whole: what an agent should always be told of ACTOR.
    """
    which = found.find(platform, memory)
    document = platform.own.get("memories", which.id, "profile", actor=actor)
    if platform.output.as_json:
        platform.output.document(document)
        return
    if not document["records"]:
        platform.output.note(f"{which.name} knows no preference or instruction of {actor}.")
        if not any(each["type"] == "USER_PREFERENCE" for each in found.strategies(platform, which)):
            platform.output.note("It has no strategy that learns any (preference).")
        return
    shown.records(platform.output, document["records"], full=True)
    if document["more"]:
        platform.output.note("There are more than fit into a profile.")


@click.command()
@click.argument("memory")
@click.argument("record")
@yes_option
@platform_options
def forget(platform: Platform, memory: str, record: str, yes: bool) -> None:
    """Delete RECORD of MEMORY.

    What it was learned from stays: to have it learned from never again, delete the events, or
    erase the actor.
    """
    which = found.find(platform, memory)
    if not yes and not platform.output.as_json:
        got = platform.own.get("memories", which.id, "records", record, "provenance")
        shown.record(platform.output, got["record"])
    confirm(platform, f"Delete this record of {which.name}?", yes=yes)
    platform.data.delete_memory_record(memoryId=which.id, memoryRecordId=record)
    if platform.output.as_json:
        platform.output.document({"memoryRecordId": record, "deleted": True})
    platform.output.say(f"Forgotten: {record}")


def _tell(
    platform: Platform,
    memory: Memory,
    rows: list[View],
    *,
    notice: str | None,
    full: bool,
    more: bool | None = None,
    limit: int = 0,
) -> None:
    """`more` None: of a search, which has no more."""
    output = platform.output
    if output.as_json:
        document: dict[str, Any] = {"records": rows}
        if more is not None:
            document["more"] = more
        output.document({**document, "notice": notice} if notice else document)
        return
    if not rows:
        output.note("Nothing was found." if more is None else "No records.")
        if notice:
            shown.remark(output, notice)
        output.note(f"What learns, and what waits: freehold memory show {memory.name}")
        return
    shown.records(output, rows, full=full)
    if more:
        output.note(f"There are more: --limit shows more than {limit}.")
