"""SQL of the table tenant_keys."""

from datetime import datetime
from typing import Any

import msgspec

from freehold.ports.database import Connection

CHANNEL = "freehold_tenant_keys"
"""Payload: the tenant whose keys changed."""


class Row(msgspec.Struct, frozen=True):
    version: int
    wrapped_by: str
    wrapped_key: bytes
    created_at: datetime


_NEWEST = """
SELECT version, wrapped_by, wrapped_key, created_at FROM tenant_keys
WHERE tenant = %s ORDER BY version DESC LIMIT 1
"""
_GET = """
SELECT version, wrapped_by, wrapped_key, created_at FROM tenant_keys
WHERE tenant = %s AND version = %s
"""
_ALL = """
SELECT version, wrapped_by, wrapped_key, created_at FROM tenant_keys
WHERE tenant = %s ORDER BY version
"""
_OF_PLATFORM = """
SELECT tenant, version, wrapped_by, wrapped_key, created_at FROM tenant_keys
WHERE NOT starts_with(wrapped_by, 'arn:') ORDER BY tenant, version
"""

_INSERT = """
INSERT INTO tenant_keys (tenant, version, wrapped_by, wrapped_key) VALUES (%s, %s, %s, %s)
RETURNING created_at
"""
_REPLACE = """
UPDATE tenant_keys SET wrapped_by = %s, wrapped_key = %s
WHERE tenant = %s AND version = %s AND wrapped_key = %s
"""
_DELETE_OLDER = "DELETE FROM tenant_keys WHERE tenant = %s AND version < %s"
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('freehold tenant_keys ' || %s, 0))"


async def lock(connection: Connection, tenant: str) -> None:
    """Until the transaction ends: of several who add a version one is first."""
    await connection.execute(_LOCK, (tenant,))


async def newest(connection: Connection, tenant: str) -> Row | None:
    return _row(await (await connection.execute(_NEWEST, (tenant,))).fetchone())


async def get(connection: Connection, tenant: str, version: int) -> Row | None:
    return _row(await (await connection.execute(_GET, (tenant, version))).fetchone())


async def all_of(connection: Connection, tenant: str) -> list[Row]:
    rows = await (await connection.execute(_ALL, (tenant,))).fetchall()
    return [Row(*row) for row in rows]


async def of_platform(connection: Connection) -> list[tuple[str, Row]]:
    """Those that no tenant's own choice of a key keeps."""
    rows = await (await connection.execute(_OF_PLATFORM)).fetchall()
    return [(row[0], Row(*row[1:])) for row in rows]


async def last_version(connection: Connection, tenant: str) -> int:
    row = await newest(connection, tenant)
    return 0 if row is None else row.version


async def insert(
    connection: Connection, tenant: str, version: int, wrapped_by: str, wrapped_key: bytes
) -> datetime:
    values = (tenant, version, wrapped_by, wrapped_key)
    row = await (await connection.execute(_INSERT, values)).fetchone()
    assert row is not None
    made: datetime = row[0]
    return made


async def replace(
    connection: Connection, tenant: str, before: Row, *, wrapped_by: str, wrapped_key: bytes
) -> int:
    values = (wrapped_by, wrapped_key, tenant, before.version, before.wrapped_key)
    return (await connection.execute(_REPLACE, values)).rowcount


async def delete_older(connection: Connection, tenant: str, version: int) -> None:
    await connection.execute(_DELETE_OLDER, (tenant, version))


def _row(row: tuple[Any, ...] | None) -> Row | None:
    return None if row is None else Row(*row)
