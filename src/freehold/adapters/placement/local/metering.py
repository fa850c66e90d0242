"""Reads the meters of live sessions, and has what they say written down."""

import asyncio
from collections.abc import Callable

from freehold.adapters.placement.local.ledger import Ledger
from freehold.adapters.placement.local.session import LiveSession

_SAMPLES_AT_ONCE = 20


class Metering:
    """`news`: something is worth writing before `seconds` are over."""

    def __init__(
        self, ledger: Ledger, sessions: Callable[[], list[LiveSession]], *, seconds: float
    ) -> None:
        self._ledger, self._sessions, self._seconds = ledger, sessions, seconds
        self.news = False

    async def run(self) -> None:
        """Every session about once a second, a few at a time: reading the meters of all takes
        longer than any request should wait."""
        loop = asyncio.get_running_loop()
        written = loop.time()
        while True:
            began = loop.time()
            sessions = self._sessions()
            rounds = -(-len(sessions) // _SAMPLES_AT_ONCE) or 1
            for number in range(rounds):
                for session in sessions[number::rounds]:
                    if not session.ending:
                        session.sample()
                await asyncio.sleep(max(0.0, began + (number + 1) / rounds - loop.time()))
            if self.news or loop.time() - written >= self._seconds:
                written, self.news = loop.time(), False
                await self._ledger.write(
                    [s.usage() for s in self._sessions() if s.recorded and not s.ending]
                )
