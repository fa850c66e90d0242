"""Migrations: in order, once, by one starter at a time, and never changed afterwards."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
import pytest

import freehold
from freehold.adapters.postgres.migrations import components_under, migrate
from freehold.kernel.errors import PlatformFailed, Unavailable

MakeDsn = Callable[[], Awaitable[str]]


@pytest.fixture
async def dsn(empty_dsn: MakeDsn) -> str:
    return await empty_dsn()


def write(directory: Path, *statements: str) -> Path:
    directory.mkdir(exist_ok=True)
    for number, statement in enumerate(statements, start=1):
        (directory / f"{number:04}_step.sql").write_text(statement)
    return directory


async def rows(dsn: str, statement: str) -> list[tuple[object, ...]]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        return await (await connection.execute(statement.encode())).fetchall()


async def test_files_are_applied_in_order_and_once(dsn: str, tmp_path: Path) -> None:
    first = write(tmp_path / "one", "CREATE TABLE a (n int); -- 100%", "INSERT INTO a VALUES (1)")
    second = write(tmp_path / "two", "INSERT INTO a VALUES (2); INSERT INTO a VALUES (3)")
    components = [("one", first), ("two", second)]
    assert await migrate(dsn, components) == [
        "one/0001_step.sql",
        "one/0002_step.sql",
        "two/0001_step.sql",
    ]
    assert await migrate(dsn, components) == []
    write(first, "CREATE TABLE a (n int); -- 100%", "INSERT INTO a VALUES (1)", "DELETE FROM a")
    assert await migrate(dsn, components) == ["one/0003_step.sql"]
    assert await rows(dsn, "SELECT n FROM a") == []


async def test_all_who_start_at_once_succeed_and_one_applies(dsn: str, tmp_path: Path) -> None:
    steps = ["CREATE TABLE a (n int)", *["INSERT INTO a VALUES (1)"] * 5]
    components = [("one", write(tmp_path / "one", *steps))]
    applied = await asyncio.gather(*(migrate(dsn, components) for _ in range(6)))
    assert sorted(len(titles) for titles in applied) == [0, 0, 0, 0, 0, 6]
    assert await rows(dsn, "SELECT count(*) FROM a") == [(5,)]


async def test_a_changed_file_is_refused(dsn: str, tmp_path: Path) -> None:
    one = write(tmp_path / "one", "CREATE TABLE a (n int)")
    await migrate(dsn, [("one", one)])
    write(one, "CREATE TABLE a (n bigint)")
    with pytest.raises(PlatformFailed, match=r"one/0001_step\.sql was changed"):
        await migrate(dsn, [("one", one)])


async def test_a_newer_database_is_refused(dsn: str, tmp_path: Path) -> None:
    one = write(tmp_path / "one", "CREATE TABLE a (n int)", "CREATE TABLE b (n int)")
    await migrate(dsn, [("one", one)])
    (one / "0002_step.sql").unlink()
    with pytest.raises(PlatformFailed, match=r"newer than this version.*one/0002_step\.sql"):
        await migrate(dsn, [("one", one)])


async def test_a_file_that_moved_to_another_component_is_not_applied_again(
    dsn: str, tmp_path: Path
) -> None:
    """Access keys were the component `identity` until workload identities came."""
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "0001_access_keys.sql").write_text("CREATE TABLE kept (n int)")
    await migrate(dsn, [("identity", keys)])
    fresh = write(tmp_path / "fresh", "CREATE TABLE b (n int)")
    assert await migrate(dsn, [("access", keys), ("identity", fresh)]) == ["identity/0001_step.sql"]


async def test_a_failing_file_leaves_nothing_and_is_named(dsn: str, tmp_path: Path) -> None:
    one = write(tmp_path / "one", "CREATE TABLE a (n int)", "CREATE TABLE b (n int); SELECT 1/0")
    with pytest.raises(PlatformFailed, match=r"one/0002_step\.sql: division by zero"):
        await migrate(dsn, [("one", one)])
    assert await rows(dsn, "SELECT to_regclass('a')::text, to_regclass('b')::text") == [("a", None)]
    write(one, "CREATE TABLE a (n int)", "CREATE TABLE b (n int)")
    assert await migrate(dsn, [("one", one)]) == ["one/0002_step.sql"]


@pytest.mark.parametrize("names", [["0002_a.sql"], ["0001_a.sql", "0001_b.sql"], ["first.sql"]])
async def test_files_out_of_number_are_refused_before_anything_runs(
    dsn: str, tmp_path: Path, names: list[str]
) -> None:
    for name in names:
        (tmp_path / name).write_text("CREATE TABLE a (n int)")
    with pytest.raises(PlatformFailed, match="expected a file named"):
        await migrate(dsn, [("one", tmp_path)])
    assert await rows(dsn, "SELECT to_regclass('a')") == [(None,)]


async def test_a_server_that_is_away_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await migrate(f"host={tmp_path} user=nobody dbname=x", [])


async def test_the_platforms_own_tables_each_name_their_tenant(
    dsn: str,
) -> None:
    await migrate(dsn, components_under(Path(freehold.__file__).parent))
    without = await rows(
        dsn,
        """
        SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND n.nspname = 'public'
        AND c.relname IN ('resources', 'resource_versions', 'idempotency', 'access_keys')
        AND NOT EXISTS (
            SELECT 1 FROM pg_index i JOIN pg_attribute a
            ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
            WHERE i.indrelid = c.oid AND i.indisprimary AND a.attname = 'tenant')
        """,
    )
    assert without == []
    assert len(await rows(dsn, "SELECT 1 FROM pg_class WHERE relname = 'access_keys'")) == 1
