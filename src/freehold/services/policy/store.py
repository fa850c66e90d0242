"""What is in force of engines' policies. The policies themselves are resources."""

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from freehold.kernel.errors import NotFound
from freehold.ports.database import Connection, Database
from freehold.ports.resources import Resource, Resources
from freehold.services.policy.model import (
    CHANNEL,
    ENGINE,
    POLICY,
    EngineRow,
    PolicyRow,
)


class Footprint(msgspec.Struct, frozen=True):
    """What a policy takes of an engine's quotas: `gateway` is "" for all."""

    policy_id: str
    gateway: str
    bytes: int


class PolicyStore:
    def __init__(self, database: Database, resources: Resources) -> None:
        self._database, self._resources = database, resources

    @asynccontextmanager
    async def changing(self, tenant: str, engine_id: str) -> AsyncIterator[Connection]:
        """One transaction at a time for an engine: what is read in it is true until it ends. Hand
        its connection on: who takes another one meanwhile may wait for others who wait for this."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "SELECT pg_advisory_xact_lock("
                "hashtextextended('freehold policy engine ' || %s || '/' || %s, 0))",
                (tenant, engine_id),
            )
            yield connection
            await self._database.notify(connection, CHANNEL, f"{tenant}/{engine_id}")

    # -- engines

    async def find(self, tenant: str, engine_arn: str) -> Resource | None:
        """The engine of that very ARN, in this tenant."""
        try:
            engine = await self._resources.get(tenant, ENGINE, engine_arn.rpartition("/")[2])
        except NotFound:
            return None
        return engine if engine.arn == engine_arn else None

    async def load(
        self, tenant: str, engine_id: str, *, connection: Connection | None = None
    ) -> EngineRow:
        """As it is now. NotFound."""
        if connection is None:
            async with self._database.connection() as own:
                return await self.load(tenant, engine_id, connection=own)
        engine = await self._resources.get(tenant, ENGINE, engine_id, connection=connection)
        rows = await connection.execute(
            "SELECT policy_id, name, version, mode, statement, gateway FROM policies"
            " WHERE tenant = %s AND engine_id = %s AND version IS NOT NULL ORDER BY policy_id",
            (tenant, engine_id),
        )
        policies = tuple(_policy(row) for row in await rows.fetchall())
        return EngineRow(
            tenant=tenant, id=engine.id, arn=engine.arn, name=engine.name,
            version=version_of(policies), policies=policies,
        )  # fmt: skip

    async def names(self, connection: Connection, tenant: str, engine_id: str) -> list[str]:
        """Of its policies, in whatever status."""
        rows = await connection.execute(
            "SELECT name FROM policies WHERE tenant = %s AND engine_id = %s ORDER BY name",
            (tenant, engine_id),
        )
        return [name async for (name,) in rows]

    # -- policies

    async def asked(
        self, connection: Connection, policy: Resource, *, gateway: str, size_bytes: int
    ) -> None:
        """What was asked for takes its room in the quotas at once."""
        await connection.execute(
            "INSERT INTO policies"
            " (tenant, engine_id, policy_id, name, asked_gateway, asked_bytes)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (tenant, engine_id, policy_id)"
            " DO UPDATE SET asked_gateway = excluded.asked_gateway,"
            " asked_bytes = excluded.asked_bytes",
            (*_key(policy), policy.name, gateway, size_bytes),
        )

    async def put_in_force(self, connection: Connection, policy: Resource, row: PolicyRow) -> None:
        await connection.execute(
            "UPDATE policies SET version = %s, mode = %s, statement = %s, gateway = %s,"
            " asked_gateway = %s, asked_bytes = %s"
            " WHERE tenant = %s AND engine_id = %s AND policy_id = %s",
            (
                row.version, row.mode, row.statement, row.gateway, row.gateway,
                len(row.statement.encode()), *_key(policy),
            ),
        )  # fmt: skip

    async def gave_up(self, connection: Connection, policy: Resource) -> None:
        """What was asked for is not taken: what is in force, if anything, stays."""
        await connection.execute(
            "UPDATE policies SET asked_gateway = gateway,"
            " asked_bytes = octet_length(convert_to(statement, 'UTF8'))"
            " WHERE tenant = %s AND engine_id = %s AND policy_id = %s AND version IS NOT NULL",
            _key(policy),
        )

    async def drop(self, connection: Connection, policy: Resource) -> None:
        await connection.execute(
            "DELETE FROM policies WHERE tenant = %s AND engine_id = %s AND policy_id = %s",
            _key(policy),
        )

    async def footprints(
        self, connection: Connection, tenant: str, engine_id: str
    ) -> Sequence[Footprint]:
        """Of all policies, each by what it may come to be: the larger of both where a change of
        it is looked at."""
        rows = await connection.execute(
            "SELECT policy_id, asked_gateway, asked_bytes, gateway,"
            " octet_length(convert_to(statement, 'UTF8'))"
            " FROM policies WHERE tenant = %s AND engine_id = %s",
            (tenant, engine_id),
        )
        found = []
        async for id, asked, asked_bytes, gateway, size in rows:
            if gateway is None or gateway == asked:
                found.append(Footprint(id, asked, max(asked_bytes, size or 0)))
            else:
                found += [Footprint(id, asked, asked_bytes), Footprint(id, gateway, size)]
        return found


def version_of(policies: Iterable[PolicyRow]) -> str:
    parts = sorted((each.id, each.version, each.mode) for each in policies)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]


def _policy(row: Sequence[Any]) -> PolicyRow:
    id, name, version, mode, statement, gateway = row
    return PolicyRow(
        id=id, name=name, version=version, mode=mode, statement=statement, gateway=gateway
    )


def _key(policy: Resource) -> tuple[str, str, str]:
    assert policy.kind == POLICY.name
    return policy.tenant, policy.parent, policy.id
