"""A port of this machine that a browser brings a code to, once (RFC 8252), with PKCE (RFC 7636)."""

import base64
import hashlib
import hmac
import http.server
import queue
import secrets
import threading
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

PATH = "/signed-in"
_PAGE = (
    b"<!doctype html><meta charset=utf-8><title>Signed in</title>"
    b"<p>You are signed in. Go back to the terminal; this page may be closed."
)


class Loopback:
    """Listens on 127.0.0.1 alone, at a port that nobody knows before."""

    def __init__(self) -> None:
        self.verifier = secrets.token_urlsafe(48)
        self._state = secrets.token_urlsafe(24)
        self._codes: queue.Queue[str] = queue.Queue()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._take))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def request(self) -> dict[str, Any]:
        digest = hashlib.sha256(self.verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        return {"port": self.port, "codeChallenge": challenge, "state": self._state}

    def wait(self, seconds: float) -> str | None:
        """The code, when it comes in this time."""
        try:
            return self._codes.get(timeout=seconds)
        except queue.Empty:
            return None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _take(self, host: str, target: str) -> bool:
        """Only what was asked for: pages of other sites can make browsers call here too."""
        asked = urlsplit(target)
        query = parse_qs(asked.query)
        code, state = query.get("code", []), query.get("state", [])
        if (
            host != f"127.0.0.1:{self.port}"
            or asked.path != PATH
            or len(code) != 1
            or len(state) != 1
            or not hmac.compare_digest(state[0].encode(), self._state.encode())
        ):
            return False
        self._codes.put(code[0])
        return True


def _handler(take: Any) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            taken = take(self.headers.get("Host", ""), self.path)
            page = _PAGE if taken else b"Nothing is expected here."
            self.send_response(200 if taken else 404)
            self.send_header("Content-Type", "text/html" if taken else "text/plain")
            self.send_header("Content-Length", str(len(page)))
            self.send_header("Content-Security-Policy", "default-src 'none'")
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: Any) -> None:
            """The path holds a code."""

    return Handler
