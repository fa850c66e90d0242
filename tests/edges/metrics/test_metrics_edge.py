"""`/metrics` is the operator's: by the token, and in no other way."""

from typing import Any

import pytest

from freehold.edges.metrics.app import MetricsEdge

TOKEN = "token-of-the-operator"


class Exposed:
    async def text(self) -> bytes:
        return b"freehold_processes 1\n"


async def asked(
    token: str | None, *headers: str, method: str = "GET", path: bytes = b"/metrics"
) -> tuple[int, dict[bytes, bytes], bytes]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    scope = {
        "type": "http", "method": method, "raw_path": path,
        "headers": [(b"authorization", header.encode()) for header in headers],
    }  # fmt: skip
    await MetricsEdge(Exposed(), token=token)(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


async def test_the_token_opens_it() -> None:
    status, headers, body = await asked(TOKEN, f"Bearer {TOKEN}")

    assert (status, body) == (200, b"freehold_processes 1\n")
    assert headers[b"content-type"] == b"text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize(
    "headers",
    [(), ("Bearer wrong",), (f"Basic {TOKEN}",), (f"bearer {TOKEN}x",), (TOKEN,),
     (f"Bearer {TOKEN}", f"Bearer {TOKEN}")],
)  # fmt: skip
async def test_nothing_else_does(headers: tuple[str, ...]) -> None:
    status, answered, body = await asked(TOKEN, *headers)

    assert status == 401
    assert answered[b"www-authenticate"] == b"Bearer"
    assert b"freehold" not in body


@pytest.mark.parametrize("token", [None, ""])
async def test_without_a_token_there_is_nothing_here(token: str | None) -> None:
    assert (await asked(token, "Bearer "))[0] == 404
    assert (await asked(token))[0] == 404


async def test_it_is_one_path_and_is_only_read() -> None:
    assert (await asked(TOKEN, f"Bearer {TOKEN}", path=b"/metrics/x"))[0] == 404
    assert (await asked(TOKEN, f"Bearer {TOKEN}", method="POST"))[0] == 405
