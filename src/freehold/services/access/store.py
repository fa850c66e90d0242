"""SQL of the table access_keys. Every change tells all workers, in its own transaction."""

from collections.abc import Collection

from freehold.ports.database import Connection
from freehold.services.access.model import AccessKeyRecord

CHANNEL = "freehold_access_keys"
"""Payload: the id of the key that changed."""

_INSERT = """
WITH changed AS (
    INSERT INTO access_keys (tenant, id, sealed_secret, description, roles)
    SELECT %(tenant)s, %(id)s, %(sealed_secret)s, %(description)s, %(roles)s
    WHERE (SELECT count(*) FROM access_keys WHERE tenant = %(tenant)s) < %(keys_max)s
    RETURNING id)
SELECT pg_notify('freehold_access_keys', id) FROM changed
"""

_LIST = """
SELECT tenant, id, description, active, roles, created_at, last_used_at FROM access_keys
WHERE tenant = %s ORDER BY created_at, id
"""

_SET_ACTIVE = """
WITH changed AS (
    UPDATE access_keys SET active = %(active)s WHERE tenant = %(tenant)s AND id = %(id)s
    RETURNING id)
SELECT pg_notify('freehold_access_keys', id) FROM changed
"""

_DELETE = """
WITH changed AS (
    DELETE FROM access_keys WHERE tenant = %(tenant)s AND id = %(id)s RETURNING id)
SELECT pg_notify('freehold_access_keys', id) FROM changed
"""

_ACTIVE = "SELECT tenant, sealed_secret, roles FROM access_keys WHERE id = %s AND active"

# Of many workers the first one in a minute writes.
_TOUCH = """
UPDATE access_keys SET last_used_at = now()
WHERE id = ANY(%s) AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
"""


async def insert(
    connection: Connection,
    *,
    tenant: str,
    id: str,
    sealed_secret: bytes,
    description: str,
    roles: Collection[str],
    keys_max: int,
) -> bool:
    """False when the tenant has `keys_max` already. Two at the last place may both get in."""
    values = {
        "tenant": tenant,
        "id": id,
        "sealed_secret": sealed_secret,
        "description": description,
        "roles": sorted(roles),
        "keys_max": keys_max,
    }
    return (await connection.execute(_INSERT, values)).rowcount == 1


async def list_of(connection: Connection, tenant: str) -> list[AccessKeyRecord]:
    rows = await (await connection.execute(_LIST, (tenant,))).fetchall()
    return [
        AccessKeyRecord(
            tenant=row[0],
            id=row[1],
            description=row[2],
            active=row[3],
            roles=frozenset(row[4]),
            created_at=row[5],
            last_used_at=row[6],
        )
        for row in rows
    ]


async def set_active(connection: Connection, tenant: str, id: str, *, active: bool) -> bool:
    values = {"tenant": tenant, "id": id, "active": active}
    return (await connection.execute(_SET_ACTIVE, values)).rowcount == 1


async def delete(connection: Connection, tenant: str, id: str) -> bool:
    return (await connection.execute(_DELETE, {"tenant": tenant, "id": id})).rowcount == 1


async def active(connection: Connection, id: str) -> tuple[str, bytes, frozenset[str]] | None:
    """Tenant, sealed secret and roles of a key that may sign now."""
    row = await (await connection.execute(_ACTIVE, (id,))).fetchone()
    return None if row is None else (row[0], row[1], frozenset(row[2]))


async def touch(connection: Connection, ids: Collection[str]) -> None:
    await connection.execute(_TOUCH, (list(ids),))
