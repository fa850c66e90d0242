"""`freehold trace fork`, `forks` and `unfork`: a recorded session run again from a step of it."""

import sys
from collections.abc import Mapping
from typing import Any

import click

from freehold.cli import lookup
from freehold.cli.failure import CliError
from freehold.cli.options import platform_options
from freehold.cli.output import counted, when
from freehold.cli.platform import Platform
from freehold.cli.trace import changes, comparing, shown
from freehold.cli.trace.found import agent_id, fork_id, limit_option, span_id, trace_id

_FOLLOWED_SECONDS_MAX = 8 * 3600
_RUNNING = frozenset({"PENDING", "RUNNING"})
_COLUMNS = ("TIME", "FORK", "AGENT", "STEP", "CHANGED", "STATUS", ">RECORDED", ">LIVE")


@click.command()
@click.argument("trace")
@click.argument("span")
@changes.change_options
@click.option(
    "--until",
    type=click.Choice(("turn", "session")),
    default="turn",
    show_default=True,
    help="Where it ends: with the step's turn, or with the last one recorded.",
)
@click.option("--qualifier", metavar="NAME", help="The agent's endpoint, in place of the recorded.")
@click.option("--no-wait", is_flag=True, help="Do not follow it to its end.")
@platform_options
def fork(
    platform: Platform,
    /,
    *,
    trace: str,
    span: str,
    until: str,
    qualifier: str | None,
    no_wait: bool,
    **given: str | None,
) -> None:
    """Run the session of TRACE again from the step SPAN, with something changed.

    Model calls and gateway tool calls before the step are answered from the record; the step has
    the change; all after it is live. Without a change it is run again as it was. Prints what came
    of it.
    """  # fmt: skip
    id, output = trace_id(platform, trace), platform.output
    body: dict[str, Any] = {"traceId": id, "spanId": span_id(platform, id, span), "until": until}
    if qualifier:
        body["endpoint"] = qualifier
    body["change"] = changes.asked(platform, given)
    made = platform.own.post("forks", body=body)
    if no_wait:
        if output.as_json:
            output.document(made)
            return
        output.say(made["forkId"])
        output.note(f"It is under way. What comes of it: freehold trace compare {made['forkId']}")
        return
    ended = _followed(platform, made)
    if output.as_json:
        output.document(ended)
    else:
        found = platform.own.get("forks", ended["forkId"], "comparison")
        comparing.tell_briefly(output, found)
        output.say("")
        output.say(f"Side by side: freehold trace compare {ended['forkId']}")
        output.say(f"              {_page(platform, ended)}")
    _fail_if_failed(ended, quiet=output.as_json)


@click.command()
@click.option("--trace", metavar="TRACE", help="Only of this trace.")
@click.option("--agent", metavar="NAME", help="Only of this agent.")
@limit_option
@platform_options
def forks(platform: Platform, *, trace: str | None, agent: str | None, limit: int) -> None:
    """List forks of recorded sessions, newest first."""
    output = platform.output
    found = platform.own.pages(
        "forks", items="forks", limit=limit + 1,
        traceId=trace_id(platform, trace) if trace else None,
        agentId=agent_id(platform, agent) if agent else None,
    )  # fmt: skip
    more, found = len(found) > limit, found[:limit]
    if output.as_json:
        output.document({"forks": found, "more": more})
        return
    if not found:
        output.note("There is no such fork. To make one: freehold trace fork TRACE SPAN")
        return
    output.table(_COLUMNS, [_row(each) for each in found])
    if more:
        output.note(f"There are more: --limit shows more than {limit}.")


@click.command()
@click.argument("fork")
@platform_options
def unfork(platform: Platform, *, fork: str) -> None:
    """Delete FORK; one that runs is stopped first.

    The recorded session stays as it is.
    """
    id = fork_id(platform, fork)
    platform.own.delete("forks", id)
    if platform.output.as_json:
        platform.output.document({"deleted": id})
    platform.output.say(f"Deleted {id}")


def _followed(platform: Platform, made: Mapping[str, Any]) -> Any:
    """The fork, once it ended."""
    id = made["forkId"]
    later = f"freehold trace compare {id}"

    def look() -> Any:
        fork = platform.own.get("forks", id)
        if fork["status"] not in _RUNNING:
            return fork
        progress.update(_under_way(fork))
        return None

    slow = CliError(
        f"{id} still runs after {_FOLLOWED_SECONDS_MAX // 3600} hours.", code="ForkSlow",
        hint=f"It goes on. What comes of it: {later}",
    )  # fmt: skip
    with platform.output.progress(_under_way(made)) as progress:
        try:
            return lookup.waited(look, slow, seconds_max=_FOLLOWED_SECONDS_MAX, every_seconds=0.5)
        except KeyboardInterrupt:
            progress.line(f"{id} goes on. What comes of it: {later}")
            raise


def _under_way(fork: Mapping[str, Any]) -> str:
    if fork["status"] == "PENDING":
        return f"{fork['forkId']} begins ..."
    turns = fork["turns"]
    done = sum(1 for turn in turns if turn["status"] not in ("", "PENDING", "RUNNING"))
    calls = fork["calls"]
    said = [f"{counted(calls['recorded'], 'call')} from the record", f"{calls['live']} live"]
    if calls["given"]:
        said.insert(1, f"{calls['given']} given")
    return f"turn {min(done + 1, len(turns))} of {len(turns)}: {', '.join(said)} ..."


def _fail_if_failed(fork: Mapping[str, Any], *, quiet: bool) -> None:
    if fork["status"] == "COMPLETED":
        return
    if quiet:
        sys.exit(1)
    why = fork.get("reason") or "no reason was given"
    raise CliError(
        f"The fork did not get to its end, it is {fork['status']}: {shown.safe(why)}",
        code="ForkFailed",
    )


def _page(platform: Platform, fork: Mapping[str, Any]) -> str:
    return f"{platform.connection.endpoint}/console/forks/{fork['forkId']}"


def _row(fork: Mapping[str, Any]) -> tuple[str, ...]:
    step, calls = fork["step"], fork["calls"]
    differing = f" ({calls['differing']} of others)" if calls["differing"] else ""
    return (
        when(fork["createdAt"]),
        fork["forkId"],
        fork["agentId"],
        comparing.step_in_words(step),
        changes.in_words(fork["change"]),
        fork["status"],
        f"{calls['recorded']}{differing}",
        str(calls["live"]),
    )
