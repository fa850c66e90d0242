"""The SQL of the jobs table. All times are the database's own."""

from collections.abc import Mapping
from typing import Any

import msgspec
from psycopg import sql

from freehold.ports.database import Connection, Database
from freehold.ports.jobs import Job, JobState

CHANNEL = "freehold_jobs"
PAYLOAD_BYTES_MAX = 256 << 10
ERROR_CHARACTERS_MAX = 4_000
PRUNED_AT_ONCE_MAX = 20


class Claim(msgspec.Struct, frozen=True):
    """One run that this process holds the lease of. `attempt` fences everything it writes."""

    id: str
    kind: str
    payload: dict[str, Any]
    attempt: int
    failures: int


class JobsTable:
    def __init__(self, database: Database, *, executor: str, lease_seconds: float) -> None:
        self._database = database
        self._executor = executor
        self._lease_seconds = lease_seconds

    async def insert(self, kind: str, payload: dict[str, Any], id: str) -> None:
        document = msgspec.json.encode(payload).decode()
        assert len(document) <= PAYLOAD_BYTES_MAX, "a job's payload names its work, it carries none"
        async with self._database.transaction() as connection:
            inserted = await connection.execute(
                "INSERT INTO jobs (id, kind, payload) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                (id, kind, document),
            )
            if inserted.rowcount:
                await self._database.notify(connection, CHANNEL, kind)

    async def get(self, id: str) -> Job | None:
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                "SELECT kind, state, attempts, error, created_at FROM jobs WHERE id = %s", (id,)
            )
            row = await cursor.fetchone()
        if row is None:
            return None
        kind, state, attempts, error, created_at = row
        return Job(
            id=id,
            kind=kind,
            state=JobState(state),
            attempts=attempts,
            error=error,
            created_at=created_at,
        )

    async def matching(
        self, connection: Connection, kind: str, part: Mapping[str, Any]
    ) -> list[str]:
        """The ids of jobs whose payload has `part` in it, whatever became of them."""
        rows = await connection.execute(
            "SELECT id FROM jobs WHERE kind = %s AND payload::jsonb @> %s::jsonb",
            (kind, msgspec.json.encode(part).decode()),
        )
        return [id for (id,) in await rows.fetchall()]

    async def forget(self, connection: Connection, kind: str, part: Mapping[str, Any]) -> list[str]:
        """They are gone, by their ids; one that runs loses its lease."""
        gone = await self.matching(connection, kind, part)
        await connection.execute("DELETE FROM jobs WHERE id = ANY(%s)", (gone,))
        return gone

    async def reclaim(self, kinds: list[str]) -> None:
        """What an earlier process under our name was running is free again, at once."""
        async with self._database.connection() as connection:
            await connection.execute(
                "UPDATE jobs SET due_at = now()"
                " WHERE state = 'running' AND executor = %s AND kind = ANY(%s)",
                (self._executor, kinds),
            )

    async def claim(
        self, kind: str, limit: int, *, held: list[str]
    ) -> tuple[list[Claim], float | None]:
        """Up to `limit` runs, ours from now on, and the seconds until another may be due.

        Never one of `held`, which run here already, however late their leases are renewed.
        """
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                "UPDATE jobs SET state = 'running', executor = %s, attempts = attempts + 1,"
                " due_at = now() + make_interval(secs => %s)"
                " WHERE id IN (SELECT id FROM jobs"
                "  WHERE kind = %s AND state IN ('queued', 'running') AND due_at <= now()"
                "  AND id <> ALL(%s)"
                "  ORDER BY due_at FOR UPDATE SKIP LOCKED LIMIT %s)"
                " RETURNING id, payload, attempts, failures",
                (self._executor, self._lease_seconds, kind, held, limit),
            )
            claims = [
                Claim(id, kind, payload, attempt, failures)
                for id, payload, attempt, failures in await cursor.fetchall()
            ]
            if len(claims) == limit:
                return claims, None
            cursor = await connection.execute(
                "SELECT extract(epoch FROM min(due_at) - now())::float8 FROM jobs"
                " WHERE kind = %s AND state IN ('queued', 'running') AND id <> ALL(%s)",
                (kind, [*held, *(claim.id for claim in claims)]),
            )
            row = await cursor.fetchone()
        return claims, None if row is None else row[0]

    async def extend(self, claims: list[Claim]) -> set[str]:
        """Renew the leases. The ids that are still ours; the others have been taken over."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                "UPDATE jobs SET due_at = now() + make_interval(secs => %s)"
                " FROM unnest(%s::text[], %s::integer[]) AS held (id, attempt)"
                " WHERE jobs.id = held.id AND jobs.attempts = held.attempt"
                " AND state = 'running' AND executor = %s RETURNING jobs.id",
                (
                    self._lease_seconds,
                    [claim.id for claim in claims],
                    [claim.attempt for claim in claims],
                    self._executor,
                ),
            )
            return {row[0] for row in await cursor.fetchall()}

    async def finish(self, claim: Claim, error: str | None, *, retention_seconds: float) -> None:
        """The outcome, for good; and a few outcomes that are too old go."""
        async with self._database.connection() as connection:
            await self._settle(
                connection,
                claim,
                "state = %s, error = %s, failures = failures + %s, finished_at = now()",
                (
                    JobState.DONE if error is None else JobState.FAILED,
                    error,
                    0 if error is None else 1,
                ),
            )
            await connection.execute(
                "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs"
                " WHERE finished_at < now() - make_interval(secs => %s)"
                " ORDER BY finished_at FOR UPDATE SKIP LOCKED LIMIT %s)",
                (retention_seconds, PRUNED_AT_ONCE_MAX),
            )

    async def retry(self, claim: Claim, error: str, *, seconds: float) -> None:
        """Back in the queue after a failed run, due in `seconds`."""
        async with self._database.connection() as connection:
            await self._settle(
                connection,
                claim,
                "state = 'queued', error = %s, failures = failures + 1,"
                " due_at = now() + make_interval(secs => %s)",
                (error, seconds),
            )

    async def release(self, claims: list[Claim]) -> None:
        """Give up runs that were cut short here; another worker may take them at once."""
        async with self._database.transaction() as connection:
            for claim in claims:
                await self._settle(connection, claim, "state = 'queued', due_at = now()", ())
            for kind in {claim.kind for claim in claims}:
                await self._database.notify(connection, CHANNEL, kind)

    async def _settle(
        self, connection: Connection, claim: Claim, change: str, values: tuple[Any, ...]
    ) -> None:
        """Nothing, when the run is no longer ours."""
        statement = "UPDATE jobs SET {} WHERE id = %s AND attempts = %s AND state = 'running'"
        await connection.execute(
            sql.SQL(statement + " AND executor = %s").format(sql.SQL(change)),
            (*values, claim.id, claim.attempt, self._executor),
        )
