"""`freehold audit`: what was done and decided, and whether that record is whole."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from freehold.cli.failure import CliError
from freehold.cli.options import platform_options
from freehold.cli.output import when
from freehold.cli.platform import Platform

_OUTCOMES = ("allowed", "denied", "failed", "unknown")
_FAULTS_SHOWN = 20


class _Audit(click.Group):
    """`freehold audit` lists; `freehold audit verify` and its like are commands of their own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        wants_help = any(word in ctx.help_option_names for word in args)
        if not wants_help and not any(word in self.commands for word in args[:1]):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Audit)
def audit() -> None:
    """Show, verify and export what was done and decided."""


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that choose lines, handed over as the query of our own API."""

    @click.option("--since", help="From then on: a span such as 24h or 7d, or ISO 8601.")
    @click.option("--until", help="Before then, likewise.")
    @click.option("--principal", help="Only of this caller, as its lines show it.")
    @click.option("--user", help="Only on behalf of this user.")
    @click.option("--operation", help="Only of this operation, such as InvokeAgentRuntime.")
    @click.option("--resource", help="Only on this resource: its ARN, or the path asked for.")
    @click.option("--outcome", type=click.Choice(_OUTCOMES), help="Only with this outcome.")
    @click.option("--call", "call_id", help="Only of the call with this request id.")
    @_platform_flag
    @wraps(command)
    def with_filters(*args: Any, call_id: str | None, own_lines: bool, **kwargs: Any) -> Any:
        names = ("since", "until", "principal", "user", "operation", "resource", "outcome")
        query = {name: kwargs.pop(name) for name in names}
        query |= {"callId": call_id, "platform": _flag(own_lines)}
        return command(*args, query=query, **kwargs)

    return with_filters


def _platform_flag(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--platform", "own_lines", is_flag=True,
        help="The platform's own lines instead: callers whom nobody could authenticate.",
    )(command)  # fmt: skip


def _flag(value: bool) -> str | None:
    return "true" if value else None


@audit.command("list")
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most this many."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.option("--intents", is_flag=True, help="The lines before an act as well.")
@_filters
@platform_options
def list_lines(
    platform: Platform, *, limit: int, follow: bool, intents: bool, query: dict[str, Any]
) -> None:
    """List calls and decisions, newest first.

    `freehold audit` alone does the same. With --follow: what comes from now on, and with --json
    one object on each line.
    """
    output = platform.output
    query["intents"] = _flag(intents)
    if follow:
        with platform.own.lines("audit", "follow", **query) as lines:
            for line in lines:
                if output.as_json:
                    output.line(line)
                else:
                    output.say("  ".join(_row(line)))
        output.note("The platform ended it: it is stopping, or starting anew.")
        return
    found = platform.own.pages("audit", items="lines", limit=limit + 1, **query)
    more, found = len(found) > limit, found[:limit]
    if output.as_json:
        output.document({"lines": found, "more": more})
        return
    if not found:
        output.note("No such lines.")
        return
    columns = ("TIME", "OUTCOME", ">STATUS", "OPERATION", "PRINCIPAL", "USER", "RESOURCE", "CALL")
    output.table(columns, [_row(line) for line in found])
    if more:
        output.note(f"There are more: --limit shows more than {limit}.")


def _row(line: dict[str, Any]) -> list[str]:
    outcome = line["outcome"] or line["phase"]
    return [
        when(line["at"]),
        outcome if line["phase"] in ("intent", "outcome") else f"{line['phase']}: {outcome}",
        str(line["status"] or "-"),
        line["operation"].rpartition(":")[2],
        line["principal"],
        line["user"] or "-",
        line["resource"] or "-",
        line["callId"],
    ]


@audit.command()
@click.option(
    "--after", type=click.IntRange(min=0), default=0, metavar="SEQUENCE",
    help="Only what follows this place of the chain.",
)  # fmt: skip
@click.option(
    "--head", metavar="SEQUENCE:HASH", help="What an earlier verification showed: must still hold."
)
@_platform_flag
@platform_options
def verify(platform: Platform, *, after: int, head: str | None, own_lines: bool) -> int:
    """Check that no line was changed, removed, moved or inserted.

    Exits with 1 when something was. Note the head that it shows somewhere else: with --head a
    later check proves that everything before it is still the same.
    """
    verdict: dict[str, Any] | None = None
    with platform.own.lines(
        "audit", "verify", after=after, head=head, platform=_flag(own_lines)
    ) as lines:
        for line in lines:
            verdict = line.get("verdict", verdict)
    if verdict is None:
        raise CliError("The verification broke off before its end.")
    output = platform.output
    if output.as_json:
        output.document(verdict)
    else:
        _tell(platform, verdict)
    return 0 if verdict["holds"] else 1


def _tell(platform: Platform, verdict: dict[str, Any]) -> None:
    output, faults = platform.output, verdict["faults"]
    for fault in faults[:_FAULTS_SHOWN]:
        place = f" at {fault['sequence']}" if fault["sequence"] else ""
        output.say(f"{fault['kind']}{place}: {fault['message']}")
    if len(faults) > _FAULTS_SHOWN:
        output.say(f"... and {len(faults) - _FAULTS_SHOWN} more")
    holds = "The chain holds" if verdict["holds"] else "THE CHAIN IS BROKEN"
    output.say(
        f"{holds}: {verdict['checked']} entries and {verdict['checkpoints']} sealed checkpoints "
        f"after entry {verdict['anchor']}."
    )
    output.say(f"head {verdict['sequence']}:{verdict['hash']}")
    if verdict["waiting"]:
        output.note(f"{verdict['waiting']} entries are written and not linked yet.")


@audit.command()
@_filters
@platform_options
def export(platform: Platform, *, query: dict[str, Any]) -> None:
    """Write the chain as JSON lines, oldest first.

    Each line has its place, the hash before it, its own hash and the entry.
    """
    with platform.own.texts("audit", "export", **query) as lines:
        for line in lines:
            click.echo(line)  # byte for byte: the hashes are of these
