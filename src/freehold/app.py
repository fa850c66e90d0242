"""The composition root: the processes of one machine, each started from its own file.

`up` supervises; `python -m freehold.app node`, `... api` and `... egress` are the kinds of process
that it starts (processes/node.py, api.py, egress.py). Only these files plug things together.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import resource
import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from freehold import settings as settings_module
from freehold import state as state_files
from freehold.kernel.errors import FreeholdError, Unavailable
from freehold.processes.child import Orders, Surroundings
from freehold.settings import Settings, configure_logging
from freehold.supervisor import (
    Child,
    DidNotStart,
    StopSignals,
    cancelled,
    keep_running,
    listening_socket,
)

log = logging.getLogger("freehold")

_EARLIER_RUN_SECONDS_MAX = 10.0


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """What `freehold up` tells once the platform answers."""

    endpoint: str
    tier: str
    tier_detail: str
    state: str
    account: str
    region: str
    access_key_id: str
    pid: int
    ca_certificate: str | None = None
    """What clients must trust to reach an https endpoint."""


class _Children:
    """The node and the workers. They load their code while the database starts."""

    def __init__(self, settings: Settings, run: Path, listening: socket.socket) -> None:
        self._settings, self._run = settings, run
        accepts = listening.fileno()
        self.node = Child("node", ["node"], environment=os.environ)
        self.workers = [
            Child(
                f"API worker {number}", ["api", "--listen", str(accepts), "--number", str(number)],
                environment=os.environ, descriptors=(accepts,),
            )
            for number in range(1, settings.workers + 1)
        ]  # fmt: skip
        self.egress = [
            Child(
                "egress", ["egress", "--port", str(listening.getsockname()[1])],
                environment=os.environ,
            )
        ] if settings.session_egress_max != "none" else []  # fmt: skip

    async def launch(self) -> None:
        await asyncio.gather(*(child.launch() for child in self._all()))

    async def start(self, settings: Settings) -> None:
        orders = Orders(
            settings=settings_module.environment_of(settings), run=str(self._run)
        ).encoded()
        starts = [asyncio.create_task(child.start(orders)) for child in self._all()]
        try:
            await asyncio.gather(*starts)
        finally:
            for start in starts:
                await cancelled(start)

    async def stop(self, hurry: "asyncio.Future[str]") -> None:
        """First those who still answer requests, then the sessions."""
        patience = self._settings.drain_seconds_max + 5
        await asyncio.gather(*(worker.stop(patience, hurry) for worker in self.workers))
        await self.node.stop(self._settings.drain_seconds_max + 10)
        await asyncio.gather(*(child.stop(patience, hurry) for child in self.egress))

    def _all(self) -> "list[Child]":
        return [self.node, *self.workers, *self.egress]


def up(settings: Settings, announce: Callable[[Running], None]) -> None:
    """Everything, until SIGTERM or Ctrl-C.

    Raises AlreadyRunning, StateUnusable, DidNotStart, FreeholdError.
    """
    configure_logging(settings)
    uvloop.run(_up(settings, announce))


async def _up(settings: Settings, announce: Callable[[Running], None]) -> None:
    signals = StopSignals()
    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(_bring_up(settings, stack, signals))
        either: list[asyncio.Future[Any]] = [starting, signals.first]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            await cancelled(starting)
            return
        announce(starting.result())
        await signals.first


async def _bring_up(settings: Settings, stack: AsyncExitStack, signals: StopSignals) -> Running:
    """What it puts on the stack is taken down in the opposite order."""
    lock = state_files.StateLock(settings.state)
    stack.callback(lock.release)
    state_files.prepare(settings.state)
    for name in await state_files.end_earlier_run(
        settings.state, seconds_max=_EARLIER_RUN_SECONDS_MAX
    ):
        log.warning("waited for the end of an earlier run's %s", name)
    listening = listening_socket(settings.host, settings.port)
    stack.callback(listening.close)
    run = state_files.run_directory(settings.state)
    stack.callback(state_files.discard_run_directory, settings.state)
    database = _Database(settings)
    stack.push_async_callback(database.stop)
    children = _Children(settings, run, listening)
    stack.push_async_callback(children.stop, signals.second)
    await children.launch()
    # Imported while the children load theirs: they are the longer way.
    from freehold.processes import certificates
    from freehold.processes.identity import trusted_everywhere
    from freehold.processes.prices import prices
    from freehold.processes.start import chosen_tier, connection

    prices(settings)  # a mistake there is told now, and by nobody else
    trusted_everywhere(settings.user_token_issuers)

    certificates.prepare(settings)
    starting = asyncio.create_task(database.start())
    try:
        tier = await chosen_tier(settings)
        settings = replace(settings, sandbox_tier=tier.name, database_url=await starting)
    finally:
        await cancelled(starting)
    host, port = listening.getsockname()[:2]
    scheme = "https" if settings.tls else "http"
    endpoint = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    known = await connection(settings, endpoint)
    settings = replace(settings, public_url=settings.public_url.rstrip("/") or endpoint)
    await children.start(settings)
    # From here on a stop begins with the door: whoever comes then is refused at once.
    stack.callback(listening.close)
    return Running(
        endpoint=endpoint, tier=tier.name, tier_detail=tier.detail, state=str(settings.state),
        account=known.account, region=known.region, access_key_id=known.access_key_id,
        pid=os.getpid(), ca_certificate=known.ca_certificate,
    )  # fmt: skip


class _Database:
    """Ours or somebody's, migrated. Ours is started again whenever it ends."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()

    async def start(self) -> str:
        """Its URL. Raises DidNotStart, PlatformFailed."""
        from freehold.adapters.postgres.migrations import components_under, migrate
        from freehold.processes.start import PACKAGE, checked_database_url

        url = self._settings.database_url
        url = await self._embedded() if url is None else checked_database_url(url)
        try:
            for applied in await migrate(url, components_under(PACKAGE)):
                log.info("applied migration %s", applied)
        except Unavailable as error:
            raise DidNotStart(" ".join(error.message.split())) from error
        return url

    async def _embedded(self) -> str:
        from freehold.adapters.postgres.embedded import EmbeddedPostgres

        postgres = EmbeddedPostgres(
            self._settings.state / "postgres", durable=self._settings.database_durable
        )
        self._stack.push_async_callback(postgres.stop)
        url = await postgres.start()
        watching = asyncio.create_task(keep_running("Postgres", postgres.wait, postgres.start))
        self._stack.push_async_callback(cancelled, watching)
        return url

    async def stop(self) -> None:
        await self._stack.aclose()


def main() -> None:
    """One of the processes that `up` starts."""
    parser = argparse.ArgumentParser(prog="freehold.app")
    parser.add_argument("process", choices=("node", "api", "egress"))
    parser.add_argument("--orders", type=int, required=True)
    parser.add_argument("--ready", type=int, required=True)
    parser.add_argument("--listen", type=int)
    parser.add_argument("--number", type=int, default=1)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    # Every session costs its node a dozen descriptors, and the usual limit is 1024.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    surroundings = Surroundings(options.orders, options.ready)
    try:
        # Each kind of process loads its own code alone, and before its orders come.
        if options.process == "node":
            from freehold.processes.node import node

            surroundings.receive("node")
            configure_logging(surroundings.settings)
            uvloop.run(node(surroundings))
        elif options.process == "egress":
            from freehold.processes.egress import egress

            surroundings.receive("egress")
            configure_logging(surroundings.settings)
            uvloop.run(egress(surroundings, options.port))
        else:
            from freehold.processes.api import api_worker

            surroundings.receive(f"api-{options.number}")
            configure_logging(surroundings.settings)
            listening = socket.socket(fileno=options.listen)
            listening.set_inheritable(False)
            uvloop.run(api_worker(surroundings, listening, options.number))
    except (FreeholdError, OSError) as error:
        log.error("%s", error)
        surroundings.say_why_not(str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
