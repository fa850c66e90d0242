"""`freehold memory actors`, `sessions` and `events`: who said what, as it was said."""

from collections.abc import Iterable, Mapping
from typing import Any

import click

from freehold.cli.memory import found, shown
from freehold.cli.memory.found import Memory, full_option, limit_option
from freehold.cli.options import platform_options
from freehold.cli.output import when
from freehold.cli.platform import Platform

MAIN = "main"


@click.command()
@click.argument("memory")
@limit_option
@platform_options
def actors(platform: Platform, memory: str, limit: int) -> None:
    """List the actors of MEMORY: those who said something."""
    which, output = found.find(platform, memory), platform.output
    rows, more = found.first(
        found.listed(platform, "list_actors", "actorSummaries", memoryId=which.id), limit
    )
    if output.as_json:
        output.document({"actors": rows, "more": more})
        return
    if not rows:
        output.note(f"Nothing was said in {which.name} yet.")
    for row in rows:
        output.say(row["actorId"])
    _tell_more(platform, limit, more)


@click.command()
@click.argument("memory")
@click.argument("actor")
@limit_option
@platform_options
def sessions(platform: Platform, memory: str, actor: str, limit: int) -> None:
    """List the sessions of ACTOR in MEMORY, the youngest first."""
    which, output = found.find(platform, memory), platform.output
    rows, more = found.first(_sessions(platform, which, actor), limit)
    if output.as_json:
        output.document({"sessions": rows, "more": more})
        return
    if not rows:
        output.note(f"{actor} has no sessions in {which.name}.")
        output.note(f"Who has: freehold memory actors {which.name}")
        return
    output.table(("SESSION", "SINCE"), [(row["sessionId"], when(row["createdAt"])) for row in rows])
    _tell_more(platform, limit, more)


@click.command()
@click.argument("memory")
@click.argument("actor")
@click.argument("session")
@click.option("--branch", metavar="NAME", help="Only this branch, with all that came before it.")
@full_option
@limit_option
@platform_options
def events(
    platform: Platform,
    *,
    memory: str,
    actor: str,
    session: str,
    branch: str | None,
    full: bool,
    limit: int,
) -> None:
    """Show what was said in SESSION of ACTOR, as a conversation.

    Of a long one the newest events. Branches come after the main conversation, each with the event
    that it begins after.
    """
    which, output = found.find(platform, memory), platform.output
    request: dict[str, Any] = {"memoryId": which.id, "actorId": actor, "sessionId": session}
    if branch:
        request["filter"] = {"branch": {"name": branch, "includeParentBranches": True}}
    rows, more = found.first(found.listed(platform, "list_events", "events", **request), limit)
    rows.reverse()
    if output.as_json:
        output.document({"events": rows, "more": more})
        return
    if not rows:
        _tell_none(platform, which, actor, session, branch)
        return
    if more:
        output.note(f"There are earlier ones: --limit shows more than {limit}.")
    if branch:
        _tell(platform, rows, full=full)
    else:
        _tell_branches(platform, rows, full=full)


def _sessions(platform: Platform, memory: Memory, actor: str) -> Any:
    return found.listed(
        platform, "list_sessions", "sessionSummaries", memoryId=memory.id, actorId=actor
    )


def _tell(platform: Platform, rows: Iterable[Mapping[str, Any]], *, full: bool) -> None:
    for at, row in enumerate(rows):
        if at:
            platform.output.say("")
        shown.event(platform.output, row, full=full)


def _tell_branches(platform: Platform, rows: list[dict[str, Any]], *, full: bool) -> None:
    """Each by itself: in the order of time they would be one conversation that nobody had."""
    branches: dict[str, list[dict[str, Any]]] = {MAIN: []}
    for row in rows:
        branches.setdefault((row.get("branch") or {}).get("name", MAIN), []).append(row)
    _tell(platform, branches[MAIN], full=full)
    for name, inside in branches.items():
        if name == MAIN:
            continue
        root = inside[0]["branch"].get("rootEventId", "")
        platform.output.say("")
        platform.output.say(click.style(f"branch {name}, after {root}", bold=True))
        _tell(platform, inside, full=full)


def _tell_none(
    platform: Platform, memory: Memory, actor: str, session: str, branch: str | None
) -> None:
    output = platform.output
    others, more = found.first(_sessions(platform, memory, actor), 1)
    if branch:
        output.note(f"Session {session} of {actor} has nothing on a branch {branch}.")
        output.note(f"All: freehold memory events {memory.name} {actor} {session}")
    elif others or more:
        output.note(f"{actor} has no events in session {session}: deleted, expired, or never said.")
        output.note(f"Those that have: freehold memory sessions {memory.name} {actor}")
    else:
        output.note(f"{actor} has no sessions in {memory.name}.")
        output.note(f"Who has: freehold memory actors {memory.name}")


def _tell_more(platform: Platform, limit: int, more: bool) -> None:
    if more:
        platform.output.note(f"There are more: --limit shows more than {limit}.")
