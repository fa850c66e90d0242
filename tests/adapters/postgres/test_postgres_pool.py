"""The pool and the notifications: they go on when connections and servers do not."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.errors import Unavailable
from freehold.ports.database import Connection, Database

KILL_OTHERS = """
SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture
async def dsn(fresh_dsn: object) -> str:
    assert callable(fresh_dsn)
    made = await fresh_dsn()
    assert isinstance(made, str)
    return made


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[PostgresDatabase]:
    database = PostgresDatabase(dsn, pool_size_max=3, wait_seconds_max=5)
    await database.start()
    yield database
    await database.close()


class Ear:
    """Remembers what was heard; waits, bounded, for the next word."""

    def __init__(self) -> None:
        self._words: asyncio.Queue[str] = asyncio.Queue()

    async def heard(self, word: str) -> None:
        await self._words.put(word)

    async def next(self) -> str:
        return await asyncio.wait_for(self._words.get(), 5)

    @property
    def silent(self) -> bool:
        return self._words.empty()


async def value(connection: Connection, statement: str) -> object:
    row = await (await connection.execute(statement.encode())).fetchone()
    return None if row is None else row[0]


async def say(database: Database, channel: str, *words: str) -> None:
    async with database.connection() as connection:
        for word in words:
            await database.notify(connection, channel, word)


async def kill_all_connections(dsn: str) -> int:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        killed = await value(connection, KILL_OTHERS)
        assert isinstance(killed, int)
        return killed


async def test_a_transaction_commits_at_its_end_and_rolls_back_on_error(
    database: PostgresDatabase,
) -> None:
    async with database.transaction() as connection:
        await connection.execute("CREATE TABLE t (n int)")
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO t VALUES (1)")
            raise ZeroDivisionError
    async with database.connection() as connection:
        assert await value(connection, "SELECT count(*) FROM t") == 0
        await connection.execute("INSERT INTO t VALUES (1)")  # autocommit
    async with database.connection() as connection:
        assert await value(connection, "SELECT count(*) FROM t") == 1


async def test_a_cancelled_transaction_leaves_nothing_and_gives_its_connection_back(
    database: PostgresDatabase,
) -> None:
    async with database.connection() as connection:
        await connection.execute("CREATE TABLE t (n int)")
    inside = asyncio.Event()

    async def slow() -> None:
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO t VALUES (1)")
            inside.set()
            await asyncio.Event().wait()

    for _ in range(4):  # more often than there are connections
        inside.clear()
        task = asyncio.create_task(slow())
        await asyncio.wait_for(inside.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)
    async with database.connection() as connection:
        assert await value(connection, "SELECT count(*) FROM t") == 0


async def test_when_no_connection_is_free_in_time_it_is_unavailable(dsn: str) -> None:
    small = PostgresDatabase(dsn, pool_size_max=1, wait_seconds_max=0.2)
    await small.start()
    async with small.connection():
        with pytest.raises(Unavailable):
            async with small.connection():
                pass
    async with small.connection() as connection:
        assert await value(connection, "SELECT 1") == 1
    await small.close()


async def test_dead_connections_are_never_handed_out(database: PostgresDatabase, dsn: str) -> None:
    held = [database.connection() for _ in range(3)]
    for each in held:
        await each.__aenter__()
    for each in held:
        await each.__aexit__(None, None, None)
    assert await kill_all_connections(dsn) == 4  # three, and the listener

    async def use() -> object:
        async with database.connection() as connection:
            return await value(connection, "SELECT 1")

    assert await asyncio.gather(*(use() for _ in range(12))) == [1] * 12


async def test_a_statement_in_flight_ends_as_unavailable(
    database: PostgresDatabase, dsn: str
) -> None:
    running = asyncio.Event()

    async def slow() -> None:
        async with database.transaction() as connection:
            await connection.execute("SELECT 1")
            running.set()
            await connection.execute("SELECT pg_sleep(60)")

    task = asyncio.create_task(slow())
    await asyncio.wait_for(running.wait(), 5)
    await kill_all_connections(dsn)
    with pytest.raises(Unavailable, match="try again"):
        await asyncio.wait_for(task, 5)


async def test_other_database_errors_pass_as_they_are(database: PostgresDatabase) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        async with database.connection() as connection:
            await connection.execute("SELECT 1/0")


async def test_json_comes_back_as_it_was_written(database: PostgresDatabase) -> None:
    async with database.connection() as connection:
        found = await value(connection, """SELECT '{"a": [1, 2.5, null, "é"]}'::jsonb""")
    assert found == {"a": [1, 2.5, None, "é"]}


async def test_what_is_said_is_heard_in_order_on_its_channel_alone(dsn: str) -> None:
    database = PostgresDatabase(dsn, pool_size_max=3)
    first, second, other = Ear(), Ear(), Ear()
    database.listen("Channel one", first.heard)
    database.listen("Channel one", second.heard)
    database.listen("two", other.heard)
    await database.start()
    words = [f"word {n}" for n in range(50)]
    await say(database, "Channel one", *words)
    for ear in (first, second):
        assert [await ear.next() for _ in words] == words
    await say(database, "two", "done")
    assert await other.next() == "done"
    await database.close()


async def test_what_is_said_in_a_transaction_is_heard_once_it_commits(
    database: PostgresDatabase,
) -> None:
    ear = Ear()
    database.listen("c", ear.heard)
    assert await ear.next() == ""
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as connection:
            await database.notify(connection, "c", "undone")
            raise ZeroDivisionError
    async with database.transaction() as connection:
        await database.notify(connection, "c", "kept")
        await asyncio.sleep(0.05)
        assert ear.silent
    assert await ear.next() == "kept"


async def test_who_listens_late_hears_that_anything_may_have_changed(
    database: PostgresDatabase,
) -> None:
    for n in range(3):
        ear = Ear()
        database.listen(f"late {n}", ear.heard)
        assert await ear.next() == ""
        await say(database, f"late {n}", "word")
        assert await ear.next() == "word"
        assert ear.silent


async def test_after_a_lost_connection_everyone_hears_so_once(dsn: str) -> None:
    database = PostgresDatabase(dsn, pool_size_max=3)
    ears = [Ear(), Ear()]
    for n, ear in enumerate(ears):
        database.listen(f"channel {n}", ear.heard)
    await database.start()
    await kill_all_connections(dsn)
    for n, ear in enumerate(ears):
        assert await ear.next() == ""
        await say(database, f"channel {n}", "back")
        assert await ear.next() == "back"
        assert ear.silent
    await database.close()


async def test_a_broken_listener_does_not_deafen_the_others(
    database: PostgresDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(word: str) -> None:
        raise RuntimeError("cannot bear it")

    ear = Ear()
    database.listen("c", broken)
    database.listen("c", ear.heard)
    assert await ear.next() == ""
    for word in ("one", "two"):
        await say(database, "c", word)
        assert await ear.next() == word
    assert "cannot bear it" in caplog.text


async def test_a_server_that_is_away_at_the_start_is_unavailable(tmp_path: Path) -> None:
    database = PostgresDatabase(f"host={tmp_path} user=x dbname=x", wait_seconds_max=0.1)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(database.start(), 5)
