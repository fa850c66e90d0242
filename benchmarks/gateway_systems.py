"""What `gateway.py` measures: where it is called, what is sent, and which processes pay for it."""

import contextlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gateway_load import NUMBER
from gateway_upstream import LEGACY, MODERN
from platform_under_test import cpu_seconds

_META = "io.modelcontextprotocol"
CLIENT = {"name": "benchmark", "version": "1"}
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_JSON = {
    "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
    "traceparent": TRACEPARENT,
}  # fmt: skip
_ANSWER_SECONDS_MAX = 60


class System(NamedTuple):
    """`pids`: the processes of it whose CPU counts, asked before and after a round; `store` those
    of its Postgres."""

    name: str
    url: str
    headers: Mapping[str, str]
    body: str
    pids: Callable[[], Iterable[int]]
    store: Callable[[], Iterable[int]] = lambda: ()
    is_peer: bool = False


def called(
    name: str,
    url: str,
    *,
    era: str,
    tool: str = "echo",
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> System:
    """`tools/call` of `tool` in one era, in a session of its own where the era has them and the
    server too."""
    sent = {**_JSON, "Mcp-Protocol-Version": era, **(headers or {})}
    params: dict[str, Any] = {"name": tool, "arguments": {"text": f"number {NUMBER}"}}
    if era == MODERN:
        sent |= {"Mcp-Method": "tools/call", "Mcp-Name": tool}
        params["_meta"] = {
            f"{_META}/protocolVersion": MODERN,
            f"{_META}/clientInfo": CLIENT,
            f"{_META}/clientCapabilities": {},
        }
    elif session := opened(url, sent):
        sent["Mcp-Session-Id"] = session
    asked = {"jsonrpc": "2.0", "id": NUMBER, "method": "tools/call", "params": params}
    body = json.dumps(asked, separators=(",", ":")).replace(f'"{NUMBER}"', NUMBER)
    return System(name, url, sent, body, **more)


def opened(url: str, headers: Mapping[str, str]) -> str:
    """The id of a new session; "" where the server keeps none."""
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": CLIENT}
    _, answered = post(url, "initialize", params, {**_JSON, **headers}, id=1)
    session = answered.get("mcp-session-id", "")
    more = {"Mcp-Session-Id": session} if session else {}
    post(url, "notifications/initialized", {}, {**_JSON, **headers, **more})
    return session


def tool_named_echo(url: str, headers: Mapping[str, str]) -> str:
    """However it is called there. Raises LookupError where it is not."""
    sent = {**_JSON, "Mcp-Protocol-Version": LEGACY, **headers}
    if session := opened(url, sent):
        sent["Mcp-Session-Id"] = session
    answer, _ = post(url, "tools/list", {}, sent, id=2)
    names: list[str] = [tool["name"] for tool in answer.get("result", {}).get("tools", [])]
    found = next((name for name in names if name.endswith("echo")), None)
    if found is None:
        raise LookupError(f"no echo among its tools: {names or answer}")
    return found


def post(
    url: str,
    method: str,
    params: Mapping[str, Any],
    headers: Mapping[str, str],
    *,
    id: int | None = None,
) -> tuple[Any, dict[str, str]]:
    """The JSON-RPC answer ({} for none), plain or the last event of a stream, and the headers in
    lower case. Raises OSError where there is no answer or another status than 2xx."""
    asked: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
    if id is not None:
        asked["id"] = id
    return requested("POST", url, asked, headers)


def requested(
    method: str, url: str, document: Any, headers: Mapping[str, str]
) -> tuple[Any, dict[str, str]]:
    """The document that is answered, and the headers in lower case. Raises OSError."""
    data = json.dumps(document).encode() if document is not None else None
    request = urllib.request.Request(url, data, dict(headers), method=method)
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS_MAX) as answer:
            text = answer.read().decode()
            found = {name.lower(): value for name, value in answer.headers.items()}
    except urllib.error.HTTPError as error:
        said = error.read(500).decode(errors="replace")
        raise OSError(f"{method} {url}: {error.code} {said}") from None
    if "text/event-stream" in found.get("content-type", ""):
        text = [line for line in text.splitlines() if line.startswith("data:")][-1][5:]
    return (json.loads(text) if text.strip() else {}), found


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def cpu(pids: Iterable[int]) -> dict[int, float]:
    """Seconds by process; one that has ended meanwhile is left out."""
    spent = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            spent[pid] = cpu_seconds(pid)
    return spent


def used(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Of processes that were there at the end; who began in between counts from nothing."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


def postgres_of(state: Path) -> list[int]:
    """The processes of a platform's own Postgres."""
    pid_file = state / "postgres" / "data" / "postmaster.pid"
    return tree(int(pid_file.read_text().split()[0]))


def environment(**more: str) -> dict[str, str]:
    """Of a peer: nothing of ours, and no proxy between it and the upstream."""
    kept = {"PATH", "HOME", "LANG", "TMPDIR"}
    return {**{k: v for k, v in os.environ.items() if k in kept}, **more}
