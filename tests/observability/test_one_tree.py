"""An agent that calls a model, a governed tool, memory and another agent: one tree, complete."""

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from freehold.testing.scripted_model import MODEL_NAME
from gateway_ground import Gateway, at_every_worker
from gateway_upstreams import Json, Loop, McpUpstream, Tool
from running import Agent, RunningPlatform, new_session, until

pytestmark = pytest.mark.slow

DOORWAY = "http://127.0.0.1:7400"
# Of nothing but the standard library: it posts what it is told to, and says nothing of traces.
AGENT = """
import json, os, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer({"status": "Healthy"})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        calls = asked.get("params", asked)["calls"]
        answer = {"heard": self.headers["traceparent"], "answers": [post(**each) for each in calls]}
        self.answer({"jsonrpc": "2.0", "id": asked.get("id"), "result": answer})

    def answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

def post(url, body, headers={}):
    headers = {"content-type": "application/json", **headers}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    return json.load(urllib.request.urlopen(request))

ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT", "8080"))), Agent).serve_forever()
"""
ASKED = "what is in the account?"
CHAT = {
    "url": f"{DOORWAY}/model/openai/v1/chat/completions",
    "body": {"model": MODEL_NAME, "messages": [{"role": "user", "content": ASKED}]},
}


class Named(NamedTuple):
    """An agent, and how traces call it."""

    agent: Agent
    name: str

    @property
    def id(self) -> str:
        return self.agent.id


def deployed(platform: RunningPlatform, **params: Any) -> Named:
    name = f"agent_{uuid.uuid4().hex[:8]}"
    return Named(platform.deploy({"main.py": AGENT}, name=name, **params), name)


@pytest.fixture(scope="module")
def agent(platform: RunningPlatform) -> Iterator[Named]:
    named = deployed(platform, tags={"freehold:content-capture": "on"})
    yield named
    named.agent.delete()


@pytest.fixture(scope="module")
def other(platform: RunningPlatform) -> Iterator[Named]:
    """Speaks A2A; of it no texts are kept."""
    named = deployed(
        platform,
        protocolConfiguration={"serverProtocol": "A2A"},
        environmentVariables={"PORT": "9000"},
    )
    yield named
    named.agent.delete()


@pytest.fixture(scope="module")
def bank(platform: RunningPlatform) -> Iterator[Gateway]:
    """A gateway whose engine lets everybody of the account see the balance."""
    account = {"type": "object", "properties": {"account": {"type": "string"}}}
    with Loop() as loop:
        tool = Tool("balance", "What is there.", account, lambda *_: {"balance": 4200})
        with McpUpstream(loop, tool) as upstream:
            control = platform.client("bedrock-agentcore-control")
            engine = control.create_policy_engine(name=f"e{uuid.uuid4().hex[:8]}")
            attached = {"arn": engine["policyEngineArn"], "mode": "ENFORCE"}
            gateway = Gateway(
                platform, authorizerType="AWS_IAM", policyEngineConfiguration=attached
            )
            gateway.add_mcp_server("bank", upstream.endpoint)
            permit = (
                'permit (principal, action == AgentCore::Action::"bank___balance", '
                f'resource == AgentCore::Gateway::"{gateway.arn}");'
            )
            made = control.create_policy(
                policyEngineId=engine["policyEngineId"], name="everybody",
                definition={"cedar": {"statement": permit}},
                validationMode="IGNORE_ALL_FINDINGS",
            )  # fmt: skip
            which = {"policyEngineId": engine["policyEngineId"], "policyId": made["policyId"]}
            until(lambda: control.get_policy(**which)["status"] == "ACTIVE")
            arguments = {"account": "mine"}
            at_every_worker(
                lambda: (
                    not gateway.call("bank___balance", arguments, signed_by=platform).result.get(
                        "isError"
                    )
                )
            )
            yield gateway
            gateway.delete()


@pytest.fixture(scope="module")
def memory(platform: RunningPlatform) -> Iterator[tuple[str, str]]:
    """(its id, that of the record in it)"""
    control, data = (
        platform.client("bedrock-agentcore-control"),
        platform.client("bedrock-agentcore"),
    )
    name = f"m{uuid.uuid4().hex[:10]}"
    id = control.create_memory(name=name, eventExpiryDuration=30)["memory"]["id"]
    record = {
        "requestIdentifier": "one", "namespaces": ["/facts"], "timestamp": datetime.now(UTC),
        "content": {"text": "Anna's account is at the bank in Oslo."},
    }  # fmt: skip
    [created] = data.batch_create_memory_records(memoryId=id, records=[record])["successfulRecords"]
    yield id, created["memoryRecordId"]
    control.delete_memory(memoryId=id)


def read_back(platform: RunningPlatform, trace_id: str, spans: int) -> Json:
    """Once so many spans are there."""
    found: Json = {}

    def complete() -> bool:
        nonlocal found
        path = f"/traces/{trace_id}"
        with platform.open("GET", path, content="true", raw="true") as answer:
            if answer.status == 404:
                return False
            found = json.loads(answer.read())
        return found["trace"]["complete"] and len(found["spans"]) >= spans

    until(complete)
    return found


def test_what_one_call_leads_to_is_one_tree(
    platform: RunningPlatform,
    agent: Named,
    other: Named,
    bank: Gateway,
    memory: tuple[str, str],
) -> None:
    memory_id, record_id = memory
    call = {"name": "bank___balance", "arguments": {"account": "mine"}}
    session = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
    calls: list[Any] = [
        CHAT,
        {"url": f"{DOORWAY}/gateway/{bank.id}/mcp",
         "body": {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}},
        {"url": f"{DOORWAY}/memories/{memory_id}/retrieve",
         "body": {"namespace": "/facts", "searchCriteria": {"searchQuery": "Anna's account"}}},
        {"url": f"{DOORWAY}/runtimes/{quote(other.agent.arn, safe='')}/invocations",
         "headers": {session: new_session()},
         "body": {"jsonrpc": "2.0", "id": 7, "method": "SendMessage",
                  "params": {"calls": [CHAT]}}},
    ]  # fmt: skip
    begun = agent.agent.begin({"calls": calls})
    said = json.loads(begun["response"].read())
    trace_id = begun["traceParent"].split("-")[1]
    assert said["result"]["heard"] == begun["traceParent"]

    trace = read_back(platform, trace_id, spans=11)
    spans = trace["spans"]
    assert [(each.get("depth", 0), each["name"]) for each in spans] == [
        (0, f"invoke_agent {agent.name}"),
        (1, "session start"),
        (1, f"chat {MODEL_NAME}"),
        (1, "mcp tools/call"),
        (2, "execute_tool bank___balance"),
        (3, "policy allow"),
        (3, "POST 127.0.0.1"),
        (1, f"search_memory {memory_id}"),
        (1, f"invoke_agent {other.name}"),
        (2, "session start"),
        (2, f"chat {MODEL_NAME}"),
    ]
    assert not [each for each in spans if each.get("orphan") or each["status"] == "error"]
    [chat, chat_of_other] = [each for each in spans if each["name"].startswith("chat ")]
    line = trace["trace"]
    used = [each["is"]["tokens"] for each in (chat, chat_of_other)]
    assert line["inputTokens"] == sum(each["input"] for each in used) > 0
    assert line["outputTokens"] == sum(each["output"] for each in used) > 0
    assert (line["modelCalls"], line["toolCalls"], line["errors"]) == (2, 1, 0)
    assert (chat["agentId"], chat_of_other["agentId"]) == (agent.id, other.id)

    by_name = {each["name"].partition(" ")[0]: each for each in spans}
    assert by_name["search_memory"]["is"]["memory"]["recordIds"] == [record_id]
    assert by_name["execute_tool"]["is"]["tool"]["arguments"] == {"account": "mine"}
    [policy] = by_name["policy"]["is"]["policy"]["policies"]
    assert policy.startswith("everybody")
    # Texts are kept of the agent that has them captured, and of no other.
    assert chat["is"]["content"]["input"][0]["parts"][0]["text"] == ASKED
    assert "content" not in chat_of_other["is"]
    assert ASKED not in json.dumps(chat_of_other)
