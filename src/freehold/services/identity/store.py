"""SQL of the platform's signing keys and of the users' tokens behind workload access tokens."""

import uuid
from datetime import datetime

from freehold.ports.database import Connection
from freehold.services.identity.model import SigningKey

CHANNEL = "freehold_signing_keys"
"""Payload: the id of the key that was added, or ""."""

_LOCK = 0x5349474E4B455953  # "SIGNKEYS"

_PLATFORM = """
INSERT INTO platform_identity (id) VALUES (%s) ON CONFLICT DO NOTHING
"""

# What has expired goes as others come; a handful at a time, and nobody waits for it.
_KEEP = """
WITH expired AS (
    DELETE FROM workload_user_tokens WHERE (tenant, jti) IN (
        SELECT tenant, jti FROM workload_user_tokens WHERE expires_at < %(now)s
        LIMIT 20 FOR UPDATE SKIP LOCKED))
INSERT INTO workload_user_tokens (tenant, jti, sealed_token, expires_at)
VALUES (%(tenant)s, %(jti)s, %(sealed_token)s, %(expires_at)s)
"""

_KEPT = """
SELECT sealed_token FROM workload_user_tokens
WHERE tenant = %(tenant)s AND jti = %(jti)s AND expires_at > %(now)s
"""


async def platform_id(connection: Connection) -> str:
    """Made by the first who asks."""
    await connection.execute(_PLATFORM, (uuid.uuid4(),))
    row = await (await connection.execute("SELECT id FROM platform_identity")).fetchone()
    assert row is not None, "it was inserted just now, or was there"
    return str(row[0])


async def lock(connection: Connection) -> None:
    """Until the transaction ends nobody else changes the keys."""
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))


async def keys(connection: Connection) -> list[SigningKey]:
    """In the order in which they sign."""
    rows = await connection.execute(
        "SELECT id, sealed_private, signs_from FROM signing_keys ORDER BY signs_from, id"
    )
    return [
        SigningKey(id=row[0], sealed_private=bytes(row[1]), signs_from=row[2])
        for row in await rows.fetchall()
    ]


async def add_key(connection: Connection, key: SigningKey) -> None:
    await connection.execute(
        "INSERT INTO signing_keys (id, sealed_private, signs_from) VALUES (%s, %s, %s)",
        (key.id, key.sealed_private, key.signs_from),
    )


async def drop_keys(connection: Connection, ids: list[str]) -> None:
    await connection.execute("DELETE FROM signing_keys WHERE id = ANY(%s)", (ids,))


async def keep_user_token(
    connection: Connection,
    *,
    tenant: str,
    jti: str,
    sealed_token: bytes,
    expires_at: datetime,
    now: datetime,
) -> None:
    values = {
        "tenant": tenant,
        "jti": jti,
        "sealed_token": sealed_token,
        "expires_at": expires_at,
        "now": now,
    }
    await connection.execute(_KEEP, values)


async def user_token(
    connection: Connection, *, tenant: str, jti: str, now: datetime
) -> bytes | None:
    values = {"tenant": tenant, "jti": jti, "now": now}
    row = await (await connection.execute(_KEPT, values)).fetchone()
    return None if row is None else bytes(row[0])
