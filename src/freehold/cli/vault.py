"""`freehold vault`: keys around the secrets, their rotation, and secrets that are to be changed."""

import sys
import time
from typing import Any

import click

from freehold.cli.failure import CliError
from freehold.cli.options import platform_options
from freehold.cli.output import when
from freehold.cli.platform import Platform

_LOOKS_EVERY_SECONDS = 0.5


@click.group()
def vault() -> None:
    """Where agents' credentials are kept: its keys, and secrets to be changed."""


@vault.command("status")
@platform_options
def vault_status(platform: Platform) -> None:
    """Show the keys, how many secrets each seals, and what is to be changed."""
    document = platform.own.get("vault")
    output = platform.output
    if output.as_json:
        output.document(document)
        return
    keys = [("account", document["key"])]
    if document.get("platformKey"):
        keys.append(("platform", document["platformKey"]))
    output.table(
        ("KEY", "KEPT BY", "VERSION", "SEALS", "UNDER OLDER VERSIONS"),
        [
            (
                name,
                key["keptBy"],
                str(key["newestVersion"]),
                str(sum(key["values"].values())),
                _older(key),
            )
            for name, key in keys
        ],
    )
    if document["schedules"]:
        output.table(
            ("PROVIDER", "TYPE", "CHANGED BY", "EVERY", "DUE", "LAST FAILURE"),
            [
                (
                    s["name"],
                    s["providerType"],
                    "the platform" if s["way"] == "registration" else "you",
                    f"{s['everyDays']} days",
                    "now" if s["due"] else when(s["dueAt"]),
                    s["failure"] or "-",
                )
                for s in document["schedules"]
            ],
        )
    for waiting in document["nextSecrets"]:
        output.note(
            f"{waiting['name']} ({waiting['providerType']}) has a second secret since "
            f"{when(waiting['since'])}: promote it when the provider takes it."
        )


@vault.command("rotate")
@click.option("--platform-key", is_flag=True, help="The platform's own key, not the account's.")
@platform_options
def rotate(platform: Platform, platform_key: bool) -> None:
    """Put every secret under a new version of the key, while all goes on."""
    rotation = platform.own.post("vault", "rotations", body={"platform": platform_key})
    output = platform.output
    if not output.as_json:
        output.note("Secrets are being moved under the new key; you may interrupt this.")
    while rotation["state"] not in ("done", "failed"):
        time.sleep(_LOOKS_EVERY_SECONDS)
        rotation = platform.own.get("vault", "rotations", rotation["rotationId"])
    if rotation["state"] == "failed":
        raise CliError(f"The rotation failed: {rotation['error']}", code="RotationFailed")
    document: dict[str, Any] = platform.own.get("vault")
    key = document["platformKey" if platform_key else "key"]
    if output.as_json:
        output.document({**rotation, "key": key})
        return
    output.say(f"Version {key['newestVersion']} seals everything.")
    if key["underOlderVersions"]:
        output.note(f"But for {key['underOlderVersions']} values: see the log, and rotate again.")
        sys.exit(1)
    if platform_key and key["keptBy"] == "file":
        output.note("Older lines of keys/kek in the state directory can be removed.")


def _older(key: dict[str, Any]) -> str:
    """`3 (version 1)`, or nothing to be done."""
    older = {v: n for v, n in key["values"].items() if int(v) != key["newestVersion"] and n}
    if not older:
        return "-"
    return ", ".join(f"{count} (version {version})" for version, count in older.items())
