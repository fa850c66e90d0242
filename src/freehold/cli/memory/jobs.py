"""`freehold memory jobs`: extractions that were given up, why, and another try."""

from typing import Any

import click

from freehold.cli.memory import found, shown
from freehold.cli.memory.found import Memory
from freehold.cli.options import platform_options
from freehold.cli.output import counted
from freehold.cli.platform import Platform

# At most so many a page, says AgentCore's model of this list alone.
_PAGE_ITEMS = 50


@click.command()
@click.argument("memory")
@click.argument("action", required=False, type=click.Choice(["retry"]), metavar="[retry")
@click.argument("job", required=False, metavar="JOB]")
@platform_options
def jobs(platform: Platform, memory: str, action: str | None, job: str | None) -> None:
    """List failed extractions of MEMORY, or retry one.

    Each with its reason. What such a job was to learn from is kept, and learned when it is tried
    again. JOB is its id, or all.

    \b
    Examples:
      freehold memory jobs support
      freehold memory jobs support retry all
    """
    if (action is None) != (job is None):
        raise click.UsageError("Say which: freehold memory jobs MEMORY retry JOB")
    which = found.find(platform, memory)
    if job is None:
        _tell(platform, which, _failed(platform, which))
        return
    wanted = [row["jobID"] for row in _failed(platform, which)] if job == "all" else [job]
    for id in wanted:
        platform.data.start_memory_extraction_job(memoryId=which.id, extractionJob={"jobId": id})
    if platform.output.as_json:
        platform.output.document({"started": wanted})
    elif wanted:
        platform.output.say(f"Started again: {counted(len(wanted), 'job')}.")
        platform.output.note(f"One that fails again is listed by: freehold memory jobs {memory}")
    else:
        platform.output.note(f"No extraction of {which.name} has failed.")


def _failed(platform: Platform, memory: Memory) -> list[dict[str, Any]]:
    return list(
        found.listed(
            platform, "list_memory_extraction_jobs", "jobs", memoryId=memory.id,
            page_items=_PAGE_ITEMS,
        )
    )  # fmt: skip


def _tell(platform: Platform, memory: Memory, rows: list[dict[str, Any]]) -> None:
    output = platform.output
    if output.as_json:
        output.document({"jobs": rows})
        return
    if not rows:
        output.note(f"No extraction of {memory.name} has failed.")
        return
    for at, row in enumerate(rows):
        if at:
            output.say("")
        output.say(row["jobID"])
        shown.paragraph(output, row.get("failureReason") or "no reason is known", indent=2)
        messages = (row.get("messages") or {}).get("messagesList") or ()
        place = f"{row.get('actorId')}, session {row.get('sessionId')}"
        named = shown.strategy(row.get("strategyId", ""))
        shown.dim(output, named, place, counted(len(messages), "message"))
    output.note(f"To try again: freehold memory jobs {memory.name} retry JOB, or all of them: all")
