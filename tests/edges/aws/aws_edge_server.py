"""A server of its own, for what has to be measured in a process: prints its port, then serves."""

import asyncio
import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvicorn
from aws_edge_driver import make_edge


def memory_peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


async def invoke(request: Any, params: dict[str, Any]) -> Any:
    """Answers with the payload's size and hash and this process's peak of memory, then echoes."""
    digest, size = hashlib.sha256(), 0
    async for chunk in params["payload"].chunks():
        digest.update(chunk)
        size += len(chunk)

    async def answer() -> Any:
        yield f"{size} {digest.hexdigest()} {memory_peak_bytes()}\n".encode()
        if params.get("qualifier") == "large":
            for _ in range(400):
                yield b"x" * 262_144

    return {"contentType": "text/plain", "response": answer()}


async def main() -> None:
    with tempfile.TemporaryDirectory() as spool:
        edge = make_edge({"bedrock-agentcore:InvokeAgentRuntime": invoke}, spool)
        config = uvicorn.Config(edge, host="127.0.0.1", port=0, log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
        await task


if __name__ == "__main__":
    if "--uvloop" in sys.argv:
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
