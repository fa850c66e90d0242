"""What self-managed strategies were given is noted before it is put into a bucket, so that whoever
erases a person finds it, whatever crashes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from freehold.ports.database import Connection, Database
from freehold.services.memory.extraction_places import values
from freehold.services.memory.extraction_store import Claim


class PayloadNotes:
    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def putting(self, claim: Claim, bucket: str, key: str) -> AsyncIterator[bool]:
        """Whether it may be put there: not by a run that has lost its turn, as one has whose person
        was erased. Who takes the turn away waits until it is there."""
        place = claim.place
        note = (place.tenant, bucket, key)
        async with self._database.transaction() as connection:
            noted = await connection.execute(
                "INSERT INTO memory_payloads (tenant, bucket, key, memory_id, actor_id)"
                " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                (*note, place.memory_id, place.actor_id),
            )
        async with self._database.transaction() as connection:
            # What is said meanwhile goes on: it changes no key of the row.
            rows = await connection.execute(
                "SELECT FROM memory_extraction_sessions WHERE tenant = %s AND memory_id = %s"
                " AND strategy_id = %s AND actor_id = %s AND session_id = %s AND job_id = %s"
                " FOR KEY SHARE",
                (*values(place), claim.job_id),
            )
            ours = await rows.fetchone() is not None
            if not ours and noted.rowcount:
                await connection.execute(
                    "DELETE FROM memory_payloads WHERE tenant = %s AND bucket = %s AND key = %s",
                    note,
                )
            yield ours


async def clear(connection: Connection, tenant: str, memory_id: str) -> bool:
    """Of a memory that is deleted: what is in the bucket is its owner's. Nothing is left to do."""
    await connection.execute(
        "DELETE FROM memory_payloads WHERE tenant = %s AND memory_id = %s", (tenant, memory_id)
    )
    return False
