"""`freehold policy decisions`, `explain` and `view`: what was decided, why, and who sees of it."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from freehold.cli.gateway import found as gateway_found
from freehold.cli.options import applied, pairs, platform_options
from freehold.cli.output import Output, when
from freehold.cli.platform import Platform
from freehold.cli.policy import found, shown

_FILE = click.Path(path_type=Path, allow_dash=True)
_POLICIES_SHOWN = 3

_filters = applied(
    click.option("--since", help="From then on: a span such as 24h or 7d, or ISO 8601."),
    click.option("--until", help="Before then, likewise."),
    click.option("--gateway", metavar="NAME", help="Only at this gateway."),
    click.option("--engine", metavar="NAME", help="Only of this policy engine."),
    click.option("--policy", metavar="ID", help="Only where this policy decided, or would have."),
    click.option("--tool", help="Only on this tool, as clients name it."),
    click.option("--principal", help="Only for this caller, as its decisions show it."),
    click.option("--user", help="Only on behalf of this user."),
    click.option("--denied", "outcome", flag_value="denied", help="Only what is denied."),
    click.option("--allowed", "outcome", flag_value="allowed", help="Only what is allowed."),
    click.option(
        "--mode", type=click.Choice(["ENFORCE", "LOG_ONLY"]), help="Only under this mode."
    ),
    click.option("--call", "request_id", help="Only of the call with this request id."),
    click.option(
        "--would-differ", is_flag=True,
        help="Only where policies in LOG_ONLY would have changed the outcome.",
    ),
)  # fmt: skip


@click.command()
@_filters
@click.option("--inputs", is_flag=True, help="With arguments and claims, as far as they may show.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most this many."
)
@platform_options
def decisions(platform: Platform, /, *, limit: int, inputs: bool, **given: Any) -> None:
    """List what policies decided on tool calls, newest first.

    At a gateway in LOG_ONLY a call that is denied here went on all the same. A decision's id is
    for `freehold policy explain`.
    """
    query = _query(platform, given)
    if inputs:
        query["inputs"] = "true"
    rows = platform.own.pages("policy-decisions", items="decisions", limit=limit + 1, **query)
    more, rows = len(rows) > limit, rows[:limit]
    output = platform.output
    if output.as_json:
        output.document({"decisions": rows, "more": more})
        return
    if not rows:
        output.note("No such decisions.")
        return
    if inputs:
        for row in rows:
            _show_inputs(output, row)
    elif sys.stdout.isatty():
        for row in rows:
            _show(output, row)
    else:
        output.table(
            ("TIME", "OUTCOME", "TOOL", "PRINCIPAL", "POLICIES", "ID"),
            [
                (
                    when(row["at"]), _outcome(row), row["tool"], row["principal"],
                    _some(row["policies"]), row["id"],
                )
                for row in rows
            ],
        )  # fmt: skip
    if more:
        output.note(f"There are more: --limit shows more than {limit}.")


def _query(platform: Platform, given: Mapping[str, Any]) -> dict[str, Any]:
    names = ("since", "until", "tool", "principal", "user", "outcome", "mode")
    query = {name: given[name] for name in names}
    query |= {"requestId": given["request_id"], "policyId": given["policy"]}
    if given["would_differ"]:
        query["wouldDiffer"] = "true"
    if given["gateway"]:
        query["gatewayId"] = gateway_found.find(platform, given["gateway"]).id
    if given["engine"]:
        query["engineId"] = found.find(platform, given["engine"]).id
    return query


def _outcome(row: Mapping[str, Any]) -> str:
    said = "allowed" if row["allowed"] else "denied"
    if row["mode"] == "LOG_ONLY":
        said += " (log only)"
    shadow = row.get("shadowAllowed")
    if shadow is not None and shadow != row["allowed"]:
        said += f", would be {'allowed' if shadow else 'denied'}"
    return said


def _show(output: Output, row: Mapping[str, Any]) -> None:
    """In two lines: ids are too long for one of a terminal's."""
    said = click.style(_outcome(row), fg="green" if row["allowed"] else "red")
    output.say(f"{when(row['at'])}  {said}  {row['tool']}  {row['principal']}")
    by = f" by {_some(row['policies'])}" if row["policies"] else ""
    shown.paragraph(output, f"{row['id']}{by}")


def _show_inputs(output: Output, row: Mapping[str, Any]) -> None:
    color = "green" if row["allowed"] else "red"
    by = f" by {', '.join(row['policies'])}" if row["policies"] else ""
    output.say(f"{when(row['at'])}  {click.style(_outcome(row), fg=color)}{by}")
    inputs = row.get("inputs") or {}
    shown.recorded(output, row, inputs)
    for text in (*(inputs.get("errors") or ()), inputs.get("note")):
        if text:
            shown.paragraph(output, text)
    output.say(f"  {row['id']}")
    output.say("")


@click.command()
@click.argument("decision", required=False)
@click.option("--gateway", metavar="NAME", help="Of a call that nobody made: at this gateway,")
@click.option("--tool", help="of this tool, as clients name it,")
@click.option("--input", "arguments", metavar="JSON|@FILE|-", help="with these arguments,")
@click.option("--principal", help="by this caller: a token's sub, or the ARN of who signs,")
@click.option(
    "--claim", "claims", multiple=True, callback=pairs, metavar="NAME=VALUE",
    help="with this claim; may be given again.",
)  # fmt: skip
@click.option("--at", metavar="TIME", help="Then, in ISO 8601. Default: now.")
@click.option("--source", metavar="ADDRESS", help="From this IP address.")
@click.option("--session", metavar="ID", help="In this session.")
@click.option(
    "--as", "principal_type", type=click.Choice(["OAuthUser", "IamEntity", "Anonymous"]),
    help="What the caller is. Default: what the gateway lets in.",
)  # fmt: skip
@click.option("--engine", metavar="NAME", help="Under this engine, not the one that it asks.")
@platform_options
def explain(
    platform: Platform, /, *, decision: str | None, gateway: str | None, **given: Any
) -> int:
    """Say why a call is allowed or denied, policy by policy, under the policies as they are now.

    DECISION is the id of a recorded one; without it, say of which call. Exits with 1 where the
    call is denied.

    \b
    Examples:
      freehold policy explain 0198...
      freehold policy explain --gateway bank --tool accounts___transfer \\
        --input '{"from": "a", "to": "b", "amount": 2000}' --claim role=clerk
    """
    if (decision is None) == (gateway is None):
        raise click.UsageError("Name a DECISION, or a --gateway and a --tool.")
    if decision is not None:
        document = platform.own.get("policy-decisions", decision, "explanation")
    else:
        if not given["tool"]:
            raise click.UsageError("Name a --tool.")
        body = _call(platform, str(gateway), given)
        document = platform.own.post("policies", "explain", body=body)
    if platform.output.as_json:
        platform.output.document(document)
    else:
        shown.explanation(platform.output, document)
    return 0 if document["allowed"] else 1


def _call(platform: Platform, gateway: str, given: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "gatewayId": gateway_found.find(platform, gateway).id,
        "tool": given["tool"],
        "arguments": _arguments(given["arguments"]),
        "claims": given["claims"],
    }
    for name, member in (
        ("principal", "principal"), ("principal_type", "principalType"), ("at", "at"),
        ("source", "source"),
    ):  # fmt: skip
        if given[name]:
            body[member] = given[name]
    if given["session"]:
        body["session"] = {"id": given["session"]}
    if given["engine"]:
        body["engineId"] = found.find(platform, given["engine"]).id
    return body


def _arguments(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    if text == "-" or text.startswith("@"):
        text = found.read(Path(text.removeprefix("@")))
    try:
        arguments = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--input is no JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise click.UsageError("--input is a JSON object.")
    return arguments


@click.group()
def view() -> None:
    """How much of arguments and claims the log of an engine's decisions shows."""


@view.command("show")
@click.argument("engine")
@platform_options
def show_view(platform: Platform, engine: str) -> None:
    """Show how much of the inputs of ENGINE's decisions is shown."""
    which = found.find(platform, engine)
    document = platform.own.get("policy-engines", which.id, "decision-view")
    _tell_view(platform.output, which.name, document)


@view.command("set")
@click.argument("engine")
@click.option(
    "--show", "show_", type=click.Choice(["none", "masked", "all"]),
    help="Nothing; the names of members and the types of values; all.",
)  # fmt: skip
@click.option(
    "--reveal", multiple=True, metavar="PATH",
    help="Shown all the same, such as input.amount or claims.role; may be given again.",
)  # fmt: skip
@click.option(
    "--hide", multiple=True, metavar="PATH", help="Never shown; may be given again."
)  # fmt: skip
@platform_options
def set_view(
    platform: Platform,
    *,
    engine: str,
    show_: str | None,
    reveal: tuple[str, ...],
    hide: tuple[str, ...],
) -> None:
    """Say how much of the inputs of ENGINE's decisions is shown: these paths in place of others.

    A path begins with input, claims or context, and stands for all below it; * for anything.
    """
    which = found.find(platform, engine)
    before = platform.own.get("policy-engines", which.id, "decision-view")
    body = {"show": show_ or before["show"], "reveal": list(reveal), "hide": list(hide)}
    document = platform.own.put("policy-engines", which.id, "decision-view", body=body)
    _tell_view(platform.output, which.name, document)


def _tell_view(output: Output, name: str, document: Mapping[str, Any]) -> None:
    if output.as_json:
        output.document(document)
        return
    output.say(f"Of the inputs of {name}'s decisions is shown: {document['show']}")
    for word in ("reveal", "hide"):
        if document[word]:
            output.say(f"{word}: {', '.join(document[word])}")


def _some(names: list[str]) -> str:
    more = len(names) - _POLICIES_SHOWN
    return (", ".join(names[:_POLICIES_SHOWN]) + (f" and {more} more" if more > 0 else "")) or "-"
