"""SQL of what waits for extraction, and of what was given up. All times are the database's own.

Locks are taken in one order: slots, sessions' rows, their messages, records. Whoever takes messages
out of the queue holds the session's row.
"""

# ruff: noqa: S608 - constants alone; values are parameters

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec
from psycopg.types.json import Jsonb

from freehold.ports.database import Connection, Database
from freehold.services.memory import extraction_failures as failures
from freehold.services.memory.extraction_places import Place, Thread, values

CHANNEL = "freehold_memory_extraction"
CLAIM_SECONDS = 30.0
"""For whoever has claimed a turn to make a job of it."""
LEASE_SECONDS = 600.0
"""For the job, which lasts longer than any crash: it is taken up by others."""
CLEARED_MAX = 5_000
SLOTS = 1024
_ROWS_MAX = 200


class Triggers(msgspec.Struct, frozen=True, kw_only=True):
    """A session's messages are looked at as soon as one of these holds; None: never for that."""

    messages: int | None = None
    tokens: int | None = None
    idle_seconds: float | None = None


class Queued(msgspec.Struct, frozen=True):
    """Messages of one event, by their places in its payload."""

    event_id: str
    messages: list[int]
    tokens: int


class Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """`until`: as long as it is held for a job to be made of it."""

    place: Place
    job_id: str
    until: datetime | None = None


_PLACE = "tenant = %s AND memory_id = %s AND strategy_id = %s AND actor_id = %s AND session_id = %s"
_DUE = "due_at IS NOT NULL AND state = 'waiting'"


class ExtractionStore:
    def __init__(self, database: Database) -> None:
        self.database = database

    # -- into the queue

    async def add(
        self,
        connection: Connection,
        place: Place,
        queued: Sequence[Queued],
        *,
        triggers: Triggers,
        state: str = "waiting",
        now: bool = False,
    ) -> None:
        """`now`: without waiting for a trigger."""
        messages = sum(len(each.messages) for each in queued)
        tokens = sum(each.tokens for each in queued)
        at_once = now or _reached(triggers, messages, tokens)
        rows = await connection.execute(
            "INSERT INTO memory_extraction_sessions AS s (tenant, memory_id, strategy_id, actor_id,"
            "  session_id, state, messages, tokens, due_at) VALUES (%(tenant)s, %(memory)s,"
            "  %(strategy)s, %(actor)s, %(session)s, %(state)s, %(messages)s, %(tokens)s,"
            "  CASE WHEN %(at_once)s THEN now()"
            "  ELSE now() + make_interval(secs => %(idle)s) END)"
            " ON CONFLICT (tenant, memory_id, strategy_id, actor_id, session_id) DO UPDATE SET"
            "  state = excluded.state, messages = s.messages + excluded.messages,"
            "  tokens = s.tokens + excluded.tokens, due_at = CASE"
            "   WHEN s.due_at <= now() THEN s.due_at"
            "   WHEN %(at_once)s OR s.messages + excluded.messages >= %(messages_max)s"
            "    OR s.tokens + excluded.tokens >= %(tokens_max)s THEN now()"
            "   ELSE now() + make_interval(secs => %(idle)s) END"
            " RETURNING s.messages = %(messages)s OR s.due_at <= now()",
            {
                "tenant": place.tenant, "memory": place.memory_id, "strategy": place.strategy_id,
                "actor": place.actor_id, "session": place.session_id, "state": state,
                "messages": messages, "tokens": tokens, "at_once": at_once,
                "idle": triggers.idle_seconds, "messages_max": triggers.messages,
                "tokens_max": triggers.tokens,
            },
        )  # fmt: skip
        row = await rows.fetchone()
        await connection.execute(
            "INSERT INTO memory_extractions AS e (tenant, memory_id, strategy_id, actor_id,"
            "  session_id, event_id, messages, tokens)"
            " SELECT %s, %s, %s, %s, %s, q.event_id,"
            "  array(SELECT jsonb_array_elements_text(q.messages)::integer), q.tokens"
            " FROM jsonb_to_recordset(%s) AS q (event_id text, messages jsonb, tokens integer)"
            " ON CONFLICT (tenant, memory_id, strategy_id, actor_id, session_id, event_id)"
            " DO UPDATE SET tokens = greatest(e.tokens, excluded.tokens), messages ="
            "  array(SELECT DISTINCT unnest(e.messages || excluded.messages) ORDER BY 1)",
            (*values(place), Jsonb(msgspec.to_builtins(list(queued)))),
        )
        # Of what is due later than anybody waits for, nobody needs to hear.
        if row is not None and row[0] and state == "waiting":
            await self.wake(connection)

    async def wake(self, connection: Connection) -> None:
        await self.database.notify(connection, CHANNEL, "")

    # -- whose turn it is

    async def claim(self, limit: int) -> tuple[list[Claim], float | None]:
        """Those whose turn it is, held for a moment (see `keep`); and the seconds until others' may
        be."""
        async with self.database.connection() as connection:
            rows = await connection.execute(
                "UPDATE memory_extraction_sessions SET"
                "  job_id = CASE job_id WHEN '' THEN gen_random_uuid()::text ELSE job_id END,"
                "  held_until = now() + make_interval(secs => %(lease)s),"
                "  due_at = now() + make_interval(secs => %(lease)s)"
                " WHERE (tenant, memory_id, strategy_id, actor_id, session_id) IN"
                "  (SELECT tenant, memory_id, strategy_id, actor_id, session_id"
                "   FROM memory_extraction_sessions"
                f"  WHERE {_DUE} AND greatest(due_at, held_until) <= now()"
                "   ORDER BY greatest(due_at, held_until) FOR UPDATE SKIP LOCKED LIMIT %(limit)s)"
                " RETURNING tenant, memory_id, strategy_id, actor_id, session_id, job_id,"
                "  held_until",
                {"lease": CLAIM_SECONDS, "limit": limit},
            )
            claims = [Claim(Place(*row[:5]), *row[5:]) for row in await rows.fetchall()]
            if len(claims) == limit:
                return claims, 0.0
            rows = await connection.execute(
                "SELECT extract(epoch FROM min(greatest(due_at, held_until)) - now())::float8"
                f" FROM memory_extraction_sessions WHERE {_DUE}"
            )
            row = await rows.fetchone()
        return claims, None if row is None else row[0]

    async def keep(self, claims: Sequence[Claim]) -> None:
        """There are jobs of them now, some of which may have ended."""
        columns = ("tenant", "memory_id", "strategy_id", "actor_id", "session_id")
        async with self.database.connection() as connection:
            await connection.execute(
                "UPDATE memory_extraction_sessions s"
                " SET held_until = now() + make_interval(secs => %s)"
                f" FROM unnest({', '.join(['%s::text[]'] * 6)}, %s::timestamptz[])"
                f"  AS c ({', '.join(columns)}, job_id, until)"
                f" WHERE {' AND '.join(f's.{name} = c.{name}' for name in columns)}"
                "  AND s.job_id = c.job_id AND s.held_until = c.until",
                (
                    LEASE_SECONDS,
                    *(list(part) for part in zip(*(values(c.place) for c in claims), strict=True)),
                    [claim.job_id for claim in claims], [claim.until for claim in claims],
                ),
            )  # fmt: skip

    async def attempts(self, claim: Claim) -> int | None:
        """How often it failed so far. None: this run is not the one that has it."""
        async with self.database.connection() as connection:
            rows = await connection.execute(
                f"SELECT attempts FROM memory_extraction_sessions WHERE {_PLACE} AND job_id = %s",
                (*values(claim.place), claim.job_id),
            )
            row = await rows.fetchone()
        return None if row is None else row[0]

    async def queued(self, place: Place) -> list[Queued]:
        """The oldest first, bounded."""
        async with self.database.connection() as connection:
            rows = await connection.execute(
                f"SELECT event_id, messages, tokens FROM memory_extractions WHERE {_PLACE}"
                " ORDER BY event_id LIMIT %s",
                (*values(place), _ROWS_MAX),
            )
            return [Queued(*row) for row in await rows.fetchall()]

    # -- out of the queue

    async def lock(self, connection: Connection, claim: Claim) -> bool:
        """Whether this run still has it. From here to the end nobody else changes its queue."""
        rows = await connection.execute(
            f"SELECT FROM memory_extraction_sessions WHERE {_PLACE} AND job_id = %s FOR UPDATE",
            (*values(claim.place), claim.job_id),
        )
        return await rows.fetchone() is not None

    async def take(
        self, connection: Connection, place: Place, taken: Mapping[str, Iterable[int]]
    ) -> bool:
        """Whether all of it was there, and is not any more; else nothing is changed."""
        rows = await connection.execute(
            f"SELECT event_id, messages FROM memory_extractions WHERE {_PLACE}"
            " AND event_id = ANY(%s) FOR UPDATE",
            (*values(place), list(taken)),
        )
        there = {event_id: set(messages) for event_id, messages in await rows.fetchall()}
        if any(not set(indexes) <= there.get(event_id, set()) for event_id, indexes in
               taken.items()):  # fmt: skip
            return False
        for event_id, indexes in taken.items():
            rest = sorted(there[event_id] - set(indexes))
            where = (*values(place), event_id)
            if rest:
                await connection.execute(
                    "UPDATE memory_extractions SET messages = %s,"
                    " tokens = tokens * %s / cardinality(messages)"
                    f" WHERE {_PLACE} AND event_id = %s",
                    (rest, len(rest), *where),
                )
            else:
                await connection.execute(
                    f"DELETE FROM memory_extractions WHERE {_PLACE} AND event_id = %s", where
                )
        return True

    async def settle(
        self,
        connection: Connection,
        place: Place,
        triggers: Triggers,
        *,
        now: bool = False,
        release: bool = True,
    ) -> None:
        """After something was taken: what is left has its turn by the triggers, or at once.
        `release`: nobody holds it any more."""
        rows = await connection.execute(
            "SELECT coalesce(sum(cardinality(messages)), 0)::integer,"
            f" coalesce(sum(tokens), 0)::bigint FROM memory_extractions WHERE {_PLACE}",
            values(place),
        )
        row = await rows.fetchone()
        messages, tokens = row if row is not None else (0, 0)
        if not messages:
            await connection.execute(
                f"DELETE FROM memory_extraction_sessions WHERE {_PLACE}", values(place)
            )
            return
        await connection.execute(
            "UPDATE memory_extraction_sessions SET messages = %s, tokens = %s,"
            " due_at = CASE WHEN %s THEN now() ELSE now() + make_interval(secs => %s) END,"
            " held_until = CASE WHEN %s THEN NULL ELSE held_until END,"
            " job_id = CASE WHEN %s THEN '' ELSE job_id END,"
            " attempts = CASE WHEN %s THEN 0 ELSE attempts END"
            f" WHERE {_PLACE}",
            (
                messages, tokens, now or _reached(triggers, messages, tokens),
                triggers.idle_seconds, release, release, release, *values(place),
            ),
        )  # fmt: skip
        await self.wake(connection)

    async def pause(self, claim: Claim, seconds: float, *, failed: bool) -> None:
        """Its turn comes again after so long."""
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE memory_extraction_sessions SET due_at = now(),"
                " held_until = now() + make_interval(secs => %s), attempts = attempts + %s"
                f" WHERE {_PLACE} AND job_id = %s",
                (seconds, int(failed), *values(claim.place), claim.job_id),
            )
            await self.wake(connection)

    async def await_model(self, claim: Claim) -> None:
        async with self.database.connection() as connection:
            await connection.execute(
                "UPDATE memory_extraction_sessions SET state = 'waiting_for_model',"
                f" held_until = NULL WHERE {_PLACE} AND job_id = %s",
                (*values(claim.place), claim.job_id),
            )

    async def fail(
        self, claim: Claim, taken: Mapping[str, Iterable[int]], reason: str, triggers: Triggers
    ) -> None:
        """Given up: out of the queue, and on the list of failed jobs."""
        async with self.database.transaction() as connection:
            if not await self.lock(connection, claim):
                return
            if not await self.take(connection, claim.place, taken):
                await self.settle(connection, claim.place, triggers, now=True)
                return
            await failures.add(connection, claim.place, claim.job_id, reason, taken)
            await self.settle(connection, claim.place, triggers)

    # -- what was unsaid

    async def alone(self, connection: Connection, tenant: str, memory_id: str) -> None:
        """One of these at a time in a memory, until the transaction ends."""
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
            (f"memory unsaid {tenant}/{memory_id}",),
        )

    async def lock_threads(
        self, connection: Connection, tenant: str, memory_id: str, threads: Sequence[Thread]
    ) -> list[Place]:
        """Those that have something in the queue."""
        rows = await connection.execute(
            "SELECT tenant, memory_id, strategy_id, actor_id, session_id"
            " FROM memory_extraction_sessions WHERE tenant = %s AND memory_id = %s"
            " AND (actor_id, session_id) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"
            " ORDER BY strategy_id, actor_id, session_id FOR UPDATE",
            (tenant, memory_id, [each[0] for each in threads], [each[1] for each in threads]),
        )
        return [Place(*row) for row in await rows.fetchall()]

    async def drop(
        self, connection: Connection, place: Place, event_ids: Sequence[str] | None = None
    ) -> None:
        """Out of the queue; all of the session's without `event_ids`."""
        await connection.execute(
            f"DELETE FROM memory_extractions WHERE {_PLACE}"
            " AND (%s::text[] IS NULL OR event_id = ANY(%s))",
            (*values(place), event_ids, event_ids),
        )

    # -- slots

    async def versions(self, slots: Sequence[int]) -> dict[int, int]:
        async with self.database.connection() as connection:
            rows = await connection.execute(
                "SELECT slot, version FROM memory_extraction_slots WHERE slot = ANY(%s)",
                (list(slots),),
            )
            return dict(await rows.fetchall())

    async def advance(self, connection: Connection, slots: Iterable[int]) -> dict[int, int]:
        """The versions as they were. Until the transaction ends nobody else gets past here."""
        rows = await connection.execute(
            "WITH held AS (SELECT slot FROM memory_extraction_slots WHERE slot = ANY(%s)"
            "  ORDER BY slot FOR UPDATE)"
            " UPDATE memory_extraction_slots s SET version = s.version + 1 FROM held"
            " WHERE s.slot = held.slot RETURNING s.slot, s.version - 1",
            (sorted(set(slots)),),
        )
        return dict(await rows.fetchall())

    # -- of a whole memory

    async def waiting_for_model(self, tenant: str, memory_id: str) -> int:
        async with self.database.connection() as connection:
            rows = await connection.execute(
                "SELECT coalesce(sum(messages), 0)::integer FROM memory_extraction_sessions"
                " WHERE tenant = %s AND memory_id = %s AND state = 'waiting_for_model'",
                (tenant, memory_id),
            )
            row = await rows.fetchone()
        return 0 if row is None else row[0]

    async def model_came(self) -> None:
        async with self.database.transaction() as connection:
            changed = await connection.execute(
                "UPDATE memory_extraction_sessions SET state = 'waiting', due_at = now()"
                " WHERE state = 'waiting_for_model'"
            )
            if changed.rowcount:
                await self.wake(connection)

    async def clear(
        self,
        connection: Connection,
        tenant: str,
        memory_id: str,
        strategy_ids: Sequence[str] | None = None,
        *,
        limit: int = CLEARED_MAX,
    ) -> bool:
        """Some of a memory's, or of some of its strategies'; False where nothing was left. What
        says whose turn it is goes first, so that nobody begins on the rest."""
        chosen, found = None if strategy_ids is None else list(strategy_ids), 0
        for table in ("extraction_sessions", "extractions", "extraction_failures"):
            # One that is changed meanwhile has another place, and goes the next time.
            gone = await connection.execute(
                f"DELETE FROM memory_{table} WHERE ctid = ANY(ARRAY("
                f" SELECT ctid FROM memory_{table} WHERE tenant = %s AND memory_id = %s"
                "  AND (%s::text[] IS NULL OR strategy_id = ANY(%s)) LIMIT %s))",
                (tenant, memory_id, chosen, chosen, limit),
            )
            found += gone.rowcount
        return found > 0


def slot_of(tenant: str, memory_id: str, strategy_id: str, namespace: str) -> int:
    key = "\x00".join((tenant, memory_id, strategy_id, namespace)).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=4).digest()) % SLOTS


def _reached(triggers: Triggers, messages: int, tokens: int) -> bool:
    return (triggers.messages is not None and messages >= triggers.messages) or (
        triggers.tokens is not None and tokens >= triggers.tokens
    )
