"""Numbered SQL files, applied once, in order, by one starter at a time."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psycopg

from freehold.kernel.errors import PlatformFailed, Unavailable
from freehold.ports.database import Connection

Component = tuple[str, Path]
"""A name, and the directory of its `0001_name.sql` files."""

_LOCK = 0x46524545484F4C44  # "FREEHOLD": the same number in every release
_SERVER_VERSION_MIN = 150000
_FILE = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")

_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    component text NOT NULL,
    number integer NOT NULL,
    file text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (component, number)
)
"""

_RENAMED = (("access", "identity", "0001_access_keys.sql"),)
"""Files that moved: the component they are of now, the one they were of, the name."""
_RENAME = "UPDATE schema_migrations SET component = %s WHERE component = %s AND file = %s"


class Migration(msgspec.Struct, frozen=True):
    component: str
    number: int
    file: str
    checksum: str
    sql: str

    @property
    def title(self) -> str:
        return f"{self.component}/{self.file}"


def components_under(package: Path) -> list[Component]:
    """Every `migrations` folder in `package`, named by the folder around it; adapters first."""
    found = sorted(package.glob("*/*/migrations"))
    return [(path.parent.name, path) for path in found]


async def migrate(dsn: str, components: Sequence[Component]) -> list[str]:
    """Brings the database up to the code; what was applied, as "component/0001_name.sql".

    Each file is a transaction of its own. Others who start at the same time wait. PlatformFailed
    when an applied file was changed since, or the database is newer than this code; components
    that this code does not know are let be.
    """
    wanted = [(name, _read(name, directory)) for name, directory in components]
    try:
        async with await psycopg.AsyncConnection.connect(
            dsn, autocommit=True, application_name="freehold migrations", connect_timeout=10
        ) as connection:
            if connection.info.server_version < _SERVER_VERSION_MIN:
                raise PlatformFailed(
                    f"PostgreSQL {_SERVER_VERSION_MIN // 10000} or newer is needed; the server is "
                    f"{connection.info.server_version // 10000}"
                )
            await connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
            await connection.execute(_TABLE)
            for renamed in _RENAMED:
                await connection.execute(_RENAME, renamed)
            applied = []
            for name, migrations in wanted:
                for migration in await _pending(connection, name, migrations):
                    await _apply(connection, migration)
                    applied.append(migration.title)
            return applied
    except psycopg.OperationalError as error:
        raise Unavailable(f"the database does not answer: {error}") from error
    except psycopg.Error as error:
        raise PlatformFailed(f"the database cannot be migrated: {error}") from error


def _read(component: str, directory: Path) -> list[Migration]:
    migrations = []
    for expected, path in enumerate(sorted(directory.glob("*.sql")), start=1):
        match = _FILE.fullmatch(path.name)
        if match is None or int(match[1]) != expected:
            raise PlatformFailed(
                f"{component}/{path.name}: expected a file named {expected:04}_name.sql"
            )
        text = path.read_text()
        checksum = hashlib.sha256(text.encode()).hexdigest()
        migrations.append(Migration(component, expected, path.name, checksum, text))
    return migrations


async def _pending(
    connection: Connection, component: str, migrations: list[Migration]
) -> list[Migration]:
    rows = await connection.execute(
        "SELECT number, file, checksum FROM schema_migrations WHERE component = %s ORDER BY number",
        (component,),
    )
    applied = await rows.fetchall()
    if len(applied) > len(migrations):
        raise PlatformFailed(
            f"the database is newer than this version of Freehold: {component}/{applied[-1][1]} "
            "is applied and unknown here; start the newer version"
        )
    for (_, file, checksum), migration in zip(applied, migrations, strict=False):
        if checksum != migration.checksum:
            raise PlatformFailed(
                f"{migration.title} was changed after it was applied (as {file}): "
                "put the file back and write a new migration"
            )
    return migrations[len(applied) :]


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            # Our own files, never input. Without parameters one call takes several statements.
            await connection.execute(migration.sql.encode())
            await connection.execute(
                "INSERT INTO schema_migrations (component, number, file, checksum)"
                " VALUES (%s, %s, %s, %s)",
                (migration.component, migration.number, migration.file, migration.checksum),
            )
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        raise PlatformFailed(f"{migration.title}: {error}") from error
