"""What the platform puts beside an MCP server that speaks over standard input and output: it
serves the server as streamable HTTP on port 8000, with a process of the server's for each session.

Standard library only, and Python 3.10: it runs with whatever the server asks for.
"""

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Json = dict[str, Any]
_PORT = 8000
_ROOT = str(Path(__file__).resolve().parent)
_SESSIONS_MAX = 16
_LINE_BYTES_MAX = 6 << 20
_END_SECONDS = 3.0
_BEGAN = int(time.time())
_asked = json.loads(os.environ.pop("_FREEHOLD_STDIO_COMMAND", "{}"))


def command() -> list[str]:
    first, *rest = _asked["command"]
    if not _asked.get("program"):
        return [sys.executable, first, *rest]
    path = Path(_ROOT, first)
    return [str(path) if path.exists() else shutil.which(first) or first, *rest]


class Gone(Exception):
    """The server's process is no more."""


class Waiting:
    """A request that is under way, and what is said meanwhile."""

    def __init__(self, id: Any, token: Any) -> None:
        self.id, self.token = id, token
        self.messages: queue.Queue[Json | None] = queue.Queue()


class Session:
    """One process of the server's. Requests go in as they come."""

    def __init__(self) -> None:
        self.id = uuid.uuid4().hex
        self._writing = threading.Lock()
        self._waiting: list[Waiting] = []
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            command(), cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def busy(self) -> bool:
        return bool(self._waiting)

    def tell(self, message: Json) -> None:
        assert self._process.stdin is not None
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        try:
            with self._writing:
                self._process.stdin.write(line)
                self._process.stdin.flush()
        except (OSError, ValueError):
            raise Gone from None

    def ask(self, message: Json) -> Waiting:
        meta = (message.get("params") or {}).get("_meta") or {}
        waiting = Waiting(message["id"], meta.get("progressToken"))
        with self._lock:
            self._waiting.append(waiting)
        try:
            self.tell(message)
        except Gone:
            self.done(waiting)
            raise
        if self._process.poll() is not None:
            waiting.messages.put(None)
        return waiting

    def done(self, waiting: Waiting) -> None:
        with self._lock:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    def end(self) -> None:
        """As MCP has it: its input ends, and then it is asked to, and then it is made to."""
        process = self._process
        try:
            assert process.stdin is not None
            process.stdin.close()
        except OSError:
            pass
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                process.send_signal(number)
            try:
                process.wait(_END_SECONDS)
                return
            except subprocess.TimeoutExpired:
                continue

    def _read(self) -> None:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline(_LINE_BYTES_MAX):
            if not line.endswith(b"\n") and len(line) >= _LINE_BYTES_MAX:
                sys.stderr.write("a message of the server's is too long; it is ended\n")
                self._process.kill()
                break
            try:
                message = json.loads(line)
            except ValueError:
                # Servers that print what is no message are many: it is in the log, and no harm.
                sys.stderr.write(line.decode(errors="replace"))
                continue
            if isinstance(message, dict):
                self._give(message)
        with self._lock:
            for waiting in self._waiting:
                waiting.messages.put(None)

    def _give(self, message: Json) -> None:
        with self._lock:
            waiting = self._whose(message)
        if waiting is not None:
            waiting.messages.put(message)

    def _whose(self, message: Json) -> Waiting | None:
        """Progress is for the request that asked for it; what else the server says of itself, or
        asks, goes with the newest request."""
        if "method" not in message:
            found = [each for each in self._waiting if each.id == message.get("id")]
            return found[0] if found else None
        params = message.get("params") or {}
        if message["method"] == "notifications/progress":
            token = params.get("progressToken")
            found = [each for each in self._waiting if each.token == token]
            return found[0] if found else None
        return self._waiting[-1] if self._waiting else None


class Sessions:
    def __init__(self) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self) -> Session:
        session = Session()
        with self._lock:
            self._sessions[session.id] = session
            old = None
            if len(self._sessions) > _SESSIONS_MAX:
                _, old = self._sessions.popitem(last=False)
        if old is not None:
            threading.Thread(target=old.end, daemon=True).start()
        return session

    def find(self, id: str | None) -> Session | None:
        with self._lock:
            session = self._sessions.get(id or "")
            if session is not None:
                self._sessions.move_to_end(session.id)
            return session

    def forget(self, session: Session) -> None:
        with self._lock:
            self._sessions.pop(session.id, None)
        session.end()

    def busy(self) -> bool:
        with self._lock:
            return any(each.busy for each in self._sessions.values())


class Served(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet
    sessions = Sessions()

    def do_GET(self) -> None:
        if self.path.partition("?")[0] == "/ping":
            status = "HealthyBusy" if self.sessions.busy() else "Healthy"
            self._json(200, {"status": status, "time_of_last_update": _BEGAN})
        else:
            self._json(405, _error(None, -32000, "Method not allowed"))

    def do_DELETE(self) -> None:
        session = self.sessions.find(self.headers.get("Mcp-Session-Id"))
        if session is not None:
            self.sessions.forget(session)
        self._json(200 if session is not None else 404, None)

    def do_POST(self) -> None:
        try:
            message = json.loads(self._body())
        except ValueError:
            self._json(400, _error(None, -32700, "Parse error"))
            return
        if not isinstance(message, dict):
            self._json(400, _error(None, -32600, "One message at a time"))
            return
        id, method = message.get("id"), message.get("method")
        session = self.sessions.find(self.headers.get("Mcp-Session-Id"))
        if method == "initialize":
            self._initialize(message)
        elif session is None and (method is None or "id" not in message):
            self._json(404, None)
        elif session is None and self.headers.get("Mcp-Protocol-Version") == "2026-07-28":
            self._json(400, _error(id, -32601, "Method not found"))  # of the era with sessions
        elif session is None:
            self._json(404, _error(id, -32001, "Session not found"))
        elif method is None or "id" not in message:
            self._told(session, message)
        else:
            self._ask(session, message)

    def _initialize(self, message: Json) -> None:
        try:
            session = self.sessions.begin()
        except OSError as error:
            why = f"The server does not start: {error}"
            self._json(500, _error(message.get("id"), -32603, why))
            return
        if not self._ask(session, message, {"Mcp-Session-Id": session.id}):
            self.sessions.forget(session)

    def _told(self, session: Session, message: Json) -> None:
        try:
            session.tell(message)
        except Gone:
            self.sessions.forget(session)
            self._json(404, None)
            return
        self._json(202, None)

    def _ask(
        self, session: Session, message: Json, headers: "dict[str, str] | None" = None
    ) -> bool:
        """Whether there was an answer."""
        try:
            waiting = session.ask(message)
        except Gone:
            self.sessions.forget(session)
            self._json(404, _error(message["id"], -32001, "The server has ended"))
            return False
        try:
            return self._answer(session, waiting, headers or {})
        except OSError:  # the client went away
            return False
        finally:
            session.done(waiting)

    def _answer(self, session: Session, waiting: Waiting, headers: "dict[str, str]") -> bool:
        """One message is an answer of its own; several are a stream."""
        streams = False
        while True:
            message = waiting.messages.get()
            if message is None:
                self.sessions.forget(session)
                message = _error(waiting.id, -32603, "The server ended during the request")
            last = "method" not in message
            if last and not streams:
                self._json(200, message, headers)
            else:
                if not streams:
                    self._begin_stream(headers)
                    streams = True
                event = b"data: " + json.dumps(message).encode() + b"\n\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
                if last:
                    self.wfile.write(b"0\r\n\r\n")
                self.wfile.flush()
            if last:
                return "result" in message

    def _begin_stream(self, headers: "dict[str, str]") -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self) -> bytes:
        """A large one comes in chunks."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = bytearray()
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return bytes(body)

    def _json(
        self, status: int, value: Json | None, headers: "dict[str, str] | None" = None
    ) -> None:
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        if body:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _error(id: Any, code: int, message: str) -> Json:
    return {"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


class SocketServer(Server):
    """In the process tier, which has no port of its own: where the launcher has servers listen."""

    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", _PORT

    def get_request(self) -> Any:
        return self.socket.accept()[0], ("localhost", 0)


def serving() -> Server:
    for finder in sys.meta_path:
        folder = getattr(finder, "folder", None)
        if type(finder).__name__ == "_UvicornHook" and isinstance(folder, str):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)  # a path may be too long
            path: Any = f"/proc/self/fd/{descriptor}/port-{_PORT}.sock"
            return SocketServer(path, Served)
    return Server(("0.0.0.0", _PORT), Served)  # noqa: S104 - inside the sandbox


if __name__ == "__main__":
    serving().serve_forever()
