"""Reading the audit: lists, the chain as it grows, exports and verification. And retention."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import msgspec

from freehold.kernel import clock, ids
from freehold.kernel.errors import NotFound, ValidationFailed
from freehold.kernel.pages import Page, decode_token, encode_token
from freehold.ports.audit import AuditEvent, CallAudit
from freehold.ports.database import Database
from freehold.ports.secrets import Sealer
from freehold.services.audit import store
from freehold.services.audit.model import Entry, Filter, Head, Link, Verdict
from freehold.services.audit.verify import FAULTS_MAX, ChainCheck

_BATCH = 2000

_decode = msgspec.json.Decoder(AuditEvent).decode


class AuditTrail:
    """Every method is of one tenant's lines."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer
        self._followers: dict[str, set[asyncio.Event]] = {}
        database.listen(store.CHANNEL, self._heard)

    def _heard(self, tenant: str) -> None:
        """Of "" all: the connection was lost, anything may have come."""
        for name, events in self._followers.items():
            if tenant in ("", name):
                for event in events:
                    event.set()

    async def page(
        self, tenant: str, what: Filter, *, limit: int, token: str | None = None
    ) -> Page[Entry]:
        """Newest first."""
        before = None
        if (position := decode_token(token)) is not None:
            try:
                at, writer, number = position
                before = datetime.fromisoformat(str(at)), int(writer), int(number)
            except ValueError:
                raise ValidationFailed("nextToken is not one of this list's") from None
        async with self._database.connection() as connection:
            found = await store.page(connection, tenant, what, before=before, limit=limit + 1)
        more, found = len(found) > limit, found[:limit]
        if not more:
            return Page(found)
        last = found[-1]
        return Page(found, encode_token(last.at.isoformat(), last.writer, last.number))

    async def follow(self, tenant: str, what: Filter) -> AsyncIterator[Link]:
        """What is linked from now on."""
        grown = asyncio.Event()
        self._followers.setdefault(tenant, set()).add(grown)
        try:
            head = await self._head(tenant)
            after = head.sequence if head is not None else 0
            while True:
                await grown.wait()
                grown.clear()
                async for links in self._batches(tenant, after=after):
                    for link in links:
                        if link.text is not None and what.matches(_decode(link.text)):
                            yield link
                    after = links[-1].sequence
        finally:
            self._followers[tenant].discard(grown)

    async def export(self, tenant: str, what: Filter) -> AsyncIterator[tuple[Link, bytes]]:
        """The chain, oldest first: each link with the hash before it."""
        head = await self._head(tenant)
        if head is None:
            return
        previous = head.anchor_hash
        async for links in self._batches(tenant, after=head.anchor_sequence, to=head.sequence):
            for link in links:
                if link.text is not None and what.matches(_decode(link.text)):
                    yield link, previous
                previous = link.hash

    async def verify(
        self, tenant: str, *, after: int = 0, expected: tuple[int, bytes] | None = None
    ) -> AsyncIterator[int | Verdict]:
        """How many are checked so far, from time to time, and at the end the verdict.

        From `after` on, or whole. `expected` is a place of the chain as somebody noted it.
        """
        async with self._database.connection() as connection:
            head = await store.head(connection, tenant) or _empty(tenant)
            start, hash = await self._start(tenant, head, after)
            checkpoints = await store.checkpoints(connection, tenant, after=start)
            sealed = dict(checkpoints)
        # Those that were made since the head was read are for the next time.
        later = {s: sealed.pop(s) for s in list(sealed) if s > head.sequence}
        check = ChainCheck(tenant, start, hash, sealed, self._sealer)
        if later and not await self._has_grown(tenant, max(later)):
            check.fault("removed", head.sequence + 1, "checkpoints seal entries that are gone")
        async for links in self._batches(tenant, after=start, to=head.sequence):
            check.feed(links)
            if expected is not None and links[0].sequence <= expected[0] <= check.sequence:
                found = next((x for x in links if x.sequence == expected[0]), None)
                if found is None or found.hash != expected[1]:
                    check.fault("rewritten", expected[0], "its hash is not the one that was noted")
                expected = None
            yield check.checked
        check.finish(head.sequence, head.hash)
        if expected is not None:
            check.fault("removed", expected[0], "the place that was noted is not in the chain")
        async with self._database.connection() as connection:
            for writer, number, at in await store.strangers(connection, tenant, FAULTS_MAX):
                where = f"entry {writer}/{number} of {at.isoformat()}"
                check.fault("inserted", 0, f"{where} has no place in the chain")
            waiting = await store.waiting(connection, tenant)
        yield Verdict(
            holds=not check.faults,
            checked=check.checked,
            sequence=head.sequence,
            hash=head.hash.hex(),
            anchor=head.anchor_sequence,
            checkpoints=check.checkpoints,
            waiting=waiting,
            faults=check.faults,
        )

    async def _has_grown(self, tenant: str, sequence: int) -> bool:
        head = await self._head(tenant)
        return head is not None and head.sequence >= sequence

    async def _start(self, tenant: str, head: Head, after: int) -> tuple[int, bytes]:
        if after <= head.anchor_sequence:
            return head.anchor_sequence, head.anchor_hash
        async with self._database.connection() as connection:
            found = await store.links(connection, tenant, after=after - 1, limit=1)
        if not found or found[0].sequence != after:
            raise NotFound(f"the chain has no entry {after}; it ends at {head.sequence}")
        return after, found[0].hash

    async def _head(self, tenant: str) -> Head | None:
        async with self._database.connection() as connection:
            return await store.head(connection, tenant)

    def _batches(self, tenant: str, *, after: int, to: int = 2**62) -> AsyncIterator[list[Link]]:
        return store.batches(self._database, tenant, after=after, to=to, size=_BATCH)


def _empty(tenant: str) -> Head:
    genesis = store.genesis(tenant)
    return Head(0, genesis, 0, genesis)


class Retention:
    """What is older than `days` goes, and 0 keeps all; the chain is anchored to what went last."""

    def __init__(self, database: Database, audit: CallAudit, *, days: int) -> None:
        self._database = database
        self._audit = audit
        self._days = days

    async def expire(self) -> None:
        """Of every tenant. That it was done is itself a line of the tenant's audit."""
        if self._days == 0:
            return
        before = clock.now() - timedelta(days=self._days)
        async with self._database.connection() as connection:
            for tenant in await store.tenants(connection):
                anchor = None
                while (last := await store.expire(connection, tenant, before, _BATCH)) is not None:
                    anchor = last
                if anchor is not None:
                    await self._audit.write(_expired(tenant, anchor, before))


def _expired(tenant: str, anchor: int, before: datetime) -> AuditEvent:
    return AuditEvent(
        tenant=tenant,
        call_id=ids.request_id(),
        phase="outcome",
        at=clock.now(),
        operation="freehold:ExpireAudit",
        principal="freehold",
        kind="platform",
        outcome="allowed",
        detail={"anchor": str(anchor), "before": before.isoformat()},
    )
