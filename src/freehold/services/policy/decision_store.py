"""The log of decisions is read here, one tenant's at a time, newest first; and what is old goes."""

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from psycopg.errors import QueryCanceled
from psycopg.rows import dict_row

from freehold.kernel import clock, ids
from freehold.kernel.errors import NotFound, ValidationFailed
from freehold.kernel.pages import Page, decode_token, encode_token
from freehold.ports.audit import Audit, AuditEvent
from freehold.ports.database import Connection, Database
from freehold.ports.enforcement import Mode
from freehold.ports.secrets import Sealer
from freehold.services.policy.decision_lines import (
    Inputs,
    bounded_text,
    first_id,
    opened,
)
from freehold.services.policy.redaction import DecisionView

_LIST_MILLISECONDS_MAX = 10_000
_EXPIRE_LINES = 2000

_COLUMNS = """
    tenant, id, at, request_id, gateway_id, gateway_arn, engine_id, engine_version, schema_version,
    mode, tool, target, principal, principal_type, principal_kind, "user", allowed, policies,
    errors, shadow_allowed, shadow_policies, microseconds"""

# On the writer's own connection. Both tables in one statement: nothing is ever half there.
INSERT = f"""
WITH lines AS MATERIALIZED (
    SELECT * FROM json_to_recordset($1::json) AS line (
        tenant text, id uuid, at timestamptz, request_id text, gateway_id text, gateway_arn text,
        engine_id text, engine_version text, schema_version text, mode text, tool text, target text,
        principal text, principal_type text, principal_kind text, "user" text, allowed boolean,
        policies text[], errors integer, shadow_allowed boolean, shadow_policies text[],
        microseconds integer, sealed_inputs text)
), kept AS (
    INSERT INTO policy_decisions ({_COLUMNS}, sealed_inputs)
    SELECT {_COLUMNS}, decode(sealed_inputs, 'base64') FROM lines ON CONFLICT DO NOTHING
)
INSERT INTO policy_decision_policies (tenant, policy, id)
SELECT tenant, policy, id FROM lines, unnest(policies || shadow_policies) AS policy
ON CONFLICT DO NOTHING
"""  # noqa: S608 - names of ours

# The first line of each tenant, from one to the next along the key.
_TENANTS = """
WITH RECURSIVE found AS (
    (SELECT tenant FROM policy_decisions ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT d.tenant FROM policy_decisions d WHERE d.tenant > found.tenant
            ORDER BY d.tenant LIMIT 1)
    FROM found WHERE found.tenant IS NOT NULL
)
SELECT tenant FROM found WHERE tenant IS NOT NULL
"""

_EXPIRE = """
WITH old AS (
    SELECT id FROM policy_decisions
    WHERE tenant = %(tenant)s AND id > %(after)s AND id < %(first)s
    ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM policy_decisions d USING old WHERE d.tenant = %(tenant)s AND d.id = old.id
    RETURNING d.id, d.policies || d.shadow_policies AS policies
), links AS (
    DELETE FROM policy_decision_policies p
    USING (SELECT id, unnest(policies) AS policy FROM gone) g
    WHERE p.tenant = %(tenant)s AND p.policy = g.policy AND p.id = g.id
)
SELECT count(*), (SELECT id FROM gone ORDER BY id DESC LIMIT 1) FROM gone
"""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A decision as the store has it. Texts are cut to 1,000 bytes, policies to 100."""

    tenant: str
    id: uuid.UUID
    at: datetime
    request_id: str
    gateway_id: str
    gateway_arn: str
    engine_id: str
    engine_version: str
    schema_version: str
    mode: Mode
    tool: str
    target: str
    principal: str
    principal_type: str
    principal_kind: str
    user: str | None
    allowed: bool
    policies: Sequence[str]
    errors: int
    shadow_allowed: bool | None
    shadow_policies: Sequence[str]
    microseconds: int
    sealed_inputs: bytes = b""
    """Only where it was asked for."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """All that are set must hold. `policy` is one that decided, or would have with those that only
    log; `would_differ`: those would have changed the outcome."""

    since: datetime | None = None
    until: datetime | None = None
    gateway_id: str | None = None
    engine_id: str | None = None
    tool: str | None = None
    principal: str | None = None
    user: str | None = None
    allowed: bool | None = None
    policy: str | None = None
    mode: Mode | None = None
    request_id: str | None = None
    would_differ: bool = False


class DecisionLog:
    """Every method is of one tenant's decisions."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    async def page(
        self,
        tenant: str,
        what: Filter,
        *,
        limit: int,
        token: str | None = None,
        inputs: bool = False,
    ) -> Page[Kept]:
        """With `inputs` each with its sealed ones."""
        position, before = decode_token(token), None
        if position is not None:
            try:
                (text,) = position
                before = uuid.UUID(str(text))
            except ValueError:
                raise ValidationFailed("nextToken is not one of this list's") from None
        found = await self._newest(tenant, what, before, limit + 1, inputs)
        more, found = len(found) > limit, found[:limit]
        return Page(found, encode_token(str(found[-1].id)) if more else None)

    async def get(self, tenant: str, id: str) -> Kept:
        try:
            key = uuid.UUID(id)
        except ValueError:
            raise _absent(id) from None
        statement = (
            f"SELECT {_COLUMNS}, sealed_inputs FROM policy_decisions"  # noqa: S608 - names of ours
            " WHERE tenant = %(tenant)s AND id = %(id)s"
        )
        found = await self._fetch(statement, {"tenant": tenant, "id": key})
        if not found:
            raise _absent(id)
        return found[0]

    async def batches(
        self, tenant: str, what: Filter, *, size: int, lines_max: int
    ) -> AsyncIterator[Sequence[Kept]]:
        """Newest first, with their inputs; no connection is held between two batches."""
        before: uuid.UUID | None = None
        while lines_max > 0:
            found = await self._newest(tenant, what, before, min(size, lines_max), True)
            if not found:
                return
            lines_max -= len(found)
            before = found[-1].id
            yield found

    def open(self, kept: Kept) -> Inputs:
        """Raises SealBroken."""
        return opened(kept.tenant, str(kept.id), kept.sealed_inputs, self._sealer)

    async def _newest(
        self, tenant: str, what: Filter, before: uuid.UUID | None, limit: int, inputs: bool
    ) -> list[Kept]:
        statement, values = newest(tenant, what, before=before, limit=limit, inputs=inputs)
        return await self._fetch(statement, values)

    async def _fetch(self, statement: str, values: Mapping[str, Any]) -> list[Kept]:
        """Filters that each find much and together nothing may read through all of it: not for
        longer than others should wait for the connection."""
        async with (
            self._database.transaction() as connection,
            connection.cursor(row_factory=dict_row) as cursor,
        ):
            await cursor.execute(f"SET LOCAL statement_timeout = {_LIST_MILLISECONDS_MAX}".encode())
            try:
                await cursor.execute(statement.encode(), values)
            except QueryCanceled:
                raise ValidationFailed(
                    "these filters together find too little in too much: name a shorter period"
                ) from None
            return [Kept(**row) async for row in cursor]

    # -- what is shown of their inputs

    async def view(self, tenant: str, engine_id: str) -> DecisionView:
        return (await self.views(tenant, [engine_id])).get(engine_id, DecisionView())

    async def views(self, tenant: str, engine_ids: Sequence[str]) -> Mapping[str, DecisionView]:
        """By the engine's id. Those that nobody set have the usual one, and are not there."""
        async with self._database.connection() as connection:
            rows = await connection.execute(
                "SELECT engine_id, show, reveal, hide FROM policy_decision_views"
                " WHERE tenant = %s AND engine_id = ANY(%s)",
                (tenant, list(engine_ids)),
            )
            return {
                engine_id: DecisionView(show=show, reveal=tuple(reveal), hide=tuple(hide))
                async for engine_id, show, reveal, hide in rows
            }

    async def put_view(self, tenant: str, engine_id: str, view: DecisionView, *, by: str) -> None:
        async with self._database.connection() as connection:
            await connection.execute(
                "INSERT INTO policy_decision_views"
                " (tenant, engine_id, show, reveal, hide, changed_by, changed_at)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (tenant, engine_id) DO UPDATE"
                " SET show = excluded.show, reveal = excluded.reveal, hide = excluded.hide,"
                " changed_by = excluded.changed_by, changed_at = excluded.changed_at",
                (
                    tenant, engine_id, view.show, list(view.reveal), list(view.hide), by,
                    clock.now(),
                ),
            )  # fmt: skip


def newest(
    tenant: str, what: Filter, *, before: uuid.UUID | None, limit: int, inputs: bool
) -> tuple[str, dict[str, Any]]:
    """The statement of a list, and its values: each filter alone is the head of an index whose
    rows stand by time, so that a page reads little more than it shows."""
    source, id = "policy_decisions", "id"
    where = ["tenant = %(tenant)s"]
    values: dict[str, Any] = {"tenant": tenant, "limit": limit}
    if what.policy is not None:
        source, id = "policy_decision_policies p JOIN policy_decisions USING (tenant, id)", "p.id"
        where = ["p.tenant = %(tenant)s"]
    for clause, value in _clauses(what, id):
        if value is not None:
            name = f"v{len(values)}"
            where.append(clause.format(f"%({name})s"))
            values[name] = value
    if what.would_differ:
        where.append("shadow_allowed <> allowed")
    if before is not None:
        where.append(f"{id} < %(before)s")
        values["before"] = before
    columns = f"{_COLUMNS}, sealed_inputs" if inputs else _COLUMNS
    # Clauses of this module, never input.
    statement = (
        f"SELECT {columns} FROM {source} WHERE {' AND '.join(where)}"  # noqa: S608
        f" ORDER BY {id} DESC LIMIT %(limit)s"
    )
    return statement, values


def _clauses(what: Filter, id: str) -> list[tuple[str, Any]]:
    return [
        (f"{id} >= {{}}", None if what.since is None else first_id(what.since)),
        (f"{id} < {{}}", None if what.until is None else first_id(what.until)),
        ("policy = {}", _column(what.policy)),
        ("gateway_id = {}", _column(what.gateway_id)),
        ("engine_id = {}", _column(what.engine_id)),
        ("tool = {}", _column(what.tool)),
        ("principal = {}", _column(what.principal)),
        ('"user" = {}', _column(what.user)),
        ("allowed = {}", what.allowed),
        ("mode = {}", what.mode),
        ("request_id = {}", _column(what.request_id)),
    ]


def _column(text: str | None) -> str | None:
    return None if text is None else bounded_text(text)


def _absent(id: str) -> NotFound:
    return NotFound(f"policy decision {id!r} does not exist")


class DecisionRetention:
    """What is older than `days` goes, of every tenant; 0 keeps all. That it was done is a line of
    the tenant's audit."""

    def __init__(self, database: Database, audit: Audit, *, days: int) -> None:
        self._database = database
        self._audit = audit
        self._days = days

    async def expire(self) -> None:
        """Two that do it at once share the work."""
        if self._days == 0:
            return
        before = clock.now() - timedelta(days=self._days)
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_TENANTS)).fetchall()
            for (tenant,) in rows:
                if gone := await _expire(connection, tenant, before):
                    await self._audit.write(_expired(tenant, gone, before))


async def _expire(connection: Connection, tenant: str, before: datetime) -> int:
    """Each batch begins behind the one before, whose rows still stand in the way as dead ones."""
    values = {"tenant": tenant, "first": first_id(before), "limit": _EXPIRE_LINES}
    total, after = 0, uuid.UUID(int=0)
    while True:
        row = await (await connection.execute(_EXPIRE, values | {"after": after})).fetchone()
        assert row is not None
        gone: int = row[0]
        total += gone
        if gone == 0:
            return total
        after = row[1]


def _expired(tenant: str, count: int, before: datetime) -> AuditEvent:
    return AuditEvent(
        tenant=tenant,
        call_id=ids.request_id(),
        phase="outcome",
        at=clock.now(),
        operation="freehold:ExpirePolicyDecisions",
        principal="freehold",
        kind="platform",
        outcome="allowed",
        detail={"decisions": str(count), "before": before.isoformat()},
    )
