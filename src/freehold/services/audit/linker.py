"""The chainer: gives entries their places in the chains of their tenants, behind the writers.

Each process links what it wrote, woken by its writer and a little later, so that many entries are
one transaction. Postgres computes the hashes: no entry travels for it.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

import msgspec

from freehold.kernel import clock
from freehold.kernel.errors import Unavailable
from freehold.ports.audit import AuditEvent
from freehold.ports.database import Connection, Database
from freehold.ports.secrets import Sealer
from freehold.services.audit import store
from freehold.services.audit.model import canonical
from freehold.services.audit.writer import AuditWriter

log = logging.getLogger("freehold.audit")

_ENTRIES_MAX = 2000
_GATHERING_SECONDS = 0.2
_RETRY_SECONDS, _RETRY_SECONDS_MAX = 1.0, 60.0
_CHECKPOINT_ENTRIES = 1000
_CHECKPOINT_SECONDS = 600.0


class Linker:
    """One beside each writer. `start` closes the accounts of writers that died."""

    def __init__(self, database: Database, writer: AuditWriter, sealer: Sealer) -> None:
        self._database = database
        self._writer = writer
        self._sealer = sealer
        self._wake = asyncio.Event()
        self._checkpoints: dict[str, tuple[int, float]] = {}
        self._open_from = 1
        self._task: asyncio.Task[None] | None = None
        writer.written = self._wake.set

    async def start(self) -> None:
        try:
            await self._adopt()
        except Unavailable:
            raise
        except Exception:
            # A boundary: rows that somebody tampered with must not keep the platform from serving.
            # Every line is durable without its link, and a verification tells.
            log.exception("what dead writers left cannot be linked: run `freehold audit verify`")
        self._task = asyncio.create_task(self._run(), name="audit linker")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
            try:
                await self._link_all(self._writer.id)
            except Exception:
                # The same boundary, at the end: whoever starts next links what is left.
                log.exception("the audit's last entries are not linked yet")

    async def _run(self) -> None:
        pause = _RETRY_SECONDS
        while True:
            await self._wake.wait()
            await asyncio.sleep(_GATHERING_SECONDS)
            self._wake.clear()
            try:
                await self._link_all(self._writer.id)
                pause = _RETRY_SECONDS
            except Unavailable:
                log.warning("the audit's chain waits for Postgres")
                self._wake.set()
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception:
                # The same boundary, while serving.
                log.exception("entries cannot be linked: run `freehold audit verify`")
                self._wake.set()
                await asyncio.sleep(pause)
                pause = min(2 * pause, _RETRY_SECONDS_MAX)

    async def _link_all(self, writer: int) -> None:
        open_from = self._writer.open_from
        async with self._database.connection() as connection:
            while await self._link(connection, writer):
                pass
            if open_from != self._open_from:
                await store.set_open_from(connection, writer, open_from)
                self._open_from = open_from

    async def _link(self, connection: Connection, writer: int) -> bool:
        heads = await store.link(connection, writer, _ENTRIES_MAX)
        for tenant, sequence, hash in heads:
            last, at = self._checkpoints.get(tenant, (-_CHECKPOINT_ENTRIES, 0.0))
            now = time.monotonic()
            if sequence - last >= _CHECKPOINT_ENTRIES or now - at >= _CHECKPOINT_SECONDS:
                sealed = self._sealer.seal(hash, context=checkpoint_context(tenant, sequence))
                await store.checkpoint(connection, tenant, sequence, sealed)
                self._checkpoints[tenant] = sequence, now
        return bool(heads)

    async def _adopt(self) -> None:
        """What dead writers left: calls without an outcome get "unknown", entries their links."""
        async with self._database.transaction() as connection:
            for writer, open_from in await store.dead_writers(connection):
                orphans = await self._orphans(connection, writer, open_from)
                if orphans:
                    lines = b"[" + b",".join(canonical(_unknown(e)) for e in orphans) + b"]"
                    last = await store.last_number(connection, writer)
                    await store.insert(connection, writer, last + 1, lines)
                    log.warning("%d calls have no known outcome: see the audit", len(orphans))
                while await self._link(connection, writer):
                    pass
                await store.end_writer(connection, writer)

    async def _orphans(
        self, connection: Connection, writer: int, open_from: int
    ) -> list[AuditEvent]:
        """Intents without an outcome, oldest first."""
        decode: Callable[[str], AuditEvent] = msgspec.json.Decoder(AuditEvent).decode
        found: dict[str, AuditEvent] = {}
        after = open_from - 1
        while entries := await store.entries_of(
            connection, writer, after=after, limit=_ENTRIES_MAX
        ):
            for number, text in entries:
                event = decode(text)
                if event.phase == "intent":
                    found[event.call_id] = event
                elif event.phase == "outcome":
                    found.pop(event.call_id, None)
                after = number
        return list(found.values())


def checkpoint_context(tenant: str, sequence: int) -> str:
    return f"{tenant}|audit|{sequence}"


def _unknown(intent: AuditEvent) -> AuditEvent:
    return msgspec.structs.replace(
        intent,
        phase="outcome",
        outcome="unknown",
        at=clock.now(),
        detail={**intent.detail, "reason": "the process ended before the call did"},
    )
