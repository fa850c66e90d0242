"""That a memory is still there, asked within the transaction that writes into it.

A worker knows memories by heart, and hears when one changes. One that hears nothing for a while,
as its connection broke, would write into a memory that is deleted, where nobody finds it and
nothing takes it away. Who deletes one holds its lock alone at each step (`service.py`), and clears
it once more after the last: so what is written here is either seen by that, or refused.
"""

from collections.abc import Sequence

from freehold.kernel.errors import NotFound
from freehold.ports.database import Connection
from freehold.services.memory.model import MEMORY, Event, Memory

LOCK = "hashtextextended('freehold memory ' || %(tenant)s || '/' || %(id)s, 0)"
"""Of one memory, for pg_advisory_xact_lock: its own changes hold it alone, writes into it share
it."""
_CHECK = f"""
SELECT pg_advisory_xact_lock_shared({LOCK}) FROM resources
WHERE tenant = %(tenant)s AND kind = %(kind)s AND parent = '' AND id = %(id)s
    AND status <> 'DELETING'
"""  # noqa: S608 - a constant


class Presence:
    """Also a part of `ports.Learning`, to be asked before those that learn."""

    async def check(self, connection: Connection, memory: Memory) -> None:
        """NotFound, as for one that never was. Until the transaction ends it does not go."""
        rows = await connection.execute(
            _CHECK, {"tenant": memory.tenant, "kind": MEMORY.name, "id": memory.id}
        )
        if await rows.fetchone() is None:
            raise NotFound(f"memory {memory.id!r} does not exist")

    async def said(self, connection: Connection, memory: Memory, event: Event) -> None:
        await self.check(connection, memory)

    async def unsaid(self, connection: Connection, memory: Memory, events: Sequence[Event]) -> None:
        """What is taken away needs no place to be in."""
