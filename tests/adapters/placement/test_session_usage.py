"""What a session is said to have used, from before its sandbox is there."""

from pathlib import Path
from typing import Any

import pytest

from freehold.adapters.placement.local.logs import SessionLog
from freehold.adapters.placement.local.session import LiveSession
from freehold.ports.placement import SessionKey
from freehold.ports.sandbox import Usage


class Sandbox:
    """Has used this much."""

    def __init__(self, usage: Usage) -> None:
        self.used = usage

    def usage(self) -> Usage:
        return self.used


@pytest.fixture
async def session(tmp_path: Path) -> LiveSession:
    return LiveSession(
        key=SessionKey("123456789012", "weather", "DEFAULT", "s" * 33), sandbox_id="s-1",
        runtime_arn="arn", user=None, version=1, port=8080, idle_seconds=900,
        lifetime_seconds=3600, directory=tmp_path,
        session_log=SessionLog(tmp_path / "output", tmp_path / "log", bytes_max=1000),
    )  # fmt: skip


def told(session: LiveSession) -> tuple[Any, bool]:
    """CPU seconds, and whether memory is known."""
    usage = session.usage()
    return usage.cpu_seconds, usage.memory_gb_seconds is not None


async def test_one_that_has_no_sandbox_yet_has_not_used_nothing(session: LiveSession) -> None:
    assert told(session) == (None, False)


async def test_the_first_time_that_somebody_asks_it_is_measured(session: LiveSession) -> None:
    session.sandbox = Sandbox(Usage(0.25, 200 << 20))  # type: ignore[assignment]
    assert told(session) == (0.25, True)


async def test_what_cannot_be_measured_is_never_nothing(session: LiveSession) -> None:
    session.sandbox = Sandbox(Usage(None, None))  # type: ignore[assignment]
    assert told(session) == (None, False)
    assert told(session) == (None, False)


async def test_one_that_ended_before_it_had_a_sandbox_used_nothing(session: LiveSession) -> None:
    session.doom("cancelled")
    session.ended.set_result("cancelled")
    assert told(session) == (0.0, True)
