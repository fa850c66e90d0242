"""Who follows the logs of a whole runtime: told of each session whose log begins."""

import contextlib
from collections.abc import Callable, Iterable, Iterator

from freehold.adapters.placement.local.session import LiveSession

LogOpened = Callable[[LiveSession], object]


class LogReaders:
    def __init__(self) -> None:
        self._readers: dict[object, tuple[tuple[str, str], LogOpened]] = {}

    def begun(self, session: LiveSession) -> None:
        for of, opened in list(self._readers.values()):
            if of == _runtime_of(session):
                opened(session)

    @contextlib.contextmanager
    def reading(
        self, of: tuple[str, str], opened: LogOpened, sessions: Iterable[LiveSession]
    ) -> Iterator[None]:
        """Inside, `opened` is told of those of `sessions` that have a log, and of later ones."""
        for session in sessions:
            if of == _runtime_of(session) and session.log.opened:
                opened(session)
        reader = object()
        self._readers[reader] = of, opened
        try:
            yield
        finally:
            del self._readers[reader]


def _runtime_of(session: LiveSession) -> tuple[str, str]:
    return session.key.tenant, session.key.runtime_id
