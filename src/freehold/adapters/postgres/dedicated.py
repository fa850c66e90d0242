"""One connection for one purpose, driven through libpq itself: a third of the CPU a statement.

For statements that stand in every request's way. Everything else goes through the pool.
"""

import asyncio
import logging
from typing import Any

import psycopg
from psycopg import pq

from freehold.kernel.errors import PlatformFailed, Unavailable

log = logging.getLogger("freehold.postgres")

Row = tuple[bytes | None, ...]

_ANSWER_SECONDS_MAX = 10.0

_FINE = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


class DedicatedConnection:
    """One statement at a time. A lost connection is Unavailable until `open` is called again."""

    def __init__(self, dsn: str, *, application_name: str) -> None:
        self._dsn = dsn
        self._application_name = application_name
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._prepared: dict[str, bytes] = {}
        self._descriptor = -1
        self._answer: asyncio.Future[pq.abc.PGresult] | None = None
        self._last: pq.abc.PGresult | None = None

    async def open(self) -> None:
        """Raises Unavailable. Statements are prepared anew, session locks are gone."""
        await self.close()
        try:
            connection = await psycopg.AsyncConnection.connect(
                self._dsn, autocommit=True, application_name=self._application_name,
                connect_timeout=5, keepalives_idle=30, keepalives_interval=10, keepalives_count=3,
            )  # fmt: skip
        except psycopg.OperationalError as error:
            raise Unavailable("the database is not available just now") from error
        self._connection = connection
        connection.pgconn.nonblocking = 1
        self._descriptor = connection.pgconn.socket
        asyncio.get_running_loop().add_reader(self._descriptor, self._readable)

    async def close(self) -> None:
        connection = self._connection
        self._let_go()
        if connection is not None:
            await connection.close()

    async def run(self, statement: str, *values: bytes | None) -> list[Row]:
        """`values` and answers are in Postgres' text format. Unavailable: it may have been done or
        not. Any other refusal of the server's is PlatformFailed, and nothing was done."""
        connection = self._connection
        if connection is None:
            raise Unavailable("the database is not available just now")
        try:
            name = self._prepared.get(statement)
            if name is None:
                name = b"dedicated_%d" % len(self._prepared)
                connection.pgconn.send_prepare(name, statement.encode())
                _rows(await self._result(connection.pgconn))
                self._prepared[statement] = name
            connection.pgconn.send_query_prepared(name, values)
            return _rows(await self._result(connection.pgconn))
        except psycopg.OperationalError as error:
            self._lost(error)
            raise Unavailable("the database is not available just now") from error

    async def _result(self, pgconn: "pq.abc.PGconn") -> "pq.abc.PGresult":
        """Cancelled, it leaves a connection that nobody may use: callers run it to its end."""
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        # Again each time: who closes a connection of their own and stops watching it afterwards
        # stops ours, where it got the same number meanwhile.
        loop.add_reader(self._descriptor, self._readable)
        if pgconn.flush():
            loop.add_writer(self._descriptor, self._writable)
        overdue = loop.call_later(_ANSWER_SECONDS_MAX, self._overdue)
        try:
            return await self._answer
        finally:
            overdue.cancel()
            self._answer = None

    def _overdue(self) -> None:
        """As good as lost: whoever asked connects anew."""
        self._lost(psycopg.OperationalError(f"no answer within {_ANSWER_SECONDS_MAX:g} seconds"))

    def _writable(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            if not connection.pgconn.flush():
                asyncio.get_running_loop().remove_writer(self._descriptor)
        except psycopg.OperationalError as error:
            self._lost(error)

    def _readable(self) -> None:
        """Of an idle connection this is its end, noticed at once."""
        connection = self._connection
        if connection is None:
            return
        pgconn = connection.pgconn
        try:
            pgconn.consume_input()
            if self._answer is None or self._answer.done():
                return
            # To the end of the statement, so that nothing blocks on its last message.
            while not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    assert self._last is not None, "each statement has a result"
                    self._answer.set_result(self._last)
                    return
                self._last = result
        except psycopg.OperationalError as error:
            self._lost(error)

    def _lost(self, error: psycopg.OperationalError) -> None:
        connection = self._connection
        if connection is None:
            return
        log.warning("database: %s is cut off: %s", self._application_name, error)
        self._let_go()
        connection.pgconn.finish()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def _let_go(self) -> None:
        self._connection = None
        self._prepared.clear()
        if self._descriptor >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._descriptor)
            loop.remove_writer(self._descriptor)
            self._descriptor = -1


def _rows(result: "pq.abc.PGresult") -> list[Row]:
    if result.status not in _FINE:
        message = (result.error_message or b"").decode(errors="replace").strip()
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        # No connection, no resources, shutting down, a standby: all may be better soon.
        if not state or state[:2] in ("08", "53", "57") or state == "25006":
            raise psycopg.OperationalError(message)
        log.error("database: %s: %s", state, message)
        raise PlatformFailed("the database refused a statement of the platform's own")
    columns = range(result.nfields)
    return [
        tuple(result.get_value(row, column) for column in columns) for row in range(result.ntuples)
    ]
