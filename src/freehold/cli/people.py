"""`freehold people`: who may sign in, and as what."""

import sys
from typing import Any

import click

from freehold.cli.failure import CliError
from freehold.cli.options import platform_options
from freehold.cli.output import when
from freehold.cli.platform import Platform
from freehold.kernel.roles import PERSON_ROLES


@click.group()
def people() -> None:
    """Add people, give them roles, and take them out."""


@people.command("list")
@platform_options
def list_people(platform: Platform) -> None:
    """List the people of this account and their roles."""
    document = platform.own.get("people")
    output = platform.output
    if output.as_json:
        output.document(document)
        return
    output.table(
        ("NAME", "ROLES", "STATUS", "SIGNED IN", "EMAIL", "ID"),
        [
            (
                each["name"],
                ", ".join(each["roles"] + [f"{r} (claim)" for r in each["claimedRoles"]]) or "-",
                each["status"],
                when(each["lastSignInAt"]),
                each["email"] or "-",
                each["personId"],
            )
            for each in document["people"]
        ],
    )


@people.command("add")
@click.argument("name")
@click.option(
    "--role", "roles", multiple=True, required=True, type=click.Choice(PERSON_ROLES),
    help="What they may do here. May be repeated.",
)  # fmt: skip
@click.option("--email", help="By which the provider's sign-in is known to be theirs.")
@platform_options
def add_person(platform: Platform, name: str, roles: tuple[str, ...], email: str | None) -> None:
    """Add a person. Without a provider they get a password, shown once, here."""
    made = platform.own.post("people", body={"name": name, "roles": list(roles), "email": email})
    output = platform.output
    if output.as_json:
        output.document(made)
        return
    output.note(f"{name} is added as {', '.join(made['person']['roles'])}.")
    if made["password"] is None:
        output.note(f"They sign in with the provider, as {email}.")
    else:
        output.say(f"password: {made['password']}")
        output.note("It cannot be shown again.")


@people.command("roles")
@click.argument("person")
@click.argument("roles", nargs=-1, type=click.Choice(PERSON_ROLES))
@platform_options
def set_roles(platform: Platform, person: str, roles: tuple[str, ...]) -> None:
    """Say which roles a person has in this account; none: no role any more.

    PERSON is a name. Somebody of another account is let in by the id that `freehold people list`
    shows there.
    """
    changed = platform.own.put("people", person, "roles", body={"roles": list(roles)})
    _told(platform, changed, f"has {', '.join(changed['roles']) or 'no role'} here")


@people.command("remove")
@click.argument("person")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@platform_options
def remove_person(platform: Platform, person: str, yes: bool) -> None:
    """Take a person out of this account, and end what they are signed in to."""
    if not yes:
        if platform.output.as_json or not sys.stdin.isatty():
            raise CliError("Say --yes to do this without being asked.", code="NotConfirmed")
        if not click.confirm(f"Take {person} out of this account?", err=True):
            raise CliError("Nothing was changed.", code="NotConfirmed")
    platform.own.delete("people", person)
    if platform.output.as_json:
        platform.output.document({"person": person, "removed": True})
    platform.output.say(f"{person} is taken out.")


@people.command("disable")
@click.argument("person")
@platform_options
def disable_person(platform: Platform, person: str) -> None:
    """Let a person sign in no more, and end what they are signed in to."""
    changed = platform.own.patch("people", person, body={"status": "Disabled"})
    _told(platform, changed, "is disabled")


@people.command("enable")
@click.argument("person")
@platform_options
def enable_person(platform: Platform, person: str) -> None:
    """Let a disabled person sign in again."""
    changed = platform.own.patch("people", person, body={"status": "Active"})
    _told(platform, changed, "is enabled")


@people.command("password")
@click.argument("person")
@platform_options
def new_password(platform: Platform, person: str) -> None:
    """Give a person a new password, shown once, here; ends what they are signed in to."""
    made = platform.own.post("people", person, "password", body={})
    output = platform.output
    if output.as_json:
        output.document({"person": person, **made})
        return
    output.say(f"password: {made['password']}")
    output.note("It cannot be shown again.")


def _told(platform: Platform, changed: dict[str, Any], what: str) -> None:
    if platform.output.as_json:
        platform.output.document(changed)
    platform.output.say(f"{changed['name']} {what}.")
