"""An agent that asks its model twice for each invocation: the second time with what the first
answer was."""

from typing import Any

from freehold.testing.scripted_model import MODEL_NAME
from running import Agent, RunningPlatform, new_session, until

SOURCE = """
import json, os, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

def said(prompt):
    chat = {"model": os.environ["MODEL"], "messages": [
        {"role": "system", "content": "Be exact."}, {"role": "user", "content": prompt}]}
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions", json.dumps(chat).encode(),
        {"content-type": "application/json"})
    return json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"]

class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer({"status": "Healthy"})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        first = said(asked["prompt"])
        self.answer({"first": first, "said": said("and then: " + first)})

    def answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("0.0.0.0", 8080), Agent).serve_forever()
"""


def deploy(platform: RunningPlatform, name: str, *, captured: bool = True) -> Agent:
    return platform.deploy(
        {"main.py": SOURCE},
        name=name,
        tags={"freehold:content-capture": "on"} if captured else {},
        environmentVariables={"MODEL": MODEL_NAME},
    )


def recorded(
    platform: RunningPlatform, agent: Agent, prompt: str
) -> tuple[str, list[dict[str, Any]]]:
    """An invocation's trace, once all of it is there, and the two calls of the model in it."""
    session = new_session()
    agent.invoke({"prompt": prompt}, session)
    calls: list[dict[str, Any]] = []

    def there() -> bool:
        spans = platform.own("/spans", sessionId=session)["spans"]
        chats = [one for one in spans if one["is"].get("operation") == "chat"]
        calls[:] = sorted(chats, key=lambda one: str(one["startedAt"]))
        turns = [one for one in spans if one["is"].get("operation") == "invoke_agent"]
        return len(calls) == 2 and len(turns) == 1

    until(there, seconds_max=120)
    return calls[0]["traceId"], calls
