"""What a node owes the journal of sessions: kept in memory while the database is away."""

import asyncio
import logging
from collections import deque
from datetime import datetime

from freehold.kernel.clock import now
from freehold.kernel.errors import Unavailable
from freehold.ports.placement import SessionJournal, SessionRecord, SessionUsage

log = logging.getLogger(__name__)


class Ledger:
    """Starts are written at once, or there is no session. Ends, usage and counts may wait.

    Ends are written in their order and before the next start: the database holds at most one live
    session for each key.
    """

    def __init__(self, journal: SessionJournal, node: str) -> None:
        self._journal, self._node = journal, node
        self._ends: deque[tuple[SessionUsage, datetime, str]] = deque()
        self._counts: dict[str, int] = {}
        self._writing = asyncio.Lock()
        self._away = False

    async def unfinished(self) -> list[SessionRecord]:
        return await self._journal.unfinished(self._node)

    async def started(self, record: SessionRecord) -> None:
        """Raises Unavailable."""
        if self._ends:
            await self.write()
        if self._ends:
            raise Unavailable("the database is not available just now; try again shortly")
        await self._journal.started(self._node, record)

    def ended(self, usage: SessionUsage, reason: str) -> None:
        self._ends.append((usage, now(), reason))

    def counted(self, sandbox_id: str, invocations: int) -> None:
        """Of a session that has ended."""
        self._counts[sandbox_id] = self._counts.get(sandbox_id, 0) + invocations

    async def write(self, usages: list[SessionUsage] | None = None) -> None:
        """All that is owed, and the usage of live sessions. What cannot be written now is kept;
        usage is a total, and goes with the next."""
        waited = self._writing.locked()
        async with self._writing:
            if waited and self._away:
                return  # the one before has just waited for the database, in vain
            self._away = True
            try:
                while self._ends:
                    await self._journal.ended(*self._ends[0])
                    self._ends.popleft()
                while self._counts:
                    sandbox_id, invocations = next(iter(self._counts.items()))
                    await self._journal.counted(sandbox_id, invocations)
                    self._counts[sandbox_id] -= invocations
                    if not self._counts[sandbox_id]:
                        del self._counts[sandbox_id]
                if usages:
                    await self._journal.metered(usages)
                self._away = False
            except Unavailable:
                log.warning(
                    "the database is away: %d ends are still to be written", len(self._ends)
                )
