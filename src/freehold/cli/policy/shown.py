"""Proofs and requests as people read them: a few aligned lines for each."""

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from freehold.cli.output import Output, counted, when

_WIDTH_MAX = 100
_ACTIONS_SHOWN = 6
_LEFT_OUT_SHOWN = 10
_LABEL = 11

_OF_POLICY = {
    "ALLOW_ALL": "It allows every request of the tools that it names: nothing is asked of them.",
    "ALLOW_NONE": "It never allows anything: no request fulfils it.",
    "DENY_ALL": "It denies every request of the tools that it names: nothing gets past it.",
    "DENY_NONE": "It never denies anything: no request fulfils it.",
    "INVALID": "It does not fit the tools:",
    "MAY_ERROR": "Its condition fails for some requests.",
    "REDUNDANT": "The others decide the same without it.",
    "UNSUPPORTED": "Not all of it can be proven:",
    "UNDECIDED": "It could not be told in the time there was:",
}
# What the proof has found out besides, and the sentence above does not say.
_DESCRIBED = frozenset({"INVALID", "UNSUPPORTED", "UNDECIDED", "SHADOWED"})
_OPTIONAL = re.compile(r"optional attribute `([\w.]+)\.(\w+)`")
_OF_SET = {
    "ALLOW_ALL": "Every request for them is allowed.",
    "ALLOW_NONE": "No request for them is allowed.",
    "DENY_ALL": "Every request for them is denied by a forbid.",
}
_CHANGE_COLORS = {"newly allowed": "red", "newly denied": "yellow"}


def check(
    output: Output, document: Mapping[str, Any], failing: Sequence[Mapping[str, Any]]
) -> None:
    """`failing`: the findings for which the exit status will be 1."""
    for at, gateway in enumerate(document["gateways"]):
        if at:
            output.say("")
        findings = gateway["findings"]
        bad = sum(1 for each in findings if each in failing)
        verdict = (
            click.style(f"{counted(bad, 'finding')} to put right", fg="red")
            if bad
            else click.style("nothing to put right", fg="green")
        )
        noted = f", {len(findings) - bad} noted" if len(findings) > bad else ""
        output.say(
            f"{_policies(gateway['policies'])} at {counted(gateway['actions'], 'action')}"
            f"{_of(gateway)}: {verdict}{noted}"
        )
        for each in sorted(findings, key=lambda each: each not in failing):
            output.say("")
            _finding(output, each, bad=each in failing)
        _left_out(output, gateway["leftOut"])


def _finding(output: Output, finding: Mapping[str, Any], *, bad: bool) -> None:
    what, policy = finding["property"], finding["policy"]
    named = policy or _some(finding["actions"])
    output.say(f"{click.style(what, fg='red' if bad else 'yellow')}  {named}")
    said, description = (_OF_POLICY if policy else _OF_SET).get(what, ""), finding["description"]
    if said:
        paragraph(output, said)
    if description and (what in _DESCRIBED or not said):
        paragraph(output, description[0].upper() + description[1:])
    if optional := _OPTIONAL.search(description):
        paragraph(output, f"Ask first whether it is there: context.{optional[1]} has {optional[2]}")
    if finding["by"]:
        paragraph(output, f"by {', '.join(finding['by'])}")
    if policy and finding["actions"] and not finding["example"]:
        paragraph(output, f"for {_some(finding['actions'])}")
    if finding["example"]:
        request(output, finding["example"])


def _left_out(output: Output, rows: Sequence[Mapping[str, str]]) -> None:
    if not rows:
        return
    output.say("")
    output.say("No policy can speak of:")
    for row in rows[:_LEFT_OUT_SHOWN]:
        place = f"{row['tool']} {row['path']}".strip()
        paragraph(output, f"{place}: {row['why']}")
    if len(rows) > _LEFT_OUT_SHOWN:
        paragraph(output, f"... and {len(rows) - _LEFT_OUT_SHOWN} more")


def diff(output: Output, document: Mapping[str, Any]) -> None:
    for at, gateway in enumerate(document["gateways"]):
        if at:
            output.say("")
        differences = gateway["differences"]
        allowed = sum(1 for each in differences if each["change"] == "newly allowed")
        denied = len(differences) - allowed
        if gateway["equivalent"]:
            verdict = click.style("the same decision for every request", fg="green")
        else:
            verdict = (
                f"newly allowed for {counted(allowed, 'tool')}, "
                f"newly denied for {counted(denied, 'tool')}"
            )
            if gateway["untold"]:
                verdict += f", cannot tell for {counted(len(gateway['untold']), 'tool')}"
            verdict = click.style(verdict, fg="red" if gateway["loosens"] else "yellow")
        output.say(f"{_of(gateway).removeprefix(' of ') or 'These tools'}: {verdict}")
        for each in differences:
            output.say("")
            change = click.style(each["change"], fg=_CHANGE_COLORS[each["change"]])
            by = f", by {', '.join(each['policies'])}" if each["policies"] else ""
            output.say(f"{change}{by}")
            request(output, each["example"])
        for each in gateway["untold"]:
            output.say("")
            output.say(f"{click.style('cannot tell', fg='yellow')}  {each['action']}")
            paragraph(output, each["why"])


_MASKED = re.compile(r"\(\w+\)")


def recorded(output: Output, row: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    """The call of a decision: what may be seen of it, and the names of the rest."""
    shown: dict[str, dict[str, Any]] = {"claims": {}, "arguments": {}}
    hidden = []
    for label, member in (("claims", "claims"), ("arguments", "input")):
        for name, each in (inputs.get(member) or {}).items():
            if isinstance(each, str) and _MASKED.fullmatch(each):
                hidden.append(f"{member}.{name}")
            else:
                shown[label][name] = each
    request = {
        "principalType": row["principalType"].rpartition("::")[2],
        "principal": row["principal"],
        "tool": row["tool"],
        **shown,
    }
    for line in request_lines(request):
        output.say(line)
    if hidden:
        for line in _labelled("not shown", [", ".join(hidden)]):
            output.say(line)


def request(output: Output, example: Mapping[str, Any]) -> None:
    """Who calls what with which arguments; the time and the like where policies look at them."""
    for line in request_lines(example):
        output.say(line)


def request_lines(example: Mapping[str, Any]) -> Iterator[str]:
    who = f"{example['principalType']} {value(example['principal'])}"
    yield from _labelled("who", [who])
    if example["claims"]:
        yield from _labelled("claims", _pairs(example["claims"]))
    yield from _labelled("tool", [example["tool"]])
    looks_at = example.get("looksAt")
    if example["arguments"] or looks_at is not None:
        yield from _labelled("arguments", _pairs(example["arguments"]) or ["none"])
    looks_at = looks_at or ()
    if "time" in looks_at and example["time"]:
        yield from _labelled("time", [example["time"]])
    if "source" in looks_at:
        yield from _labelled("source", [example["source"] or "unknown"])
    if "session" in looks_at:
        yield from _labelled("session", _pairs(example["session"] or {}) or ["none"])


def value(found: Any) -> str:
    """As JSON; what a terminal would not show as it is, is escaped."""
    text = json.dumps(found, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(found)


def paragraph(output: Output, text: str, *, indent: int = 2) -> None:
    for line in text.splitlines():
        for part in _wrapped(line, indent, indent):
            output.say(part)


def _pairs(values: Mapping[str, Any]) -> list[str]:
    return [
        f"{name if name.isprintable() and name else value(name)} = {value(each)}"
        for name, each in values.items()
    ]


def _labelled(label: str, texts: Sequence[str]) -> Iterator[str]:
    for at, text in enumerate(texts):
        first = "  " + (label if at == 0 else "").ljust(_LABEL)
        lines = _wrapped(text, len(first), len(first) + 2)
        yield first + lines[0][len(first) :]
        yield from lines[1:]


def _wrapped(text: str, first: int, rest: int) -> list[str]:
    """On a terminal to its width; a pipe has none."""
    if not sys.stdout.isatty():
        return [" " * first + text]
    width = max(min(shutil.get_terminal_size().columns, _WIDTH_MAX), rest + 20)
    return textwrap.wrap(
        text, width, initial_indent=" " * first, subsequent_indent=" " * rest,
        break_on_hyphens=False,
    ) or [" " * first]  # fmt: skip


def _of(gateway: Mapping[str, Any]) -> str:
    if gateway["name"]:
        return f" of {gateway['name']}"
    # Of tools in a file that no policy says the gateway of, there is nothing to say.
    return "" if gateway["gatewayArn"].endswith(":gateway/any") else f" of {gateway['gatewayArn']}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _ACTIONS_SHOWN
    return ", ".join(names[:_ACTIONS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _policies(number: int) -> str:
    return "1 policy" if number == 1 else f"{number} policies"


def explanation(output: Output, document: Mapping[str, Any]) -> None:
    allowed = document["allowed"]
    verdict = click.style("allowed" if allowed else "denied", fg="green" if allowed else "red")
    output.say(f"{document['tool']}: {verdict}")
    paragraph(output, document["why"])
    if document["mismatch"]:
        paragraph(output, document["mismatch"])
    if not allowed and document["mode"] == "LOG_ONLY":
        paragraph(output, "The gateway only logs (LOG_ONLY): the call goes on.")
    for policy in document["policies"]:
        output.say("")
        mark = click.style("decided", bold=True) if policy["decided"] else ""
        mode = "LOG_ONLY, takes no part" if policy["mode"] == "LOG_ONLY" else mark
        tail = f"  ({mode})" if mode else ""
        output.say(f"{policy['effect']}  {policy['name']}: {policy['outcome']}{tail}")
        for text in (policy["reason"], policy["problem"]):
            if text:
                paragraph(output, text)
    recorded = document["recorded"]
    if recorded:
        output.say("")
        said = "allowed" if recorded["allowed"] else "denied"
        by = f" by {', '.join(recorded['policies'])}" if recorded["policies"] else ""
        changed = "; policies or tools changed since" if recorded["changed"] else ""
        output.say(f"At {when(recorded['at'])} it was {said}{by}{changed}.")
