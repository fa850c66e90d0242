"""The options that commands share, and what comes with them."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

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
