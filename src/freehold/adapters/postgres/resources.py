"""The one control-plane repository: `ports.resources.Resources`."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import psycopg
from psycopg.types.json import Json, Jsonb

from freehold.adapters.postgres import resource_rules as rules
from freehold.adapters.postgres import resource_sql as statements
from freehold.adapters.postgres.idempotency import Place, claim
from freehold.adapters.postgres.resource_sql import resource
from freehold.kernel.arns import Arn
from freehold.kernel.errors import Conflict, NotFound
from freehold.kernel.pages import Page
from freehold.ports.database import Connection, Database
from freehold.ports.resources import Document, Idempotency, NameTaken, Resource, ResourceKind

IDEMPOTENCY_SECONDS = 24 * 3600.0


class PostgresResources:
    """`region` stands in the ARNs. Client tokens are remembered for `idempotency_seconds`."""

    def __init__(
        self,
        database: Database,
        *,
        region: str,
        idempotency_seconds: float = IDEMPOTENCY_SECONDS,
    ) -> None:
        self._database = database
        self._region = region
        self._idempotency_seconds = idempotency_seconds

    async def create(
        self,
        tenant: str,
        kind: ResourceKind,
        *,
        id: str,
        name: str,
        status: str,
        document: Document,
        tags: dict[str, str] | None = None,
        parent: str = "",
        idempotency: Idempotency | None = None,
        connection: Connection | None = None,
    ) -> tuple[Resource, bool]:
        tags = tags or {}
        rules.check_tags(tags, tags)
        path = kind.arn_resource.format(id=id, name=name, parent=parent)
        row = {
            **_key(tenant, kind, parent, id),
            "parent_kind": kind.parent_kind,
            "arn": str(Arn("aws", kind.service, self._region, tenant, path)),
            "name": name,
            "unique_name": name if kind.name_unique else None,
            "status": status,
            "document": _json(document),
            "tags": Jsonb(tags),
        }
        async with self._transaction(connection) as joined:
            earlier = await self._earlier(joined, kind, row, idempotency)
            if earlier is not None:
                return earlier, False
            if kind.parent_kind:
                await _lock_parent(joined, row)
            made = await (await joined.execute(statements.CREATE, row)).fetchone()
            if made is None:
                raise await _taken(joined, kind, row)
            return resource(made), True

    async def get(
        self,
        tenant: str,
        kind: ResourceKind,
        id: str,
        *,
        parent: str = "",
        version: int | None = None,
        connection: Connection | None = None,
    ) -> Resource:
        values = _key(tenant, kind, parent, id)
        statement = statements.GET
        if version is not None:
            values["version"] = version
            statement = statements.GET_VERSION
        async with self._connection(connection) as joined:
            row = await (await joined.execute(statement, values)).fetchone()
        if row is None:
            raise rules.absent(kind, id, version)
        return resource(row)

    async def find_by_name(
        self, tenant: str, kind: ResourceKind, name: str, *, parent: str = ""
    ) -> Resource | None:
        values = {"tenant": tenant, "kind": kind.name, "parent": parent, "name": name}
        async with self._connection(None) as connection:
            row = await (await connection.execute(statements.FIND_BY_NAME, values)).fetchone()
        return None if row is None else resource(row)

    async def find_by_arn(self, tenant: str, arn: str) -> Resource:
        async with self._connection(None) as connection:
            return await _by_arn(connection, statements.FIND_BY_ARN, tenant, arn)

    async def page(
        self,
        tenant: str,
        kind: ResourceKind,
        *,
        parent: str | None = None,
        name: str | None = None,
        limit: int | None = None,
        token: str | None = None,
    ) -> Page[Resource]:
        count = rules.page_items(limit)
        values: dict[str, Any] = {"tenant": tenant, "kind": kind.name, "limit": count + 1}
        statement = statements.PAGE
        if parent is not None:
            statement += statements.PAGE_OF_PARENT
            values["parent"] = parent
        if name is not None:
            statement += statements.PAGE_OF_NAME
            values["name"] = name
        if token is not None:
            statement += statements.PAGE_AFTER
            values.update(rules.page_position(token, kind))
        async with self._connection(None) as connection:
            rows = await connection.execute(statement + statements.PAGE_END, values)
            items = [resource(row) for row in await rows.fetchall()]
        if len(items) <= count:
            return Page(items)
        return Page(items[:count], rules.page_token(items[count - 1]))

    async def in_status(self, kind: ResourceKind, statuses: frozenset[str]) -> list[Resource]:
        values = {"kind": kind.name, "statuses": sorted(statuses)}
        async with self._connection(None) as connection:
            rows = await connection.execute(statements.IN_STATUS, values)
            return [resource(row) async for row in rows]

    async def list_versions(
        self,
        tenant: str,
        kind: ResourceKind,
        id: str,
        *,
        limit: int | None = None,
        token: str | None = None,
    ) -> Page[Resource]:
        assert kind.versioned, f"{kind.name} has no versions"
        count = rules.page_items(limit)
        values = {**_key(tenant, kind, "", id), "before": None, "limit": count + 1}
        if token is not None:
            values["before"] = rules.version_position(token, kind, id)
        async with self._connection(None) as connection:
            rows = await connection.execute(statements.LIST_VERSIONS, values)
            items = [resource(row) for row in await rows.fetchall()]
        if not items and token is None:
            raise rules.absent(kind, id)
        if len(items) <= count:
            return Page(items)
        return Page(items[:count], rules.version_token(items[count - 1]))

    async def update(
        self,
        tenant: str,
        kind: ResourceKind,
        id: str,
        change: Callable[[Resource], Document],
        *,
        status: str | None = None,
        parent: str = "",
        new_version: bool = False,
        name: str | None = None,
        idempotency: Idempotency | None = None,
        connection: Connection | None = None,
    ) -> Resource:
        assert kind.versioned or not new_version, f"{kind.name} has no versions"
        assert name is None or "{name}" not in kind.arn_resource, "an ARN does not change"
        key = _key(tenant, kind, parent, id)
        async with self._transaction(connection) as joined:
            earlier = await self._earlier(joined, kind, key, idempotency)
            if earlier is not None:
                return earlier
            current = await _locked(joined, statements.LOCK, kind, key)
            rules.check_idle(kind, current)
            if new_version:
                await joined.execute(statements.KEEP_VERSION, key)
            values = {
                **key,
                "document": _json(change(current)),
                "status": status,
                "version_step": int(new_version or not kind.versioned),
                "name": name,
            }
            try:
                row = await (await joined.execute(statements.UPDATE, values)).fetchone()
            except psycopg.errors.UniqueViolation:
                raise Conflict(f"another {kind.noun} has the name {name!r} already") from None
            assert row is not None, "the row is locked"
            return resource(row)

    async def set_status(
        self,
        tenant: str,
        kind: ResourceKind,
        id: str,
        status: str,
        *,
        parent: str = "",
        version: int | None = None,
        document: Document | None = None,
        connection: Connection | None = None,
    ) -> Resource:
        values = {
            **_key(tenant, kind, parent, id),
            "status": status,
            "document": None if document is None else _json(document),
            "version": version,
        }
        async with self._transaction(connection) as joined:
            row = await (await joined.execute(statements.SET_STATUS, values)).fetchone()
            if row is None and version is not None:
                await joined.execute(statements.SET_STATUS_OF_OLD, values)
                row = await (await joined.execute(statements.GET_VERSION, values)).fetchone()
            if row is None:
                raise rules.absent(kind, id, version)
            return resource(row)

    async def delete(
        self,
        tenant: str,
        kind: ResourceKind,
        id: str,
        *,
        parent: str = "",
        connection: Connection | None = None,
    ) -> None:
        key = _key(tenant, kind, parent, id)
        async with self._transaction(connection) as joined:
            current = await _locked(joined, statements.LOCK_TO_DELETE, kind, key)
            rules.check_idle(kind, current)
            path = f"{parent}/{id}" if parent else id
            await joined.execute(statements.DELETE, {**key, "path": path})

    async def tag(self, tenant: str, arn: str, tags: dict[str, str]) -> None:
        async with self._transaction(None) as connection:
            current = await _by_arn(connection, statements.LOCK_BY_ARN, tenant, arn)
            after = {**current.tags, **tags}
            rules.check_tags(tags, after)
            await connection.execute(
                statements.SET_TAGS, {"tenant": tenant, "arn": arn, "tags": Jsonb(after)}
            )

    async def untag(self, tenant: str, arn: str, keys: list[str]) -> None:
        async with self._transaction(None) as connection:
            current = await _by_arn(connection, statements.LOCK_BY_ARN, tenant, arn)
            after = {key: value for key, value in current.tags.items() if key not in keys}
            await connection.execute(
                statements.SET_TAGS, {"tenant": tenant, "arn": arn, "tags": Jsonb(after)}
            )

    async def _earlier(
        self,
        connection: Connection,
        kind: ResourceKind,
        key: dict[str, Any],
        idempotency: Idempotency | None,
    ) -> Resource | None:
        """What an earlier request with the same client token made or changed."""
        if idempotency is None or idempotency.token is None:
            return None
        place = Place(kind.name, key["parent"], key["id"])
        seconds = self._idempotency_seconds
        known = await claim(connection, key["tenant"], idempotency, place, seconds=seconds)
        if known is None:
            return None
        key = _key(key["tenant"], kind, known.parent, known.id)
        row = await (await connection.execute(statements.GET, key)).fetchone()
        if row is None:
            raise Conflict(
                f"the client token was used for {kind.noun} {known.id!r}, which was deleted since"
            )
        return resource(row)

    @asynccontextmanager
    async def _connection(self, joined: Connection | None) -> AsyncIterator[Connection]:
        with rules.storable():
            if joined is not None:
                yield joined
            else:
                async with self._database.connection() as connection:
                    yield connection

    @asynccontextmanager
    async def _transaction(self, joined: Connection | None) -> AsyncIterator[Connection]:
        """The caller's transaction, of which a failure undoes our part alone; or one of our own."""
        if joined is not None:
            async with self._connection(joined), joined.transaction():
                yield joined
        else:
            with rules.storable():
                async with self._database.transaction() as connection:
                    yield connection


def _key(tenant: str, kind: ResourceKind, parent: str, id: str) -> dict[str, Any]:
    return {"tenant": tenant, "kind": kind.name, "parent": parent, "id": id}


def _json(document: Document) -> Json:
    """Encoded here and now: what cannot be written fails before the statement runs."""
    with rules.storable():
        encoded = msgspec.json.encode(document).decode()
    return Json(encoded, dumps=str)


async def _locked(
    connection: Connection, statement: str, kind: ResourceKind, key: dict[str, Any]
) -> Resource:
    row = await (await connection.execute(statement, key)).fetchone()
    if row is None:
        raise rules.absent(kind, key["id"])
    return resource(row)


async def _lock_parent(connection: Connection, row: dict[str, Any]) -> None:
    """Until our transaction ends nobody deletes it: no child is left without a parent."""
    above, _, last = row["parent"].rpartition("/")
    found = await connection.execute(
        statements.LOCK_PARENT, {**row, "parent_parent": above, "parent_id": last}
    )
    if await found.fetchone() is None:
        raise NotFound(f"{row['parent_kind']} {row['parent']!r} does not exist")


async def _taken(connection: Connection, kind: ResourceKind, row: dict[str, Any]) -> Conflict:
    """Why a row could not be inserted, in words that help."""
    found = await (await connection.execute(statements.GET, row)).fetchone()
    if found is not None:
        return Conflict(f"{kind.noun} {row['id']!r} exists already")
    if kind.name_unique:
        found = await (await connection.execute(statements.FIND_BY_NAME, row)).fetchone()
        if found is not None:
            other = resource(found)
            return NameTaken(
                f"the name {other.name!r} is taken by {kind.noun} {other.id!r} "
                f"(status {other.status}); choose another name or delete that one first"
            )
    return Conflict(f"another resource has the ARN {row['arn']} already")


async def _by_arn(connection: Connection, statement: str, tenant: str, arn: str) -> Resource:
    found = await connection.execute(statement, {"tenant": tenant, "arn": arn})
    row = await found.fetchone()
    if row is None:
        raise NotFound(f"no resource has the ARN {arn}")
    return resource(row)
