"""The egress process: what sessions send to the network passes through here, and nothing else."""

import asyncio
import functools
import logging
import socket
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from freehold.adapters.egress import (
    Boundary,
    ForwardProxy,
    SessionRules,
    User,
    place,
    private_hosts,
)
from freehold.adapters.placement.local.egress import EgressAcceptor, RefusalNotes
from freehold.kernel.errors import PlatformFailed
from freehold.ports.egress import SessionEgress
from freehold.processes.child import Surroundings
from freehold.settings import Settings

log = logging.getLogger("freehold.egress")

_IDLE_SECONDS_MAX = 900.0  # a model may think for minutes before its first byte
_POSTGRES_PORT = 5432


async def egress(around: Surroundings, own_port: int) -> None:
    """`own_port`: where the platform listens. SIGTERM cuts all connections."""
    settings = around.settings
    async with AsyncExitStack() as stack:
        stopped = asyncio.Event()
        around.on_stop(stopped.set)
        proxy = ForwardProxy(
            boundary=await _boundary(settings, own_port),
            idle_seconds_max=_IDLE_SECONDS_MAX,
            connection_seconds_max=settings.session_lifetime_seconds,
        )
        notes = RefusalNotes(around.run)
        users = Users(proxy, notes)
        acceptor = EgressAcceptor(around.run, take=users.take, cut=users.cut)
        stack.push_async_callback(users.close)
        await notes.open()
        stack.push_async_callback(notes.close)
        await acceptor.open()
        stack.push_async_callback(acceptor.close)
        around.say_ready()
        await stopped.wait()


class Users:
    """The sessions that have connections, by the id of their sandbox."""

    def __init__(self, proxy: ForwardProxy, notes: RefusalNotes) -> None:
        self._proxy, self._notes = proxy, notes
        self._users: dict[str, User] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, sandbox_id: str, egress: SessionEgress, connection: socket.socket) -> None:
        user = self._users.get(sandbox_id)
        if user is None:
            refused = functools.partial(self._notes.refused, sandbox_id)
            user = self._users[sandbox_id] = User(SessionRules(egress), refused)
        else:
            user.rules = SessionRules(egress)
        self._spawn(self._proxy.take(connection, user))

    def cut(self, sandbox_id: str) -> None:
        self._notes.forget(sandbox_id)
        user = self._users.pop(sandbox_id, None)
        if user is not None:
            totals = user.totals
            log.info("egress of %s: %s", sandbox_id, totals)
            self._spawn(user.cut())

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("an egress connection broke", exc_info=error)


async def _boundary(settings: Settings, own_port: int) -> Boundary:
    """Raises PlatformFailed for a setting that cannot be read."""
    try:
        private = private_hosts(settings.egress_private_hosts)
    except ValueError as error:
        raise PlatformFailed(f"FREEHOLD_EGRESS_PRIVATE_HOSTS: {error}") from error
    return Boundary(
        private=private,
        own_ports=frozenset({own_port}),
        own_places=await _database_places(settings.database_url or ""),
    )


async def _database_places(url: str) -> frozenset[tuple[str, int]]:
    """Where Postgres listens; nothing for one that listens on a unix socket."""
    try:
        named = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        return frozenset()
    hosts = str(named.get("hostaddr") or named.get("host") or "").split(",")
    ports = str(named.get("port") or _POSTGRES_PORT).split(",")
    found = set()
    for number, host in enumerate(hosts):
        if not host or host.startswith("/"):
            continue
        port = int((ports[number] if number < len(ports) else ports[0]) or _POSTGRES_PORT)
        try:
            answers = await asyncio.get_running_loop().getaddrinfo(host, port)
        except OSError as error:
            log.warning("the database's host is not found: %s", error)
            continue
        found |= {place(str(answer[4][0]), port) for answer in answers}
    return frozenset(found)
