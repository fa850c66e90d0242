"""What the platform puts into the bundle of a function: it serves the agent contract on port 8080
and gives each event to the handler, by AWS Lambda's contract.

Standard library only, and Python 3.10: it runs with whatever the function asks for. The handler
runs in the main thread, as it does at AWS; signals and asyncio.run work there.
"""

import contextlib
import importlib
import json
import os
import queue
import socket
import sys
import threading
import time
import traceback
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

ANSWER_BYTES_MAX = 6 << 20
_PORT = 8080
_ROOT = str(Path(__file__).resolve().parent)


class Attributes(dict):  # type: ignore[type-arg]  # of a class that also runs on Python 3.10
    """A dict whose members are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class ClientContext:
    def __init__(self, custom: dict[str, Any]) -> None:
        self.custom, self.env, self.client = Attributes(custom), Attributes(), None


class Identity:
    cognito_identity_id = None
    cognito_identity_pool_id = None


class Context:
    """Lambda's context object."""

    def __init__(self, asked: dict[str, Any], deadline: float) -> None:
        name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
        self.function_name = name
        self.function_version = "$LATEST"
        self.invoked_function_arn = asked.get("arn", "")
        self.memory_limit_in_mb = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
        self.aws_request_id = asked.get("requestId") or str(uuid.uuid4())
        self.log_group_name = f"/aws/lambda/{name}"
        self.log_stream_name = ""
        self.tenant_id = None
        self.identity = Identity()
        self.client_context = ClientContext(asked.get("context") or {})
        self._deadline = deadline

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._deadline - time.monotonic()) * 1000))

    def log(self, message: object) -> None:
        sys.stdout.write(str(message))


class Failed(Exception):
    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def load(handler: str) -> Any:
    """The handler that "module.function" names. Raises Failed, in Lambda's words."""
    module, _, name = handler.rpartition(".")
    if not module:
        raise Failed("Runtime.MalformedHandlerName", f"Bad handler '{handler}'")
    try:
        found = importlib.import_module(module.replace("/", "."))
    except ImportError as error:
        traceback.print_exc()
        raise Failed(
            "Runtime.ImportModuleError", f"Unable to import module '{module}': {error}"
        ) from error
    except BaseException as error:  # whatever a module raises while it is imported
        traceback.print_exc()
        raise Failed(type(error).__name__, str(error)) from error
    try:
        return getattr(found, name)
    except AttributeError:
        raise Failed(
            "Runtime.HandlerNotFound", f"Handler '{name}' missing on module '{module}'"
        ) from None


def _trace(trace: "TracebackType | None") -> list[str]:
    frames = traceback.extract_tb(trace)
    return traceback.format_list([frame for frame in frames if frame.filename != __file__])


class Function:
    """One event at a time."""

    def __init__(self) -> None:
        self.busy = threading.Lock()
        self._events: queue.Queue[tuple[dict[str, Any], float, queue.Queue[bytes]]] = queue.Queue()
        self._handler: Any = None
        self._failure: Failed | None = None
        try:
            self._handler = load(os.environ.get("_HANDLER", ""))
        except Failed as failure:
            self._failure = failure

    def answer(self, asked: dict[str, Any]) -> "bytes | None":
        """None: it ran out of time, and still runs."""
        seconds = asked["timeoutMs"] / 1000
        answers: queue.Queue[bytes] = queue.Queue()
        self._events.put((asked, time.monotonic() + seconds, answers))
        try:
            return answers.get(timeout=seconds)
        except queue.Empty:
            return None

    def work(self) -> None:
        """For the main thread, for ever."""
        while True:
            asked, deadline, answers = self._events.get()
            answers.put(self._answer(asked, deadline))

    def _answer(self, asked: dict[str, Any], deadline: float) -> bytes:
        if self._failure is not None:
            return failure(self._failure.kind, str(self._failure))
        context = Context(asked, deadline)
        try:
            value = self._handler(asked.get("event"), context)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is its answer
            traceback.print_exc()
            return failure(
                type(error).__name__, str(error), context.aws_request_id,
                _trace(error.__traceback__),
            )  # fmt: skip
        try:
            text = json.dumps({"value": value}, default=_plain, ensure_ascii=False).encode()
        except (TypeError, ValueError, RecursionError) as error:  # also of lone surrogates
            return failure(
                "Runtime.MarshalError", f"Unable to marshal response: {error}",
                context.aws_request_id,
            )  # fmt: skip
        if len(text) > ANSWER_BYTES_MAX:
            return failure(
                "Function.ResponseSizeTooLarge",
                f"Response payload size exceeded maximum allowed payload size "
                f"({ANSWER_BYTES_MAX} bytes).",
                context.aws_request_id,
            )
        return text


def _plain(value: Any) -> Any:
    if type(value).__name__ == "Decimal":  # as Lambda has it
        return float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def failure(
    kind: str, message: str, request_id: str = "", trace: "list[str] | None" = None
) -> bytes:
    error = {
        "errorMessage": message, "errorType": kind, "requestId": request_id,
        "stackTrace": trace or [],
    }  # fmt: skip
    return json.dumps({"error": error}).encode()


class Served(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet: in two, the second waits for an answer (40 ms)
    function: Function

    def do_GET(self) -> None:
        status = "HealthyBusy" if self.function.busy.locked() else "Healthy"
        self._send(200, json.dumps({"status": status, "time_of_last_update": _BEGAN}).encode())

    def do_POST(self) -> None:
        asked = json.loads(self._body())
        if not self.function.busy.acquire(blocking=False):
            self._send(200, b'{"busy": true}')
            return
        try:
            answer = self.function.answer(asked)
            if answer is None:
                seconds = asked["timeoutMs"] / 1000
                late = f"Task timed out after {seconds:.2f} seconds"
                self._send(200, failure("Sandbox.Timedout", late, asked.get("requestId", "")))
                self.wfile.flush()
                sys.stderr.write(late + "\n")
                os._exit(1)
            self._send(200, answer)
        finally:
            self.function.busy.release()

    def _body(self) -> bytes:
        """A large one comes in chunks."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers["Content-Length"]))
        body = bytearray()
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return bytes(body)

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


_BEGAN = int(time.time())


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


class SocketServer(Server):
    """In the process tier, which has no port of its own: where the launcher has servers listen."""

    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", _PORT

    def get_request(self) -> "tuple[socket.socket, tuple[str, int]]":
        return self.socket.accept()[0], ("localhost", 0)


def serving() -> Server:
    """Before the handler is imported: what tells of the socket goes away with a web server."""
    for finder in sys.meta_path:
        folder = getattr(finder, "folder", None)
        if type(finder).__name__ == "_UvicornHook" and isinstance(folder, str):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)  # a path may be too long
            path = f"/proc/self/fd/{descriptor}/port-{_PORT}.sock"
            return SocketServer(path, Served)  # type: ignore[arg-type]  # of its family it is one
    return Server(("0.0.0.0", _PORT), Served)  # noqa: S104 - inside the sandbox


def main() -> None:
    os.environ.setdefault("LAMBDA_TASK_ROOT", _ROOT)
    os.environ.setdefault("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
    if _ROOT not in sys.path:
        sys.path.insert(0, _ROOT)
    server = serving()
    Served.function = Function()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Served.function.work()


if __name__ == "__main__":
    main()
