"""Changes that were refused since they allow more, and that somebody acknowledged for once."""

from freehold.kernel.errors import NotFound
from freehold.ports.database import Connection, Database

VALID_HOURS = 24
_KEPT_DAYS = 30


class Acknowledgements:
    """A change is known by its digest, and must have been refused before it can be acknowledged:
    what is acknowledged was shown to somebody. An acknowledgement is good for a day, and once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def refused(
        self, tenant: str, engine_id: str, digest: str, *, operation: str, shown: str, by: str
    ) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(
                "INSERT INTO policy_acknowledgements"
                " (tenant, engine_id, digest, operation, shown, refused_by)"
                " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (tenant, engine_id, digest)"
                " DO UPDATE SET refused_at = now(), shown = excluded.shown",
                (tenant, engine_id, digest, operation, shown.replace("\x00", ""), by),
            )
            await connection.execute(
                "DELETE FROM policy_acknowledgements WHERE refused_at < now() - %s::interval",
                (f"{_KEPT_DAYS} days",),
            )

    async def give(self, tenant: str, engine_id: str, digest: str, *, by: str) -> str:
        """What was refused, in words. NotFound where nothing of that digest was. Again after it was
        used, it is good once more."""
        async with self._database.transaction() as connection:
            rows = await connection.execute(
                "UPDATE policy_acknowledgements SET acknowledged_by = %s, acknowledged_at = now(),"
                " used_at = NULL WHERE tenant = %s AND engine_id = %s AND digest = %s"
                " RETURNING shown",
                (by, tenant, engine_id, digest),
            )
            row = await rows.fetchone()
        if row is None:
            raise NotFound(f"no change with the digest {digest!r} was refused of {engine_id}")
        shown: str = row[0]
        return shown

    async def given(self, tenant: str, engine_id: str, digest: str) -> bool:
        async with self._database.connection() as connection:
            rows = await connection.execute(
                f"SELECT 1 FROM policy_acknowledgements WHERE {_GOOD}",  # noqa: S608 - ours
                (tenant, engine_id, digest),
            )
            return await rows.fetchone() is not None

    async def use(
        self, connection: Connection, tenant: str, engine_id: str, digest: str
    ) -> str | None:
        """In the transaction of the change. Who acknowledged it; None where nobody did any more."""
        rows = await connection.execute(
            f"UPDATE policy_acknowledgements SET used_at = now() WHERE {_GOOD}"  # noqa: S608 - ours
            " RETURNING acknowledged_by",
            (tenant, engine_id, digest),
        )
        row = await rows.fetchone()
        return None if row is None else str(row[0])

    async def forget(self, connection: Connection, tenant: str, engine_id: str) -> None:
        await connection.execute(
            "DELETE FROM policy_acknowledgements WHERE tenant = %s AND engine_id = %s",
            (tenant, engine_id),
        )


_GOOD = (
    "tenant = %s AND engine_id = %s AND digest = %s AND used_at IS NULL"
    f" AND acknowledged_at > now() - interval '{VALID_HOURS} hours'"
)
