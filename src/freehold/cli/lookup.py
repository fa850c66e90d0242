"""What people name is found by name, id or ARN, and what changes is waited for."""

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from freehold.cli.failure import CliError
from freehold.kernel.arns import Arn

T = TypeVar("T")

_NOT_FOUND = "ResourceNotFoundException"


def identifier_in(wanted: str, kind: str, *, noun: str) -> str:
    """The id of an ARN of this `kind` ("gateway"); anything else is a name or an id as it is.

    Raises CliError for an ARN of something else.
    """
    arn = Arn.parse(wanted)
    if arn is None:
        return wanted
    found, _, identifier = arn.resource.partition("/")
    if arn.service != "bedrock-agentcore" or found != kind or not identifier:
        raise CliError(f"{wanted} is not the ARN of a {noun}.", code="BadName")
    return identifier


def missing(noun: str, wanted: str, there: Iterable[str], *, make: str) -> CliError:
    """There is no such thing; those there are, or the command that makes the first."""
    names = ", ".join(sorted(there))
    hint = f"There are: {names}" if names else f"There is none yet: {make}"
    return CliError(f"No {noun} called {wanted}.", code=_NOT_FOUND, hint=hint)


def missing_in(whole: str, noun: str, wanted: str, there: Iterable[str], *, make: str) -> CliError:
    """The same of a part: `whole` has none of that name."""
    names = ", ".join(sorted(there))
    hint = f"It has: {names}" if names else f"It has none yet: {make}"
    return CliError(f"{whole} has no {noun} called {wanted}.", code=_NOT_FOUND, hint=hint)


def waited(
    look: Callable[[], T | None],
    slow: CliError,
    *,
    seconds_max: float,
    every_seconds: float = 0.2,
) -> T:
    """What `look` returns as soon as that is not None. Raises `slow` when the time is over."""
    deadline = time.monotonic() + seconds_max
    while time.monotonic() < deadline:
        if (seen := look()) is not None:
            return seen
        time.sleep(every_seconds)
    raise slow
