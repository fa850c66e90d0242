"""StartQuery and what belongs to it: run at once, and kept until fetched."""

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from freehold.kernel.errors import ValidationFailed
from freehold.kernel.pages import decode_token, encode_token
from freehold.kernel.threads import in_thread
from freehold.services.observability.cloudwatch.failures import (
    InvalidParameter,
    LimitExceeded,
    NoSuchLog,
)
from freehold.services.observability.cloudwatch.groups import Group, Stretch
from freehold.services.observability.cloudwatch.query import ROWS_MAX, Line, Query
from freehold.services.observability.cloudwatch.rows import Entry
from freehold.services.observability.cloudwatch.store import Answers, Statistics

_SECONDS_MAX = 30.0
_UNDER_WAY_MAX = 4
_ANSWER_BYTES_MAX = 32 << 20
_HELD_BYTES_MAX = 128 << 20
_SESSION = "attributes.session.id"
_PAGES = "log-query"


class Queries:
    """`entries_max` bounds what one query reads; a worker runs few of a tenant's at once."""

    def __init__(self, answers: Answers, *, entries_max: int = 50_000) -> None:
        self._answers = answers
        self._entries_max = entries_max
        self._under_way: dict[str, int] = {}

    async def start(
        self, tenant: str, groups: Sequence[Group], query: Query, *,
        since_ns: int, until_ns: int, limit: int = ROWS_MAX,
    ) -> str:  # fmt: skip
        """Its id, once the answer is durable. LimitExceeded for what would read too much."""
        stretch = _stretch(query, since_ns, until_ns)
        with self._counted(tenant):
            try:
                async with asyncio.timeout(_SECONDS_MAX):
                    statistics, lines = await self._run(tenant, groups, query, stretch, limit)
            except TimeoutError:
                raise LimitExceeded(
                    "The query took too long: narrow its time range, or filter by "
                    "attributes.session.id or traceId."
                ) from None
        id = str(uuid.uuid4())
        await self._answers.keep(tenant, id, statistics, lines)
        return id

    async def results(
        self, tenant: str, id: str, *, token: str | None = None, most: int | None = None
    ) -> tuple[Statistics, list[Line], str | None]:
        """Raises NoSuchLog."""
        found = await self._answers.read(tenant, id)
        if found is None:
            raise NoSuchLog("There is no query of this id.")
        statistics, lines = found
        begin = _position(token, id)
        end = len(lines) if most is None else begin + most
        more = encode_token(_PAGES, id, end) if end < len(lines) else None
        return statistics, lines[begin:end], more

    @contextmanager
    def _counted(self, tenant: str) -> Iterator[None]:
        running = self._under_way.get(tenant, 0)
        if running >= _UNDER_WAY_MAX:
            raise LimitExceeded("Too many queries of this account run at once.")
        self._under_way[tenant] = running + 1
        try:
            yield
        finally:
            self._under_way[tenant] -= 1
            if not self._under_way[tenant]:
                del self._under_way[tenant]

    async def _run(
        self, tenant: str, groups: Sequence[Group], query: Query, stretch: Stretch, limit: int
    ) -> tuple[Statistics, list[Line]]:
        passed: list[Entry] = []
        scanned = scanned_bytes = held_bytes = 0
        for group in groups:
            async for entries in group.read(tenant, stretch):
                scanned += len(entries)
                if scanned > self._entries_max:
                    raise LimitExceeded(
                        f"The query reads more than {self._entries_max} entries: narrow its time "
                        "range, or filter by attributes.session.id or traceId."
                    )
                found, read_bytes = await in_thread(_passing, query, entries, stretch)
                passed += found
                scanned_bytes += read_bytes
                held_bytes += sum(len(entry.message) for entry in found)
                if held_bytes > _HELD_BYTES_MAX:
                    raise LimitExceeded("The query matches too much: narrow it.")
        lines = await in_thread(query.answer, passed, limit=limit)
        shown = sum(len(name) + len(value) for line in lines for name, value in line)
        if shown > _ANSWER_BYTES_MAX:
            raise LimitExceeded("The query's answer is too large: narrow it, or add a limit.")
        return Statistics(len(passed), scanned, scanned_bytes, len(groups)), lines


def _passing(query: Query, entries: Sequence[Entry], stretch: Stretch) -> tuple[list[Entry], int]:
    """In a thread: entries may be many, and large."""
    inside = [e for e in entries if stretch.since_ns <= e.at_ns < stretch.until_ns]
    return [e for e in inside if query.passes(e)], sum(len(e.message) for e in inside)


def _stretch(query: Query, since_ns: int, until_ns: int) -> Stretch:
    return Stretch(
        since_ns=since_ns, until_ns=until_ns, session_id=query.must.get(_SESSION, ""),
        trace_id=query.must.get("traceId", ""), mention=max(query.mentions, key=len, default=""),
    )  # fmt: skip


def _position(token: str | None, id: str) -> int:
    try:
        position = decode_token(token)
    except ValidationFailed:
        position = []
    match position:
        case None:
            return 0
        case [name, of, int(at)] if name == _PAGES and of == id and at >= 0:
            return at
    raise InvalidParameter("The specified nextToken is invalid.")
