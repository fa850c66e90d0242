"""LISTEN on one connection of its own, which comes back when it is lost."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
from psycopg import sql

from freehold.ports.database import Connection

log = logging.getLogger("freehold.postgres")

Heard = Callable[[str], Awaitable[None] | None]

_WATCHED_ANEW_SECONDS = 10.0
_PAUSE_SECONDS_MIN = 0.02
_PAUSE_SECONDS_MAX = 0.5  # while we are deaf, a change that others make goes unheard


class Notifications:
    """Delivers notifications to handlers, one after the other, in the order of commits."""

    def __init__(self, dsn: str, parameters: dict[str, Any]) -> None:
        self._dsn = dsn
        self._parameters = parameters
        self._handlers: dict[str, list[Heard]] = {}
        self._newcomers: list[tuple[str, Heard]] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def listen(self, channel: str, heard: Heard) -> None:
        self._handlers.setdefault(channel, []).append(heard)
        if self._task is not None:
            self._newcomers.append((channel, heard))
            self._changed.set()

    async def start(self) -> None:
        """Returns once every channel is listened to: nothing after that is missed."""
        connection = await self._connect()
        self._task = asyncio.create_task(self._run(connection), name="postgres notifications")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _connect(self) -> Connection:
        connection = await psycopg.AsyncConnection.connect(self._dsn, **self._parameters)
        try:
            await self._subscribe(connection, list(self._handlers))
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _subscribe(self, connection: Connection, channels: list[str]) -> None:
        for channel in channels:
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))

    async def _run(self, connection: Connection) -> None:
        try:
            while True:
                try:
                    await self._hear(connection)
                except psycopg.OperationalError as error:
                    log.warning("database: notifications stopped: %s", error)
                await connection.close()
                connection = await self._reconnect()
                self._newcomers.clear()
                for channel, handlers in list(self._handlers.items()):
                    for heard in list(handlers):
                        await _tell(heard, channel, "")
        finally:
            await connection.close()

    async def _reconnect(self) -> Connection:
        pause = _PAUSE_SECONDS_MIN
        while True:
            try:
                return await self._connect()
            except psycopg.OperationalError:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _PAUSE_SECONDS_MAX)

    async def _hear(self, connection: Connection) -> None:
        """Until the connection is lost (OperationalError).

        Waits on the socket itself: psycopg's own `notifies()` wakes up ten times a second.
        """
        inbox: deque[psycopg.Notify] = deque()
        connection.add_notify_handler(inbox.append)
        while True:
            await self._welcome(connection)
            _drain(connection, inbox)
            while inbox:
                notification = inbox.popleft()
                for heard in list(self._handlers.get(notification.channel, ())):
                    await _tell(heard, notification.channel, notification.payload)
            if not self._newcomers:
                await self._readable_or_changed(connection.fileno())
                connection.pgconn.consume_input()

    async def _welcome(self, connection: Connection) -> None:
        """Handlers that came after the start; each hears "" once its channel is listened to."""
        self._changed.clear()
        newcomers, self._newcomers = self._newcomers, []
        await self._subscribe(connection, sorted({channel for channel, _ in newcomers}))
        for channel, heard in newcomers:
            await _tell(heard, channel, "")

    async def _readable_or_changed(self, descriptor: int) -> None:
        """Or after ten seconds: whoever lost a connection and stops watching its descriptor
        afterwards stops ours, where it got the same number meanwhile. So it is watched anew."""
        loop = asyncio.get_running_loop()
        loop.add_reader(descriptor, self._changed.set)
        again = loop.call_later(_WATCHED_ANEW_SECONDS, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            again.cancel()
            loop.remove_reader(descriptor)


def _drain(connection: Connection, inbox: "deque[psycopg.Notify]") -> None:
    """What libpq has received and not yet handed out."""
    while (raw := connection.pgconn.notifies()) is not None:
        inbox.append(psycopg.Notify(raw.relname.decode(), raw.extra.decode(), raw.be_pid))


async def _tell(heard: Heard, channel: str, payload: str) -> None:
    try:
        answer = heard(payload)
        if answer is not None:
            await answer
    except Exception:
        # A boundary: one broken listener must not deafen the others.
        log.exception("database: a listener on %s failed", channel)
