"""Traces, told over OTLP as a client outside does."""

import json
import secrets
import time

import urllib3

from running import RunningPlatform
from tenant_tables.table import Table

TABLE = Table(
    things=("trace", "span", "traced_session"),
    marks=("trace", "traced_session"),
    paths={"traceId": "{trace}", "spanId": "{span}", "sessionId": "{traced_session}"},
    bodies={"PutTelemetryConfiguration": {"captureClients": False}},
    filters={
        "ListSpans": [{"sessionId": "{traced_session}"}],
        "ListTracedSessions": [{"sessionId": "{traced_session}"}],
        "ListTraces": [{"sessionId": "{traced_session}"}],
    },
)


def made(platform: RunningPlatform, name: str) -> dict[str, str]:
    trace, span, session = secrets.token_hex(16), secrets.token_hex(8), f"session-of-{name}"
    now = time.time_ns()
    told = {
        "traceId": trace, "spanId": span, "name": "canary-of-the-first-tenant", "kind": 1,
        "startTimeUnixNano": str(now - 1000), "endTimeUnixNano": str(now), "status": {},
        "attributes": [{"key": "session.id", "value": {"stringValue": session}}],
    }  # fmt: skip
    answer = urllib3.request(
        "POST", f"{platform.endpoint}/otlp/v1/traces",
        body=json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [told]}]}]}).encode(),
        headers={
            "content-type": "application/json",
            **urllib3.make_headers(
                basic_auth=f"{platform.access_key_id}:{platform.secret_access_key}"
            ),
        },
    )  # fmt: skip
    assert answer.status == 200, answer.data
    return {"trace": trace, "span": span, "traced_session": session}
