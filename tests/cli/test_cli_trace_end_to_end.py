"""`freehold trace` against a real platform that real OTLP was sent to."""

import json
import queue
import secrets
import threading
import time
from typing import Any

import pytest
import urllib3
from cli_doubles import Command

from running import RunningPlatform

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def _attribute(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, int):
        return {"key": name, "value": {"intValue": str(value)}}
    return {"key": name, "value": {"stringValue": value}}


class Told:
    """A trace of a client outside: a model asks for a tool, which is called."""

    def __init__(self, platform: RunningPlatform) -> None:
        self.id, self.user = secrets.token_hex(16), f"user-{secrets.token_hex(4)}"
        self.root, self.chat, self.tool = (secrets.token_hex(8) for _ in range(3))
        spans = [
            self._span(self.root, "", "handle a request", 0, 300, {"user.id": self.user}),
            self._span(self.chat, self.root, "chat gpt-4o", 10, 100, {
                "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": 1000,
                "gen_ai.usage.output_tokens": 100,
                "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [
                    {"type": "tool_call", "id": "c1", "name": "refund", "arguments": {"order": 7}}
                ]}]),
            }),
            self._span(self.tool, self.root, "execute_tool refund", 150, 100, {
                "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "refund",
                "gen_ai.tool.call.id": "c1", "gen_ai.tool.call.arguments": '{"order": 7}',
            }),
        ]  # fmt: skip
        key = f"{platform.access_key_id}:{platform.secret_access_key}"
        answer = urllib3.request(
            "POST", f"{platform.endpoint}/otlp/v1/traces",
            body=json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode(),
            headers={
                "content-type": "application/json", **urllib3.make_headers(basic_auth=key),
            },
        )  # fmt: skip
        assert answer.status == 200, answer.data

    def _span(
        self, id: str, above: str, name: str, at_ms: int, ms: int, attributes: dict[str, Any]
    ) -> dict[str, Any]:
        began = time.time_ns() - 10**9 + at_ms * 10**6
        return {
            "traceId": self.id, "spanId": id, "parentSpanId": above, "name": name, "kind": 1,
            "startTimeUnixNano": str(began), "endTimeUnixNano": str(began + ms * 10**6),
            "attributes": [_attribute(key, value) for key, value in attributes.items()],
            "status": {},
        }  # fmt: skip


@pytest.fixture(scope="module")
def told(platform: RunningPlatform) -> Told:
    return Told(platform)


def test_what_was_told_is_listed_shown_and_added_up(freehold: Command, told: Told) -> None:
    listed = freehold("trace", "list", "--user", told.user, "--json").document["traces"]
    assert [each["traceId"] for each in listed] == [told.id]
    tree = freehold("trace", "show", told.id)
    assert [each.split("  ")[0] for each in tree.out.splitlines()[-3:]] == [
        "handle a request", "├─ chat gpt-4o", "└─ execute_tool refund",
    ]  # fmt: skip
    costs = freehold("trace", "costs", "--by", "model", "--json").document
    assert "gpt-4o" in [row["key"] for row in costs["rows"]]
    series = freehold("trace", "series", "--since", "1h", "--json").document
    assert series["groups"][0]["total"]["count"] >= 1


def test_without_captured_content_an_explanation_says_what_is_missing(
    freehold: Command, told: Told
) -> None:
    found = freehold("trace", "explain", told.id, "--json").document
    assert found["span"]["spanId"] == told.tool
    assert [(step["kind"], step["sure"]) for step in found["steps"]] == [
        ("model_call", "time"), ("explained", "id"),
    ]  # fmt: skip
    assert any("content capture is off" in missing for missing in found["missing"])


def test_a_trace_of_nobody_is_not_there(freehold: Command) -> None:
    done = freehold("trace", "show", "f" * 32)
    assert done.code == 1
    assert "there is no trace" in done.err


def test_a_trace_that_comes_is_seen_by_who_watches(platform: RunningPlatform) -> None:
    seen: queue.Queue[str] = queue.Queue()

    def watch() -> None:
        with platform.following("/traces/live", tool="refund") as lines:
            for line in lines:
                if "trace" in line:
                    seen.put(line["trace"]["traceId"])
                    return

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    sent = set()
    for _ in range(60):  # it may not listen yet
        sent.add(Told(platform).id)
        watching.join(1)
        if not watching.is_alive():
            break
    assert seen.get_nowait() in sent
