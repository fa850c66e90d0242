"""How long a session lives and when it is frozen: while it is used or busy, neither ends it.

A session that nobody uses is frozen after a few seconds, and ended when it has been idle for long
or is at the end of its lifetime. Before either of the first two its agent is asked: `/ping` says
HealthyBusy while it works on after an answer.
"""

import contextlib
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, Protocol

from freehold.adapters.placement.local.probe import Health
from freehold.adapters.placement.local.session import LiveSession
from freehold.kernel.clock import now
from freehold.kernel.errors import FreeholdError

BUSY_RECHECK_SECONDS = 30
STOP_GRACE_SECONDS = 2.0
CPU_SHARE_IDLE_MAX = 0.15
"""Of one CPU. Who computes works, also when it does not say HealthyBusy."""


class End(Protocol):
    def __call__(
        self, session: LiveSession, reason: str, *, release_seconds: float = 0
    ) -> Coroutine[Any, Any, None]: ...


class Lifetimes:
    """`freeze_seconds` 0: nothing is frozen. `changed`: a status has become another."""

    def __init__(
        self,
        *,
        end: End,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        changed: Callable[[], None],
        freeze_seconds: float,
    ) -> None:
        self._end, self._spawn, self._changed = end, spawn, changed
        self._freeze_seconds = freeze_seconds

    def schedule(self, session: LiveSession) -> None:
        """Look again when the session could first be due."""
        due = session.expires_at()
        if not session.holders:
            due = min(due, session.idle_until())
            if self._freezes(session):
                due = min(due, self._freezes_at(session))
        session.wake_up((due - now()).total_seconds(), self._due)

    def _freezes(self, session: LiveSession) -> bool:
        if session.meter.cpu_seconds is None:
            return False  # nobody could tell whether it computes
        return self._freeze_seconds > 0 and not session.frozen and session.ready.done()

    def _freezes_at(self, session: LiveSession) -> datetime:
        quiet_from = max(session.last_used_at, session.stirred_at)
        return quiet_from + timedelta(seconds=self._freeze_seconds)

    def _due(self, session: LiveSession) -> None:
        if session.ending:
            return
        if now() >= session.expires_at():
            end = self._end(
                session, "it reached its longest lifetime", release_seconds=STOP_GRACE_SECONDS
            )
            self._spawn(end)
        elif session.holders:
            self.schedule(session)
        elif now() >= session.idle_until():
            self._spawn(self._end_unless_busy(session))
        elif self._freezes(session) and now() >= self._freezes_at(session):
            self._spawn(self._freeze_unless_busy(session))
        else:
            self.schedule(session)

    async def _end_unless_busy(self, session: LiveSession) -> None:
        if not session.frozen:  # what is frozen was not busy
            await self._ask(session)
        if session.holders or session.ending or now() < session.idle_until():
            self.schedule(session)  # it was used meanwhile
            return
        if session.busy:
            pause = min(session.idle_seconds, BUSY_RECHECK_SECONDS)
            session.last_used_at = now() - timedelta(seconds=session.idle_seconds - pause)
            self.schedule(session)
            return
        await self._end(session, f"idle for {session.idle_seconds} s")

    async def _freeze_unless_busy(self, session: LiveSession) -> None:
        await self._ask(session)
        if session.holders or session.ending or now() < self._freezes_at(session):
            self.schedule(session)
            return
        if session.busy or session.cpu_share > CPU_SHARE_IDLE_MAX:
            pause = max(self._freeze_seconds, BUSY_RECHECK_SECONDS if session.busy else 0)
            session.stirred_at = now() + timedelta(seconds=pause - self._freeze_seconds)
            self.schedule(session)
            return
        try:
            await session.freeze()
        except (OSError, FreeholdError):  # its group is gone, and so is what was in it
            with contextlib.suppress(OSError, FreeholdError):
                await session.thaw()
        self._changed()
        self.schedule(session)

    async def _ask(self, session: LiveSession) -> None:
        try:
            health = await session.ping()
        except (OSError, FreeholdError):
            health = Health.UNHEALTHY
        was_busy, session.busy = session.busy, health is Health.BUSY
        if was_busy != session.busy:
            self._changed()
