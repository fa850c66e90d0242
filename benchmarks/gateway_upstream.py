"""The MCP server behind every gateway of `gateway.py`: one tool that echoes, and next to no cost.

    python benchmarks/gateway_upstream.py PORT

Both eras, no sessions, plain JSON. `GET /counts` says how many requests of each method came.
"""

import sys
from collections import Counter
from typing import Any

import msgspec
import uvicorn

MODERN, LEGACY = "2026-07-28", "2025-11-25"
_SERVER = {"name": "echo", "version": "1"}
_CAPABILITIES: dict[str, Any] = {"tools": {}}
_TOOL = {
    "name": "echo",
    "description": "Says what it is told.",
    "inputSchema": {
        "type": "object",
        "properties": {"text": {"type": "string", "maxLength": 1000}},
        "required": ["text"],
    },
}
_DISCOVERED = {
    "supportedVersions": [MODERN, LEGACY], "capabilities": _CAPABILITIES, "serverInfo": _SERVER,
    "resultType": "complete", "ttlMs": 0, "cacheScope": "private",
}  # fmt: skip
_LISTED = {"tools": [_TOOL], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}


class _Asked(msgspec.Struct):
    method: str = ""
    id: int | str | None = None
    params: dict[str, Any] = {}


decode, encode = msgspec.json.Decoder(_Asked).decode, msgspec.json.Encoder().encode
counts: Counter[str] = Counter()


def result(asked: _Asked) -> dict[str, Any] | None:
    if asked.method == "tools/call":
        text = asked.params["arguments"]["text"]
        return {"content": [{"type": "text", "text": text}], "resultType": "complete"}
    if asked.method == "tools/list":
        return _LISTED
    if asked.method == "server/discover":
        return _DISCOVERED
    if asked.method == "initialize":
        version = asked.params.get("protocolVersion", LEGACY)
        spoken = LEGACY if version == MODERN else version
        return {"protocolVersion": spoken, "capabilities": _CAPABILITIES, "serverInfo": _SERVER}
    return {} if asked.method == "ping" else None


async def app(scope: Any, receive: Any, send: Any) -> None:
    status, content = 200, b""
    if scope["method"] == "POST":
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        asked = decode(body)
        counts[asked.method] += 1
        found = result(asked)
        if asked.id is None:
            status = 202
        elif found is not None:
            content = encode({"jsonrpc": "2.0", "id": asked.id, "result": found})
        else:
            error = {"code": -32601, "message": "Method not found"}
            content = encode({"jsonrpc": "2.0", "id": asked.id, "error": error})
    elif scope["path"] == "/counts":
        content = encode(dict(counts))
    else:
        counts[scope["method"]] += 1
        status = 405
    headers = [(b"content-length", b"%d" % len(content))]
    if content:
        headers.append((b"content-type", b"application/json"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


if __name__ == "__main__":
    uvicorn.run(
        app, port=int(sys.argv[1]), log_level="warning", access_log=False, lifespan="off",
        loop="uvloop", http="httptools",
    )  # fmt: skip
