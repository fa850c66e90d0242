"""All sealed values of the database, whichever table they are in: counted, and put under new keys.

They are found by name: `bytea` columns that begin with `sealed`, and the members of `document`
columns that SEALED_MEMBERS names (base64). Values are replaced only where they are still what was
read, so a service that writes at the same time always wins.
"""

import base64
from collections.abc import Callable
from typing import Any

import msgspec
from psycopg import sql

from freehold.adapters.secrets.envelope import (
    PLATFORM_FORMAT,
    TENANT_FORMAT,
    header_of,
    header_read,
)
from freehold.ports.database import Connection, Database
from freehold.ports.secrets import SealBroken

SEALED_MEMBERS = ("_environment",)
_BATCH = 200

_COLUMNS = """
SELECT c.table_name, c.column_name,
       ARRAY(SELECT a.attname::text FROM pg_index i
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
             WHERE i.indisprimary
             AND i.indrelid = format('%I.%I', c.table_schema, c.table_name)::regclass
             ORDER BY a.attnum),
       c.data_type,
       EXISTS (SELECT FROM information_schema.columns o WHERE o.table_schema = c.table_schema
               AND o.table_name = c.table_name AND o.column_name = 'tenant')
FROM information_schema.columns c JOIN information_schema.tables t
  USING (table_catalog, table_schema, table_name)
WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE'
AND ((c.data_type = 'bytea' AND starts_with(c.column_name, 'sealed'))
     OR (c.data_type = 'json' AND c.column_name = 'document'))
ORDER BY 1, 2
"""


class Moved(msgspec.Struct, frozen=True):
    """`broken` values could not be opened under any key here, and stay as they are."""

    values: int = 0
    broken: int = 0


class SealedValues:
    """With a `tenant`: what is sealed under that tenant's key; without: under the platform's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def versions(self, tenant: str | None = None) -> dict[int, int]:
        """How many values each version of the key seals."""
        format = _format(tenant)
        counts: dict[int, int] = {}
        for column in await self._columns():
            statement = sql.SQL(
                "SELECT substring({value} FROM 1 FOR 5), count(*) FROM {table}"
                " WHERE {where} GROUP BY 1"
            ).format(**column.parts, where=column.where(tenant))
            async with self._database.connection() as connection:
                rows = await connection.execute(statement, column.values(format, tenant))
                for header, count in await rows.fetchall():
                    version = int.from_bytes(header[1:5])
                    counts[version] = counts.get(version, 0) + count
        return counts

    async def move(
        self,
        newest: int,
        rewrap: Callable[[bytes], bytes],
        *,
        tenant: str | None = None,
    ) -> Moved:
        """Everything that another version seals, under the newest."""
        format = _format(tenant)
        moved = broken = 0
        for column in await self._columns():
            if tenant is not None and not column.of_tenants:
                continue
            after: tuple[object, ...] | None = None
            while True:
                async with self._database.connection() as connection:
                    batch = await column.older(connection, format, newest, tenant, after)
                    for *key, value in batch:
                        try:
                            renewed = rewrap(value)
                        except SealBroken:
                            broken += 1
                            continue
                        moved += await column.replace(connection, tuple(key), value, renewed)
                if len(batch) < _BATCH:
                    break
                after = tuple(batch[-1][:-1])
        return Moved(moved, broken)

    async def delete_below(self, version: int, tenant: str) -> int:
        """Rows whose secret is lost for good with the key that it was sealed under."""
        format = _format(tenant)
        deleted = 0
        for column in await self._columns():
            if column.member or not column.of_tenants:
                continue
            statement = sql.SQL(
                "DELETE FROM {table} WHERE {where} AND substring({value} FROM 1 FOR 5) < %(newest)s"
            ).format(**column.parts, where=column.where(tenant))
            values = column.values(format, tenant) | {"newest": header_of(format, version)}
            async with self._database.connection() as connection:
                deleted += (await connection.execute(statement, values)).rowcount
        return deleted

    async def _columns(self) -> list["_Column"]:
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_COLUMNS)).fetchall()
        found = []
        for table, name, keys, kind, of_tenants in rows:
            members = SEALED_MEMBERS if kind != "bytea" else ("",)
            found += [_Column(table, name, tuple(keys), member, of_tenants) for member in members]
        return found


class _Column(msgspec.Struct, frozen=True):
    table: str
    name: str
    keys: tuple[str, ...]
    member: str
    of_tenants: bool

    @property
    def parts(self) -> dict[str, sql.Composable]:
        column = sql.Identifier(self.name)
        value: sql.Composable = column
        if self.member:
            value = sql.SQL("decode({}->>{}, 'base64')").format(column, self.member)
        return {"table": sql.Identifier(self.table), "value": value, "column": column}

    def where(self, tenant: str | None) -> sql.Composable:
        """Rows with a value of this format, of one tenant or of all."""
        condition: sql.Composable = sql.SQL("substring({value} FROM 1 FOR 1) = %(format)s").format(
            **self.parts
        )
        if tenant is not None:
            of = sql.SQL("tenant = %(tenant)s") if self.of_tenants else sql.SQL("false")
            condition = sql.SQL(" AND ").join([of, condition])
        return condition

    def values(self, format: int, tenant: str | None) -> dict[str, object]:
        return {"format": bytes([format]), "tenant": tenant}

    async def older(
        self,
        connection: Connection,
        format: int,
        newest: int,
        tenant: str | None,
        after: tuple[object, ...] | None,
    ) -> list[tuple[Any, ...]]:
        """The next rows in the order of their keys: those, then the value."""
        keys = sql.SQL(", ").join(map(sql.Identifier, self.keys))
        statement = sql.SQL(
            "SELECT {keys}, {value} FROM {table} WHERE {where}"
            " AND substring({value} FROM 1 FOR 5) <> %(newest)s"
        ).format(**self.parts, keys=keys, where=self.where(tenant))
        values = self.values(format, tenant) | {"newest": header_of(format, newest)}
        if after is not None:
            marks = sql.SQL(", ").join(sql.Placeholder(f"after{i}") for i in range(len(after)))
            statement += sql.SQL(" AND ({keys}) > ({marks})").format(keys=keys, marks=marks)
            values |= {f"after{i}": part for i, part in enumerate(after)}
        statement += sql.SQL(" ORDER BY {keys} LIMIT {count}").format(keys=keys, count=_BATCH)
        return await (await connection.execute(statement, values)).fetchall()

    async def replace(
        self, connection: Connection, key: tuple[object, ...], before: bytes, after: bytes
    ) -> int:
        header_read(after)
        new: sql.Composable = sql.SQL("%(after)s")
        if self.member:
            # jsonb_set would reorder a json document's members; our own text of the value cannot.
            new = sql.SQL("replace({column}::text, {column}->>{member}, %(text)s)::json").format(
                **self.parts, member=self.member
            )
        matches = sql.SQL(" AND ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(f"key{i}"))
            for i, name in enumerate(self.keys)
        )
        statement = sql.SQL(
            "UPDATE {table} SET {column} = {new} WHERE {matches} AND {value} = %(before)s"
        ).format(**self.parts, new=new, matches=matches)
        values = {f"key{i}": part for i, part in enumerate(key)}
        values |= {"before": before, "after": after, "text": _base64(after)}
        return (await connection.execute(statement, values)).rowcount


def _format(tenant: str | None) -> int:
    return PLATFORM_FORMAT if tenant is None else TENANT_FORMAT


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
