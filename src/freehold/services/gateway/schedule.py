"""SQL of when targets are to be asked again. All times are the database's own."""

import msgspec

from freehold.ports.database import Connection, Database
from freehold.ports.resources import Resource
from freehold.services.gateway.store import CHANNEL

PENDING_SECONDS = 600
"""For which a person's consent is waited for."""
_LEASE_SECONDS = 300
_SOON_SECONDS = 10


class Due(msgspec.Struct, frozen=True):
    """A target to be asked now. `expired`: the consent that it waited for did not come."""

    tenant: str
    gateway_id: str
    target_id: str
    expired: bool


class RefreshSchedule:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, limit: int) -> tuple[list[Due], float | None]:
        """What is due, ours from now on, and the seconds until more may be. A worker that dies with
        a claim loses it to another one some minutes later."""
        async with self._database.connection() as connection:
            rows = await connection.execute(
                "UPDATE gateway_targets SET refresh_at = now() + make_interval(secs => %s)"
                " WHERE (tenant, gateway_id, target_id) IN (SELECT tenant, gateway_id, target_id"
                "  FROM gateway_targets WHERE refresh_at <= now()"
                "  ORDER BY refresh_at FOR UPDATE SKIP LOCKED LIMIT %s)"
                " RETURNING tenant, gateway_id, target_id, coalesce("
                "  pending_at + make_interval(secs => %s) <= now(), false)",
                (_LEASE_SECONDS, limit, PENDING_SECONDS),
            )
            due = [Due(*row) for row in await rows.fetchall()]
            rows = await connection.execute(
                "SELECT extract(epoch FROM min(refresh_at) - now())::float8 FROM gateway_targets"
            )
            row = await rows.fetchone()
        return due, None if row is None else row[0]

    async def all(self) -> dict[tuple[str, str, str], int]:
        """How often, of what is asked on schedule: by tenant, gateway and target."""
        async with self._database.connection() as connection:
            rows = await connection.execute(
                "SELECT tenant, gateway_id, target_id, refresh_seconds FROM gateway_targets"
                " WHERE refresh_seconds IS NOT NULL"
            )
            return {(row[0], row[1], row[2]): row[3] async for row in rows}

    async def every(self, target: Resource, seconds: int) -> None:
        """0: never. Changes nothing where it is so already."""
        async with self._database.connection() as connection:
            changed = await connection.execute(
                "UPDATE gateway_targets SET refresh_seconds = nullif(%(seconds)s, 0),"
                " refresh_at = CASE WHEN pending_at IS NOT NULL THEN refresh_at"
                "  WHEN %(seconds)s > 0 THEN coalesce(synchronized_at, now())"
                "   + make_interval(secs => %(seconds)s) END"
                " WHERE tenant = %(tenant)s AND gateway_id = %(gateway)s AND target_id = %(id)s"
                " AND refresh_seconds IS DISTINCT FROM nullif(%(seconds)s, 0)",
                {
                    "seconds": seconds, "tenant": target.tenant, "gateway": target.parent,
                    "id": target.id,
                },
            )  # fmt: skip
            if changed.rowcount:
                await self._wake(connection, target.tenant, target.parent)

    async def soon(self, tenant: str, gateway_id: str, target_id: str) -> None:
        """Its server says that something changed: not more often than each few seconds."""
        async with self._database.connection() as connection:
            changed = await connection.execute(
                "UPDATE gateway_targets SET refresh_at = greatest(now(),"
                "  coalesce(synchronized_at, now()) + make_interval(secs => %s))"
                " WHERE tenant = %s AND gateway_id = %s AND target_id = %s AND pending_at IS NULL"
                " AND (refresh_at IS NULL OR refresh_at > now() + make_interval(secs => %s))",
                (_SOON_SECONDS, tenant, gateway_id, target_id, _SOON_SECONDS),
            )
            if changed.rowcount:
                await self._wake(connection, tenant, gateway_id)

    async def pend(self, connection: Connection, target: Resource) -> None:
        """Until a person agreed, or time is up."""
        await connection.execute(
            "UPDATE gateway_targets SET pending_at = coalesce(pending_at, now()),"
            " refresh_at = coalesce(pending_at, now()) + make_interval(secs => %s)"
            " WHERE tenant = %s AND gateway_id = %s AND target_id = %s",
            (PENDING_SECONDS, target.tenant, target.parent, target.id),
        )

    async def consented(self) -> bool:
        """Somebody agreed somewhere: who waits for it is asked again. Whether anybody does."""
        async with self._database.connection() as connection:
            changed = await connection.execute(
                "UPDATE gateway_targets SET refresh_at = now()"
                " WHERE pending_at IS NOT NULL AND refresh_at > now()"
            )
            return changed.rowcount > 0

    async def over(self, connection: Connection, target: Resource, failure: str) -> None:
        """The last try came to nothing, and why where the target goes on all the same."""
        await connection.execute(
            "UPDATE gateway_targets SET pending_at = NULL, refresh_failure = %s, refresh_at = CASE"
            " WHEN refresh_seconds > 0 THEN now() + make_interval(secs => refresh_seconds) END"
            " WHERE tenant = %s AND gateway_id = %s AND target_id = %s",
            (
                failure[:2000].replace("\x00", "") or None,
                target.tenant,
                target.parent,
                target.id,
            ),
        )

    async def _wake(self, connection: Connection, tenant: str, gateway_id: str) -> None:
        await self._database.notify(connection, CHANNEL, f"{tenant}/{gateway_id}")
