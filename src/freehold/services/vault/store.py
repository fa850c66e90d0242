"""SQL of the vault's tables."""

from datetime import datetime
from typing import Any

import msgspec

from freehold.ports.database import Connection
from freehold.services.vault.model import Reference, StoredSecret

SCHEDULES_CHANNEL = "freehold_vault_schedules"

_PUT = """
INSERT INTO vault_secrets (tenant, kind, name, version, sealed, secret_id, json_key)
VALUES (%(tenant)s, %(kind)s, %(name)s, %(version)s, %(sealed)s, %(secret_id)s, %(json_key)s)
ON CONFLICT (tenant, kind, name) DO UPDATE
SET version = excluded.version, sealed = excluded.sealed, secret_id = excluded.secret_id,
    json_key = excluded.json_key, created_at = clock_timestamp()
"""
_GET = """
SELECT kind, version, sealed, secret_id, json_key, created_at FROM vault_secrets
WHERE tenant = %s AND name = %s AND kind = ANY(%s)
"""
_DELETE = "DELETE FROM vault_secrets WHERE tenant = %s AND name = %s AND kind = ANY(%s)"
_CALLBACK_PUT = "INSERT INTO vault_callbacks (callback_id, tenant, name) VALUES (%s, %s, %s)"
_CALLBACK_GET = "SELECT tenant, name FROM vault_callbacks WHERE callback_id = %s"
_CALLBACK_DELETE = "DELETE FROM vault_callbacks WHERE tenant = %s AND name = %s"

_NEXT_LIST = """
SELECT kind, name, created_at FROM vault_secrets
WHERE tenant = %s AND kind LIKE '%%-next' ORDER BY name, kind
"""

_SCHEDULE_PUT = """
INSERT INTO vault_schedules (tenant, kind, name, way, every_days, due_at)
VALUES (%(tenant)s, %(kind)s, %(name)s, %(way)s, %(every_days)s,
        clock_timestamp() + make_interval(days => %(every_days)s))
ON CONFLICT (tenant, kind, name) DO UPDATE
SET way = excluded.way, every_days = excluded.every_days, due_at = excluded.due_at, failure = ''
"""
_SCHEDULE_DELETE = "DELETE FROM vault_schedules WHERE tenant = %s AND kind = %s AND name = %s"
_SCHEDULE_DONE = """
UPDATE vault_schedules
SET due_at = clock_timestamp() + make_interval(days => every_days), failure = ''
WHERE tenant = %s AND kind = %s AND name = %s RETURNING due_at
"""
_SCHEDULE_FAILED = """
UPDATE vault_schedules SET due_at = clock_timestamp() + interval '1 hour', failure = %s
WHERE tenant = %s AND kind = %s AND name = %s
"""
_SCHEDULES = """
SELECT tenant, kind, name, way, every_days, due_at, failure, due_at <= clock_timestamp()
FROM vault_schedules WHERE tenant = %s ORDER BY due_at, name
"""
_DUE = """
SELECT tenant, kind, name, way, every_days, due_at, failure, true FROM vault_schedules
WHERE way = 'registration' AND due_at <= clock_timestamp() ORDER BY due_at LIMIT 100
"""
_NEXT_DUE = """
SELECT greatest(0, extract(epoch FROM min(due_at) - clock_timestamp()))::float8
FROM vault_schedules WHERE way = 'registration'
"""


class Schedule(msgspec.Struct, frozen=True):
    tenant: str
    kind: str
    name: str
    way: str
    every_days: int
    due_at: datetime
    failure: str
    due: bool


async def put_secret(
    connection: Connection,
    *,
    tenant: str,
    kind: str,
    name: str,
    version: int,
    sealed: bytes | None,
    reference: Reference | None,
) -> None:
    values = {
        "tenant": tenant,
        "kind": kind,
        "name": name,
        "version": version,
        "sealed": sealed,
        "secret_id": reference.secret_id if reference else None,
        "json_key": reference.json_key if reference else None,
    }
    await connection.execute(_PUT, values)


async def secrets_of(
    connection: Connection, tenant: str, name: str, kinds: list[str]
) -> dict[str, StoredSecret]:
    rows = await (await connection.execute(_GET, (tenant, name, kinds))).fetchall()
    return {row[0]: _secret(row) for row in rows}


async def delete_secrets(connection: Connection, tenant: str, name: str, kinds: list[str]) -> int:
    return (await connection.execute(_DELETE, (tenant, name, kinds))).rowcount


async def next_secrets(connection: Connection, tenant: str) -> list[tuple[str, str, datetime]]:
    """Kind, name and since when."""
    rows = await (await connection.execute(_NEXT_LIST, (tenant,))).fetchall()
    return [(row[0], row[1], row[2]) for row in rows]


async def put_callback(connection: Connection, callback_id: str, tenant: str, name: str) -> None:
    await connection.execute(_CALLBACK_PUT, (callback_id, tenant, name))


async def callback(connection: Connection, callback_id: str) -> tuple[str, str] | None:
    row = await (await connection.execute(_CALLBACK_GET, (callback_id,))).fetchone()
    return None if row is None else (row[0], row[1])


async def delete_callbacks(connection: Connection, tenant: str, name: str) -> None:
    await connection.execute(_CALLBACK_DELETE, (tenant, name))


async def put_schedule(
    connection: Connection, tenant: str, kind: str, name: str, *, way: str, every_days: int
) -> None:
    values = {"tenant": tenant, "kind": kind, "name": name, "way": way, "every_days": every_days}
    await connection.execute(_SCHEDULE_PUT, values)


async def delete_schedule(connection: Connection, tenant: str, kind: str, name: str) -> None:
    await connection.execute(_SCHEDULE_DELETE, (tenant, kind, name))


async def schedule_done(
    connection: Connection, tenant: str, kind: str, name: str
) -> datetime | None:
    """When it is due next; None where there is no schedule."""
    row = await (await connection.execute(_SCHEDULE_DONE, (tenant, kind, name))).fetchone()
    return None if row is None else row[0]


async def schedule_failed(
    connection: Connection, tenant: str, kind: str, name: str, failure: str
) -> None:
    await connection.execute(_SCHEDULE_FAILED, (failure, tenant, kind, name))


async def schedules(connection: Connection, tenant: str) -> list[Schedule]:
    rows = await (await connection.execute(_SCHEDULES, (tenant,))).fetchall()
    return [Schedule(*row) for row in rows]


async def due(connection: Connection) -> list[Schedule]:
    """Of every tenant, those that the platform changes itself."""
    rows = await (await connection.execute(_DUE)).fetchall()
    return [Schedule(*row) for row in rows]


async def next_due_seconds(connection: Connection) -> float | None:
    row = await (await connection.execute(_NEXT_DUE)).fetchone()
    return None if row is None else row[0]


def _secret(row: tuple[Any, ...]) -> StoredSecret:
    reference = None if row[3] is None else Reference(row[3], row[4])
    return StoredSecret(version=row[1], sealed=row[2], reference=reference, created_at=row[5])
