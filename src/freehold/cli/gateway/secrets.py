"""Secrets of targets on their way into the vault: asked for, or in the environment, never words of
a command, which others on the machine can see."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from freehold.cli.failure import CliError
from freehold.cli.platform import Platform

API_KEY, CLIENT_SECRET = "FREEHOLD_API_KEY", "FREEHOLD_CLIENT_SECRET"


def asked(what: str, variable: str) -> str:
    if secret := os.environ.get(variable):
        return secret
    if not sys.stdin.isatty():
        raise CliError(f"The {what} is missing: set {variable}.", code="MissingSecret")
    return str(click.prompt(what[:1].upper() + what[1:], hide_input=True, err=True))


def keep_key(platform: Platform, name: str) -> str:
    """As the API key credential provider `name`; its ARN."""
    key = asked(f"API key of {name}", API_KEY)
    with new_provider(name, "--api-key-provider", "--api-key"):
        made = platform.control.create_api_key_credential_provider(name=name, apiKey=key)
    return made["credentialProviderArn"]


@contextmanager
def new_provider(name: str, option: str, instead_of: str) -> Iterator[None]:
    """Around making it. One that is there already is not overwritten: others may use it."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        body = error.response["Error"]
        if body["Code"] != "ConflictException":
            raise
        raise CliError(
            body["Message"], code=body["Code"],
            hint=f"To use the one that is there: {option} {name}, without {instead_of}.",
        ) from error  # fmt: skip
