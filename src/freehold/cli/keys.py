"""`freehold keys`: the access keys that clients sign with."""

import sys
from typing import Any

import click

from freehold.cli.failure import CliError
from freehold.cli.options import platform_options
from freehold.cli.output import when
from freehold.cli.platform import Platform
from freehold.kernel.roles import ROLES


@click.group()
def keys() -> None:
    """Make, list, disable and delete access keys."""


@keys.command("create")
@click.option("--description", default="", help="What the key is for.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice(ROLES),
    help="What the key may do: admin when not given. Repeat it for more than one.",
)
@platform_options
def create_key(platform: Platform, description: str, roles: tuple[str, ...]) -> None:
    """Make an access key. Its secret is shown once, here."""
    body = {"description": description, "roles": list(roles) or ["admin"]}
    made = platform.own.post("keys", body=body)
    output = platform.output
    if output.as_json:
        output.document(made)
        return
    output.say(f"AWS_ACCESS_KEY_ID={made['accessKeyId']}")
    output.say(f"AWS_SECRET_ACCESS_KEY={made['secretAccessKey']}")
    output.note("Keep the secret: it cannot be shown again.")


@keys.command("list")
@platform_options
def list_keys(platform: Platform) -> None:
    """List the access keys, without their secrets."""
    document = platform.own.get("keys")
    output = platform.output
    if output.as_json:
        output.document(document)
        return
    mine = platform.connection.access_key_id
    output.table(
        ("ACCESS KEY", "STATUS", "ROLES", "CREATED", "LAST USED", "DESCRIPTION"),
        [
            (
                key["accessKeyId"] + (" *" if key["accessKeyId"] == mine else ""),
                key["status"],
                ", ".join(key["roles"]),
                when(key["createdAt"]),
                when(key["lastUsedAt"]),
                key["description"] or "-",
            )
            for key in document["keys"]
        ],
    )
    output.note("* signs this command")


@keys.command("disable")
@click.argument("access_key_id")
@click.option("--yes", is_flag=True, help="Do not ask first, even for the key in use here.")
@platform_options
def disable_key(platform: Platform, access_key_id: str, yes: bool) -> None:
    """Refuse what is signed with a key, until it is enabled again."""
    if access_key_id == platform.connection.access_key_id and not yes:
        _confirm(platform, f"{access_key_id} signs this very command. Disable it all the same?")
    _set_status(platform, access_key_id, "Inactive")


@keys.command("enable")
@click.argument("access_key_id")
@platform_options
def enable_key(platform: Platform, access_key_id: str) -> None:
    """Accept a disabled key again."""
    _set_status(platform, access_key_id, "Active")


@keys.command("delete")
@click.argument("access_key_id")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@platform_options
def delete_key(platform: Platform, access_key_id: str, yes: bool) -> None:
    """Delete a key for good."""
    if not yes:
        in_use = access_key_id == platform.connection.access_key_id
        _confirm(
            platform,
            f"Delete {access_key_id}{', which signs this very command' if in_use else ''}?",
        )
    platform.own.delete("keys", access_key_id)
    if platform.output.as_json:
        platform.output.document({"accessKeyId": access_key_id, "deleted": True})
    platform.output.say(f"{access_key_id} is deleted.")


def _set_status(platform: Platform, access_key_id: str, status: str) -> None:
    changed: dict[str, Any] = platform.own.patch("keys", access_key_id, body={"status": status})
    if platform.output.as_json:
        platform.output.document({"accessKeyId": access_key_id, "status": status, **changed})
    platform.output.say(f"{access_key_id} is {status.lower()}.")


def _confirm(platform: Platform, question: str) -> None:
    if platform.output.as_json or not sys.stdin.isatty():
        raise CliError("Say --yes to do this without being asked.", code="NotConfirmed")
    if not click.confirm(question, err=True):
        raise CliError("Nothing was changed.", code="NotConfirmed")
