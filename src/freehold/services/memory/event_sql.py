"""The statements of events, sessions and branches. What is put into them are names of this module,
never input."""

import uuid
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from psycopg.types.json import Jsonb

from freehold.services.memory.model import EVENT_BYTES_MAX, MAIN

PAGE_BYTES_MAX = EVENT_BYTES_MAX
"""A page ends after the event that reaches this."""

AFTER_ALL = "~"
"""Sorts after every event's id."""

COLUMNS = """tenant, memory_id, actor_id, session_id, id, at, payload, branch, root_event_id,
    metadata, extract, variables, created_at"""
_WITHOUT_PAYLOAD = COLUMNS.replace("payload", "NULL::json AS payload")

# Makes the session if this is its first event, locks it and its actor in the shared way, and finds
# its newest event of the same milliseconds. A branch's root counts though it may be gone: what is
# said later must not come before it.
ENTER = """
WITH made AS (
    INSERT INTO memory_sessions (tenant, thread, memory_id, actor_id, session_id, created_at)
    VALUES (%(tenant)s, %(thread)s, %(memory_id)s, %(actor_id)s, %(session_id)s, %(now)s)
    ON CONFLICT DO NOTHING
)
SELECT pg_advisory_xact_lock_shared(%(actor_lock)s), pg_advisory_xact_lock_shared(%(lock)s),
greatest((
    SELECT id FROM memory_events
    WHERE tenant = %(tenant)s AND thread = %(thread)s AND id > %(moment)s AND id < %(next)s
    ORDER BY id DESC LIMIT 1
), (
    SELECT root_event_id FROM memory_branches
    WHERE tenant = %(tenant)s AND thread = %(thread)s
        AND root_event_id > %(moment)s AND root_event_id < %(next)s
    ORDER BY root_event_id DESC LIMIT 1
))
"""
# Of a person who is being erased: see erasure.py.
IS_ERASING = """
EXISTS (SELECT FROM memory_erasures
        WHERE tenant = %(tenant)s AND memory_id = %(memory_id)s
            AND actor_digest = %(actor_digest)s AND state = 'RUNNING')
"""
# The session may have gone while ENTER waited for its lock, and was then not made.
INSERT = f"""
INSERT INTO memory_events (
    tenant, memory_id, id, thread, actor_id, session_id, branch, root_event_id, at, created_at,
    expires_at, metadata, extract, variables, payload, payload_bytes, token, request)
SELECT
    %(tenant)s, %(memory_id)s, %(id)s, %(thread)s, %(actor_id)s, %(session_id)s, %(branch)s,
    %(root_event_id)s, %(at)s, %(created_at)s, %(expires_at)s, %(metadata)s, %(extract)s,
    %(variables)s, %(payload)s::json, %(payload_bytes)s, %(token)s, %(request)s
WHERE EXISTS (SELECT FROM memory_sessions WHERE tenant = %(tenant)s AND thread = %(thread)s)
    AND NOT {IS_ERASING}
ON CONFLICT DO NOTHING
"""  # noqa: S608
BY_TOKEN = f"""
SELECT {COLUMNS}, request FROM memory_events
WHERE tenant = %(tenant)s AND token = %(token)s
"""  # noqa: S608
_OF_THREAD = f"""
SELECT {COLUMNS} FROM memory_events
WHERE tenant = %(tenant)s AND thread = %(thread)s AND expires_at > %(now)s
"""  # noqa: S608
GET = f"{_OF_THREAD} AND id = %(id)s"
AFTER = f"{_OF_THREAD} AND id > %(after)s ORDER BY id LIMIT %(limit)s"
BY_ID = f"""
SELECT {COLUMNS} FROM memory_events
WHERE tenant = %(tenant)s AND memory_id = %(memory_id)s AND id = ANY(%(ids)s)
    AND expires_at > %(now)s
ORDER BY id
"""  # noqa: S608
MESSAGES = f"""
SELECT {COLUMNS.replace("payload", "json_build_array(payload -> place) AS payload")}, place
FROM memory_events JOIN unnest(%(ids)s::text[], %(places)s::integer[]) AS g (event_id, place)
    ON g.event_id = id
WHERE tenant = %(tenant)s AND memory_id = %(memory_id)s AND id = ANY(%(ids)s)
    AND expires_at > %(now)s
"""  # noqa: S608
DELETE = f"""
DELETE FROM memory_events
WHERE tenant = %(tenant)s AND thread = %(thread)s AND id = %(id)s AND expires_at > %(now)s
RETURNING {COLUMNS}
"""  # noqa: S608
FORGET_EVENTS = """
DELETE FROM memory_events
WHERE tenant = %(tenant)s AND memory_id = %(memory_id)s AND id = ANY(ARRAY(
    SELECT id FROM memory_events WHERE tenant = %(tenant)s AND memory_id = %(memory_id)s
    ORDER BY id LIMIT %(limit)s))
"""
FORGET_SESSIONS = """
WITH gone AS (
    DELETE FROM memory_sessions WHERE tenant = %(tenant)s AND memory_id = %(memory_id)s
    RETURNING tenant, thread
)
DELETE FROM memory_branches b USING gone WHERE b.tenant = gone.tenant AND b.thread = gone.thread
"""
LINE = """
WITH RECURSIVE line AS (
    SELECT parent, root_event_id, 1 AS depth FROM memory_branches
    WHERE tenant = %(tenant)s AND thread = %(thread)s AND name = %(name)s
    UNION ALL
    SELECT b.parent, b.root_event_id, depth + 1
    FROM line JOIN memory_branches b
    ON b.tenant = %(tenant)s AND b.thread = %(thread)s AND b.name = line.parent
    WHERE depth < %(deep)s
)
SELECT parent, root_event_id FROM line
"""
# The first of each actor, from one to the next along the index.
ACTORS = """
WITH RECURSIVE found AS (
    (SELECT actor_id, 1 AS number FROM memory_sessions
     WHERE tenant = %(tenant)s AND memory_id = %(memory_id)s AND actor_id > %(after)s
     ORDER BY actor_id LIMIT 1)
    UNION ALL
    SELECT (SELECT s.actor_id FROM memory_sessions s
            WHERE s.tenant = %(tenant)s AND s.memory_id = %(memory_id)s
                AND s.actor_id > found.actor_id
            ORDER BY s.actor_id LIMIT 1), number + 1
    FROM found WHERE found.actor_id IS NOT NULL AND number < %(limit)s
)
SELECT actor_id FROM found WHERE actor_id IS NOT NULL
"""
_HAS_EVENTS = """
EXISTS (SELECT FROM memory_events e
        WHERE e.tenant = s.tenant AND e.thread = s.thread AND e.expires_at > %(now)s)
"""
TAKE_BATCH = f"""
WITH batch AS (
    SELECT id, sum(payload_bytes) OVER (ORDER BY id) - payload_bytes AS bytes_before
    FROM (SELECT id, payload_bytes FROM memory_events
          WHERE tenant = %(tenant)s AND thread = %(thread)s ORDER BY id LIMIT %(limit)s) AS first
)
DELETE FROM memory_events e USING batch
WHERE e.tenant = %(tenant)s AND e.thread = %(thread)s AND e.id = batch.id
    AND batch.bytes_before < %(bytes_max)s
RETURNING {COLUMNS.replace(" id,", " e.id,")}
"""  # noqa: S608 - names of ours
# By their places, which hold still as the rows are locked: however many the planner expects, it
# never reads the rest.
EXPIRE = """
DELETE FROM memory_events WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM memory_events WHERE expires_at <= %(now)s
    ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
RETURNING tenant, thread
"""
MARK_EMPTY = """
UPDATE memory_sessions s SET empty_since = %(now)s
FROM unnest(%(tenants)s::text[], %(threads)s::uuid[]) AS seen (tenant, thread)
WHERE s.tenant = seen.tenant AND s.thread = seen.thread AND s.empty_since IS NULL
    AND NOT EXISTS (SELECT FROM memory_events e
                    WHERE e.tenant = s.tenant AND e.thread = s.thread)
"""
LOCK_ROWS = """
SELECT FROM memory_sessions s
JOIN unnest(%(tenants)s::text[], %(threads)s::uuid[]) AS seen (tenant, thread)
USING (tenant, thread) ORDER BY s.tenant, s.thread FOR UPDATE OF s
"""
EMPTY = """
SELECT tenant, thread FROM memory_sessions WHERE empty_since <= %(before)s
ORDER BY empty_since LIMIT %(limit)s
"""
DROP_EMPTY = """
WITH seen AS (
    SELECT * FROM unnest(%(tenants)s::text[], %(threads)s::uuid[]) AS seen (tenant, thread)
), gone AS (
    DELETE FROM memory_sessions s USING seen
    WHERE s.tenant = seen.tenant AND s.thread = seen.thread
        AND NOT EXISTS (SELECT FROM memory_events e
                        WHERE e.tenant = s.tenant AND e.thread = s.thread)
    RETURNING s.tenant, s.thread
), branches AS (
    DELETE FROM memory_branches b USING gone
    WHERE b.tenant = gone.tenant AND b.thread = gone.thread
)
UPDATE memory_sessions s SET empty_since = NULL FROM seen
WHERE s.tenant = seen.tenant AND s.thread = seen.thread
    AND EXISTS (SELECT FROM memory_events e WHERE e.tenant = s.tenant AND e.thread = s.thread)
"""


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """On one pair of an event's metadata."""

    key: str
    operator: Literal["EQUALS_TO", "EXISTS", "NOT_EXISTS"]
    value: str = ""


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """All must hold. `branch`: "" for every one; with `parents` also what was said before it: on
    each branch that it comes from, up to the event where it parted."""

    branch: str = ""
    parents: bool = False
    metadata: tuple[Condition, ...] = ()


def sessions(*, later: bool, with_events: bool) -> str:
    """The statement of a list of sessions: `later` for the pages after the first."""
    where = "tenant = %(tenant)s AND memory_id = %(memory_id)s AND actor_id = %(actor_id)s"
    if later:
        where += " AND (created_at, session_id) < (%(at)s, %(session_id)s)"
    if with_events:
        where += f" AND {_HAS_EVENTS}"
    # Clauses of this module, never input.
    return f"""
SELECT actor_id, session_id, created_at FROM memory_sessions s WHERE {where}
ORDER BY created_at DESC, session_id DESC LIMIT %(limit)s"""  # noqa: S608


def newest(
    tenant: str,
    thread: uuid.UUID,
    what: EventFilter,
    line: Mapping[str, str] | None,
    *,
    payloads: bool,
) -> tuple[str, dict[str, Any]]:
    """The statement of a list, which still wants `now`, `before` and `limit`. It walks down the
    session's index from there, and stops when the page is full."""
    where = ["tenant = %(tenant)s AND thread = %(thread)s AND id < %(before)s"]
    where.append("expires_at > %(now)s")
    values: dict[str, Any] = {"tenant": tenant, "thread": thread, "bytes_max": PAGE_BYTES_MAX}
    if line is not None:
        where.append("id <= (%(line)s::jsonb ->> branch)")
        values["line"] = Jsonb(line)
    elif what.branch:
        # The second half lets the index be used that leaves main out.
        where.append("branch = %(branch)s" + (" AND branch <> 'main'" * (what.branch != MAIN)))
        values["branch"] = what.branch
    for number, condition in enumerate(what.metadata):
        clause, value = _clause(condition, f"m{number}")
        where.append(clause)
        values[f"m{number}"] = value
    if any(condition.operator != "NOT_EXISTS" for condition in what.metadata):
        where.append("metadata <> '{}'")  # says nothing new, but which index will do
    columns = COLUMNS if payloads else _WITHOUT_PAYLOAD
    counted = "payload_bytes" if payloads else "0"
    # Clauses of this module, never input. What stands beside the row is read at the very end.
    statement = f"""
SELECT {COLUMNS}, found FROM (
    SELECT *, sum(bytes) OVER (ORDER BY id DESC) - bytes AS bytes_before, count(*) OVER () AS found
    FROM (SELECT {columns}, {counted} AS bytes FROM memory_events
          WHERE {" AND ".join(where)} ORDER BY id DESC LIMIT %(limit)s) AS near
) AS page WHERE bytes_before < %(bytes_max)s ORDER BY id DESC"""  # noqa: S608
    return statement, values


def _clause(condition: Condition, name: str) -> tuple[str, Any]:
    if condition.operator == "EQUALS_TO":
        return f"metadata @> %({name})s", Jsonb({condition.key: condition.value})
    there = f"metadata ? %({name})s"
    return (there if condition.operator == "EXISTS" else f"NOT {there}"), condition.key
