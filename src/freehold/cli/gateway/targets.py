"""`freehold gateway target`: what stands behind a gateway."""

from typing import Any

import click

from freehold.cli import lookup
from freehold.cli.failure import CliError
from freehold.cli.gateway import found
from freehold.cli.gateway import target_credentials as shown
from freehold.cli.gateway import target_options as options
from freehold.cli.gateway.found import Gateway, Target
from freehold.cli.options import applied, confirm, pairs, platform_options, yes_option
from freehold.cli.output import Progress, counted, when
from freehold.cli.platform import Platform

_BUSY = frozenset({"CREATING", "UPDATING", "SYNCHRONIZING"})
_READY_SECONDS_MAX = 300.0
_PROBLEMS_SHOWN = 20

_settings = applied(
    click.option("--description", help="What it is for."),
    click.option(
        "--tag", multiple=True, callback=pairs, metavar="KEY=VALUE",
        help="freehold:timeout-seconds and the like are settings. May be given again.",
    ),
)  # fmt: skip


@click.group("target")
def target() -> None:
    """Put APIs, functions, MCP servers, agents and models behind a gateway."""


@target.command("add")
@click.argument("gateway")
@click.argument("name")
@options.source_options
@shown.credential_options
@_settings
@platform_options
def add(platform: Platform, /, *, gateway: str, name: str, **given: Any) -> int:
    """Put a target called NAME behind GATEWAY and wait until its tools are there.

    What of it could not be made a tool is listed with the reason; the rest works.

    \b
    Examples:
      freehold gateway target add tools pets --openapi pets.yaml --api-key-provider pets --header X-Key
      freehold gateway target add tools wiki --mcp https://mcp.example.com/mcp
      freehold gateway target add tools weather --function weather --tools tools.json
    """  # noqa: E501 - an example stands on one line
    given |= {"gateway": gateway, "name": name}
    configuration = options.configuration(platform, given)
    if configuration is None:
        every = ", ".join(f"--{source}" for source in options.SOURCES)
        raise click.UsageError(f"Say what the target is: one of {every}.")
    which = found.find(platform, gateway)
    request = _request(platform, given, configuration)
    with platform.output.progress(f"Adding {name} to {which.name} ...") as progress:
        made = platform.control.create_gateway_target(
            gatewayIdentifier=which.id, name=name, **request
        )
        _tag(platform, which, made["targetId"], given["tag"])
        settled = _wait(platform, which, Target(name, made["targetId"]), progress)
    return _tell(platform, which, settled)


@target.command("update")
@click.argument("gateway")
@click.argument("name")
@click.option("--rename", metavar="NEW", help="Its new name; its tools' names change with it.")
@options.source_options
@shown.credential_options
@click.option("--no-credential", is_flag=True, help="Show it nothing any more.")
@_settings
@platform_options
def update(
    platform: Platform,
    /,
    *,
    gateway: str,
    name: str,
    rename: str | None,
    no_credential: bool,
    **given: Any,
) -> int:
    """Change what is said of the target NAME; the rest stays. Waits until it is taken over.

    What changes of its tools because its document did counts as approved by you.
    """
    which = found.find(platform, gateway)
    one = found.find_target(platform, which, name)
    before: Any = platform.control.get_gateway_target(gatewayIdentifier=which.id, targetId=one.id)
    given |= {"gateway": gateway, "name": name}
    configuration = options.configuration(platform, given)
    request = _request(platform, given, configuration or before["targetConfiguration"])
    for member in ("description", "credentialProviderConfigurations", "metadataConfiguration"):
        if member not in request and before.get(member):
            request[member] = before[member]
    if no_credential:
        request.pop("credentialProviderConfigurations", None)
    with platform.output.progress(f"Changing {name} ...") as progress:
        _tag(platform, which, one.id, given["tag"])
        platform.control.update_gateway_target(
            gatewayIdentifier=which.id, targetId=one.id, name=rename or one.name, **request
        )
        settled = _wait(platform, which, one, progress)
    return _tell(platform, which, settled)


@target.command("list")
@click.argument("gateway")
@platform_options
def list_targets(platform: Platform, gateway: str) -> None:
    """List the targets of GATEWAY."""
    which = found.find(platform, gateway)
    rows = found.targets(platform, which)
    if platform.output.as_json:
        platform.output.document({"targets": rows})
    elif not rows:
        platform.output.note(
            f"No targets yet: freehold gateway target add {which.name} NAME --openapi FILE"
        )
    else:
        platform.output.table(
            ("NAME", "TYPE", "STATUS", "SYNCHRONIZED", "ID"),
            [
                (
                    r["name"], r["targetType"], r["status"], when(r.get("lastSynchronizedAt")),
                    r["targetId"],
                )
                for r in rows
            ],
        )  # fmt: skip


@target.command("show")
@click.argument("gateway")
@click.argument("name")
@platform_options
def show(platform: Platform, gateway: str, name: str) -> int:
    """Show the target NAME: its state, and what of it could not be made a tool."""
    which = found.find(platform, gateway)
    one = found.find_target(platform, which, name)
    got = platform.control.get_gateway_target(gatewayIdentifier=which.id, targetId=one.id)
    _tell(platform, which, got, failing=False)
    return 0


@target.command("sync")
@click.argument("gateway")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@platform_options
def sync(platform: Platform, gateway: str, names: tuple[str, ...]) -> int:
    """Ask targets again what they offer; all that keep a list where none is named.

    A tool that changed waits for approval: see freehold gateway changes.
    """
    which = found.find(platform, gateway)
    if names:
        chosen = [found.find_target(platform, which, name) for name in names]
    else:
        chosen = _listing(platform, which)
    settled = []
    with platform.output.progress(f"Asking {counted(len(chosen), 'target')} ...") as progress:
        for one in chosen:
            platform.control.synchronize_gateway_targets(
                gatewayIdentifier=which.id, targetIdList=[one.id]
            )
        for one in chosen:
            settled.append(_wait(platform, which, one, progress))
    output = platform.output
    if output.as_json:
        output.document({"targets": [_plain(each) for each in settled]})
    for each in settled:
        output.say(f"{each['name']} is {_state(each)}")
    waiting = platform.own.get("gateways", which.id, "changes")["changes"]
    if waiting:
        output.note(
            f"{counted(len(waiting), 'change')} to decide on: freehold gateway changes {which.name}"
        )
    return 0 if all(each["status"] == "READY" for each in settled) else 1


def _listing(platform: Platform, which: Gateway) -> list[Target]:
    """Targets that have tools, and are asked for them."""
    states = platform.own.get("gateways", which.id, "status")["targets"]
    offering = {row["targetId"] for row in states if row["type"].startswith("mcp.")}
    listing = []
    for row in found.targets(platform, which):
        if row["targetId"] not in offering or row.get("listingMode") == "DYNAMIC":
            continue
        if row["targetType"] == "MCP_SERVER":
            got: Any = platform.control.get_gateway_target(
                gatewayIdentifier=which.id, targetId=row["targetId"]
            )
            if "mcpToolSchema" in got["targetConfiguration"]["mcp"]["mcpServer"]:
                continue
        listing.append(Target(row["name"], row["targetId"]))
    return listing


@target.command("delete")
@click.argument("gateway")
@click.argument("name")
@yes_option
@platform_options
def delete(platform: Platform, gateway: str, name: str, yes: bool) -> None:
    """Take the target NAME and its tools away from GATEWAY."""
    which = found.find(platform, gateway)
    one = found.find_target(platform, which, name)
    confirm(platform, f"Take {one.name} away from {which.name}?", yes=yes)
    platform.control.delete_gateway_target(gatewayIdentifier=which.id, targetId=one.id)
    if platform.output.as_json:
        platform.output.document({"targetId": one.id, "deleted": True})
    platform.output.say(f"{one.name} is taken away from {which.name}.")


def _request(
    platform: Platform, given: dict[str, Any], configuration: dict[str, Any]
) -> dict[str, Any]:
    found = {
        "targetConfiguration": configuration,
        "description": given["description"],
        "credentialProviderConfigurations": shown.credentials(platform, given, configuration),
        "metadataConfiguration": shown.metadata(given),
    }
    return {key: value for key, value in found.items() if value is not None}


def _tag(platform: Platform, which: Gateway, target_id: str, tags: dict[str, str]) -> None:
    if tags:
        platform.control.tag_resource(resourceArn=f"{which.arn}/target/{target_id}", tags=tags)


def _wait(platform: Platform, which: Gateway, one: Target, progress: Progress) -> Any:
    def look() -> Any:
        got = platform.control.get_gateway_target(gatewayIdentifier=which.id, targetId=one.id)
        if got["status"] not in _BUSY:
            return got
        progress.update(f"{got['name']}: {got['status'].lower()} ...")
        return None

    slow = CliError(
        f"{one.name} is not ready after {_READY_SECONDS_MAX / 60:.0f} minutes.",
        code="TargetSlow",
        hint=f"See: freehold gateway target show {which.name} {one.name}",
    )
    return lookup.waited(look, slow, seconds_max=_READY_SECONDS_MAX)


def _tell(platform: Platform, which: Gateway, got: Any, *, failing: bool = True) -> int:
    """Shows a target that has settled; 1 where it has failed."""
    output = platform.output
    listed = platform.own.get("gateways", which.id, "tools", targetId=got["targetId"])["tools"]
    problems = platform.own.get("gateways", which.id, "targets", got["targetId"], "problems")
    problems = problems["problems"]
    in_force = [tool for tool in listed if tool["state"] == "in force"]
    url = ((got.get("authorizationData") or {}).get("oauth2") or {}).get("authorizationUrl")
    if output.as_json:
        output.document({**_plain(got), "tools": in_force, "problems": problems})
    else:
        kinds = f", {_count(in_force)}" if in_force else ""
        output.say(f"{got['name']} is {_state(got)}{kinds}")
        show_problems(platform, problems[:_PROBLEMS_SHOWN])
        if len(problems) > _PROBLEMS_SHOWN:
            output.note(
                f"... and {len(problems) - _PROBLEMS_SHOWN} more: "
                f"freehold gateway problems {which.name} {got['name']}"
            )
        if url:
            output.say(f"Somebody has to agree first, in a browser: {url}")
            output.note(f"Then: freehold gateway target show {which.name} {got['name']}")
        elif got["status"] in _FAILED:
            output.note(
                f"Put it right: freehold gateway target update {which.name} {got['name']} ..., or "
                "target delete"
            )
        elif in_force:
            output.note(f"Next: freehold gateway call {which.name} {in_force[0]['name']}")
    return 1 if failing and got["status"] in _FAILED else 0


_FAILED = frozenset({"FAILED", "UPDATE_UNSUCCESSFUL", "SYNCHRONIZE_UNSUCCESSFUL"})


def _state(got: Any) -> str:
    reasons = "; ".join(got.get("statusReasons") or ())
    return f"{got['status']}{f': {reasons}' if reasons else ''}"


def _count(definitions: list[dict[str, Any]]) -> str:
    names = {"resource_template": "resource template"}
    kinds: dict[str, int] = {}
    for each in definitions:
        kind = names.get(each["kind"], each["kind"])
        kinds[kind] = kinds.get(kind, 0) + 1
    return ", ".join(counted(number, kind) for kind, number in kinds.items())


def show_problems(platform: Platform, problems: list[dict[str, Any]]) -> None:
    if problems:
        platform.output.table(
            ("WHERE", "TAKEN OVER", "WHY NOT, OR NOT WHOLLY"),
            [(p["where"], "no" if p["skipped"] else "in part", p["why"]) for p in problems],
        )


def _plain(answer: Any) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}
