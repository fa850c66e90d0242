"""An agent that runs the Python it gets, and answers with what that calls `answer`."""

import json
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

kept = {}


class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_json({"status": "Healthy"})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        scope = {"kept": kept, **asked.get("given", {})}
        try:
            exec(asked["run"], scope)
        except Exception as error:  # noqa: BLE001 - a boundary: what it runs may be anything
            traceback.print_exc()
            self.send_json({"error": f"{type(error).__name__}: {error}"}, 500)
        else:
            self.send_json(scope.get("answer"))

    def send_json(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 8080), Agent).serve_forever()
