"""`freehold gateway status`: how a gateway and its targets are."""

from typing import Any

import click

from freehold.cli.gateway import found
from freehold.cli.options import platform_options
from freehold.cli.output import when
from freehold.cli.platform import Platform


@click.command()
@click.argument("gateway")
@platform_options
def status(platform: Platform, gateway: str) -> int:
    """Show how GATEWAY and its targets are. Exits with 1 when one of them needs somebody."""
    which = found.find(platform, gateway)
    document = platform.own.get("gateways", which.id, "status")
    needing = [row for row in document["targets"] if _needs(row)]
    output = platform.output
    if output.as_json:
        output.document(document)
        return 1 if needing else 0
    output.say(f"{document['name']} is {document['status']}, names {document['toolNames']}")
    output.say(document["url"])
    if document["targets"]:
        output.table(
            ("TARGET", "TYPE", "STATUS", ">IN FORCE", ">WAITING", ">PROBLEMS", "SYNCHRONIZED"),
            [
                (
                    row["name"], row["type"], row["status"], str(row["inForce"]),
                    str(row["waiting"]), str(row["problems"]), when(row["synchronizedAt"]),
                )
                for row in document["targets"]
            ],
        )  # fmt: skip
    for row in document["targets"]:
        for why in (*row["reasons"], *((row["refreshFailure"],) if row["refreshFailure"] else ())):
            output.say(f"{row['name']}: {why}")
    if any(row["waiting"] for row in document["targets"]):
        output.note(f"Decide on what waits: freehold gateway changes {which.name}")
    return 1 if needing else 0


def _needs(row: dict[str, Any]) -> bool:
    return bool(row["status"] != "READY" or row["waiting"] or row["refreshFailure"])
