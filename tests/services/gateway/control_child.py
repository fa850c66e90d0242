"""A worker that is killed in the middle of asking a target: see test_gateway_targets."""

import asyncio
import sys
from pathlib import Path

from control_ground import SERVER_URL, ControlGround


async def work(dsn: str, state: Path, tenant: str) -> None:
    async with ControlGround(dsn, state, executor="child").open() as ground:
        ground.server.gate = asyncio.Event()
        id = await ground.gateway(tenant)
        made = await ground.control(tenant).create_gateway_target(
            gatewayIdentifier=id, name="x",
            targetConfiguration={"mcp": {"mcpServer": {"endpoint": SERVER_URL}}},
        )  # fmt: skip

        async def asked() -> bool:
            return bool(ground.server.asked)

        await ground.until(asked)
        print(id, made["targetId"], flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
