"""The options that commands share, and what comes with them."""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

from freehold.cli.failure import CliError
from freehold.cli.output import Output
from freehold.cli.platform import Platform

P = ParamSpec("P")
R = TypeVar("R")

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
_ENDPOINT = click.option(
    "--endpoint", metavar="URL", help="The platform to talk to, in place of the one found."
)
_STATE = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="The state directory whose connection.json to use.",
)

yes_option = click.option("--yes", is_flag=True, help="Do not ask first.")


def json_option(command: Callable[Concatenate[Output, P], R]) -> Callable[..., R]:
    """Adds `--json`; the command's first argument is its Output."""

    @_JSON
    @wraps(command)
    def with_output(*args: Any, as_json: bool, **kwargs: Any) -> R:
        return command(Output(as_json=as_json), *args, **kwargs)

    return with_output


def platform_options(command: Callable[Concatenate[Platform, P], R]) -> Callable[..., R]:
    """Adds `--endpoint`, `--state` and `--json`; the first argument is the Platform.

    Errors of the clients below become CliError here, where the connection is known.
    """

    @_ENDPOINT
    @_STATE
    @_JSON
    @wraps(command)
    def with_platform(
        *args: Any, endpoint: str | None, state: Path | None, as_json: bool, **kwargs: Any
    ) -> R:
        platform = Platform(Output(as_json=as_json), endpoint=endpoint, state=state)
        with platform.explaining():
            return command(platform, *args, **kwargs)

    return with_platform


def applied(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator; `--help` lists them in this order."""

    def apply(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


def pairs(_: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """The callback of an option that takes KEY=VALUE any number of times."""
    found = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE", param=option)
        found[key] = value
    return found


def confirm(platform: Platform, question: str, *, yes: bool) -> None:
    """Raises CliError where nobody said yes."""
    if yes:
        return
    if platform.output.as_json or not sys.stdin.isatty():
        raise CliError("Say --yes to do this without being asked.", code="NotConfirmed")
    if not click.confirm(question, err=True):
        raise CliError("Nothing was changed.", code="NotConfirmed")
