"""A whole platform as an exporter finds it: every role, every door, and what is stored after."""

import base64
import secrets
from pathlib import Path
from typing import Any

import pytest
import urllib3
from otlp_ground import a_request, a_span

from running import RunningPlatform

pytestmark = pytest.mark.slow

PROTOBUF = {"content-type": "application/x-protobuf"}
ROLES = {
    "admin": 200, "developer": 200, "ingester": 200,
    "operator": 403, "invoker": 403, "auditor": 403,
}  # fmt: skip


def _sent(platform: RunningPlatform, body: bytes, *, path: str = "/otlp/v1/traces") -> Any:
    shown = f"{platform.access_key_id}:{platform.secret_access_key}".encode()
    headers = {**PROTOBUF, "authorization": "Basic " + base64.b64encode(shown).decode()}
    with urllib3.PoolManager(retries=False) as pool:
        return pool.request("POST", platform.endpoint + path, body=body, headers=headers)


def test_a_trace_is_found_once_it_is_acknowledged(platform: RunningPlatform) -> None:
    trace_id = secrets.token_bytes(16)
    root = a_span("invoke_agent", trace_id=trace_id)
    chat = a_span(
        "chat", trace_id=trace_id, parent_span_id=root.span_id,
        attributes={
            "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": 1000,
            "gen_ai.usage.output_tokens": 100, "gen_ai.input.messages": "[]",
        },
    )  # fmt: skip
    body = a_request(root, chat).SerializeToString()
    for path in ("/otlp/v1/traces", "/v1/traces"):
        answer = _sent(platform, body, path=path)
        assert (answer.status, answer.data) == (200, b"")
    trace = platform.own(f"/traces/{trace_id.hex()}")
    assert sorted(span["name"] for span in trace["spans"]) == ["chat", "invoke_agent"]
    assert "gen_ai.input.messages" not in str(trace)


@pytest.mark.parametrize("role", sorted(ROLES))
def test_who_may_send_telemetry_may_export(platform: RunningPlatform, role: str) -> None:
    made = platform.own("/keys", method="POST", body={"roles": [role]})
    body = a_request(a_span()).SerializeToString()
    shown = f"{made['accessKeyId']}:{made['secretAccessKey']}".encode()
    headers = {**PROTOBUF, "authorization": "Basic " + base64.b64encode(shown).decode()}
    with urllib3.PoolManager(retries=False) as pool:
        answer = pool.request("POST", f"{platform.endpoint}/v1/traces", body=body, headers=headers)
    assert answer.status == ROLES[role], answer.data


def test_another_tenants_trace_of_the_same_id_stays_its_own(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    other = platform.as_tenant(str(secrets.randbelow(9 * 10**11) + 10**11))
    trace_id = secrets.token_bytes(16)
    for sender, name in ((platform, "ours"), (other, "theirs")):
        body = a_request(a_span(name, trace_id=trace_id)).SerializeToString()
        assert _sent(sender, body).status == 200
    for reader, name in ((platform, "ours"), (other, "theirs")):
        spans = reader.own(f"/traces/{trace_id.hex()}")["spans"]
        assert [span["name"] for span in spans] == [name]


def test_the_configuration_of_an_account_counts_from_the_next_export(
    platform: RunningPlatform,
) -> None:
    other = platform.as_tenant(str(secrets.randbelow(9 * 10**11) + 10**11))
    wanted = {"captureClients": True, "redaction": {"builtIn": ["emails"], "rules": []}}
    other.own("/telemetry-configuration", method="PUT", body=wanted)
    assert other.own("/telemetry-configuration") == wanted
    trace_id = secrets.token_bytes(16)
    said = {"gen_ai.prompt": "ask bob@example.com"}
    span = a_span("chat", trace_id=trace_id, attributes=said)
    assert _sent(other, a_request(span).SerializeToString()).status == 200
    found = other.own(f"/traces/{trace_id.hex()}/spans/{span.span_id.hex()}", raw="true")
    assert "ask [email]" in str(found) and "bob@" not in str(found)
    assert "ask [email]" not in str(platform.own("/telemetry-configuration"))
