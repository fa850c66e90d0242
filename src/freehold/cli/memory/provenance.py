"""`freehold memory record` and `retrievals`: where a record comes from, who found it."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from freehold.cli.memory import found, shown
from freehold.cli.memory.found import limit_option
from freehold.cli.options import platform_options
from freehold.cli.output import Output, when
from freehold.cli.platform import Platform

_RETRIEVALS_SHOWN = 10


@click.command()
@click.argument("memory")
@click.argument("record")
@platform_options
def record(platform: Platform, memory: str, record: str) -> None:
    """Show RECORD of MEMORY and where it comes from.

    That is: which messages it was learned from, what it took the place of, what took its place,
    and which retrievals found it.
    """
    which = found.find(platform, memory)
    document = platform.own.get("memories", which.id, "records", record, "provenance")
    output = platform.output
    if output.as_json:
        output.document(document)
        return
    _tell_record(output, document["record"])
    _tell_sources(output, document["sources"])
    if document.get("supersedes"):
        _title(output, "It took the place of")
        for each in document["supersedes"]:
            shown.record(output, each, indent=2)
    if document.get("supersededBy"):
        _title(output, "Its place was taken by")
        shown.record(output, document["supersededBy"], indent=2)
    _title(output, "Retrievals that found it")
    for each in document["retrievals"][:_RETRIEVALS_SHOWN]:
        shown.retrieval(output, each, of=record, indent=2)
    if not document["retrievals"]:
        output.say("  none")
    if document.get("nextToken") or len(document["retrievals"]) > _RETRIEVALS_SHOWN:
        output.note(f"All: freehold memory retrievals {which.name} --record {record}")


def _title(output: Output, text: str) -> None:
    output.say("")
    output.say(click.style(text, bold=True))


def _tell_record(output: Output, view: Mapping[str, Any]) -> None:
    shown.record(output, view, full=True)
    if view.get("validFrom") not in (None, view["at"]):
        shown.dim(output, f"so since {when(view['validFrom'])}")
    written = f"written {when(view.get('createdAt'))}"
    updated = view.get("updatedAt") if view.get("updatedAt") != view.get("createdAt") else None
    changed = f"changed {when(updated)}" if updated else ""
    expires = f"expires {when(view['expiresAt'])}" if view.get("expiresAt") else ""
    shown.dim(output, written, changed, expires)
    metadata = view.get("metadata") or {}
    shown.dim(output, *(f"{key} = {_value(each)}" for key, each in sorted(metadata.items())))


def _value(given: Any) -> str:
    """As AWS's operations have it ({"stringValue": ...}), or plain."""
    if isinstance(given, Mapping) and len(given) == 1:
        (given,) = given.values()
    return ", ".join(map(str, given)) if isinstance(given, list) else str(given)


def _tell_sources(output: Output, sources: Sequence[Mapping[str, Any]]) -> None:
    _title(output, "It comes from")
    if not sources:
        output.say("  nothing that was said: it was put there")
    for source in sources:
        moment = when(source.get("at")) if source.get("at") else ""
        place = f"{source['actorId']}, session {source['sessionId']}"
        event = f"event {source['eventId']}, message {source['index'] + 1}"
        shown.dim(output, moment, place, event)
        if source.get("gone"):
            output.say("    gone: it has expired")
        else:
            text = shown.cut(source.get("text") or "", full=False)
            shown.message(output, source.get("role") or "", text, indent=4)


@click.command()
@click.argument("memory")
@click.option("--record", metavar="RECORD", help="Only those that found this record.")
@click.option("--actor", help="Only in this actor's namespaces.")
@click.option("--since", help="From then on: a span such as 24h or 7d, or ISO 8601.")
@click.option("--until", help="Before then, likewise.")
@limit_option
@platform_options
def retrievals(platform: Platform, /, *, memory: str, limit: int, **query: Any) -> None:
    """List what was looked up in MEMORY, and found.

    By agents and by people, newest first.
    """
    which, output = found.find(platform, memory), platform.output
    rows, more = found.first(
        found.own_listed(platform, "memories", which.id, "retrievals", items="retrievals", **query),
        limit,
    )
    if output.as_json:
        output.document({"retrievals": rows, "more": more})
        return
    if not rows:
        output.note("No such retrievals." if any(query.values()) else "Nothing was looked up yet.")
    for at, row in enumerate(rows):
        if at:
            output.say("")
        shown.retrieval(output, row, of=query["record"])
    if more:
        output.note(f"There are more: --limit shows more than {limit}.")
