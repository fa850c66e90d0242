"""SQL of oauth_grants. A change tells all workers, in its own transaction."""

from datetime import datetime

from freehold.ports.database import Connection
from freehold.services.oauth.model import Grant, GrantKey, Held

CHANNEL = "freehold_oauth_grants"
"""Payload: the id of the grant that changed, or whose renewal ended."""

_LOAD = """
SELECT version, sealed, renewal, greatest(0, extract(epoch FROM renewal_until - clock_timestamp()))
FROM oauth_grants WHERE tenant = %s AND id = %s
"""

_CLAIM_NEW = """
INSERT INTO oauth_grants (tenant, id, provider, workload, user_id, flow, scopes, resources,
    version, renewal, renewal_until)
VALUES (%(tenant)s, %(id)s, %(provider)s, %(workload)s, %(user)s, %(flow)s, %(scopes)s,
    %(resources)s, 0, %(renewal)s, clock_timestamp() + %(seconds)s * interval '1 second')
ON CONFLICT DO NOTHING
"""

_CLAIM = """
UPDATE oauth_grants
SET renewal = %(renewal)s, renewal_until = clock_timestamp() + %(seconds)s * interval '1 second'
WHERE tenant = %(tenant)s AND id = %(id)s AND version = %(version)s
    AND (renewal IS NULL OR renewal_until < clock_timestamp())
"""

_STORE = """
WITH changed AS (
    UPDATE oauth_grants SET version = %(version)s, sealed = %(sealed)s, renew_at = %(renew_at)s,
        expires_at = %(expires_at)s, refreshable = %(refreshable)s, renewal = NULL,
        renewal_until = NULL, updated_at = clock_timestamp()
    WHERE tenant = %(tenant)s AND id = %(id)s AND renewal = %(renewal)s
        AND version = %(version)s - 1
    RETURNING id)
SELECT pg_notify('freehold_oauth_grants', id) FROM changed
"""

# A person agreed anew: that counts, whatever else is under way. Locks the row that its seal names.
_LOCK = "SELECT version FROM oauth_grants WHERE tenant = %s AND id = %s FOR UPDATE"

_PUT = """
WITH changed AS (
    INSERT INTO oauth_grants (tenant, id, provider, workload, user_id, flow, scopes, resources,
        version, sealed, renew_at, expires_at, refreshable)
    VALUES (%(tenant)s, %(id)s, %(provider)s, %(workload)s, %(user)s, %(flow)s, %(scopes)s,
        %(resources)s, %(version)s, %(sealed)s, %(renew_at)s, %(expires_at)s, %(refreshable)s)
    ON CONFLICT (tenant, id) DO UPDATE SET version = excluded.version, sealed = excluded.sealed,
        renew_at = excluded.renew_at, expires_at = excluded.expires_at,
        refreshable = excluded.refreshable, renewal = NULL, renewal_until = NULL,
        updated_at = clock_timestamp()
    WHERE oauth_grants.version = excluded.version - 1
    RETURNING id)
SELECT pg_notify('freehold_oauth_grants', id) FROM changed
"""

_RELEASE = """
WITH changed AS (
    UPDATE oauth_grants SET renewal = NULL, renewal_until = NULL
    WHERE tenant = %(tenant)s AND id = %(id)s AND renewal = %(renewal)s RETURNING id)
SELECT pg_notify('freehold_oauth_grants', id) FROM changed
"""

_DROP = """
WITH changed AS (
    DELETE FROM oauth_grants
    WHERE tenant = %(tenant)s AND id = %(id)s
        AND (%(renewal)s::text IS NULL OR renewal = %(renewal)s) RETURNING id)
SELECT pg_notify('freehold_oauth_grants', id) FROM changed
"""

_DROP_OF_PROVIDER = """
WITH changed AS (DELETE FROM oauth_grants WHERE tenant = %s AND provider = %s RETURNING id)
SELECT id, pg_notify('freehold_oauth_grants', id) FROM changed
"""

_DROP_OF_WORKLOAD = """
WITH changed AS (DELETE FROM oauth_grants WHERE tenant = %s AND workload = %s RETURNING id)
SELECT id, pg_notify('freehold_oauth_grants', id) FROM changed
"""

# What cannot be refreshed is of no use once it is over; nor is what never got its first token.
_SWEEP = """
DELETE FROM oauth_grants WHERE ctid IN (
    SELECT ctid FROM oauth_grants
    WHERE NOT refreshable AND coalesce(expires_at, renewal_until) < now() - interval '1 hour'
    LIMIT 100 FOR UPDATE SKIP LOCKED)
"""

_LIST = """
SELECT id, provider, workload, user_id, scopes, resources, refreshable, expires_at, created_at,
    updated_at
FROM oauth_grants
WHERE tenant = %(tenant)s AND flow = 'USER_FEDERATION' AND sealed IS NOT NULL
    AND (%(user)s::text IS NULL OR user_id = ANY(ARRAY['id:' || %(user)s, 'jwt:' || %(user)s]))
ORDER BY created_at DESC, id LIMIT %(limit)s
"""

GrantRow = tuple[
    str, str, str, str, list[str], list[str], bool, datetime | None, datetime, datetime
]


async def load(connection: Connection, tenant: str, id: str) -> Held | None:
    row = await (await connection.execute(_LOAD, (tenant, id))).fetchone()
    if row is None:
        return None
    return Held(
        version=row[0], sealed=row[1], renewal=row[2], renewal_left_seconds=float(row[3] or 0)
    )


async def claim(
    connection: Connection, key: GrantKey, held: Held | None, *, renewal: str, seconds: float
) -> bool:
    """Whether we are the one to fetch. Nothing else may have happened since `held` was read."""
    values = {**_row(key), "renewal": renewal, "seconds": seconds}
    if held is None:
        return (await connection.execute(_CLAIM_NEW, values)).rowcount == 1
    values["version"] = held.version
    return (await connection.execute(_CLAIM, values)).rowcount == 1


async def store(
    connection: Connection,
    key: GrantKey,
    grant: Grant,
    *,
    version: int,
    sealed: bytes,
    renewal: str,
) -> bool:
    """False when we are no longer the one who renews it."""
    values = {**_row(key), **_lasting(grant), "version": version, "sealed": sealed}
    values["renewal"] = renewal
    return (await connection.execute(_STORE, values)).rowcount == 1


async def locked_version(connection: Connection, tenant: str, id: str) -> int:
    """0 where there is none yet."""
    row = await (await connection.execute(_LOCK, (tenant, id))).fetchone()
    return row[0] if row else 0


async def put(
    connection: Connection, key: GrantKey, grant: Grant, *, version: int, sealed: bytes
) -> bool:
    """`version` is one more than `locked_version` said. False: somebody else was first."""
    values = {**_row(key), **_lasting(grant), "version": version, "sealed": sealed}
    return (await connection.execute(_PUT, values)).rowcount == 1


async def release(connection: Connection, key: GrantKey, *, renewal: str) -> None:
    await connection.execute(_RELEASE, {**_row(key), "renewal": renewal})


async def drop(connection: Connection, tenant: str, id: str, *, renewal: str | None = None) -> bool:
    """With `renewal` only while that one holds it."""
    values = {"tenant": tenant, "id": id, "renewal": renewal}
    return (await connection.execute(_DROP, values)).rowcount == 1


async def drop_of_provider(connection: Connection, tenant: str, provider: str) -> list[str]:
    """The ids of those that were there."""
    found = await connection.execute(_DROP_OF_PROVIDER, (tenant, provider))
    return [id for id, _ in await found.fetchall()]


async def drop_of_workload(connection: Connection, tenant: str, workload: str) -> list[str]:
    """The ids of those that were there."""
    found = await connection.execute(_DROP_OF_WORKLOAD, (tenant, workload))
    return [id for id, _ in await found.fetchall()]


async def sweep(connection: Connection) -> None:
    await connection.execute(_SWEEP)


async def list_grants(
    connection: Connection, tenant: str, *, user: str | None, limit: int
) -> list[GrantRow]:
    """That people gave, newest first."""
    values = {"tenant": tenant, "user": user, "limit": limit}
    return await (await connection.execute(_LIST, values)).fetchall()


def _row(key: GrantKey) -> dict[str, object]:
    return {
        "tenant": key.tenant,
        "id": key.id,
        "provider": key.provider,
        "workload": key.workload,
        "user": key.user,
        "flow": key.flow.value,
        "scopes": list(key.scopes),
        "resources": list(key.resources),
    }


def _lasting(grant: Grant) -> dict[str, object]:
    return {
        "renew_at": grant.renew_at,
        "expires_at": grant.expires_at,
        "refreshable": grant.refresh_token is not None or grant.expires_at is None,
    }
