"""`freehold trace compare`: a fork beside what was recorded."""

from collections.abc import Mapping
from typing import Any

import click

from freehold.cli.options import platform_options
from freehold.cli.output import Output, when
from freehold.cli.platform import Platform
from freehold.cli.trace import changes, columns, shown
from freehold.cli.trace.found import fork_id

_BRIEF_LINES_MAX = 12
_VERDICTS = {"only_recorded": "only recorded", "only_fork": "only in the fork"}
_COLORS = {"same": "green", "differs": "yellow"}


@click.command()
@click.argument("fork")
@click.option("--turn", type=click.IntRange(min=1), help="Only this turn.")
@click.option("--full", is_flag=True, help="Long texts whole, and what is the same too.")
@platform_options
def compare(platform: Platform, *, fork: str, turn: int | None, full: bool) -> None:
    """Show FORK beside the session that was recorded, turn by turn and step by step.

    FORK is a fork's id, the beginning of one, or `latest`. On a wide terminal the two stand side by
    side; else what was recorded has a minus before it, and what the fork has a plus.
    """
    output = platform.output
    found = platform.own.get("forks", fork_id(platform, fork), "comparison")
    if output.as_json:
        output.document(found)
        return
    _tell_fork(output, found)
    for each in found["turns"]:
        if turn in (None, each["number"]):
            _tell_turn(output, each, full=full)
    if found["truncated"]:
        output.note("There is more than is shown here.")


def tell_briefly(output: Output, found: Mapping[str, Any]) -> None:
    """What came of a fork: its numbers, and the first answer that differs."""
    _tell_fork(output, found)
    answers = [(each["number"], each["answer"]) for each in found["turns"]]
    differing = [(n, answer) for n, answer in answers if answer["recorded"] != answer["fork"]]
    if not differing:
        output.say("The answers are the same.")
        return
    number, answer = differing[0]
    output.say(click.style(f"Turn {number} answers otherwise", bold=True))
    columns.tell(output, answer["recorded"], answer["fork"], lines_max=_BRIEF_LINES_MAX)


def _tell_fork(output: Output, found: Mapping[str, Any]) -> None:
    fork = found["fork"]
    step, calls = fork["step"], fork["calls"]
    output.say(click.style(f"{fork['forkId']}  {fork['status'].lower()}", bold=True))
    said = [f"{calls['recorded']} from the record", f"{calls['live']} live"]
    if calls["given"]:
        said.insert(1, f"{calls['given']} given")
    if calls["differing"]:
        said.append(f"{calls['differing']} answered though they asked something else")
    facts = {
        "from": f"{step_in_words(step)} of trace {fork['traceId']}",
        "changed": changes.in_words(fork["change"]),
        "calls": ", ".join(said),
        "run": f"{when(fork['createdAt'])}, version {fork['version']}"
        + _other_version(fork),
        "why": fork.get("reason") or "",
    }  # fmt: skip
    for label, fact in facts.items():
        if fact:
            shown.paragraph(output, fact, first=label.ljust(9))
    for note in fork.get("notes") or ():
        output.note(shown.safe(note))
    output.say("")
    _tell_totals(output, found["totals"])
    output.say("")


def step_in_words(step: Mapping[str, Any]) -> str:
    if step["kind"] == "turn":
        return f"turn {step['turn']}"
    return shown.safe(f"{step['kind']} {step['name']}, turn {step['turn']}")


def _other_version(fork: Mapping[str, Any]) -> str:
    recorded = fork["recordedVersion"]
    return f" (recorded with {recorded})" if recorded not in ("", fork["version"]) else ""


def _tell_totals(output: Output, totals: Mapping[str, Any]) -> None:
    sides = totals["recorded"], totals["fork"]
    rows = [
        ("time", *(shown.duration(side["durationMs"]) for side in sides)),
        ("model calls", *(str(side["modelCalls"]) for side in sides)),
        ("tool calls", *(str(side["toolCalls"]) for side in sides)),
        ("tokens", *(shown.tokens(side["inputTokens"], side["outputTokens"]) for side in sides)),
        ("cost", *(shown.dollars(side["cost"]) for side in sides)),
    ]
    output.table(("", ">RECORDED", ">FORK"), rows)


def _tell_turn(output: Output, turn: Mapping[str, Any], *, full: bool) -> None:
    whole = [row for row in turn["rows"] if row["kind"] == "turn"]
    took = f"  {' > '.join(_took(whole[0]))}" if whole else ""
    output.say(click.style(f"Turn {turn['number']}", bold=True) + took)
    for label in ("payload", "answer"):
        _tell_pair(output, label, turn[label]["recorded"], turn[label]["fork"], full=full)
    for row in turn["rows"]:
        if row["kind"] != "turn":
            _tell_row(output, row, full=full)
    output.say("")


def _tell_row(output: Output, row: Mapping[str, Any], *, full: bool) -> None:
    verdict, sides = row["verdict"], (row["recorded"], row["fork"])
    took = _took(row)
    models = " > ".join(dict.fromkeys(side["model"] for side in sides if side and side["model"]))
    name = f"{row['name']} {models}".strip()
    text = f"{row['source'] or '-':<8}  {took[0]:>8}  {took[1]:>8}  {name}"
    said = _VERDICTS.get(verdict, verdict)
    output.say(f"{shown.safe(text)}  " + click.style(said, fg=_COLORS.get(verdict, "cyan")))
    if verdict == "same" and not full:
        return
    recorded, fork = ({} if side is None else side for side in sides)
    for label in ("asked", "answered"):
        pair = [side.get(label) or "" for side in (recorded, fork)]
        if any(pair):
            _tell_pair(output, label, *pair, full=full, indent=4)


def _took(row: Mapping[str, Any]) -> list[str]:
    sides = row["recorded"], row["fork"]
    return [shown.duration(side and side["durationMs"]) for side in sides]


def _tell_pair(
    output: Output, label: str, recorded: str, fork: str, *, full: bool, indent: int = 0
) -> None:
    same = recorded == fork
    output.say(" " * indent + click.style(f"{label}: {'same' if same else 'differs'}", dim=same))
    if not same or full:
        columns.tell(output, recorded, fork, full=full, indent=indent + 2)
