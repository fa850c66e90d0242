"""`freehold trace show`: one trace as a tree, or one of its spans with what was said in it."""

import shutil
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from freehold.cli.options import platform_options
from freehold.cli.output import Output, when
from freehold.cli.platform import Platform
from freehold.cli.trace import shown
from freehold.cli.trace.found import span_id, trace_id

_BAR_CHARACTERS = 24
_WIDE_ENOUGH = 120
_NAME_CHARACTERS_MAX = 72
_ID_DIGITS = 8


@click.command()
@click.argument("trace")
@click.argument("span", required=False)
@click.option("--ids", is_flag=True, help="With the ids of spans, shortened.")
@click.option("--content", is_flag=True, help="With what was said, where it was captured.")
@click.option("--raw", is_flag=True, help="With attributes as they came; for --json.")
@click.option("--full", is_flag=True, help="Long texts whole.")
@platform_options
def show(
    platform: Platform,
    *,
    trace: str,
    span: str | None,
    ids: bool,
    content: bool,
    raw: bool,
    full: bool,
) -> None:
    """Show TRACE as a tree, with times, tokens and costs.

    With SPAN, one span of it with all that is known of it: its id, or the beginning of one.
    """
    id, output = trace_id(platform, trace), platform.output
    asked = {"raw": "true" if raw else None}
    if span is not None:
        one = platform.own.get("traces", id, "spans", span_id(platform, id, span), **asked)
        if output.as_json:
            output.document(one)
        else:
            _show_span(output, one, full=full)
        return
    found = platform.own.get("traces", id, content="true" if content else None, **asked)
    if output.as_json:
        output.document(found)
        return
    _show_summary(output, found["trace"])
    for line, each in _lines(found):
        output.say(f"{each['spanId'][:_ID_DIGITS]}  {line}" if ids else line)
        if content:
            _show_content(output, each, full=full, indent=6 + 3 * each.get("depth", 0))
    if found["truncated"]:
        output.note("There are more spans than are shown here.")


def _show_summary(output: Output, trace: Mapping[str, Any]) -> None:
    facts = [
        when(trace["startedAt"]),
        shown.duration(trace["durationMs"]),
        f"{trace['spans']} spans",
        f"{trace['errors']} failed" if trace["errors"] else "",
        f"{trace['modelCalls']} model calls, {trace['toolCalls']} tool calls",
        f"tokens {shown.tokens(trace['inputTokens'], trace['outputTokens'])}",
        f"cost {shown.dollars(trace['cost'])}",
    ]
    who = [
        f"agent {trace['agentId']}" if trace["agentId"] else "",
        f"version {trace['agentVersion']}" if trace["agentVersion"] else "",
        f"session {trace['sessionId']}" if trace["sessionId"] else "",
        f"user {trace['user']}" if trace["user"] else "",
    ]
    output.say(click.style(f"trace {trace['traceId']}", bold=True))
    output.say("  ".join(fact for fact in facts if fact))
    if any(who):
        output.say(shown.safe("  ".join(each for each in who if each)))
    if not trace["complete"]:
        output.note("Its root has not come (yet).")
    output.say("")


def _lines(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    rows = [
        (stems + _name(span), _numbers(span), span) for stems, span in shown.tree(found["spans"])
    ]
    width = min(max((len(name) for name, *_ in rows), default=0), _NAME_CHARACTERS_MAX)
    sizes = [max((len(n[at]) for _, n, _ in rows), default=0) for at in range(3)]
    bars = sys.stdout.isatty() and shutil.get_terminal_size().columns >= _WIDE_ENOUGH
    lines = []
    for name, numbers, span in rows:
        cells = [name.ljust(width)]
        cells += [cell.rjust(size) for cell, size in zip(numbers, sizes, strict=True)]
        if bars:
            cells.append(_bar(found["trace"], span))
        text = "  ".join(cells).rstrip()
        failed = span["status"] == "error"
        lines.append((click.style(text, fg="red") if failed else text, span))
    return lines


def _name(span: Mapping[str, Any]) -> str:
    """With what the name leaves out: a model, a decision, how many memories, an error."""
    read = span["is"]
    policy, memory = read.get("policy"), read.get("memory") or {}
    more = [
        read.get("model") if read.get("model", "") not in span["name"] else "",
        policy and f"{policy['decision']} {' '.join(policy.get('policies', ()))}",
        read.get("credential"),
        f"{len(memory['recordIds'])} records" if memory.get("recordIds") else "",
        ""
        if span["status"] != "error"
        else span.get("message") or read.get("errorType") or "failed",
        "(its parent never came)" if span.get("orphan") else "",
    ]
    words = [str(span["name"]), *(str(each).strip() for each in more if each)]
    return shown.safe("  ".join(words))


def _numbers(span: Mapping[str, Any]) -> tuple[str, str, str]:
    used = span["is"].get("tokens") or {}
    took = shown.tokens(used.get("input", 0), used.get("output", 0))
    cost = span.get("cost")
    return (
        shown.duration(span["durationMs"]),
        "" if took == "-" else took,
        "" if cost is None else shown.dollars(cost),
    )


def _bar(trace: Mapping[str, Any], span: Mapping[str, Any]) -> str:
    """When in the trace it ran, and for how long."""
    whole = max(trace["durationMs"], 0.001)
    began = (_time(span["startedAt"]) - _time(trace["startedAt"])).total_seconds() * 1000
    first: int = min(max(int(began / whole * _BAR_CHARACTERS), 0), _BAR_CHARACTERS - 1)
    length: int = max(round(span["durationMs"] / whole * _BAR_CHARACTERS), 1)
    return " " * first + "━" * min(length, _BAR_CHARACTERS - first)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _show_span(output: Output, span: Mapping[str, Any], *, full: bool) -> None:
    read = span["is"]
    output.say(click.style(shown.safe(f"{span['name']}  {span['spanId']}"), bold=True))
    used = read.get("tokens") or {}
    facts = {
        "when": f"{when(span['startedAt'])}, {shown.duration(span['durationMs'])}",
        "status": f"{span['status']}  {span.get('message', '')}".strip(),
        "told by": f"{span['origin']}  {span.get('scope', '')}".strip(),
        "operation": read.get("operation"),
        "model": "  ".join(filter(None, (read.get("provider"), read.get("model")))),
        "tokens": f"{shown.tokens(used['input'], used['output'])}, {used['cacheRead']:,} from a "
        f"cache, {used['reasoning']:,} of reasoning" if used else "",
        "cost": shown.dollars(span.get("cost")) if used else "",
        "tool call": (read.get("tool") or {}).get("callId"),
        "read by": f"mapper {read['mapper']} as {read['family']}" if read.get("family") else "",
    }  # fmt: skip
    for label, fact in facts.items():
        if fact:
            shown.paragraph(output, fact, first=label.ljust(11))
    _show_content(output, span, full=full, indent=0)
    for event in span.get("exceptions", ()):
        text = shown.value(event["attributes"].get("exception.stacktrace") or event["attributes"])
        shown.paragraph(output, shown.cut(text, full=full), first="exception  ")
    if "raw" in span:
        shown.paragraph(output, shown.value(span["raw"]), first="raw  ")


def _show_content(output: Output, span: Mapping[str, Any], *, full: bool, indent: int) -> None:
    read = span["is"]
    content, tool, memory = read.get("content") or {}, read.get("tool") or {}, read.get("memory")
    for side in ("input", "output"):
        for said in content.get(side, ()):
            shown.message(output, said, full=full, indent=indent)
    for label, said in (
        ("called with  ", tool.get("arguments")),
        ("returned  ", tool.get("result")),
        ("received  ", None if tool else content.get("inputValue")),
        ("gave  ", None if tool else content.get("outputValue")),
    ):
        if said is not None:
            text = shown.cut(shown.value(said), full=full)
            shown.paragraph(output, text, first=label, indent=indent)
    if memory and memory.get("recordIds"):
        ids = "  ".join(memory["recordIds"])
        shown.paragraph(output, ids, first="remembered  ", indent=indent)
