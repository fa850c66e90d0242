"""A real platform with an agent that calls a model, a gateway's tool and the model again, and forks
of its sessions, made by HTTP."""

import contextlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import urllib3

from freehold.testing.scripted_model import MODEL_NAME
from gateway_ground import Gateway
from gateway_upstreams import Json, Loop, McpUpstream, Tool
from running import Agent, RunningPlatform, new_session, until
from served_model import ServedModel

# Of nothing but the standard library. What it is told to do it does, one call after another, and
# tells what came of each.
AGENT = """
import json, os, time, urllib.error, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DOORWAY = "http://127.0.0.1:7400"

class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer({"status": "Healthy"})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        session = self.headers["x-amzn-bedrock-agentcore-runtime-session-id"]
        steps = list(asked["steps"])
        if session.startswith("fork-"):
            steps[:0] = asked.get("only_in_forks", [])
        said = []
        for step in steps:
            if "ask" in step:
                said.append(model(step, said))
            elif "call" in step:
                said.append(tool(step, said))
            elif session.startswith("fork-"):
                time.sleep(step["wait_in_forks"])
        self.answer({"said": said})

    def answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

def model(step, said):
    messages = [{"role": "system", "content": "Be brief."}]
    for before in said:
        messages.append({"role": "assistant", "content": before})
    messages.append({"role": "user", "content": step["ask"]})
    body = {"model": step["model"], "messages": messages}
    url = f"{DOORWAY}/model/openai/v1/chat/completions"
    if step.get("stream"):
        return read(url, {**body, "stream": True}).decode()
    answer = post(url, body)
    return answer["choices"][0]["message"]["content"] if "choices" in answer else json.dumps(answer)

def tool(step, said):
    params = {"name": step["call"], "arguments": {"about": said[-1] if said else ""}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    answer = post(f"{DOORWAY}/gateway/{step['gateway']}/mcp", body)
    return answer["result"]["content"][0]["text"]

def read(url, body):
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    return urllib.request.urlopen(request).read()

def post(url, body):
    try:
        return json.loads(read(url, body))
    except urllib.error.HTTPError as error:
        return {"error": error.read().decode()}

ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT", "8080"))), Agent).serve_forever()
"""
TOOL = "desk___look_up"
CAPTURES = {"freehold:content-capture": "on"}
ENDED = ("COMPLETED", "FAILED", "DIVERGED", "INTERRUPTED")


@dataclass
class Forking:
    """`mark` is in all that it asks models."""

    platform: RunningPlatform
    model: ServedModel
    upstream: McpUpstream
    gateway: Gateway
    agent: Agent
    mark: str

    def steps(self, *asked: str) -> Json:
        """A payload: ask the first, call the tool with the answer, ask the rest."""
        call = {"call": TOOL, "gateway": self.gateway.id}
        ask = [{"ask": f"{text} {self.mark}", "model": MODEL_NAME} for text in asked]
        return {"steps": [*ask[:1], call, *ask[1:]]}

    def recorded(self, *turns: Json, agent: Agent | None = None) -> "Recorded":
        """A session of these payloads, once all of its spans can be read."""
        agent, session, traces = agent or self.agent, new_session(), []
        answers = []
        for payload in turns:
            begun = agent.begin(payload, session)
            answers.append(json.loads(begun["response"].read()))
            traces.append(begun["traceParent"].split("-")[1])
        found = [
            self._spans(trace_id, payload) for trace_id, payload in zip(traces, turns, strict=True)
        ]
        agent.stop(session)
        return Recorded(session, traces, found, answers)

    def _spans(self, trace_id: str, payload: Json) -> list[Json]:
        seen: list[Json] = []

        def complete() -> bool:
            nonlocal seen
            with self.platform.open("GET", f"/traces/{trace_id}", raw="true") as answer:
                if answer.status != 200:
                    return False
                document = json.loads(answer.read())
            seen = document["spans"]
            steps = [each for each in seen if each["name"].startswith(("chat ", "execute_tool "))]
            made = [each for each in payload["steps"] if "wait_in_forks" not in each]
            return document["trace"]["complete"] and len(steps) >= len(made)

        until(complete)
        return seen

    def fork(
        self, recorded: "Recorded", name: str, *, turn: int = 0, number: int = 0, **given: Any
    ) -> Json:
        """At the `number`th span whose name begins so, of that turn; once it has ended."""
        made = self.begin(recorded, name, turn=turn, number=number, **given)
        return self.ended(made["forkId"])

    def begin(
        self, recorded: "Recorded", name: str, *, turn: int = 0, number: int = 0, **given: Any
    ) -> Json:
        body = {
            "traceId": recorded.traces[turn],
            "spanId": recorded.span(name, turn=turn, number=number),
            **given,
        }
        made: Json = self.platform.own("/forks", method="POST", body=body)
        return made

    def refused(
        self, recorded: "Recorded", span_id: str, *, turn: int = 0, **given: Any
    ) -> tuple[int, str]:
        body = {"traceId": recorded.traces[turn], "spanId": span_id, **given}
        with self.platform.open("POST", "/forks", body=body) as answer:
            document = json.loads(answer.read())
            assert answer.status >= 400, document
            return answer.status, document["error"]["message"]

    def point(self, recorded: "Recorded", span_id: str) -> Json:
        path = f"/traces/{recorded.traces[0]}/spans/{span_id}/fork-point"
        found: Json = self.platform.own(path)
        return found

    def ended(self, fork_id: str) -> Json:
        seen: Json = {}

        def over() -> bool:
            nonlocal seen
            with contextlib.suppress(urllib3.exceptions.HTTPError):  # a worker may be gone just now
                seen = self.platform.own(f"/forks/{fork_id}")
            return seen.get("status") in ENDED

        until(over)
        return seen

    def compared(self, fork: Json) -> Json:
        found: Json = self.platform.own(f"/forks/{fork['forkId']}/comparison")
        return found

    def asked(self) -> list[Json]:
        """What models were asked until now."""
        found = [json.loads(json.dumps(each.document)) for each in self.model.model.requests]
        return [each for each in found if self.mark in json.dumps(each)]

    def called(self) -> int:
        """How often the tool's backend was called until now."""
        return self.upstream.count("tools/call")


@dataclass
class Recorded:
    session: str
    traces: list[str]
    spans: list[list[Json]]
    answers: list[Json]

    def span(self, name: str, *, turn: int = 0, number: int = 0) -> str:
        found = [each for each in self.spans[turn] if each["name"].startswith(name)]
        return str(found[number]["spanId"])


@contextmanager
def forking(platform: RunningPlatform, model: ServedModel) -> Iterator[Forking]:
    about = {"type": "object", "properties": {"about": {"type": "string"}}}
    with Loop() as loop:
        tool = Tool("look_up", "Looks it up.", about, lambda *_: {"found": uuid.uuid4().hex})
        with McpUpstream(loop, tool) as upstream:
            gateway = Gateway(platform, authorizerType="AWS_IAM")
            gateway.add_mcp_server("desk", upstream.endpoint)
            agent = platform.deploy({"main.py": AGENT}, tags=CAPTURES)
            yield Forking(platform, model, upstream, gateway, agent, mark=uuid.uuid4().hex)
            agent.delete()
            gateway.delete()
