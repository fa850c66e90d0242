"""`freehold memory export`: what a memory holds as JSON lines, of one actor or of all."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import click

from freehold.cli.failure import CliError
from freehold.cli.memory import found, places
from freehold.cli.memory.found import Memory, Place
from freehold.cli.memory.records import history_of
from freehold.cli.options import platform_options
from freehold.cli.output import Progress, counted
from freehold.cli.platform import Platform

FORMAT = 1
_TOLD_EVERY = 500
_TURNS_PATH = "/turns/actors/"
_SOURCE_MEMBERS = ("eventId", "index", "actorId", "sessionId", "gone")
DIGESTED = ("event", "record", "session", "turn")
"""The kinds of lines that an erasure's digests are of."""


@dataclass
class Written:
    """How many lines of each kind; and of one actor's export the ids that it has, by kind."""

    counts: dict[str, int] = field(default_factory=dict)
    ids: dict[str, set[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        kinds = ("event", "record", "retrieval")
        return ", ".join(counted(self.counts.get(kind, 0), kind) for kind in kinds)

    def digests(self) -> dict[str, str]:
        """As the proof of an erasure has them: of a line for each id, sorted."""
        return {
            kind: hashlib.sha256(
                "".join(f"{kind} {id}\n" for id in sorted(self.ids.get(kind, ()))).encode()
            ).hexdigest()
            for kind in DIGESTED
        }


@click.command()
@click.argument("memory")
@click.option("--actor", help="Only what is of this actor.")
@click.option(
    "-o", "--output", "file", type=click.Path(path_type=Path, dir_okay=False),
    help="Into this file, which nobody else may read. Default: standard output.",
)  # fmt: skip
@platform_options
def export(platform: Platform, memory: str, actor: str | None, file: Path | None) -> None:
    """Write what MEMORY holds as JSON lines.

    That is: sessions, events, turns, records with their sources, and retrievals. Each line says its
    kind. The first is the memory, the last ("end") counts what came between: an export without it
    broke off. Of each session the newest event is first.
    """
    which, output = found.find(platform, memory), platform.output
    with output.progress(f"Exporting {which.name} ...") as progress:
        if file is None:
            written = export_to(platform, which, actor, sys.stdout, progress)
        else:
            written = export_file(platform, which, actor, file, progress)
    if file is not None and output.as_json:
        output.document({"file": str(file), **written.counts})
    elif file is not None:
        output.say(f"{file}: {written}")
    else:
        output.note(str(written))


def export_file(
    platform: Platform, memory: Memory, actor: str | None, file: Path, progress: Progress
) -> Written:
    """The file is there once all of it is on the disk, and only then."""
    with _whole(file) as stream:
        return export_to(platform, memory, actor, stream, progress)


@contextmanager
def _whole(file: Path) -> Iterator[TextIO]:
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        if error.filename not in (str(part), str(file), part, file):
            raise
        raise CliError(f"{file}: {error.strerror}", code="NoFile") from None


def export_to(
    platform: Platform, memory: Memory, actor: str | None, stream: TextIO, progress: Progress
) -> Written:
    written = Written()

    def line(kind: str, document: Mapping[str, Any], id: str = "") -> None:
        text = json.dumps({"kind": kind, **document}, ensure_ascii=False, default=_plain)
        stream.write(text + "\n")
        if not id:
            return
        written.counts[kind] = written.counts.get(kind, 0) + 1
        if actor is not None:
            written.ids.setdefault(kind, set()).add(id)
        if sum(written.counts.values()) % _TOLD_EVERY == 0:
            progress.update(f"Exporting {memory.name}: {written} ...")

    now = datetime.now(UTC)
    line("memory", {"memoryId": memory.id, "actorId": actor, "at": now, "format": FORMAT})
    for each in [actor] if actor is not None else _actors(platform, memory):
        _said(platform, memory, each, line)
    for record in _records(platform, memory, actor):
        line("record", record, record["recordId"])
    for row in found.own_listed(
        platform, "memories", memory.id, "retrievals", items="retrievals", actor=actor
    ):
        line("retrieval", row, row["retrievalId"])
    digests = {"digests": written.digests()} if actor is not None else {}
    line("end", {"lines": written.counts, **digests})
    return written


def _actors(platform: Platform, memory: Memory) -> Iterator[str]:
    for row in found.listed(platform, "list_actors", "actorSummaries", memoryId=memory.id):
        yield row["actorId"]


def _said(platform: Platform, memory: Memory, actor: str, line: Callable[..., None]) -> None:
    """Sessions, events, and which of their messages are searchable as turns."""
    of: dict[str, Any] = {"memoryId": memory.id, "actorId": actor}
    for session in found.listed(platform, "list_sessions", "sessionSummaries", **of):
        line("session", session, session["sessionId"])
        asked = {**of, "sessionId": session["sessionId"]}
        for event in found.listed(platform, "list_events", "events", **asked):
            line("event", event, event["eventId"])
    place = {"memoryId": memory.id, "namespacePath": f"{_TURNS_PATH}{actor.strip('/')}/sessions/"}
    for turn in found.listed(platform, "list_memory_records", "memoryRecordSummaries", **place):
        id = turn["memoryRecordId"]
        line("turn", {"turnId": id, "actorId": actor, "namespaces": turn["namespaces"]}, id)


def _records(platform: Platform, memory: Memory, actor: str | None) -> Iterator[dict[str, Any]]:
    """With their sources. Of an actor those that an erasure takes away: what was learned from what
    the actor said, wherever it is, and what was put into namespaces that name the actor."""
    theirs = None
    if actor is not None:
        theirs = places.of_actor(found.strategies(platform, memory), actor)
    for view in history_of(platform, memory, Place(path="/")):
        if theirs is not None and not theirs.may_hold(view):
            continue
        path = ("memories", memory.id, "records", view["recordId"], "provenance")
        document = platform.own.get(*path)
        sources = [
            {key: source[key] for key in _SOURCE_MEMBERS if key in source}
            for source in document["sources"]
        ]
        if (
            theirs is None
            or any(source["actorId"] == actor for source in sources)
            or (not sources and theirs.name(view["namespaces"]))
        ):
            yield {**document["record"], "sources": sources}


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)
