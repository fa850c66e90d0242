"""An agent of the standard library that speaks what PROTOCOL says: MCP, A2A or AG-UI.

As an MCP server it keeps sessions, or none with STATELESS, and says in which process and session a
call came.
"""

import json
import os
import urllib.error
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROTOCOL = os.environ["PROTOCOL"]
PORT = {"MCP": 8000, "A2A": 9000, "AGUI": 8080}[PROTOCOL]
STATELESS = "STATELESS" in os.environ
BOOT = uuid.uuid4().hex
sessions = set()
TOOLS = [
    {"name": "where", "description": "Where it runs.", "inputSchema": {"type": "object"}},
    {
        "name": "post",
        "description": "What somebody else answers.",
        "inputSchema": {"type": "object", "properties": {"url": {"type": "string"}}},
    },
]


class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/.well-known/agent-card.json":
            self.answer(
                {
                    "name": "inner",
                    "url": "http://0.0.0.0:9000/",
                    "preferredTransport": "JSONRPC",
                    "supportedInterfaces": [
                        {"url": "http://0.0.0.0:9000/", "protocolBinding": "JSONRPC"}
                    ],
                }
            )
        elif self.path == "/ping":
            self.answer({"status": "Healthy"})
        else:
            self.answer({"error": "no"}, 405)

    def do_DELETE(self):
        sessions.discard(self.headers["Mcp-Session-Id"])
        self.answer(None, 200)

    def do_POST(self):
        asked = json.loads(self.body() or b"{}")
        if PROTOCOL == "MCP":
            self.mcp(asked)
        elif PROTOCOL == "A2A":
            said = {"boot": BOOT, "extensions": self.headers["A2A-Extensions"]}
            self.answer({"jsonrpc": "2.0", "id": asked["id"], "result": said})
        else:
            events = b"".join(
                b"data: " + json.dumps({"type": kind}).encode() + b"\n\n"
                for kind in ("RUN_STARTED", "RUN_FINISHED")
            )
            self.answer(events, kind="text/event-stream")

    def body(self):
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        whole = b""
        while size := int(self.rfile.readline(), 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def mcp(self, asked):
        method, session = asked.get("method"), self.headers["Mcp-Session-Id"]
        if method == "initialize":
            made = None if STATELESS else uuid.uuid4().hex
            sessions.add(made)
            result = {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "inner", "version": "1"},
            }
            self.result(asked, result, {"Mcp-Session-Id": made} if made else {})
        elif "id" not in asked:
            self.answer(None, 202)
        elif not STATELESS and session not in sessions:
            error = {"code": -32001, "message": "Session not found"}
            self.answer({"jsonrpc": "2.0", "id": asked["id"], "error": error}, 404)
        elif method == "tools/list":
            self.result(asked, {"tools": TOOLS})
        elif method == "tools/call":
            called = {"where": self.where, "post": self.post}[asked["params"]["name"]]
            text = json.dumps(called(**asked["params"].get("arguments", {})))
            self.result(asked, {"content": [{"type": "text", "text": text}]})
        else:
            error = {"code": -32601, "message": "Method not found"}
            self.answer({"jsonrpc": "2.0", "id": asked["id"], "error": error})

    def where(self):
        names = ("Authorization", "X-Amzn-Bedrock-AgentCore-Runtime-User-Id")
        return {
            "boot": BOOT,
            "mcp_session": self.headers["Mcp-Session-Id"],
            "session": self.headers["X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"],
            "seen": {name: self.headers[name] for name in names},
            "environment": {k: v for k, v in os.environ.items() if k.startswith("FREEHOLD")},
        }

    def post(self, url, body=None, headers=None):
        sent = {"content-type": "application/json", "accept": "application/json"}
        data = json.dumps(body or {}).encode()
        request = urllib.request.Request(url, data, {**sent, **(headers or {})})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return {"status": answer.status, "body": answer.read().decode()}
        except urllib.error.HTTPError as error:
            return {"status": error.code, "body": error.read().decode()}

    def result(self, asked, result, headers=()):
        self.answer({"jsonrpc": "2.0", "id": asked["id"], "result": result}, headers=headers)

    def answer(self, value, status=200, kind="application/json", headers=()):
        body = b"" if value is None else value
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, text in dict(headers).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", PORT), Agent).serve_forever()
