"""SQL of `gateway_vectors`: what was embedded once is never embedded again."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from freehold.ports.database import Database

_KEPT_DAYS = 30
_PAGE = 2000

Floats = np.ndarray[Any, np.dtype[np.float32]]


class VectorStore:
    """Vectors are kept as float16: half the bytes, and no other order."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, tenant: str, model: str, hashes: Sequence[str]) -> dict[str, bytes]:
        """Those that are there. Marks them as used, at most once a day."""
        found: dict[str, bytes] = {}
        async with self._database.connection() as connection:
            for start in range(0, len(hashes), _PAGE):
                some = list(hashes[start : start + _PAGE])
                rows = await connection.execute(
                    "SELECT text_hash, vector, used_at < now() - interval '1 day'"
                    " FROM gateway_vectors"
                    " WHERE tenant = %s AND model = %s AND text_hash = ANY(%s)",
                    (tenant, model, some),
                    binary=True,
                )
                stale = []
                for text, vector, old in await rows.fetchall():
                    found[text] = bytes(vector)
                    if old:
                        stale.append(text)
                if stale:
                    await connection.execute(
                        "UPDATE gateway_vectors SET used_at = now()"
                        " WHERE tenant = %s AND model = %s AND text_hash = ANY(%s)",
                        (tenant, model, stale),
                    )
        return found

    async def write(self, tenant: str, model: str, hashes: Sequence[str], vectors: Floats) -> None:
        small = np.ascontiguousarray(vectors, dtype="<f2")
        async with self._database.connection() as connection:
            await connection.execute(
                "INSERT INTO gateway_vectors (tenant, model, text_hash, vector)"
                " SELECT %s, %s, * FROM unnest(%s::text[], %s::bytea[])"
                " ON CONFLICT (tenant, model, text_hash) DO UPDATE"
                " SET vector = excluded.vector, used_at = now()",
                (tenant, model, list(hashes), [row.tobytes() for row in small]),
            )

    async def drop_others(self, tenant: str, model: str, dimensions: int) -> None:
        """Those of another length."""
        async with self._database.connection() as connection:
            await connection.execute(
                "DELETE FROM gateway_vectors"
                " WHERE tenant = %s AND model = %s AND octet_length(vector) <> %s",
                (tenant, model, 2 * dimensions),
            )

    async def sweep(self) -> int:
        """Deletes what nobody used for a month; how many."""
        async with self._database.connection() as connection:
            done = await connection.execute(
                "DELETE FROM gateway_vectors WHERE used_at < now() - make_interval(days => %s)",
                (_KEPT_DAYS,),
            )
            return done.rowcount


def unpacked(stored: Sequence[bytes]) -> Floats:
    """Rows in float32. All must be of one length: `drop_others` sees to it."""
    flat = np.frombuffer(b"".join(stored), "<f2").astype(np.float32)
    return flat.reshape(len(stored), -1)
