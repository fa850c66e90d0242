"""A real PostgreSQL for every test that asks: one server a run, migrated once, copied cheaply."""

import os
import secrets
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import hypothesis  # noqa: F401 - else its plugin imports it at the very end: see CPython #106905
import psycopg
import pytest
from psycopg import sql

import freehold
from freehold.adapters.postgres.embedded import EmbeddedPostgres
from freehold.adapters.postgres.migrations import components_under, migrate
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.testing.scripted_model import MODEL_NAME
from running import RunningPlatform
from served_model import MODEL_KEY, ServedModel

# As root PostgreSQL needs an unprivileged user; tests make none on the machine.
SERVER_USER = "nobody" if os.geteuid() == 0 else None

# A run in the background of a shell has these ignored, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)

MakeDsn = Callable[[], Awaitable[str]]


@pytest.fixture(autouse=True)
def _no_session_of_another_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 keeps its default session, and with it the keys that the environment had before."""
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)


@pytest.fixture(scope="session")
def open_directory() -> Iterator[Path]:
    """A temporary directory with a short path, which the server's user may enter."""
    with tempfile.TemporaryDirectory(prefix="freehold-test-") as path:
        Path(path).chmod(0o711)
        yield Path(path)


@pytest.fixture(scope="session")
async def postgres_dsn(open_directory: Path) -> AsyncIterator[str]:
    """The DSN of an embedded server that lives as long as the test run.

    Or of the server that FREEHOLD_TEST_DATABASE_URL names: tests make and drop databases there.
    """
    foreign = os.environ.get("FREEHOLD_TEST_DATABASE_URL")
    if foreign is not None:
        yield foreign
        await _drop_databases(foreign)
        return
    server = EmbeddedPostgres(open_directory / "postgres", user=SERVER_USER, durable=False)
    yield await server.start()
    await server.stop()


@pytest.fixture(scope="session")
async def empty_dsn(postgres_dsn: str) -> MakeDsn:
    """Makes a fresh, empty database; its DSN."""

    async def make() -> str:
        return await _make_database(postgres_dsn, template="template0")

    return make


@pytest.fixture(scope="session")
async def fresh_dsn(postgres_dsn: str) -> MakeDsn:
    """Makes a fresh, migrated database; its DSN. A copy of a template: some 20 ms."""
    template = await _make_database(postgres_dsn, template="template0")
    await migrate(template, components_under(Path(freehold.__file__).parent))
    name = urlsplit(template).path.removeprefix("/")

    async def make() -> str:
        return await _make_database(postgres_dsn, template=name)

    return make


@pytest.fixture(scope="session")
async def database_dsn(fresh_dsn: MakeDsn) -> str:
    """The DSN of `database`, for a second pool on it."""
    return await fresh_dsn()


@pytest.fixture(scope="session")
async def database(database_dsn: str) -> AsyncIterator[PostgresDatabase]:
    """The migrated database that all tests share: keep apart by `tenant`."""
    database = PostgresDatabase(database_dsn, pool_size_max=8, application_name="tests")
    await database.start()
    yield database
    await database.close()


@pytest.fixture
def tenant() -> str:
    """A 12-digit account that no other test has."""
    return str(secrets.randbelow(9 * 10**11) + 10**11)


@pytest.fixture(scope="session")
def scripted_model() -> Iterator[ServedModel]:
    """What the platform of this run takes for a model."""
    with ServedModel() as served:
        yield served


@pytest.fixture(scope="session")
def platform(open_directory: Path, scripted_model: ServedModel) -> Iterator[RunningPlatform]:
    """The one real platform of this run: container tier where this machine has it."""
    running = RunningPlatform(
        open_directory / "platform",
        environment={
            "OPENAI_BASE_URL": scripted_model.model.base_url,
            "OPENAI_API_KEY": MODEL_KEY,
            "OPENAI_MODEL": MODEL_NAME,
        },
        metering_seconds=1,
        allow_process_tier="true",
        outbound_private_hosts="127.0.0.1",
    )
    with running:
        yield running


@pytest.fixture(scope="session")
def hasty(open_directory: Path, platform: RunningPlatform) -> Iterator[RunningPlatform]:
    """A platform with little patience. It shares the other's builds: they take seconds."""
    state = open_directory / "hasty"
    state.mkdir()
    (state / "builds").symlink_to(platform.state / "builds")
    running = RunningPlatform(
        state,
        metering_seconds=0.5,
        session_idle_seconds=1,
        session_lifetime_seconds=8,
        session_start_seconds_max=6,
        session_memory_mib_max=256,
    )
    with running:
        yield running


_RUN = secrets.token_hex(4)


async def _drop_databases(server: str) -> None:
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as connection:
        found = await connection.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (f"test_{_RUN}_",)
        )
        for (name,) in await found.fetchall():
            await connection.execute(
                sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            )


async def _make_database(server: str, *, template: str) -> str:
    name = f"test_{_RUN}_{secrets.token_hex(4)}"
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as connection:
        await connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY wal_log").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
    return urlsplit(server)._replace(path=f"/{name}").geturl()
