"""An agent that does what its model says, with the tools of a gateway, as the user who asks.

It knows no policy, and could not get past one.
"""

import json
import os
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GATEWAY = f"{os.environ['FREEHOLD_GATEWAY_URL']}/{os.environ['GATEWAY_ID']}/mcp"


def post(url, body, token=None):
    headers = {"content-type": "application/json", "accept": "application/json"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def ask(prompt, token):
    def rpc(method, **params):
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return post(GATEWAY, body, token)["result"]

    listed = rpc("tools/list")["tools"]
    tools = [
        {"type": "function", "function": {"name": t["name"], "parameters": t["inputSchema"]}}
        for t in listed
    ]
    messages = [{"role": "user", "content": prompt}]
    results = []
    while True:
        body = {"model": "scripted", "messages": messages, **({"tools": tools} if tools else {})}
        url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
        said = post(url, body)["choices"][0]["message"]
        messages.append(said)
        if not said.get("tool_calls"):
            names = [tool["name"] for tool in listed]
            return {"answer": said["content"], "tools": names, "results": results}
        for call in said["tool_calls"]:
            arguments = json.loads(call["function"]["arguments"])
            result = rpc("tools/call", name=call["function"]["name"], arguments=arguments)
            results.append(result)
            text = result["content"][0]["text"]
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": text})


class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer({"status": "Healthy"})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(ask(asked["prompt"], asked["token"]))

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 8080), Agent).serve_forever()
