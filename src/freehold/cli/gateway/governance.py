"""`freehold gateway problems`, `changes`, `approve`, `reject` and `groups`: what is let through."""

from typing import Any

import click

from freehold.cli.failure import CliError
from freehold.cli.gateway import found
from freehold.cli.gateway.found import Gateway
from freehold.cli.gateway.targets import show_problems
from freehold.cli.options import confirm, platform_options, yes_option
from freehold.cli.output import when
from freehold.cli.platform import Platform


@click.command()
@click.argument("gateway")
@click.argument("target", required=False)
@platform_options
def problems(platform: Platform, gateway: str, target: str | None) -> None:
    """List what of GATEWAY's targets could not be made a tool, and why."""
    which = found.find(platform, gateway)
    if target:
        names = {found.find_target(platform, which, target).id: target}
    else:
        names = {row["targetId"]: row["name"] for row in found.targets(platform, which)}
    rows = [
        {"target": name, **problem}
        for target_id, name in names.items()
        for problem in platform.own.get("gateways", which.id, "targets", target_id, "problems")[
            "problems"
        ]
    ]
    if platform.output.as_json:
        platform.output.document({"problems": rows})
    elif not rows:
        platform.output.note("No problems: everything was taken over.")
    else:
        shown = [{**row, "where": f"{row['target']}: {row['where']}"} for row in rows]
        show_problems(platform, shown)


@click.command()
@click.argument("gateway")
@click.option("--target", help="Only of this target.")
@platform_options
def changes(platform: Platform, gateway: str, target: str | None) -> None:
    """Show tools that changed since they were approved: they are not called until you say so."""
    which = found.find(platform, gateway)
    rows = _changes(platform, which, target)
    output = platform.output
    if output.as_json:
        output.document({"changes": rows})
        return
    if not rows:
        output.note("Nothing waits.")
        return
    for row in rows:
        _show_change(platform, row)
    output.note(
        f"Then: freehold gateway approve {which.name} TOOL, or reject; --all for all of them."
    )


@click.command()
@click.argument("gateway")
@click.argument("tool", required=False)
@click.option("--target", help="Of this target; with --all, all that wait there.")
@click.option("--all", "every", is_flag=True, help="All that waits.")
@click.option("--hash", "expected", help="Only if the change is still this one.")
@platform_options
def approve(platform: Platform, /, **given: Any) -> None:
    """Put the change of TOOL in force: it can be called as it is now.

    What changed again while you decided is refused; look at it first.
    """
    _decide(platform, "approve", "in force as it is now", **given)


@click.command()
@click.argument("gateway")
@click.argument("tool", required=False)
@click.option("--target", help="Of this target; with --all, all that wait there.")
@click.option("--all", "every", is_flag=True, help="All that waits.")
@click.option("--hash", "expected", help="Only if the change is still this one.")
@platform_options
def reject(platform: Platform, /, **given: Any) -> None:
    """Block TOOL until it is again what was approved."""
    _decide(platform, "reject", "blocked until it is again what was approved", **given)


def _decide(
    platform: Platform,
    what: str,
    outcome: str,
    *,
    gateway: str,
    tool: str | None,
    target: str | None,
    every: bool,
    expected: str | None,
) -> None:
    if (tool is None) != every:
        raise click.UsageError("Name one TOOL, or say --all.")
    if expected and tool is None:
        raise click.UsageError("--hash goes with a TOOL.")
    which = found.find(platform, gateway)
    waiting = _changes(platform, which, target)
    rows = waiting if every else [row for row in waiting if tool in (row["name"], row["own"])]
    if not rows:
        raise _nothing_waits(which, tool, waiting)
    if len(rows) > 1 and not every:
        raise CliError(
            f"{tool} waits at several targets.", code="Ambiguous", hint="Say which with --target."
        )
    for row in rows:
        platform.own.post(
            "gateways",
            which.id,
            "changes",
            what,
            body={
                "targetId": row["targetId"],
                "name": row["own"],
                "kind": row["kind"],
                "hash": expected or row["hash"],
            },
        )
        platform.output.say(f"{row['name']} is {outcome}.")
    if platform.output.as_json:
        names = [row["name"] for row in rows]
        platform.output.document({"gatewayId": which.id, "decided": what, "names": names})


def _nothing_waits(which: Gateway, tool: str | None, waiting: list[dict[str, Any]]) -> CliError:
    names = ", ".join(row["name"] for row in waiting)
    return CliError(
        f"{tool} does not wait for a decision at {which.name}." if tool else "Nothing waits.",
        code="ResourceNotFoundException",
        hint=f"These do: {names}" if names else None,
    )


def _changes(platform: Platform, which: Gateway, target: str | None) -> list[dict[str, Any]]:
    only = found.find_target(platform, which, target).id if target else None
    rows: list[dict[str, Any]] = platform.own.get("gateways", which.id, "changes", targetId=only)[
        "changes"
    ]
    return rows


def _show_change(platform: Platform, row: dict[str, Any]) -> None:
    output = platform.output
    state = f"rejected by {row['rejectedBy']}" if row["rejectedBy"] else row["state"]
    output.say(f"{row['name']}: {state}, seen {when(row['seenAt'])}, hash {row['hash']}")
    if row["why"]:
        output.say(f"  {row['why']}")
    for line in row["difference"]:
        output.say(f"  {line['where'] or '/'}")
        for sign, side in (("-", line["old"]), ("+", line["new"])):
            if side is not None:
                output.say(f"    {sign} {side}")


# -- action groups


@click.group()
def groups() -> None:
    """Say which agents and people may use which tools of a gateway."""


@groups.command("list")
@click.argument("gateway")
@platform_options
def list_groups(platform: Platform, gateway: str) -> None:
    """List the groups of GATEWAY, and what holds for who is in none."""
    which = found.find(platform, gateway)
    document = platform.own.get("gateways", which.id, "action-groups")
    output = platform.output
    if output.as_json:
        output.document(document)
        return
    if document["groups"]:
        output.table(
            ("NAME", "WHO", "TOOLS"),
            [
                (row["name"], ", ".join(row["principals"]), ", ".join(row["tools"]) or "-")
                for row in document["groups"]
            ],
        )
    else:
        output.note(f"No groups yet: freehold gateway groups set {which.name} NAME --who ...")
    seen = "all tools" if document["default"] == "allow" else "no tool"
    output.say(f"Who is in no group sees {seen}.")


@groups.command("set")
@click.argument("gateway")
@click.argument("name")
@click.option(
    "--who", multiple=True, required=True,
    help="arn:... (an agent's is all its sessions), key:ACCESS_KEY_ID, user:NAME, "
    "claim:NAME=VALUE or *; may be given again.",
)  # fmt: skip
@click.option(
    "--tool", multiple=True,
    help="The name that clients see, with * for anything; may be given again. None: no tool.",
)  # fmt: skip
@platform_options
def set_group(
    platform: Platform, *, gateway: str, name: str, who: tuple[str, ...], tool: tuple[str, ...]
) -> None:
    """Make the group NAME, or replace it: whom it names sees its tools, and no others.

    \b
    Example:
      freehold gateway groups set tools readers --who arn:...:runtime/helper-abc --tool 'pets___get*'
    """  # noqa: E501 - an example stands on one line
    which = found.find(platform, gateway)
    made = platform.own.put(
        "gateways", which.id, "action-groups", name,
        body={"principals": list(who), "tools": list(tool)},
    )  # fmt: skip
    if platform.output.as_json:
        platform.output.document(made)
        return
    platform.output.say(f"{name}: {', '.join(who)} may use {', '.join(tool) or 'no tool'}.")
    default = platform.own.get("gateways", which.id, "action-groups")["default"]
    if default == "allow":
        platform.output.note(
            "Who is in no group still sees all tools: "
            f"freehold gateway update {which.name} --tool-access deny"
        )


@groups.command("delete")
@click.argument("gateway")
@click.argument("name")
@yes_option
@platform_options
def delete_group(platform: Platform, gateway: str, name: str, yes: bool) -> None:
    """Delete the group NAME of GATEWAY."""
    which = found.find(platform, gateway)
    confirm(platform, f"Delete the group {name} of {which.name}?", yes=yes)
    platform.own.delete("gateways", which.id, "action-groups", name)
    if platform.output.as_json:
        platform.output.document({"name": name, "deleted": True})
    platform.output.say(f"{name} is deleted.")
