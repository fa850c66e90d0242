"""The pool and the notifications: `ports.database.Database` over psycopg."""

import asyncio
import logging
import select
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import msgspec
import psycopg
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg_pool import AsyncConnectionPool

from freehold.adapters.postgres.notifications import Notifications
from freehold.kernel.errors import Unavailable
from freehold.ports.database import Connection

log = logging.getLogger("freehold.postgres")

_PAYLOAD_BYTES_MAX = 7900
_RETRY_SECONDS_MAX = 2.0


class PostgresDatabase:
    """A database behind a DSN, ours or somebody else's. `start` before use, `close` after.

    Losing the server costs the statements in flight (Unavailable) and nothing more: dead
    connections are thrown away when they are taken from the pool.
    """

    def __init__(
        self,
        dsn: str,
        *,
        pool_size_max: int = 10,
        application_name: str = "freehold",
        wait_seconds_max: float = 5,
    ) -> None:
        self._wait_seconds_max = wait_seconds_max
        parameters = _connection_parameters(application_name)
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            dsn,
            connection_class=_PatientConnection,
            kwargs=parameters,
            min_size=1,
            max_size=pool_size_max,
            timeout=wait_seconds_max,
            reconnect_timeout=30,
            configure=_configure,
            open=False,
            name=application_name,
        )
        self._notifications = Notifications(
            dsn, {**parameters, "application_name": f"{application_name} listener"}
        )

    async def start(self) -> None:
        """Raises Unavailable when the server does not answer in time; then make a new one."""
        try:
            await self._pool.open(wait=True, timeout=self._wait_seconds_max)
            await self._notifications.start()
        except psycopg.OperationalError as error:
            await self.close()
            raise Unavailable(f"the database does not answer: {error}") from error

    async def close(self) -> None:
        await self._notifications.close()
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        try:
            connection = await self._living()
        except psycopg.OperationalError as error:
            raise _unavailable(error) from error
        try:
            yield connection
        except psycopg.OperationalError as error:
            raise _unavailable(error) from error
        finally:
            await self._pool.putconn(connection)

    async def _living(self) -> Connection:
        """The pool's own check pauses for seconds between two dead connections, and after a crash
        of the server all of them are dead."""
        give_up = time.monotonic() + self._wait_seconds_max
        while True:
            connection = await self._taken(max(0.0, give_up - time.monotonic()))
            if await _lives(connection):
                return connection
            await connection.close()
            await self._pool.putconn(connection)  # which makes another in its place

    async def _taken(self, seconds_max: float) -> Connection:
        """The pool waits by `asyncio.wait_for`, which before Python 3.12 swallows a cancellation
        that comes together with a connection: whoever was cancelled would go on for ever."""
        task = asyncio.current_task()
        assert task is not None, "connections are asked for by tasks"
        cancelled = task.cancelling()
        connection = await self._pool.getconn(seconds_max)
        if task.cancelling() > cancelled:
            await self._pool.putconn(connection)
            raise asyncio.CancelledError
        return connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def notify(self, connection: Connection, channel: str, payload: str) -> None:
        assert len(payload.encode()) <= _PAYLOAD_BYTES_MAX, "a notification is a hint, not a letter"
        await connection.execute("SELECT pg_notify(%s, %s)", (channel, payload))

    def listen(self, channel: str, heard: Callable[[str], Awaitable[None] | None]) -> None:
        """Handlers run one after the other, in the order of commits: be quick.

        A channel first listened to after `start` hears "" once the server listens.
        """
        self._notifications.listen(channel, heard)


class _PatientConnection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """Tries again soon: the pool's own pauses (1 s, 2 s, 4 s) are longer than our restarts."""

    @classmethod
    async def connect(cls, conninfo: str = "", **options: Any) -> Self:
        pause = 0.02
        last_try = time.monotonic() + _RETRY_SECONDS_MAX
        while True:
            try:
                return await super().connect(conninfo, **options)
            except psycopg.OperationalError:
                if time.monotonic() + pause > last_try:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.3)


def _connection_parameters(application_name: str) -> dict[str, Any]:
    return {
        "autocommit": True,
        "application_name": application_name,
        "connect_timeout": 5,
        # A server that vanished without a word (its machine lost power) is noticed in a minute.
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }


async def _configure(connection: Connection) -> None:
    set_json_loads(msgspec.json.decode, connection)
    set_json_dumps(msgspec.json.encode, connection)


async def _lives(connection: Connection) -> bool:
    """Costs one poll(2). An idle connection has nothing to say unless it was ended."""
    try:
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        if poll.poll(0):
            await AsyncConnectionPool.check_connection(connection)
    except psycopg.OperationalError:
        return False
    return True


def _unavailable(error: psycopg.OperationalError) -> Unavailable:
    log.warning("database: %s: %s", type(error).__name__, error)
    return Unavailable("the database is not available just now; try again shortly")
