"""An agent of nothing but the standard library: it does what the JSON it gets says.

What is not JSON it sends back as it came. `{"do": NAME, ...}` calls the function NAME below.
"""

import hashlib
import json
import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

told, held = [], []
go, closed = threading.Event(), threading.Event()
health = {"status": "Healthy"}
WAIT_SECONDS = 60


class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_json({**health, "time_of_last_update": int(time.time())})

    def do_POST(self):
        if not self.headers["Content-Type"].startswith("application/json"):
            self.echo()
            return
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        globals()[asked.pop("do", "whoami")](self, **asked)

    def echo(self):
        """In pieces, so that it may be of any size."""
        digest, size = hashlib.sha256(), 0
        kept = []
        for piece in self.pieces():
            digest.update(piece)
            size += len(piece)
            if self.headers["Content-Type"] != "application/x-digest":
                kept.append(piece)
        if kept or size == 0:
            self.send(b"".join(kept), self.headers["Content-Type"])
        else:
            self.send_json({"bytes": size, "sha256": digest.hexdigest()})

    def pieces(self):
        if "Content-Length" in self.headers:
            left = int(self.headers["Content-Length"])
            while left and (piece := self.rfile.read(min(left, 1 << 20))):
                left -= len(piece)
                yield piece
            return
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    # -- answers

    def send(self, body, content_type="application/octet-stream", status=200, headers=()):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def send_json(self, value, status=200):
        self.send(json.dumps(value).encode(), "application/json", status)

    def begin(self, content_type="text/event-stream"):
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def piece(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def event(self, value):
        self.piece(b"data: " + json.dumps(value).encode() + b"\n\n")

    def end(self):
        self.piece(b"")

    def log_message(self, *_):
        pass


def whoami(agent):
    agent.send_json(
        {
            "pid": os.getpid(),
            "boot": _BOOT,
            "environment": dict(os.environ),
            "headers": dict(agent.headers.items()),
            "home": sorted(path.name for path in Path.home().iterdir()),
            "tmp": sorted(path.name for path in Path("/tmp").iterdir()),
            "python": f"PYTHON_3_{sys.version_info.minor}",
        }
    )


def tell(agent, text):
    """Remembered in memory and in a file of each place that can be written to."""
    told.append(text)
    for place in (Path.home(), Path("/tmp")):
        (place / text).write_text(text)
    agent.send_json({"told": told})


def write(agent, path):
    try:
        Path(path).write_text("x")
    except OSError as error:
        agent.send_json({"refused": error.strerror})
    else:
        agent.send_json({"written": path})


def say(agent, text):
    print(text, flush=True)
    agent.send_json({"said": text})


def say_error(agent, text):
    print(text, file=sys.stderr, flush=True)
    agent.send_json({"said": text})


# -- streams


def stream_until_go(agent):
    """The last event is not made before another call said `go`."""
    agent.begin()
    agent.event({"number": 1})
    agent.event({"number": 2, "went": go.wait(WAIT_SECONDS)})
    agent.end()


def say_go(agent):
    go.set()
    agent.send_json({})


def stream_for_ever(agent):
    agent.begin()
    try:
        while True:
            agent.event({"at": time.time()})
            time.sleep(0.01)
    except OSError:
        closed.set()


def was_closed(agent):
    agent.send_json({"closed": closed.wait(WAIT_SECONDS)})


def stream_bytes(agent, size):
    agent.begin("application/octet-stream")
    block = bytes(range(256)) * 4096
    while size:
        agent.piece(block[:size])
        size -= min(size, len(block))
    agent.end()


# -- work


def burn(agent, seconds):
    """Busy for so much time of the CPU; says what it used since it began."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
    agent.send_json({"cpu_seconds": time.process_time()})


def hold(agent, megabytes):
    held.append(b"x" * (megabytes * 1_000_000))
    agent.send_json({})


def busy(agent, busy):
    health["status"] = "HealthyBusy" if busy else "Healthy"
    agent.send_json({})


# -- what goes wrong


def status(agent, status, body="", content_type="application/json"):
    agent.send(body.encode(), content_type, status)


def endless_error(agent):
    agent.send_response(500)
    agent.send_header("Content-Type", "text/plain")
    agent.send_header("Transfer-Encoding", "chunked")
    agent.end_headers()
    try:
        while True:
            agent.piece(b"no end of trouble\n" * 1000)
    except OSError:
        closed.set()


def garbage(agent):
    agent.wfile.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    agent.close_connection = True


def odd_content_type(agent):
    agent.send(b"{}", "text/\x01plain")


def hang_up(agent):
    agent.connection.shutdown(socket.SHUT_RDWR)
    agent.close_connection = True


def die(agent, code):
    print("last words before the end", flush=True)
    os._exit(code)


def die_after_answer(agent, code):
    agent.send_json({})
    os._exit(code)


def die_streaming(agent, content_type):
    agent.begin(content_type)
    agent.event({"number": 1})
    os._exit(3)


def die_short(agent):
    """Fewer bytes than it said there would be."""
    agent.send_response(200)
    agent.send_header("Content-Type", "application/json")
    agent.send_header("Content-Length", "1000")
    agent.end_headers()
    agent.wfile.write(b"{")
    os._exit(3)


# -- the way out


def reach(agent, addresses):
    """What becomes of a TCP connection to each `host:port`."""
    outcomes = {}
    for address in addresses:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            outcomes[address] = "connected"
        except OSError as error:
            outcomes[address] = type(error).__name__
    agent.send_json(outcomes)


def post(agent, url, headers, body):
    """What somebody else answers; its status and what it says."""
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:
            agent.send_json({"status": answer.status, "body": answer.read().decode()})
    except urllib.error.HTTPError as error:
        agent.send_json({"status": error.code, "body": error.read().decode()})


_BOOT = os.urandom(8).hex()

if __name__ == "__main__":
    print("the agent is up", flush=True)
    ThreadingHTTPServer(("0.0.0.0", 8080), Agent).serve_forever()
