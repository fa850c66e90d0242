"""A server of prepared answers, and what running the command gives back."""

import fnmatch
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from click.testing import Result

ACCESS_KEY_ID = "FHIAAAAAAAAAAAAAAAAA"

COMMAND_SECONDS_MAX = 120

Run = Callable[..., Result]


@dataclass
class Answer:
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    # The connection is cut after the body, though more was promised.
    breaks_off: bool = False
    # One chunk of chunked encoding in place of a length.
    chunked: bool = False


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Answering:
    """A server that gives prepared answers: for what a real platform does not do on demand."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Answer] = {}
        self.seen: list[Seen] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(size)
                outer.seen.append(Seen(self.command, self.path, dict(self.headers.items()), body))
                path = self.path.partition("?")[0]
                answer = outer._answer_to(self.command, path)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if answer.chunked:
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(answer.body), answer.body))
                    self.wfile.write(b"" if answer.breaks_off else b"0\r\n\r\n")
                else:
                    promised = len(answer.body) + (1000 if answer.breaks_off else 0)
                    self.send_header("Content-Length", str(promised))
                    self.end_headers()
                    self.wfile.write(answer.body)
                if answer.breaks_off:
                    self.close_connection = True

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _serve

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    def _answer_to(self, method: str, path: str) -> Answer:
        for (of, pattern), answer in self.answers.items():
            if of == method and fnmatch.fnmatchcase(path, pattern):
                return answer
        return Answer(404, b"nothing here")

    def answer(self, method: str, path: str, document: Any = None, **answer: Any) -> None:
        """Prepare the answer to a path, in which `*` stands for anything."""
        if document is not None:
            answer["body"] = json.dumps(document).encode()
        self.answers[method, path] = Answer(**answer)

    def has_runtime(self, name: str = "greeter") -> str:
        """Lists one runtime; its ARN."""
        identifier = f"{name}-aaaaaaaaaa"
        arn = f"arn:aws:bedrock-agentcore:us-east-1:123456789012:runtime/{identifier}"
        row = {
            "agentRuntimeName": name,
            "agentRuntimeId": identifier,
            "agentRuntimeArn": arn,
            "agentRuntimeVersion": "1",
            "description": "",
            "lastUpdatedAt": "2026-09-01T00:00:00Z",
            "status": "READY",
        }
        self.answer("POST", "/runtimes/", {"agentRuntimes": [row]})
        return arn

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@dataclass
class Finished:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


class Command:
    """`freehold ...` in a process of its own, with nothing of the tester's AWS environment."""

    def __init__(self, **environment: str) -> None:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "FREEHOLD_"))
        }
        self._environment = {**inherited, **environment}

    def __call__(self, *words: object, **environment: str) -> Finished:
        with self.started(*words, **environment) as process:
            try:
                out, err = process.communicate(timeout=COMMAND_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Finished(process.returncode, out, err)

    def started(self, *words: object, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "freehold.cli", *(str(word) for word in words)],
            env={**self._environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
