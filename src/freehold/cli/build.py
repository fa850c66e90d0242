"""Waiting for a build, its log shown as it comes."""

from collections.abc import Mapping
from typing import Any

from freehold.cli import lookup
from freehold.cli.failure import CliError
from freehold.cli.output import Progress
from freehold.cli.platform import Platform

BUILD_SECONDS_MAX = 1800
BUSY = frozenset({"CREATING", "UPDATING"})
_LINES_MAX = 10_000


def wait_until_ready(platform: Platform, runtime_id: str, progress: Progress) -> Mapping[str, Any]:
    """GetAgentRuntime's answer once the build is over, well or badly."""
    shown = 0

    def look() -> Mapping[str, Any] | None:
        nonlocal shown
        got = platform.control.get_agent_runtime(agentRuntimeId=runtime_id)
        # After the status: of a build that is over, the log is whole.
        lines = _build_log(platform, runtime_id)
        for line in lines[shown:]:
            progress.line(line)
        shown = max(shown, len(lines))
        return got if got["status"] not in BUSY else None

    slow = CliError(
        f"The build is not over after {BUILD_SECONDS_MAX // 60} minutes.",
        code="BuildSlow",
        hint=f"See: freehold logs {runtime_id} --build",
    )
    return lookup.waited(look, slow, seconds_max=BUILD_SECONDS_MAX)


def _build_log(platform: Platform, runtime_id: str) -> list[str]:
    """What the newest version's build wrote so far; nothing where there is no log."""
    try:
        with platform.own.lines(
            "runtimes", runtime_id, "logs", follow=False, build="true", tail=_LINES_MAX
        ) as lines:
            return [str(line["line"]) for line in lines]
    except CliError:
        # The log is a convenience beside the build, whose outcome is told either way.
        return []
