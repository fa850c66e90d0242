"""`freehold trace explain`: what led to a tool call."""

from collections.abc import Mapping
from typing import Any

import click

from freehold.cli.failure import CliError
from freehold.cli.options import platform_options
from freehold.cli.output import Output, when
from freehold.cli.platform import Platform
from freehold.cli.trace import shown
from freehold.cli.trace.found import span_id, trace_id

_TITLES = {
    "request": "was asked",
    "memory": "remembered",
    "tool_result": "had learned",
    "model_call": "the model said",
    "policy": "policy",
    "credential": "credential",
    "explained": "did",
}
_SURE = {
    "id": "sure, by the id of the tool call",
    "arguments": "by name and equal arguments",
    "content": "found again in what the model was sent",
    "tree": "sure, by the tree of spans",
    "time": "by time alone",
}


@click.command()
@click.argument("trace")
@click.argument("span", required=False)
@click.option("--tool", help="The last call of this tool, in place of SPAN.")
@click.option("--full", is_flag=True, help="Long texts whole.")
@platform_options
def explain(
    platform: Platform, *, trace: str, span: str | None, tool: str | None, full: bool
) -> None:
    """Show what led to a tool call in TRACE: the chain of steps before it.

    The request, what was remembered, what earlier tools said, the model's answer with its
    reasoning, the policy's decision, the credential; how sure each is; and what is missing. SPAN is
    the call's span id, or its beginning; without it the last tool call of the trace.
    """
    id, output = trace_id(platform, trace), platform.output
    wanted = span_id(platform, id, span) if span else _last_call(platform, id, tool)
    found = platform.own.get("traces", id, "spans", wanted, "explanation")
    if output.as_json:
        output.document(found)
        return
    for step in found["steps"]:
        _show(output, step, found["span"], full=full)
    for missing in found["missing"]:
        output.say(click.style(f"missing: {shown.safe(missing)}", fg="yellow"))


def _last_call(platform: Platform, id: str, tool: str | None) -> str:
    spans = platform.own.get("traces", id)["spans"]
    calls = [each for each in spans if each["is"].get("operation") == "execute_tool"]
    if tool is not None:
        calls = [each for each in calls if each["is"]["tool"].get("name") == tool]
    if not calls:
        what = "no tool call" if tool is None else f"no call of {tool}"
        raise CliError(
            f"Trace {id} has {what}.", code="ResourceNotFoundException",
            hint=f"Its spans: freehold trace show {id}",
        )  # fmt: skip
    return str(max(calls, key=lambda each: each["startedAt"])["spanId"])


def _show(
    output: Output, step: Mapping[str, Any], explained: Mapping[str, Any], *, full: bool
) -> None:
    kind = step["kind"]
    output.say(
        click.style(_TITLES[kind].ljust(16), bold=True)
        + shown.safe(f"{step['name']}  {shown.duration(step['durationMs'])}  {step['spanId']}")
    )
    if kind != "explained":
        output.say(click.style(f"  {_SURE[step['sure']]}: {shown.safe(step['why'])}", dim=True))
    else:
        output.say(click.style(f"  {when(step['startedAt'])}", dim=True))
    _show_what(output, step, explained, full=full)
    output.say("")


def _show_what(
    output: Output, step: Mapping[str, Any], explained: Mapping[str, Any], *, full: bool
) -> None:
    def say(text: str, first: str = "") -> None:
        shown.paragraph(output, shown.cut(text, full=full), first=first, indent=2)

    kind = step["kind"]
    if kind == "request":
        for message in step["messages"]:
            shown.message(output, message, full=full, indent=2)
    elif kind == "model_call":
        if step.get("model"):
            say(step["model"], "model  ")
        for message in step.get("said", ()):
            shown.message(output, message, full=full, indent=2)
    elif kind == "memory":
        memory = step["memory"]
        say("  ".join(memory.get("recordIds", ())) or "no ids", f"{memory.get('memoryId', '')}  ")
        for record in memory.get("records", ()):
            say(shown.value(record))
    elif kind == "policy":
        policy = step["policy"]
        names = "  ".join(policy.get("policies", ())) or "nothing permits it"
        color = "red" if policy["decision"] == "deny" else "green"
        say(names, click.style(policy["decision"], fg=color) + "  ")
    elif kind == "credential":
        say(step["credential"])
    else:
        tool = step.get("tool") or explained["is"].get("tool") or {}
        if tool.get("arguments") is not None:
            say(shown.value(tool["arguments"]), "called with  ")
        if tool.get("result") is not None:
            say(shown.value(tool["result"]), "returned  ")
