"""SQL of what a sign-in leaves: pending ones, sessions, temporary credentials, guesses."""

from datetime import datetime

import msgspec

from freehold.ports.database import Connection
from freehold.services.people import store

# -- pending sign-ins with the provider


async def insert_pending(
    connection: Connection,
    *,
    tenant: str,
    state_sha256: str,
    binding_sha256: str,
    next: str,
    now: datetime,
    expires_at: datetime,
    pending_max: int,
) -> None:
    """Takes the ended ones out, and of too many the oldest: nobody can keep others from it."""
    await connection.execute(
        "DELETE FROM people_sign_ins WHERE expires_at <= %s OR state_sha256 IN"
        " (SELECT state_sha256 FROM people_sign_ins ORDER BY expires_at DESC OFFSET %s)",
        (now, pending_max - 1),
    )
    await connection.execute(
        "INSERT INTO people_sign_ins (tenant, state_sha256, binding_sha256, next, expires_at)"
        " VALUES (%s, %s, %s, %s, %s)",
        (tenant, state_sha256, binding_sha256, next, expires_at),
    )


async def take_pending(
    connection: Connection, state_sha256: str, now: datetime
) -> tuple[str, str] | None:
    """Its binding's hash and its `next`; of many who ask at once, one gets it."""
    found = await connection.execute(
        "DELETE FROM people_sign_ins WHERE state_sha256 = %s RETURNING binding_sha256, next,"
        " expires_at > %s",
        (state_sha256, now),
    )
    row = await found.fetchone()
    return (row[0], row[1]) if row and row[2] else None


# -- sessions of the console


async def insert_session(
    connection: Connection,
    *,
    tenant: str,
    token_sha256: str,
    person: str,
    now: datetime,
    expires_at: datetime,
) -> None:
    await connection.execute("DELETE FROM people_sessions WHERE expires_at <= %s", (now,))
    await connection.execute(
        "INSERT INTO people_sessions (tenant, token_sha256, person, created_at, seen_at,"
        " expires_at) VALUES (%s, %s, %s, %s, %s, %s)",
        (tenant, token_sha256, person, now, now, expires_at),
    )


_SESSION = """
SELECT s.tenant, s.person, p.name, s.seen_at,
    array(SELECT DISTINCT r.role FROM people_roles r
          WHERE r.person = s.person AND r.tenant = s.tenant), s.expires_at, p.issuer, p.subject
FROM people_sessions s JOIN people p ON p.id = s.person LEFT JOIN tenants t ON t.tenant = s.tenant
WHERE s.token_sha256 = %(token)s AND s.expires_at > %(now)s AND s.seen_at > %(idle)s
    AND p.active AND coalesce(t.active, true)
"""


class Seen(msgspec.Struct, frozen=True):
    """A session as it is now."""

    tenant: str
    person: str
    name: str
    seen_at: datetime
    roles: frozenset[str]
    expires_at: datetime
    issuer: str | None = None
    subject: str | None = None


async def session(
    connection: Connection, token_sha256: str, *, now: datetime, idle: datetime
) -> Seen | None:
    """`idle`: seen before that it has ended."""
    found = await connection.execute(_SESSION, {"token": token_sha256, "now": now, "idle": idle})
    row = await found.fetchone()
    if row is None:
        return None
    tenant, person, name, seen_at, roles, expires_at, issuer, subject = row
    return Seen(tenant, person, name, seen_at, frozenset(roles), expires_at, issuer, subject)


async def touch_session(connection: Connection, token_sha256: str, now: datetime) -> None:
    await connection.execute(
        "UPDATE people_sessions SET seen_at = %s WHERE token_sha256 = %s", (now, token_sha256)
    )


async def delete_session(connection: Connection, token_sha256: str) -> bool:
    done = await connection.execute(
        "DELETE FROM people_sessions WHERE token_sha256 = %s", (token_sha256,)
    )
    return done.rowcount == 1


# -- temporary credentials


async def insert_credentials(
    connection: Connection,
    *,
    tenant: str,
    id: str,
    person: str,
    sealed_secret: bytes,
    token_sha256: str,
    now: datetime,
    forget_before: datetime,
    expires_at: datetime,
) -> None:
    """Those that ended before `forget_before` go: until then their use is told apart."""
    await connection.execute(
        "DELETE FROM people_credentials WHERE expires_at <= %s", (forget_before,)
    )
    await connection.execute(
        "INSERT INTO people_credentials (tenant, id, person, sealed_secret, token_sha256,"
        " created_at, expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (tenant, id, person, sealed_secret, token_sha256, now, expires_at),
    )


_CREDENTIALS = """
SELECT c.tenant, c.sealed_secret, c.token_sha256, c.expires_at, p.name,
    array(SELECT DISTINCT r.role FROM people_roles r
          WHERE r.person = c.person AND r.tenant = c.tenant)
FROM people_credentials c JOIN people p ON p.id = c.person
WHERE c.id = %s AND p.active
"""


class Stored(msgspec.Struct, frozen=True):
    """Temporary credentials as they are kept, and whose they are now."""

    tenant: str
    sealed_secret: bytes
    token_sha256: str
    expires_at: datetime
    name: str
    roles: frozenset[str]


async def credentials(connection: Connection, id: str) -> Stored | None:
    row = await (await connection.execute(_CREDENTIALS, (id,))).fetchone()
    if row is None:
        return None
    tenant, sealed_secret, token_sha256, expires_at, name, roles = row
    return Stored(tenant, sealed_secret, token_sha256, expires_at, name, frozenset(roles))


async def delete_credentials(connection: Connection, tenant: str, id: str) -> bool:
    done = await connection.execute(
        "DELETE FROM people_credentials WHERE tenant = %s AND id = %s", (tenant, id)
    )
    await store.tell(connection)
    return done.rowcount == 1


# -- guesses


_GUESS = """
INSERT INTO people_guesses AS g (tenant, bucket, guesses, ends_at)
VALUES (%(tenant)s, %(bucket)s, 1, %(ends)s)
ON CONFLICT (bucket) DO UPDATE SET
    guesses = CASE WHEN g.ends_at <= %(now)s THEN 1 ELSE g.guesses + 1 END,
    ends_at = CASE WHEN g.ends_at <= %(now)s THEN %(ends)s ELSE g.ends_at END
WHERE g.ends_at <= %(now)s OR g.guesses < %(guesses_max)s
"""


async def take_guess(
    connection: Connection,
    *,
    tenant: str,
    bucket: str,
    now: datetime,
    ends_at: datetime,
    guesses_max: int,
) -> bool:
    """One statement, and the row's lock: never one more than `guesses_max` in a window."""
    await connection.execute("DELETE FROM people_guesses WHERE ends_at <= %s", (now,))
    values = {
        "tenant": tenant, "bucket": bucket, "now": now, "ends": ends_at, "guesses_max": guesses_max,
    }  # fmt: skip
    return (await connection.execute(_GUESS, values)).rowcount == 1


async def give_back(connection: Connection, bucket: str) -> None:
    await connection.execute(
        "UPDATE people_guesses SET guesses = greatest(guesses - 1, 0) WHERE bucket = %s", (bucket,)
    )


async def forget_guesses(connection: Connection, bucket: str) -> None:
    await connection.execute("DELETE FROM people_guesses WHERE bucket = %s", (bucket,))
