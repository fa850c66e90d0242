"""The composition root: the processes of one machine, each started from its own file.

`up` supervises; `python -m freehold.app node` and `... api` are the two kinds of process that it
starts (processes/node.py, processes/api.py). Only these files plug things together.
"""

import argparse
import asyncio
import logging
import os
import shutil
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import msgspec
import uvloop

from freehold import settings as settings_module
from freehold import state as state_files
from freehold.adapters.postgres.embedded import EmbeddedPostgres
from freehold.adapters.postgres.migrations import components_under, migrate
from freehold.processes.api import api_worker
from freehold.processes.node import node
from freehold.processes.parts import (
    PACKAGE,
    configure_logging,
    sandbox_drivers,
    sealer,
)
from freehold.processes.parts import (
    database as make_database,
)
from freehold.services.identity.service import AccessKeyService
from freehold.settings import Settings
from freehold.supervisor import (
    Child,
    DidNotStart,
    StateLock,
    keep_running,
    listening_socket,
    until_stopped,
)

log = logging.getLogger("freehold")


def up(settings: Settings, announce: Callable[["Running"], None]) -> None:
    """Everything, until SIGTERM or Ctrl-C. Raises FreeholdError, AlreadyRunning, DidNotStart."""
    configure_logging(settings)
    uvloop.run(_up(settings, announce))


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


async def _up(settings: Settings, announce: Callable[[Running], None]) -> None:
    async with AsyncExitStack() as stack:
        lock = StateLock(settings.state)
        stack.callback(lock.release)
        state_files.prepare(settings.state)
        listening = listening_socket(settings.host, settings.port)
        stack.callback(listening.close)
        settings, detail = await _with_tier(settings)
        settings = await _with_database(settings, stack)
        run = state_files.run_directory(settings.state)
        stack.callback(shutil.rmtree, run, ignore_errors=True)
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        connection = await _connection(settings, f"http://{shown}:{port}")
        await _start_children(settings, run, listening, stack)
        announce(
            Running(
                endpoint=connection.endpoint, tier=settings.sandbox_tier, tier_detail=detail,
                state=str(settings.state), account=connection.account, region=connection.region,
                access_key_id=connection.access_key_id, pid=os.getpid(),
            )
        )  # fmt: skip
        await until_stopped()


async def _start_children(
    settings: Settings, run: Path, listening: socket.socket, stack: AsyncExitStack
) -> None:
    environment = {**os.environ, **settings_module.environment_of(settings)}
    node_child = Child("node", ["node", "--run", str(run)], environment=environment)
    workers = [
        Child(
            f"API worker {n}", ["api", "--run", str(run), "--listen", str(listening.fileno())],
            environment=environment, descriptors=(listening.fileno(),),
        )
        for n in range(1, settings.workers + 1)
    ]  # fmt: skip
    stack.push_async_callback(node_child.stop, settings.drain_seconds_max + 10)
    await node_child.start()
    for worker in workers:
        stack.push_async_callback(worker.stop, settings.drain_seconds_max + 5)
    await asyncio.gather(*(worker.start() for worker in workers))


async def _with_database(settings: Settings, stack: AsyncExitStack) -> Settings:
    """Ours or somebody's, migrated. Ours is started again whenever it ends."""
    if settings.database_url is None:
        postgres = EmbeddedPostgres(settings.state / "postgres", durable=settings.database_durable)
        settings = replace(settings, database_url=await postgres.start())
        stack.push_async_callback(postgres.stop)
        watching = asyncio.create_task(keep_running("Postgres", postgres.wait, postgres.start))
        stack.callback(watching.cancel)
    assert settings.database_url is not None
    for applied in await migrate(settings.database_url, components_under(PACKAGE)):
        log.info("applied migration %s", applied)
    return settings


async def _with_tier(settings: Settings) -> tuple[Settings, str]:
    """The tier that sessions get, tried out. Never weaker than what was asked for."""
    wanted = settings.sandbox_tier
    drivers = sandbox_drivers(settings, {})
    if wanted == "process":
        return settings, (await drivers["process"].probe()).detail
    probe = await drivers["container"].probe()
    await drivers["container"].close()
    if probe.available:
        return replace(settings, sandbox_tier="container"), probe.detail
    if wanted == "auto" and settings.allow_process_tier:
        return replace(settings, sandbox_tier="process"), f"no container tier: {probe.detail}"
    raise DidNotStart(
        f"the container tier does not work on this machine: {probe.detail}\n"
        "For development only: --tier process --allow-process-tier runs agents unisolated."
    )


async def _connection(settings: Settings, endpoint: str) -> state_files.Connection:
    """Where and how clients connect; an access key is made on the first start."""
    known = state_files.read_connection(settings.state)
    database = make_database(settings, "supervisor")
    keys = AccessKeyService(database, sealer(settings))
    await database.start()
    try:
        if known is None or await keys.active(known.access_key_id) is None:
            new = await keys.create(settings.account, "made at the first start")
            account, id, secret = settings.account, new.id, new.secret
        else:
            account, id, secret = known.account, known.access_key_id, known.secret_access_key
    finally:
        await keys.close()
        await database.close()
    connection = state_files.Connection(
        endpoint=endpoint, region=settings.region, account=account,
        access_key_id=id, secret_access_key=secret,
    )  # fmt: skip
    state_files.write_connection(settings.state, connection)
    return connection


def main() -> None:
    parser = argparse.ArgumentParser(prog="freehold.app")
    parser.add_argument("process", choices=("node", "api"))
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--ready", type=int, required=True)
    parser.add_argument("--listen", type=int)
    options = parser.parse_args()
    settings = settings_module.load()
    configure_logging(settings)
    if options.process == "node":
        uvloop.run(node(settings, options.run, options.ready))
    else:
        listening = socket.socket(fileno=options.listen)
        uvloop.run(api_worker(settings, options.run, listening, options.ready))


if __name__ == "__main__":
    main()
