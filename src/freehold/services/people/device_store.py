"""SQL of the sign-ins of command lines that wait for somebody's leave."""

from datetime import datetime
from typing import Any

import msgspec

from freehold.ports.database import Connection

_COLUMNS = (
    "tenant, device_sha256, description, source, port, challenge, state, status, person,"
    " code_sha256, interval_seconds, polled_at, expires_at"
)


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """`port`, `challenge` and `state`: of one that takes the answer on its own loopback."""

    tenant: str
    device_sha256: str
    description: str
    source: str
    port: int | None
    challenge: str | None
    state: str | None
    status: str
    person: str | None
    code_sha256: str | None
    interval_seconds: int
    polled_at: datetime | None
    expires_at: datetime


async def insert(
    connection: Connection,
    device: Device,
    *,
    user_code_sha256: str,
    now: datetime,
    devices_max: int,
) -> bool:
    """False when too many wait. Takes the ended ones out."""
    await connection.execute("DELETE FROM people_devices WHERE expires_at <= %s", (now,))
    done = await connection.execute(
        "INSERT INTO people_devices (tenant, device_sha256, user_code_sha256, description, source,"
        " port, challenge, state, interval_seconds, expires_at)"
        " SELECT %s, %s, %s, %s, %s, %s, %s, %s, %s, %s"
        " WHERE (SELECT count(*) FROM people_devices) < %s ON CONFLICT DO NOTHING",
        (
            device.tenant, device.device_sha256, user_code_sha256, device.description,
            device.source, device.port, device.challenge, device.state, device.interval_seconds,
            device.expires_at, devices_max,
        ),
    )  # fmt: skip
    return done.rowcount == 1


async def pending(connection: Connection, user_code_sha256: str, now: datetime) -> Device | None:
    """One that nobody answered yet; locked until the transaction ends."""
    return await _one(
        connection,
        "user_code_sha256 = %s AND status = 'pending' AND expires_at > %s",
        (user_code_sha256, now),
    )


async def by_device(connection: Connection, device_sha256: str, now: datetime) -> Device | None:
    """Locked until the transaction ends."""
    return await _one(connection, "device_sha256 = %s AND expires_at > %s", (device_sha256, now))


async def answer(
    connection: Connection,
    device_sha256: str,
    *,
    status: str,
    tenant: str,
    person: str | None = None,
    code_sha256: str | None = None,
) -> None:
    await connection.execute(
        "UPDATE people_devices SET status = %s, tenant = %s, person = %s, code_sha256 = %s"
        " WHERE device_sha256 = %s",
        (status, tenant, person, code_sha256, device_sha256),
    )


async def polled(
    connection: Connection, device_sha256: str, now: datetime, interval_seconds: int
) -> None:
    await connection.execute(
        "UPDATE people_devices SET polled_at = %s, interval_seconds = %s WHERE device_sha256 = %s",
        (now, interval_seconds, device_sha256),
    )


async def delete(connection: Connection, device_sha256: str) -> None:
    await connection.execute(
        "DELETE FROM people_devices WHERE device_sha256 = %s", (device_sha256,)
    )


async def _one(connection: Connection, where: str, values: tuple[Any, ...]) -> Device | None:
    found = await connection.execute(
        f"SELECT {_COLUMNS} FROM people_devices WHERE {where} FOR UPDATE",  # noqa: S608 - constants
        values,
    )
    row = await found.fetchone()
    if row is None:
        return None
    return Device(**dict(zip(Device.__struct_fields__, row, strict=True)))
