"""SQL of the gateways' own tables. Each change tells every worker, in its own transaction."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import msgspec
from psycopg.types.json import Json as JsonParameter

from freehold.kernel.errors import NotFound
from freehold.ports.database import Connection, Database
from freehold.ports.resources import Resource, ResourceKind, Resources
from freehold.ports.targets import Json, Problem
from freehold.services.gateway.documents import kind_of
from freehold.services.gateway.model import (
    GATEWAY,
    RATE_LIMIT,
    RULE,
    TARGET,
    ActionGroup,
    GatewayRow,
    Pinned,
    TargetRow,
)
from freehold.services.gateway.pins import Key, Seen

CHANNEL = "freehold_gateways"
"""Payload: "{tenant}/{gateway_id}": something of it changed that is no resource."""

_TABLES = (
    "gateway_targets", "gateway_definitions", "gateway_problems", "gateway_action_groups",
)  # fmt: skip
_PIN_FIELDS = Pinned.__struct_fields__
_PIN_JSON = frozenset({"document", "plan", "pending_document", "pending_plan"})
_PIN_KEY = ("tenant", "gateway_id", "target_id", *_PIN_FIELDS)
_WRITE_PIN = f"""
INSERT INTO gateway_definitions ({", ".join(_PIN_KEY)})
VALUES ({", ".join(f"%({name})s" for name in _PIN_KEY)})
ON CONFLICT (tenant, gateway_id, target_id, kind, name) DO UPDATE SET
{", ".join(f"{n} = excluded.{n}" for n in _PIN_FIELDS if n not in ("kind", "name"))}
"""  # noqa: S608 - names of ours
_PINS = f"SELECT target_id, {', '.join(_PIN_FIELDS)} FROM gateway_definitions"  # noqa: S608


def _sql(template: str) -> str:
    """Fills in names of ours; values always travel as parameters."""
    of = "WHERE tenant = %s AND gateway_id = %s"
    return (
        template.replace("<pins>", _PINS)
        .replace("<of target>", f"{of} AND target_id = %s")
        .replace("<of>", of)
    )


class TargetState(msgspec.Struct, frozen=True, kw_only=True):
    server: Json = {}
    synchronized_at: datetime | None = None
    refresh_seconds: int | None = None
    refresh_failure: str | None = None
    pending_at: datetime | None = None


_STATE = ", ".join(TargetState.__struct_fields__)


class GatewayStore:
    def __init__(self, database: Database, resources: Resources) -> None:
        self._database, self._resources = database, resources

    @asynccontextmanager
    async def changing(
        self, tenant: str, gateway_id: str, *, tell: bool = True
    ) -> AsyncIterator[Connection]:
        """One transaction at a time for a gateway: counts and names are true until it ends. Hand
        its connection on: who takes another one meanwhile may wait for others who wait for this."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended('freehold gateway ' || %s, 0))",
                (gateway_id,),
            )
            yield connection
            if tell:
                await self.tell(connection, tenant, gateway_id)

    async def tell(self, connection: Connection, tenant: str, gateway_id: str) -> None:
        await self._database.notify(connection, CHANNEL, f"{tenant}/{gateway_id}")

    # -- gateways

    async def place(self, connection: Connection, tenant: str, gateway_id: str) -> None:
        await connection.execute(
            "INSERT INTO gateways (gateway_id, tenant) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            (gateway_id, tenant),
        )

    async def forget_gateway(self, connection: Connection, tenant: str, gateway_id: str) -> None:
        for table in ("gateways", *_TABLES):
            await connection.execute(
                _sql(f"DELETE FROM {table} <of>"),  # noqa: S608 - names of ours
                (tenant, gateway_id),
            )

    async def load(self, gateway_id: str) -> GatewayRow | None:
        """Of any tenant, by its id alone. None where there is none."""
        async with self._database.connection() as connection:
            rows = await connection.execute(
                "SELECT tenant FROM gateways WHERE gateway_id = %s", (gateway_id,)
            )
            found = await rows.fetchone()
        if found is None:
            return None
        tenant: str = found[0]
        try:
            gateway = await self._resources.get(tenant, GATEWAY, gateway_id)
        except NotFound:
            return None
        return await self._whole(gateway)

    async def of(self, tenant: str, gateway_id: str) -> GatewayRow:
        """The tenant's own. NotFound."""
        return await self._whole(await self._resources.get(tenant, GATEWAY, gateway_id))

    async def _whole(self, gateway: Resource) -> GatewayRow:
        tenant, id = gateway.tenant, gateway.id
        targets = await self.children(tenant, TARGET, id)
        rules = await self.children(tenant, RULE, id)
        limits = await self.children(tenant, RATE_LIMIT, id)
        async with self._database.connection() as connection:
            states = await self._states(connection, tenant, id)
            pinned = await self._pinned(connection, tenant, id)
            groups = await self.groups(tenant, id, connection=connection)
        return GatewayRow(
            tenant=tenant,
            resource=gateway,
            targets=tuple(
                target_row(target, states.get(target.id), pinned.get(target.id, ()))
                for target in targets
            ),
            rules=tuple(sorted(rules, key=lambda rule: int(rule.document["priority"]))),
            rate_limits=tuple(limits),
            groups=tuple(groups),
        )

    async def children(self, tenant: str, kind: ResourceKind, gateway_id: str) -> list[Resource]:
        """All of them: each kind has a quota of at most a page."""
        page = await self._resources.page(tenant, kind, parent=gateway_id, limit=1000)
        return page.items

    async def _states(
        self, connection: Connection, tenant: str, gateway_id: str
    ) -> dict[str, TargetState]:
        rows = await connection.execute(
            _sql(f"SELECT target_id, {_STATE} FROM gateway_targets <of>"),  # noqa: S608 - names of ours
            (tenant, gateway_id),
        )
        return {row[0]: _state(row[1:]) for row in await rows.fetchall()}

    async def _pinned(
        self, connection: Connection, tenant: str, gateway_id: str
    ) -> dict[str, list[Pinned]]:
        rows = await connection.execute(
            _sql("<pins> <of> ORDER BY target_id, position, kind, name"), (tenant, gateway_id)
        )
        found: dict[str, list[Pinned]] = {}
        for row in await rows.fetchall():
            found.setdefault(row[0], []).append(_pin(row[1:]))
        return found

    # -- targets

    async def put_target(
        self, connection: Connection, target: Resource, document: Any | None
    ) -> None:
        """`document`: the inline one of its configuration, whatever JSON it is."""
        await connection.execute(
            "INSERT INTO gateway_targets (tenant, gateway_id, target_id, document)"
            " VALUES (%s, %s, %s, %s) ON CONFLICT (tenant, gateway_id, target_id)"
            " DO UPDATE SET document = excluded.document",
            (target.tenant, target.parent, target.id, _json(document)),
        )

    async def target_document(self, target: Resource) -> Any | None:
        async with self._database.connection() as connection:
            rows = await connection.execute(
                _sql("SELECT document FROM gateway_targets <of target>"), _key(target)
            )
            row = await rows.fetchone()
        return row[0] if row else None

    async def target_states(self, tenant: str, gateway_id: str) -> dict[str, TargetState]:
        async with self._database.connection() as connection:
            return await self._states(connection, tenant, gateway_id)

    async def count_targets(self, connection: Connection, tenant: str, gateway_id: str) -> int:
        rows = await connection.execute(
            _sql("SELECT count(*) FROM gateway_targets <of>"), (tenant, gateway_id)
        )
        row = await rows.fetchone()
        assert row is not None
        return int(row[0])

    async def forget_target(self, connection: Connection, target: Resource) -> None:
        await self.forget_definitions(connection, target)
        await connection.execute(_sql("DELETE FROM gateway_targets <of target>"), _key(target))

    async def forget_definitions(self, connection: Connection, target: Resource) -> None:
        for table in ("gateway_definitions", "gateway_problems"):
            await connection.execute(
                _sql(f"DELETE FROM {table} <of target>"),  # noqa: S608 - names of ours
                _key(target),
            )

    async def synchronized(
        self, connection: Connection, target: Resource, server: Json, problems: Sequence[Problem]
    ) -> bool:
        """Whether the target now says something else of itself."""
        rows = await connection.execute(
            _sql("SELECT server FROM gateway_targets <of target>"), _key(target)
        )
        before = await rows.fetchone()
        await connection.execute(
            _sql(
                "UPDATE gateway_targets SET server = %s, synchronized_at = now(),"
                " pending_at = NULL, refresh_failure = NULL, refresh_at = CASE"
                " WHEN refresh_seconds > 0 THEN now() + make_interval(secs => refresh_seconds) END"
                " <of target>"
            ),
            (_json(server), *_key(target)),
        )
        await connection.execute(_sql("DELETE FROM gateway_problems <of target>"), _key(target))
        async with connection.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO gateway_problems"
                " (tenant, gateway_id, target_id, position, place, why, skipped)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s)",
                [
                    (*_key(target), n, _storable(p.where), _storable(p.why), p.skipped)
                    for n, p in enumerate(problems)
                ],
            )
        return before is None or before[0] != server

    async def problems(self, tenant: str, gateway_id: str, target_id: str) -> list[Problem]:
        async with self._database.connection() as connection:
            rows = await connection.execute(
                _sql(
                    "SELECT place, why, skipped FROM gateway_problems <of target> ORDER BY position"
                ),
                (tenant, gateway_id, target_id),
            )
            return [
                Problem(where=place, why=why, skipped=skipped) async for place, why, skipped in rows
            ]

    # -- definitions

    async def pinned(self, connection: Connection, target: Resource) -> dict[Key, Pinned]:
        return await self._pins_of(connection, _key(target))

    async def _pins_of(
        self, connection: Connection, key: tuple[str, str, str]
    ) -> dict[Key, Pinned]:
        rows = await connection.execute(
            _sql("<pins> <of target> ORDER BY position, kind, name"), key
        )
        pins = [_pin(row[1:]) for row in await rows.fetchall()]
        return {(pin.kind, pin.name): pin for pin in pins}

    async def read_pins(self, tenant: str, gateway_id: str, target_id: str) -> dict[Key, Pinned]:
        async with self._database.connection() as connection:
            return await self._pins_of(connection, (tenant, gateway_id, target_id))

    async def write(self, connection: Connection, target: Resource, seen: Seen) -> None:
        place = dict(zip(("tenant", "gateway_id", "target_id"), _key(target), strict=True))
        async with connection.cursor() as cursor:
            await cursor.executemany(_WRITE_PIN, [{**place, **_row(pin)} for pin in seen.written])
            await cursor.executemany(
                _sql("DELETE FROM gateway_definitions <of target> AND kind = %s AND name = %s"),
                [(*_key(target), kind, name) for kind, name in seen.gone],
            )

    # -- action groups

    async def groups(
        self, tenant: str, gateway_id: str, *, connection: Connection | None = None
    ) -> list[ActionGroup]:
        if connection is None:
            async with self._database.connection() as own:
                return await self.groups(tenant, gateway_id, connection=own)
        rows = await connection.execute(
            _sql("SELECT document FROM gateway_action_groups <of> ORDER BY name"),
            (tenant, gateway_id),
        )
        return [msgspec.convert(row[0], ActionGroup) for row in await rows.fetchall()]

    async def put_group(
        self, connection: Connection, tenant: str, gateway_id: str, group: ActionGroup
    ) -> None:
        """NotFound for a gateway that was deleted meanwhile."""
        put = await connection.execute(
            "INSERT INTO gateway_action_groups (tenant, gateway_id, name, document)"
            " SELECT tenant, gateway_id, %s, %s FROM gateways"
            " WHERE tenant = %s AND gateway_id = %s ON CONFLICT (tenant, gateway_id, name)"
            " DO UPDATE SET document = excluded.document, updated_at = now()",
            (group.name, _json(msgspec.to_builtins(group)), tenant, gateway_id),
        )
        if not put.rowcount:
            raise NotFound(f"gateway {gateway_id!r} does not exist")

    async def drop_group(
        self, connection: Connection, tenant: str, gateway_id: str, name: str
    ) -> bool:
        gone = await connection.execute(
            _sql("DELETE FROM gateway_action_groups <of> AND name = %s"),
            (tenant, gateway_id, name),
        )
        return gone.rowcount > 0


def target_row(
    target: Resource, state: TargetState | None, pinned: Iterable[Pinned] = ()
) -> TargetRow:
    state = state or TargetState()
    return TargetRow(
        resource=target,
        kind=kind_of(target.document["targetConfiguration"]),
        server=state.server,
        pinned=tuple(pinned),
        refresh_failure=state.refresh_failure,
    )


def _key(target: Resource) -> tuple[str, str, str]:
    return target.tenant, target.parent, target.id


def _state(row: Sequence[Any]) -> TargetState:
    return TargetState(**dict(zip(TargetState.__struct_fields__, row, strict=True)))


def _pin(row: Sequence[Any]) -> Pinned:
    return Pinned(**dict(zip(_PIN_FIELDS, row, strict=True)))


def _row(pin: Pinned) -> Mapping[str, Any]:
    return {
        name: _json(getattr(pin, name)) if name in _PIN_JSON else getattr(pin, name)
        for name in _PIN_FIELDS
    }


def _json(value: Any) -> JsonParameter | None:
    if value is None:
        return None
    return JsonParameter(msgspec.json.encode(value).decode(), dumps=str)


def _storable(text: str) -> str:
    """Texts of adapters quote documents, which may have what Postgres cannot hold."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()[:2000]
