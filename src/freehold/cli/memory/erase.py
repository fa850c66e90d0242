"""`freehold memory erase` and `erasures`: a person's data taken away entirely, and the proof."""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from freehold.cli.memory import found, shown
from freehold.cli.memory.export import DIGESTED, Written, export_file
from freehold.cli.memory.found import Memory, limit_option
from freehold.cli.options import confirm, platform_options, yes_option
from freehold.cli.output import Output, Progress, when
from freehold.cli.platform import Platform

_LOOKS_EVERY_SECONDS = 0.5
_WORDS = {
    "turns": "searchable turns",
    "recordsRederived": "records learned anew from what others said",
    "queued": "messages waiting to be learned from",
    "failedJobs": "failed extraction jobs",
    "payloads": "files for self-managed strategies",
    "jobs": "traces of extraction jobs",
    "indexed": "texts in the index",
}
_CAPITAL = re.compile(r"(?=[A-Z])")
_PLURAL = re.compile(r"(\w)s\b")


@click.command()
@click.argument("memory")
@click.argument("actor")
@click.option("--dry-run", is_flag=True, help="Only say what there is to erase.")
@click.option(
    "--export", "file", type=click.Path(path_type=Path, dir_okay=False),
    help="First export what is of ACTOR into this file.",
)  # fmt: skip
@yes_option
@platform_options
def erase(
    platform: Platform, *, memory: str, actor: str, dry_run: bool, file: Path | None, yes: bool
) -> int:
    """Erase all that MEMORY holds of ACTOR.

    Events, turns, what was learned from them alone, what waits, and what was looked up. What was
    learned from others too is learned anew without ACTOR. Then everything is looked for again: the
    proof says what is left, holds nothing of ACTOR, and is kept for `freehold memory erasures`.
    Exits with 1 when something is left. It goes on where this command is interrupted.
    """
    which, output = found.find(platform, memory), platform.output
    if dry_run or not yes:
        body = {"actorId": actor, "dryRun": True}
        planned = platform.own.post("memories", which.id, "erasures", body=body)
        if dry_run and output.as_json:
            output.document(planned)
        if not output.as_json:
            _tell_planned(output, which, actor, planned)
        if dry_run or not _counts(planned, "erased"):
            return 0
        confirm(platform, f"Erase all of this for good, in {which.name}?", yes=False)
    written = _exported(platform, which, actor, file) if file is not None else None
    with output.progress(f"Erasing {actor} ...") as progress:
        body = {"actorId": actor, "dryRun": False}
        erasure = platform.own.post("memories", which.id, "erasures", body=body)
        erasure = _ended(platform, which, erasure, progress)
    if output.as_json:
        output.document(erasure)
    else:
        _tell_proof(output, which, erasure)
    if written is not None:
        _compare(output, written, erasure)
    return 0 if _nothing_left(erasure) else 1


def _exported(platform: Platform, memory: Memory, actor: str, file: Path) -> Written:
    with platform.output.progress(f"Exporting {actor} ...") as progress:
        written = export_file(platform, memory, actor, file, progress)
    platform.output.note(f"{file}: {written}")
    return written


def _compare(output: Output, written: Written, erasure: Mapping[str, Any]) -> None:
    """Whether what was exported is what was erased."""
    exported, erased = written.digests(), erasure.get("digests") or {}
    others = [f"{kind}s" for kind in DIGESTED if exported[kind] != erased.get(kind)]
    if not others:
        output.note("The export holds exactly what was erased: their digests are the same.")
        return
    names = ", ".join(others)
    output.note(f"The export differs from what was erased, in: {names}. Something was said, was")
    output.note("learned or expired in between.")


def _ended(
    platform: Platform, memory: Memory, erasure: dict[str, Any], progress: Progress
) -> dict[str, Any]:
    while erasure["state"] == "RUNNING":
        so_far = ", ".join(f"{number:,} {noun}" for noun, number in _counts(erasure, "erased"))
        progress.update(f"Erasing: {so_far} ..." if so_far else "Erasing ...")
        time.sleep(_LOOKS_EVERY_SECONDS)
        id = erasure["erasureId"]
        erasure = platform.own.get("memories", memory.id, "erasures", id)
    return erasure


def _counts(erasure: Mapping[str, Any], member: str) -> list[tuple[str, int]]:
    """What there is some of, in words."""
    counts = (erasure.get(member) or {}).items()
    return [(_words(key, number), number) for key, number in counts if number]


def _words(key: str, number: int) -> str:
    words = _WORDS.get(key) or " ".join(_CAPITAL.split(key)).lower()
    return _PLURAL.sub(r"\1", words, count=1) if number == 1 else words


def _nothing_left(erasure: Mapping[str, Any]) -> bool:
    return erasure["state"] == "DONE" and not _counts(erasure, "left")


def _tell_planned(output: Output, memory: Memory, actor: str, planned: Mapping[str, Any]) -> None:
    counts = _counts(planned, "erased")
    if not counts:
        output.say(f"{memory.name} holds nothing of {actor}.")
        return
    output.say(f"{memory.name} holds of {actor}:")
    _tell_counts(output, counts)


def _tell_counts(output: Output, counts: list[tuple[str, int]]) -> None:
    width = max(len(f"{number:,}") for _, number in counts)
    for noun, number in counts:
        output.say(f"  {number:>{width},}  {noun}")


def _tell_proof(output: Output, memory: Memory, erasure: Mapping[str, Any]) -> None:
    erased, left = _counts(erasure, "erased"), _counts(erasure, "left")
    if erasure["state"] != "DONE":
        output.say(click.style("THE ERASURE FAILED", fg="red") + f" in {memory.name}:")
        shown.paragraph(output, erasure.get("error") or "no reason is known", indent=2)
    if erased:
        output.say(f"Erased from {memory.name}:")
        _tell_counts(output, erased)
    elif erasure["state"] == "DONE":
        output.say(f"There was nothing to erase in {memory.name}.")
    if left:
        output.say(click.style("STILL THERE:", fg="red"))
        _tell_counts(output, left)
    elif erasure["state"] == "DONE":
        output.say("Looked for again afterwards: nothing is left.")
    output.say("")
    _tell_facts(output, erasure)
    if not _nothing_left(erasure):
        output.note("Run the same command again; what is gone already stays gone.")


def _tell_facts(output: Output, erasure: Mapping[str, Any]) -> None:
    ended = f" to {when(erasure['endedAt'])}" if erasure.get("endedAt") else ""
    facts = {
        "erasure": erasure["erasureId"],
        "when": f"{when(erasure['startedAt'])}{ended}",
        "by": erasure.get("by") or "-",
        "actor": erasure.get("actorDigest") or "-",
        "digest": erasure.get("digest") or "-",
    }
    for label, value in facts.items():
        shown.paragraph(output, value, first=label.ljust(9))


@click.command()
@click.argument("memory")
@click.option("--actor", help="Only those of this actor.")
@click.option("--dry-runs", is_flag=True, help="With those that only looked.")
@limit_option
@platform_options
def erasures(
    platform: Platform, *, memory: str, actor: str | None, dry_runs: bool, limit: int
) -> None:
    """List the erasures in MEMORY and their proofs.

    Newest first. A proof knows its actor by a digest alone; with --actor those whose digest fits.
    A memory that is gone is named by its id: its proofs stay.
    """
    which, output = found.find(platform, memory, gone=True), platform.output
    listed = found.own_listed(
        platform, "memories", which.id, "erasures", items="erasures", actor=actor
    )
    rows, more = found.first((row for row in listed if dry_runs or not row["dryRun"]), limit)
    if output.as_json:
        output.document({"erasures": rows, "more": more})
        return
    if not rows:
        output.note(f"Nobody was erased from {which.name}." if actor is None else "No erasure.")
    for at, row in enumerate(rows):
        if at:
            output.say("")
        counts = ", ".join(f"{number:,} {noun}" for noun, number in _counts(row, "erased"))
        left = ", ".join(f"{number:,} {noun}" for noun, number in _counts(row, "left"))
        output.say(f"{when(row['startedAt'])}  {_state(row)}")
        done = "found" if row["dryRun"] else "erased"
        shown.paragraph(output, f"{done}: {counts or 'nothing'}", indent=2)
        if left:
            shown.paragraph(output, f"left: {left}", indent=2)
        if row.get("error"):
            shown.paragraph(output, row["error"], indent=2)
        shown.dim(output, row["erasureId"], f"by {row['by']}" if row.get("by") else "")
        shown.dim(output, f"actor  {row.get('actorDigest') or '-'}")
        if row.get("digest"):
            shown.dim(output, f"digest {row['digest']}")
    if more:
        output.note(f"There are more: --limit shows more than {limit}.")


def _state(row: Mapping[str, Any]) -> str:
    if row["state"] == "RUNNING":
        return "under way"
    if row["dryRun"]:
        return "only looked"
    return "nothing is left" if _nothing_left(row) else click.style("FAILED", fg="red")
