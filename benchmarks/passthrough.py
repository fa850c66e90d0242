"""The limit to compare with: bare ASGI and an aiohttp client, no signature, no routing, no sandbox.

python benchmarks/passthrough.py PORT UPSTREAM_PORT
"""

import sys
from typing import Any

import aiohttp
import uvicorn

HOP_BY_HOP = {b"host", b"connection", b"transfer-encoding", b"content-length", b"accept-encoding"}


class PassThrough:
    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
            )
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = [(k.decode(), v.decode()) for k, v in scope["headers"] if k not in HOP_BY_HOP]
        async with self._session.post(
            self._upstream + scope["path"], data=body, headers=headers
        ) as answer:
            sent = [(k.lower(), v) for k, v in answer.raw_headers if k.lower() not in HOP_BY_HOP]
            length = answer.headers.get("content-length")
            if length is not None:
                sent.append((b"content-length", length.encode()))
            await send({"type": "http.response.start", "status": answer.status, "headers": sent})
            if length is not None:
                await send({"type": "http.response.body", "body": await answer.read()})
                return
            async for chunk in answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    port, upstream = int(sys.argv[1]), f"http://127.0.0.1:{sys.argv[2]}"
    uvicorn.run(
        PassThrough(upstream), port=port, log_level="warning", access_log=False, lifespan="off",
        loop="uvloop", http="httptools",
    )  # fmt: skip
