"""Policies made several at a time: never the permits of a set without its forbids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from freehold.cli.output import Progress
from freehold.cli.platform import Platform
from freehold.cli.policy import found
from freehold.cli.policy.found import Engine, Policy


@dataclass(frozen=True)
class Wanted:
    """`definition` is CreatePolicy's."""

    name: str
    forbids: bool
    definition: Any


def make(
    platform: Platform,
    engine: Engine,
    wanted: Sequence[Wanted],
    request: dict[str, Any],
    progress: Progress,
) -> list[Any]:
    """Each as it is once it was analysed. Those that forbid come first, and where one of them is
    not taken none that permits is made."""
    got: list[Any] = []
    left = list(wanted)
    for forbids in (True, False):
        made = []
        for each in wanted:
            if each.forbids is forbids and not any(map(found.failed, got)):
                one = platform.control.create_policy(
                    policyEngineId=engine.id, name=each.name, definition=each.definition, **request
                )
                made.append(Policy(each.name, one["policyId"]))
                left.remove(each)
        got += [found.settled(platform, engine, each, progress) for each in made]
    if left:
        names = ", ".join(each.name for each in left)
        platform.output.note(f"Not made, as a policy that forbids is not taken: {names}")
    return got
