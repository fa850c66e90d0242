"""`GET /metrics`: the machine's signals, for whoever holds the operator's token."""

import hmac

from starlette.types import Receive, Scope, Send

from freehold.ports.signals import Exposition

_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_PATH = b"/metrics"


class MetricsEdge:
    """Without a `token` there is nothing here: signals tell how much a platform is used, and by
    what. No tenant's key opens it, since it is of all of them."""

    def __init__(self, exposition: Exposition, *, token: str | None) -> None:
        self._exposition = exposition
        self._expected = f"Bearer {token}".encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._expected is None or scope["raw_path"] != _PATH:
            await _answer(send, 404, b"not found\n")
            return
        if scope["method"] not in ("GET", "HEAD"):
            await _answer(send, 405, b"method not allowed\n", (b"allow", b"GET, HEAD"))
            return
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1 or not hmac.compare_digest(given[0], self._expected):
            await _answer(send, 401, b"unauthorized\n", (b"www-authenticate", b"Bearer"))
            return
        text = await self._exposition.text()
        await _answer(send, 200, b"" if scope["method"] == "HEAD" else text, type=_TYPE)


async def _answer(
    send: Send, status: int, body: bytes, *more: tuple[bytes, bytes], type: bytes = b"text/plain"
) -> None:
    headers = [
        (b"content-type", type), (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"), *more,
    ]  # fmt: skip
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
