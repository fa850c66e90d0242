"""What targets are asked survives workers and processes that end in the middle."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from control_ground import (
    SERVER_URL,
    ControlGround,
    Server,
    tool,
)

from freehold.services.gateway.model import TARGET


@pytest.fixture(scope="module")
async def dsn(fresh_dsn: Any) -> str:
    made: str = await fresh_dsn()
    return made


@pytest.fixture
async def ground(dsn: str, tmp_path: Path) -> AsyncIterator[ControlGround]:
    async with ControlGround(dsn, tmp_path).open() as ground:
        yield ground


def server(**members: Any) -> dict[str, Any]:
    return {"mcp": {"mcpServer": {"endpoint": SERVER_URL, **members}}}


async def test_what_a_killed_worker_was_asked_another_one_does(
    dsn: str, tenant: str, tmp_path: Path
) -> None:
    async with ControlGround(dsn, tmp_path / "a", works=False, executor="first").open() as first:
        id = await first.gateway(tenant)
        made = await first.control(tenant).create_gateway_target(
            gatewayIdentifier=id, name="x", targetConfiguration=server()
        )
        target = made["targetId"]
    async with ControlGround(dsn, tmp_path / "b", executor="second").open() as second:
        assert (await second.settled(tenant, id, target))["status"] == "READY"


async def test_what_is_cut_short_while_it_is_asked_is_asked_again(
    dsn: str, tenant: str, tmp_path: Path
) -> None:
    async with ControlGround(dsn, tmp_path / "a", executor="cut").open() as first:
        first.server.gate = asyncio.Event()
        id = await first.gateway(tenant)
        made = await first.control(tenant).create_gateway_target(
            gatewayIdentifier=id, name="x", targetConfiguration=server()
        )

        async def asked() -> bool:
            return bool(first.server.asked)

        await first.until(asked)
    async with ControlGround(dsn, tmp_path / "b", executor="other").open() as second:
        assert (await second.settled(tenant, id, made["targetId"]))["status"] == "READY"


async def test_what_a_killed_process_was_asking_another_one_asks(
    dsn: str, tenant: str, tmp_path: Path
) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name("control_child.py")), dsn,
        str(tmp_path / "child"), tenant, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    try:
        assert child.stdout is not None
        async with asyncio.timeout(30):
            id, target = (await child.stdout.readline()).decode().split()
    finally:
        child.kill()
        await child.wait()
    async with ControlGround(dsn, tmp_path / "b", executor="other").open() as second:
        assert (await second.settled(tenant, id, target))["status"] == "READY"
        assert set(await second.in_force(id)) == {"search", "write"}


async def test_a_target_whose_job_was_never_written_is_taken_up(
    dsn: str, tenant: str, tmp_path: Path
) -> None:
    async with ControlGround(dsn, tmp_path / "a").open() as first:
        id = await first.gateway(tenant)
        target = await first.target(tenant, id)
    async with ControlGround(dsn, tmp_path / "b", works=False).open() as between:
        row = await between.targets.get(tenant, id, target)
        await between.resources.update(
            tenant, TARGET, target, lambda r: {**r.document, "_sync": {"why": "synchronize"}},
            parent=id, status="SYNCHRONIZING",
        )  # fmt: skip
        assert row.status == "READY"
    async with ControlGround(dsn, tmp_path / "c").open() as second:
        assert (await second.settled(tenant, id, target))["status"] == "READY"
        assert len(second.server.asked) == 1


async def test_an_answer_that_comes_after_the_target_was_changed_is_not_taken(
    ground: ControlGround, tenant: str
) -> None:
    id = await ground.gateway(tenant)
    target = await ground.target(tenant, id)
    old = await ground.targets.get(tenant, id, target)
    stale = Server(tool("stale"))
    ground.clients["mcp.mcpServer"] = stale
    stale.gate = asyncio.Event()
    gateway = await ground.gateways.get(tenant, id)
    late = asyncio.create_task(ground.sync._look_again(gateway, old))
    async with asyncio.timeout(5):
        while not stale.asked:
            await asyncio.sleep(0.01)
    ground.clients["mcp.mcpServer"] = ground.server
    await ground.synchronized(tenant, id, target)
    stale.gate.set()
    await late
    assert set(await ground.in_force(id)) == {"search", "write"}
