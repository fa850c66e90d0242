"""kill -9 while telemetry comes in: what was acknowledged is all there, once."""

import base64
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from fault_ground import FaultyPlatform, MakePlatform
from running import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SPANS = 20
_AGAIN = (429, 502, 503)


@pytest.fixture(scope="module")
def platform(make_platform: MakePlatform) -> FaultyPlatform:
    return make_platform("ingesting", workers=2)


class Exporters:
    """Threads that send one trace a request, and send it again until it is taken: a request that
    was cut off may be stored or not. `acknowledged` are ids of traces."""

    def __init__(self, platform: FaultyPlatform) -> None:
        self.acknowledged: list[str] = []
        self._over = threading.Event()
        self._url = f"{platform.endpoint}/otlp/v1/traces"
        key = f"{platform.access_key_id}:{platform.secret_access_key}".encode()
        self._headers = {
            "content-type": "application/x-protobuf",
            "authorization": "Basic " + base64.b64encode(key).decode(),
        }
        self._threads = [threading.Thread(target=self._export) for _ in range(4)]

    @contextmanager
    def exporting(self) -> Iterator["Exporters"]:
        for thread in self._threads:
            thread.start()
        try:
            until(lambda: len(self.acknowledged) >= 20, seconds_max=60)
            yield self
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join(60)

    def _export(self) -> None:
        while not self._over.is_set():
            trace_id, body = _a_trace()
            while not self._over.is_set():
                if self._is_taken(body):
                    self.acknowledged.append(trace_id)
                    break
                self._over.wait(0.05)

    def _is_taken(self, body: bytes) -> bool:
        request = urllib.request.Request(self._url, body, self._headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return bool(answer.status == 200 and answer.read() == b"")
        except urllib.error.HTTPError as error:
            assert error.code in _AGAIN, error.read()
        except OSError:
            pass
        return False


def _a_trace() -> tuple[str, bytes]:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    trace_id, now = os.urandom(16), time.time_ns()
    for number in range(SPANS):
        span = spans.add(trace_id=trace_id, span_id=os.urandom(8), name=f"step {number}")
        span.start_time_unix_nano, span.end_time_unix_nano = now + number, now + number + 1
    return trace_id.hex(), request.SerializeToString()


def _all_there(platform: FaultyPlatform, acknowledged: list[str]) -> None:
    for trace_id in acknowledged:
        trace = platform.own(f"/traces/{trace_id}")
        names = sorted(span["name"] for span in trace["spans"])
        assert names == sorted(f"step {number}" for number in range(SPANS)), trace_id


def _counted(platform: FaultyPlatform) -> int:
    """By the sums, which are kept apart from the spans."""
    now = datetime.now(UTC)
    series = platform.own(
        "/trace-series", measured="spans", step="1d",
        since=(now - timedelta(days=2)).isoformat(), until=(now + timedelta(days=1)).isoformat(),
    )  # fmt: skip
    return sum(point["count"] for group in series["groups"] for point in group["points"])


@pytest.mark.parametrize("kind", ["api", "postgres"])
def test_after_the_death_of_one_process(kind: str, platform: FaultyPlatform) -> None:
    with Exporters(platform).exporting() as exporters:
        old, seen = platform.pids(kind)[0], len(exporters.acknowledged)
        platform.kill(kind)
        platform.replaced(kind, old)
        until(lambda: len(exporters.acknowledged) >= seen + 20, seconds_max=60)
    _all_there(platform, exporters.acknowledged)


def test_after_the_death_of_everything(platform: FaultyPlatform) -> None:
    before = _counted(platform)
    with Exporters(platform).exporting() as exporters:
        platform.kill("up", "node", "api", "postgres")
    platform.restart()
    _all_there(platform, exporters.acknowledged)
    # Of a request that was cut off all its spans are there, or none, and the sums agree with both.
    gained = _counted(platform) - before
    assert gained >= len(exporters.acknowledged) * SPANS
    assert gained % SPANS == 0
