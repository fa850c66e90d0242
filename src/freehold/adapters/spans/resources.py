"""Resources (who sent it, in OTLP's words) written once and named by a hash from then on."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import date
from hashlib import blake2b
from typing import Any, Protocol
from uuid import UUID

import msgspec

from freehold.adapters.spans.copying import json_text
from freehold.kernel import clock
from freehold.ports.database import Connection, Database

_REMEMBERED_MAX = 5_000

# In order, so that two processes that bring the same ones do not wait for each other in a circle.
_SEEN = """
INSERT INTO span_resources (tenant, hash, attributes, seen_on)
SELECT tenant, hash, attributes, %s
FROM unnest(%s::text[], %s::uuid[], %s::text[]) AS seen (tenant, hash, attributes)
ORDER BY tenant, hash
ON CONFLICT (tenant, hash) DO UPDATE SET seen_on = excluded.seen_on
WHERE span_resources.seen_on < excluded.seen_on
"""
_READ = """
SELECT hash::text, attributes FROM span_resources WHERE tenant = %s AND hash = ANY(%s::uuid[])
"""
_DROP = "DELETE FROM span_resources WHERE seen_on < %s"

_decoder = msgspec.json.Decoder(dict[str, Any])


class Sent(Protocol):
    """What comes with a resource: a span, a log record, a point."""

    @property
    def tenant(self) -> str: ...
    @property
    def resource(self) -> dict[str, Any]: ...


class Resources:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._written: OrderedDict[tuple[str, UUID], date] = OrderedDict()
        self._read: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()

    async def keep(self, sent: Iterable[Sent]) -> dict[int, UUID | None]:
        """Their names, by the identity of the dict; None for one that is empty. Durable.

        Written each day anew that they are used, which tells the sweep that they are.
        """
        names: dict[int, UUID | None] = {}
        texts: dict[tuple[str, UUID], bytes] = {}
        of_dict: dict[int, tuple[UUID, bytes]] = {}
        for each in sent:
            attributes = each.resource
            if not attributes:
                names[id(attributes)] = None
                continue
            if id(attributes) not in of_dict:
                text = json_text(attributes)
                of_dict[id(attributes)] = UUID(bytes=blake2b(text, digest_size=16).digest()), text
            name, text = of_dict[id(attributes)]
            names[id(attributes)] = name
            texts[each.tenant, name] = text
        await self._write(texts)
        return names

    async def read(
        self, connection: Connection, tenant: str, hashes: Iterable[str]
    ) -> Mapping[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        missing = []
        for name in hashes:
            known = self._read.get((tenant, name))
            if known is None:
                missing.append(name)
            else:
                self._read.move_to_end((tenant, name))
                found[name] = known
        if missing:
            rows = await connection.execute(_READ, (tenant, missing))
            for name, text in await rows.fetchall():
                found[name] = self._read[tenant, name] = _decoder.decode(text)
            _bound(self._read)
        return found

    async def drop(self, *, before: date) -> None:
        async with self._database.connection() as connection:
            await connection.execute(_DROP, (before,))

    async def _write(self, texts: Mapping[tuple[str, UUID], bytes]) -> None:
        today = clock.now().date()
        new = [place for place in texts if self._written.get(place) != today]
        if not new:
            return
        async with self._database.connection() as connection:
            await connection.execute(
                _SEEN,
                (
                    today,
                    [tenant for tenant, _ in new],
                    [name for _, name in new],
                    [texts[place].decode() for place in new],
                ),
            )
        for place in new:
            self._written[place] = today
            self._written.move_to_end(place)
        _bound(self._written)


def _bound(remembered: OrderedDict[Any, Any]) -> None:
    while len(remembered) > _REMEMBERED_MAX:
        remembered.popitem(last=False)
