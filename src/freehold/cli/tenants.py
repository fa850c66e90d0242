"""`freehold tenants`: accounts of their own on one platform."""

import sys

import click

from freehold.cli.failure import CliError
from freehold.cli.options import platform_options
from freehold.cli.output import when
from freehold.cli.platform import Platform


@click.group()
def tenants() -> None:
    """Make, list and disable tenants; for admins of the platform's first account."""


@tenants.command("create")
@click.argument("name")
@click.option("--account", help="Its 12 digits, in place of made up ones.")
@platform_options
def create_tenant(platform: Platform, name: str, account: str | None) -> None:
    """Make a tenant with a first access key, whose secret is shown once, here."""
    made = platform.own.post("tenants", body={"name": name, "account": account})
    output = platform.output
    if output.as_json:
        output.document(made)
        return
    output.note(f"Account {made['account']} is made: {made['name']}. Its first access key:")
    output.say(f"AWS_ACCESS_KEY_ID={made['accessKeyId']}")
    output.say(f"AWS_SECRET_ACCESS_KEY={made['secretAccessKey']}")
    output.note("Keep the secret: it cannot be shown again.")


@tenants.command("list")
@platform_options
def list_tenants(platform: Platform) -> None:
    """List the tenants, oldest first."""
    document = platform.own.get("tenants")
    output = platform.output
    if output.as_json:
        output.document(document)
        return
    output.table(
        ("ACCOUNT", "NAME", "STATUS", "CREATED"),
        [
            (each["account"], each["name"], each["status"], when(each["createdAt"]))
            for each in document["tenants"]
        ],
    )


@tenants.command("disable")
@click.argument("account")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@platform_options
def disable_tenant(platform: Platform, account: str, yes: bool) -> None:
    """Refuse every key and every person of a tenant; nothing of it is deleted."""
    if not yes:
        if platform.output.as_json or not sys.stdin.isatty():
            raise CliError("Say --yes to do this without being asked.", code="NotConfirmed")
        if not click.confirm(f"Let nobody of {account} in any more?", err=True):
            raise CliError("Nothing was changed.", code="NotConfirmed")
    _set_status(platform, account, "Disabled")


@tenants.command("enable")
@click.argument("account")
@platform_options
def enable_tenant(platform: Platform, account: str) -> None:
    """Let a disabled tenant in again."""
    _set_status(platform, account, "Active")


def _set_status(platform: Platform, account: str, status: str) -> None:
    changed = platform.own.patch("tenants", account, body={"status": status})
    if platform.output.as_json:
        platform.output.document(changed)
    platform.output.say(f"{account} is {status.lower()}.")
