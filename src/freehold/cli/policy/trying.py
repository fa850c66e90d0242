"""`freehold policy try`: yesterday's calls under tomorrow's policies."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from freehold.cli.failure import CliError
from freehold.cli.gateway import found as gateway_found
from freehold.cli.options import platform_options
from freehold.cli.output import Output, counted, when
from freehold.cli.platform import Platform
from freehold.cli.policy import found, shown
from freehold.cli.policy.check import change_of

_FILE = click.Path(path_type=Path, allow_dash=True)
_COUNTS = {
    "newly-allowed": "newlyAllowed",
    "newly-denied": "newlyDenied",
    "untellable": "untellable",
}


@click.command("try")
@click.argument("file", type=_FILE, required=False)
@click.option("--engine", metavar="NAME", required=True, help="Whose recorded calls to replay.")
@click.option("--policy", metavar="NAME", help="FILE is the text of this policy of it alone.")
@click.option("--add", is_flag=True, help="FILE is put beside its policies.")
@click.option("--without", metavar="NAME", help="Its policies without this one, and no FILE.")
@click.option(
    "--since", default="24h", show_default=True,
    help="Calls from then on: a span such as 24h or 7d, or ISO 8601.",
)  # fmt: skip
@click.option("--until", help="Calls before then, likewise.")
@click.option("--gateway", metavar="NAME", help="Only calls at this gateway.")
@click.option(
    "--calls", type=click.IntRange(1, 1_000_000), default=100_000, show_default=True,
    help="Look at so many at most, the newest first.",
)  # fmt: skip
@click.option(
    "--fail-on", multiple=True, type=click.Choice(list(_COUNTS)),
    help="Exit with 1 where there is such a call; may be given again.",
)  # fmt: skip
@platform_options
def try_(
    platform: Platform,
    /,
    *,
    file: Path | None,
    engine: str,
    policy: str | None,
    add: bool,
    without: str | None,
    fail_on: tuple[str, ...],
    **given: Any,
) -> int:
    """Decide recorded calls again with FILE, and list each that would have gone the other way.

    FILE is all of the engine's policies, or with --policy, --add or --without a change of those
    that decide now. Calls of which it cannot be told are counted, never guessed. With --json one
    object on each line as they come; the last is the summary.

    \b
    Examples:
      freehold policy try bank.cedar --engine bank --since 24h
      freehold policy try large.cedar --engine bank --policy large_transfers --since 7d
    """
    if sum(map(bool, (policy, add, without))) > 1:
        raise click.UsageError("Choose one of --policy, --add and --without.")
    if (file is None) != bool(without):
        raise click.UsageError("Name a FILE, or say what to be --without.")
    which = found.find(platform, engine)
    change = change_of(platform, which, [file] if file else [], policy or without, add=add)
    if "new" in change:
        change = {"policies": change["new"]}
    body = {**change, "since": given["since"], "callsMax": given["calls"]}
    if given["until"]:
        body["until"] = given["until"]
    if given["gateway"]:
        body["gatewayId"] = gateway_found.find(platform, given["gateway"]).id
    output = platform.output
    summary: Mapping[str, Any] | None = None
    changes = []
    with (
        output.progress("Replaying ...") as progress,
        platform.own.lines("policy-engines", which.id, "try", body=body) as lines,
    ):
        for line in lines:
            summary = line.get("summary", summary)
            if output.as_json:
                output.line(line)
            elif found_now := line.get("change"):
                changes.append(found_now)
            elif output.on_terminal and (counts := line.get("progress")):
                progress.update(f"Replaying ... {counted(counts['lookedAt'], 'call')}")
    for each in changes:
        _tell_change(output, each)
    if summary is None:
        raise CliError("The try broke off before its end.", code="ConnectionLost")
    if not output.as_json:
        _tell(output, summary)
    return 1 if any(summary[_COUNTS[each]] for each in fail_on) else 0


def _tell_change(output: Output, change: Mapping[str, Any]) -> None:
    color = "red" if change["change"] == "newly allowed" else "yellow"
    by = change["after"]["policies"] or change["before"]["policies"]
    tail = f", by {', '.join(by)}" if by else ""
    output.say(f"{click.style(change['change'], fg=color)}  {when(change['at'])}{tail}")
    shown.recorded(output, change, change)
    if change["nowAllowed"] == change["after"]["allowed"]:
        shown.paragraph(output, "the engine's policies say so already today")
    output.say(f"  {change['id']}")
    output.say("")


def _tell(output: Output, summary: Mapping[str, Any]) -> None:
    span = f"{when(summary['since'])} to {when(summary['until'])}"
    output.say(f"{counted(summary['replayed'], 'call')} replayed, {span}")
    rows = [
        ("the same", summary["same"]),
        ("newly allowed", summary["newlyAllowed"]),
        ("newly denied", summary["newlyDenied"]),
        *((f"cannot tell: {why}", count) for why, count in summary["untellable"].items()),
    ]
    for what, count in rows:
        shown.paragraph(output, f"{count:>7,}  {what}")
    for misfit in summary["misfits"]:
        output.say(f"{misfit['policy']} does not fit the tools of {misfit['gatewayId']}:")
        for problem in misfit["problems"]:
            shown.paragraph(output, problem)
    changes = summary["newlyAllowed"] + summary["newlyDenied"]
    if summary["listed"] < changes:
        output.note(f"The first {summary['listed']} of {changes} are listed.")
    if summary["reachedMax"]:
        output.note("There are older calls: --calls looks at more.")
