"""`freehold policy engine`, `attach` and `detach`: sets of policies, and who asks which."""

from typing import Any

import click

from freehold.cli.failure import CliError
from freehold.cli.gateway import found as gateway_found
from freehold.cli.options import confirm, platform_options, yes_option
from freehold.cli.output import counted, when
from freehold.cli.platform import Platform
from freehold.cli.policy import found

LOOSENING_TAG = "freehold:loosening"


@click.group()
def engine() -> None:
    """Policy engines: each a set of policies that gateways ask."""


_loosening = click.option(
    "--loosening", type=click.Choice(["allow", "refuse"]),
    help="With refuse, a change that allows a call more needs: freehold policy acknowledge.",
)  # fmt: skip


@engine.command("create")
@click.argument("name")
@click.option("--description", help="What it is for.")
@_loosening
@platform_options
def create(
    platform: Platform, *, name: str, description: str | None, loosening: str | None
) -> None:
    """Make the policy engine NAME: letters, digits and underscores."""
    request: dict[str, Any] = {"name": name}
    if description:
        request["description"] = description
    if loosening:
        request["tags"] = {LOOSENING_TAG: loosening}
    made = platform.control.create_policy_engine(**request)
    if platform.output.as_json:
        platform.output.document(found.plain(made))
        return
    platform.output.say(f"{made['name']} is {made['status']}")
    platform.output.say(made["policyEngineArn"])
    platform.output.note(f"Next: freehold policy create {name} FILE")


@engine.command("update")
@click.argument("engine")
@click.option("--description", help="What it is for.")
@_loosening
@platform_options
def update(
    platform: Platform, *, engine: str, description: str | None, loosening: str | None
) -> None:
    """Change what is said of ENGINE."""
    which = found.find(platform, engine)
    if loosening:
        platform.control.tag_resource(resourceArn=which.arn, tags={LOOSENING_TAG: loosening})
    if description is not None:
        platform.control.update_policy_engine(
            policyEngineId=which.id, description={"optionalValue": description}
        )
    _show(platform, which)


@engine.command("list")
@platform_options
def list_engines(platform: Platform) -> None:
    """List the policy engines of the account."""
    rows = found.engines(platform)
    if platform.output.as_json:
        platform.output.document({"policyEngines": rows})
    elif not rows:
        platform.output.note("No policy engines yet: freehold policy engine create NAME")
    else:
        platform.output.table(
            ("ENGINE", "STATUS", "UPDATED"),
            [(r["policyEngineId"], r["status"], when(r["updatedAt"])) for r in rows],
        )


@engine.command("show")
@click.argument("engine")
@platform_options
def show(platform: Platform, engine: str) -> None:
    """Show ENGINE: its policies, the gateways that ask it, its settings."""
    _show(platform, found.find(platform, engine))


@engine.command("delete")
@click.argument("engine")
@click.option("--with-policies", is_flag=True, help="Its policies first.")
@yes_option
@platform_options
def delete(platform: Platform, engine: str, with_policies: bool, yes: bool) -> None:
    """Delete ENGINE. A gateway that still asks it must be detached first."""
    which = found.find(platform, engine)
    inside = found.policies(platform, which)
    if asking := _gateways(platform, which):
        by = ", ".join(gateway["name"] for gateway in asking)
        raise CliError(
            f"{which.name} is asked by {by}.",
            code="ConflictException",
            hint=f"First: freehold policy detach {asking[0]['name']}",
        )
    if inside and not with_policies:
        raise CliError(
            f"{which.name} has {_policies(len(inside))}.",
            code="ConflictException",
            hint=f"Delete them with it: freehold policy engine delete {which.name} --with-policies",
        )
    also = f" and {_policies(len(inside))}" if inside else ""
    confirm(platform, f"Delete the policy engine {which.name}{also}?", yes=yes)
    for row in inside:
        platform.control.delete_policy(policyEngineId=which.id, policyId=row["policyId"])
    platform.control.delete_policy_engine(policyEngineId=which.id)
    if platform.output.as_json:
        names = [row["name"] for row in inside]
        platform.output.document({"policyEngineId": which.id, "deleted": True, "policies": names})
    platform.output.say(f"Deleted: {which.name}{also}.")


@click.command()
@click.argument("gateway")
@click.argument("engine")
@click.option("--enforce", "mode", flag_value="ENFORCE", help="What it denies is refused.")
@click.option("--log-only", "mode", flag_value="LOG_ONLY", help="Only record what it would deny.")
@platform_options
def attach(platform: Platform, *, gateway: str, engine: str, mode: str | None) -> None:
    """Let ENGINE decide on every call of GATEWAY's tools, or change how.

    Begin with --log-only, look at `freehold policy decisions`, then --enforce.
    """
    if mode is None:
        raise click.UsageError("Say --log-only or --enforce.")
    which, deciding = gateway_found.find(platform, gateway), found.find(platform, engine)
    after = _put(platform, which.id, {"arn": deciding.arn, "mode": mode})
    if platform.output.as_json:
        platform.output.document(after)
        return
    if mode == "ENFORCE":
        platform.output.say(f"{deciding.name} decides on the calls of {which.name} (ENFORCE).")
        return
    platform.output.say(f"{deciding.name} watches the calls of {which.name} (LOG_ONLY).")
    platform.output.note(
        f"See what it would refuse: freehold policy decisions --gateway {which.name} --denied"
    )


@click.command()
@click.argument("gateway")
@yes_option
@platform_options
def detach(platform: Platform, gateway: str, yes: bool) -> None:
    """Let no policy engine decide on GATEWAY's calls any more."""
    which = gateway_found.find(platform, gateway)
    confirm(platform, f"Let no policy guard {which.name}?", yes=yes)
    after = _put(platform, which.id, None)
    if platform.output.as_json:
        platform.output.document(after)
    platform.output.say(f"No policy engine decides on the calls of {which.name}.")


def _put(platform: Platform, gateway_id: str, wanted: dict[str, str] | None) -> dict[str, Any]:
    before: Any = platform.control.get_gateway(gatewayIdentifier=gateway_id)
    request = {key: before[key] for key in gateway_found.KEPT if key in before}
    request.pop("policyEngineConfiguration", None)
    if wanted:
        request["policyEngineConfiguration"] = wanted
    after = platform.control.update_gateway(gatewayIdentifier=gateway_id, **request)
    return found.plain(after)


def _show(platform: Platform, which: found.Engine) -> None:
    document = found.plain(platform.control.get_policy_engine(policyEngineId=which.id))
    tags = platform.control.list_tags_for_resource(resourceArn=which.arn).get("tags", {})
    inside, gateways = found.policies(platform, which), _gateways(platform, which)
    output = platform.output
    if output.as_json:
        output.document({**document, "tags": tags, "policies": inside, "gateways": gateways})
        return
    output.say(f"{which.name} is {document['status']}")
    output.say(which.arn)
    if document.get("description"):
        output.say(document["description"])
    for key, value in sorted(tags.items()):
        output.say(f"{key} = {value}")
    for gateway in gateways:
        output.say(f"asked by the gateway {gateway['name']} ({gateway['mode']})")
    if inside:
        show_policies(platform, inside)
    else:
        output.note(f"No policies yet: freehold policy create {which.name} FILE")


def show_policies(platform: Platform, rows: list[Any]) -> None:
    platform.output.table(
        # The id begins with the name.
        ("POLICY", "STATUS", "MODE", "UPDATED"),
        [
            (
                row["policyId"],
                row["status"],
                row.get("enforcementMode") or "ACTIVE",
                when(row["updatedAt"]),
            )
            for row in rows
        ],
    )


def _gateways(platform: Platform, which: found.Engine) -> list[dict[str, str]]:
    asking = []
    for row in gateway_found.list_all(platform):
        got: Any = platform.control.get_gateway(gatewayIdentifier=row["gatewayId"])
        configured = got.get("policyEngineConfiguration") or {}
        if configured.get("arn") == which.arn:
            asking.append(
                {"name": got["name"], "gatewayId": got["gatewayId"], "mode": configured["mode"]}
            )
    return asking


def _policies(number: int) -> str:
    return f"{number} policies" if number != 1 else counted(number, "policy")
