"""What a whole platform lets out: spans to a collector, numbers to Prometheus, logs to boto3."""

import gzip
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import agents
from running import Agent, RunningPlatform

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TOKEN = "token-of-prometheus-here"


class Collector(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: dict[str, Any] = {}
        self.keys: set[str] = set()


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for of_scope in of_resource.scope_spans:
                for span in of_scope.spans:
                    self.server.spans[span.span_id.hex()] = span
        self.server.keys.add(self.headers["X-Key"])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        yield collector
        collector.shutdown()


@pytest.fixture(scope="module")
def outward(open_directory: Path, collector: Collector) -> Iterator[RunningPlatform]:
    running = RunningPlatform(
        open_directory / "outward",
        workers=2,
        allow_process_tier="true",
        metrics_token=TOKEN,
        telemetry_forward_url=f"http://127.0.0.1:{collector.server_port}",
        telemetry_forward_headers="X-Key=secret-of-the-collector",
    )
    with running:
        yield running


@pytest.fixture(scope="module")
def agent(outward: RunningPlatform) -> Iterator[Agent]:
    agent = outward.deploy(agents.plain())
    yield agent
    agent.delete()


def until(found: Any) -> Any:
    give_up = time.monotonic() + 120
    while not (value := found()):
        assert time.monotonic() < give_up
        time.sleep(0.2)
    return value


def metrics(platform: RunningPlatform, token: str = TOKEN) -> str:
    request = urllib.request.Request(
        f"{platform.endpoint}/metrics", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.read().decode())


def test_an_invocation_is_sent_on_counted_and_found(
    outward: RunningPlatform, collector: Collector, agent: Agent
) -> None:
    session = "session-of-telemetry-out-0123456789"
    agent.invoke(session=session)

    until(lambda: any(s.name.startswith("invoke_agent") for s in collector.spans.values()))
    assert collector.keys == {"secret-of-the-collector"}
    assert "secret-of-the-collector" not in outward.log.read_text()

    text = metrics(outward)
    assert 'service="bedrock-agentcore",operation="InvokeAgentRuntime",status="2xx"} 1' in text
    assert 'freehold_session_starts_total{outcome="ok"} 1' in text
    assert 'freehold_forwarding_items_total{signal="traces",outcome="sent"}' in text
    assert "freehold_sessions{" in text
    assert 'freehold_telemetry_queue_items{signal="traces"}' in text
    assert outward.account not in text
    assert agent.id not in text
    with pytest.raises(urllib.error.HTTPError, match="401"):
        metrics(outward, "another")

    logs = outward.client("logs")
    query = f'filter attributes.session.id = "{session}" | fields name, spanId'
    now = int(time.time())

    def rows() -> Any:
        started = logs.start_query(
            logGroupName="aws/spans", queryString=query, startTime=now - 600, endTime=now + 600
        )
        return logs.get_query_results(queryId=started["queryId"])["results"]

    names = {pair["value"] for row in until(rows) for pair in row if pair["field"] == "name"}
    assert any(name.startswith("invoke_agent") for name in names)
    groups = [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]]
    assert groups == [f"/aws/bedrock-agentcore/runtimes/{agent.id}-DEFAULT", "aws/spans"]


def test_whichever_worker_answers_the_numbers_are_the_machine_s(
    outward: RunningPlatform, agent: Agent
) -> None:
    before = _requests(metrics(outward))
    assert before > 0
    outward.client("bedrock-agentcore-control").list_agent_runtimes()

    assert until(lambda: _requests(metrics(outward)) > before)


def _requests(text: str) -> float:
    lines = [line for line in text.splitlines() if line.startswith("freehold_requests_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)
