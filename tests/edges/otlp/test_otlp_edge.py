"""Telemetry from outside: taken in both encodings, refused in the words that exporters know."""

import asyncio
import gzip
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from otlp_ground import (
    JSON,
    PROTOBUF,
    STORE_AWAY,
    TENANT,
    Capturing,
    OtlpGround,
    a_request,
    a_span,
    fill,
)

from freehold.kernel.errors import PlatformFailed
from freehold.kernel.session import DoorwaySession
from freehold.ports.exports import Taken
from freehold.services.observability.exports import SessionTelemetry

SESSION = DoorwaySession(
    tenant=TENANT,
    runtime_id="weather-1234567890",
    runtime_arn=f"arn:aws:bedrock-agentcore:us-east-1:{TENANT}:runtime/weather-1234567890",
    endpoint="DEFAULT",
    session_id="s" * 33,
    sandbox_id="sandbox",
    version="3",
    user="anna",
)
GZIP = {**PROTOBUF, "content-encoding": "gzip"}


@pytest.mark.parametrize("prefix", ["/otlp", ""])
async def test_spans_come_in_under_both_paths(tmp_path: Path, prefix: str) -> None:
    async with OtlpGround(tmp_path).served() as ground:
        body = a_request(a_span("chat"), a_span("plan")).SerializeToString()
        answer = await ground.send(body, prefix=prefix)
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["content-type"] == "application/x-protobuf"
        assert [span.name for span in ground.spans.spans] == ["chat", "plan"]
        assert {span.tenant for span in ground.spans.spans} == {TENANT}
        assert {span.origin for span in ground.spans.spans} == {"client"}
        assert ground.authorizing.asked == [(TENANT, "freehold:ExportTelemetry")]
        assert ground.audited.events == []


async def test_a_request_is_kept_without_the_messages_that_it_was_made_of(tmp_path: Path) -> None:
    """As instrumentations of ASGI tell of it: three spans or hundreds, all acknowledged."""
    names = ("POST /invocations", "POST /invocations http receive", "POST /invocations http send")
    types = (None, "http.request", "http.response.body")
    request = a_request(
        *(
            a_span(name, attributes={"asgi.event.type": type} if type else {})
            for name, type in zip(names, types, strict=True)
        )
    )
    async with OtlpGround(tmp_path).served() as ground:
        answer = await ground.send(request.SerializeToString())
        assert (answer.status, answer.body) == (200, b"")
        assert [span.name for span in ground.spans.spans] == ["POST /invocations"]


async def test_a_path_that_is_no_signal_is_somebody_elses(tmp_path: Path) -> None:
    async with OtlpGround(tmp_path).served() as ground:
        for path in ("/v1/chat/completions", "/otlp", "/v1", "/otlp/v1/profiles"):
            async with ground.http.post(ground.endpoint + path, data=b"") as answer:
                assert (answer.status, await answer.read()) == (404, b"nothing of the edge's")
        async with ground.http.get(ground.endpoint + "/otlp/v1/traces") as answer:
            assert (answer.status, answer.headers["allow"]) == (405, "POST")


async def test_gzip_in_several_members_is_read_to_its_end(tmp_path: Path) -> None:
    async with OtlpGround(tmp_path).served() as ground:
        body = a_request(*[a_span(f"span {number}") for number in range(2000)]).SerializeToString()
        packed = gzip.compress(body[:1000]) + gzip.compress(body[1000:])
        assert (await ground.send(packed, headers=GZIP)).status == 200
        assert len(ground.spans.spans) == 2000


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"\x0a\xff", PROTOBUF, 400, 3),
        (b"{", JSON, 400, 3),
        (b'{"resourceSpans": 3}', JSON, 400, 3),
        (b"no gzip", GZIP, 400, 3),
        (gzip.compress(b"x" * 9999)[:-20], GZIP, 400, 3),
        (gzip.compress(b"\0" * (64 << 20)), GZIP, 413, 8),
        (b"\x0a\x00" * (9 << 20), PROTOBUF, 413, 8),
        (b"", {**PROTOBUF, "content-encoding": "br"}, 415, 3),
        (b"", {"content-type": "text/plain"}, 400, 3),
    ],
    ids=["cut", "no json", "other json", "no gzip", "cut gzip", "bomb", "long", "br", "text"],
)
async def test_a_body_that_cannot_be_read_is_refused_in_its_encoding(
    tmp_path: Path, body: bytes, headers: dict[str, str], status: int, code: int
) -> None:
    async with OtlpGround(tmp_path).served() as ground:
        answer = await ground.send(body, headers=headers)
        assert answer.status == status, answer.body
        if headers["content-type"] == PROTOBUF["content-type"]:
            assert answer.body[:3] == bytes([8, code, 0x12])
        else:
            assert json.loads(answer.body)["code"] == code
        assert ground.spans.rows == []


async def test_a_body_of_millions_of_empty_spans_is_refused_before_it_is_decoded(
    tmp_path: Path,
) -> None:
    scope = b"\x12\x00" * (2 << 20)
    group = b"\x12" + _varint(len(scope)) + scope
    async with OtlpGround(tmp_path).served() as ground:
        packed = gzip.compress(b"\x0a" + _varint(len(group)) + group)
        assert (await ground.send(packed, headers=GZIP)).status == 413
        many = b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b"{}," * (1 << 20) + b"{}]}]}]}"
        packed = gzip.compress(many)
        answer = await ground.send(packed, headers={**JSON, "content-encoding": "gzip"})
        assert answer.status == 413


async def test_one_bad_span_loses_no_other(tmp_path: Path) -> None:
    request = a_request(
        a_span("good"),
        a_span("no id", trace_id=b"\0" * 16),
        a_span("short id", span_id=b"abc"),
        a_span("future", end_time_unix_nano=time.time_ns() + 10**15),
        a_span("past", start_time_unix_nano=10**9),
        a_span("good too"),
    )
    broken = request.SerializeToString().replace(b"short id", b"short \xffd")
    async with OtlpGround(tmp_path).served() as ground:
        answer = await ground.send(broken)
        assert answer.status == 200
        partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
        assert partial.rejected_spans == 4
        assert "future" in partial.error_message
        assert [span.name for span in ground.spans.spans] == ["good", "good too"]


async def test_json_as_the_specification_has_it(tmp_path: Path) -> None:
    now = time.time_ns()
    span = {
        "traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "EEE19B7EC3C1B174",
        "parentSpanId": "", "name": "chat", "kind": 3, "unknownField": {"a": [1]},
        "startTimeUnixNano": str(now - 5), "endTimeUnixNano": now,
        "status": {"code": "STATUS_CODE_ERROR", "message": "no"},
        "attributes": [
            {"key": "int", "value": {"intValue": "9007199254740993"}},
            {"key": "double", "value": {"doubleValue": "NaN"}},
            {"key": "bytes", "value": {"bytesValue": "AP8="}},
            {"key": "list", "value": {"arrayValue": {"values": [{"boolValue": True}, {}]}}},
            {"key": "map", "value": {"kvlistValue": {"values": [
                {"key": "x", "value": {"stringValue": "y\0"}}]}}},
            {"key": "empty", "value": {"arrayValue": {}}},
        ],
        "events": [{"timeUnixNano": str(now), "name": "e"}],
        "links": [{"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b175"}],
    }  # fmt: skip
    broken = {**span, "spanId": "eee19b7ec3c1b170", "startTimeUnixNano": "soon"}
    document = {"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "js"}}]},
        "scopeSpans": [{"scope": {"name": "lib", "version": "2"}, "spans": [
            span, broken, {**span, "kind": {}}]}],
    }]}  # fmt: skip
    async with OtlpGround(tmp_path).served() as ground:
        answer = await ground.send(json.dumps(document).encode(), headers=JSON)
        assert answer.status == 200
        assert json.loads(answer.body)["partialSuccess"]["rejectedSpans"] == "2"
        [kept] = ground.spans.spans
    assert (kept.trace_id, kept.span_id, kept.parent_id) == (
        "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174", "",
    )  # fmt: skip
    assert (kept.kind, kept.status, kept.message, kept.scope) == (3, 2, "no", "lib")
    assert kept.ended_ns - kept.started_ns == 5
    assert kept.attributes == {
        "int": 9007199254740993, "double": "NaN", "bytes": "AP8=", "list": [True, None],
        "map": {"x": "y\ufffd"}, "empty": [],
    }  # fmt: skip
    assert kept.events[0].name == "e" and kept.links[0].span_id == "eee19b7ec3c1b175"


async def test_protobuf_values_become_what_json_has(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "text": "ü\0", "int": -(2**62), "inf": float("-inf"), "bytes": b"\0\xff",
        "list": ["a", 1, [True]], "map": {"x": {"y": 0.5}}, "none": [],
    }  # fmt: skip
    async with OtlpGround(tmp_path).served() as ground:
        sent = a_request(a_span(attributes=values)).SerializeToString()
        assert (await ground.send(sent)).status == 200
        [kept] = ground.spans.spans
    assert kept.attributes == {
        **values, "text": "ü\ufffd", "inf": "-Infinity", "bytes": "AP8=",
    }  # fmt: skip


async def test_a_client_says_whose_its_spans_are(tmp_path: Path) -> None:
    arn = f"arn:aws:bedrock-agentcore:us-east-1:{TENANT}:runtime/weather-1234567890"
    endpoint = f"{arn}/runtime-endpoint/prod:prod"
    body = a_request(
        a_span(attributes={"session.id": "one", "enduser.id": "anna"}),
        a_span(attributes={"gen_ai.conversation.id": "two", "gen_ai.agent.id": "their-own"}),
        resource={"cloud.resource_id": endpoint, "user.id": "by resource"},
    )
    foreign = a_request(a_span(), resource={"cloud.resource_id": arn.replace(TENANT, "9" * 12)})
    async with OtlpGround(tmp_path).served() as ground:
        await ground.send(body.SerializeToString())
        await ground.send(foreign.SerializeToString())
        first, second, third = ground.spans.spans
    agent = "weather-1234567890"
    assert (first.agent_id, first.endpoint, first.session_id, first.user) == (
        agent, "prod", "one", "anna",
    )  # fmt: skip
    assert (second.agent_id, second.session_id, second.user) == ("their-own", "two", "by resource")
    assert (third.agent_id, third.tenant) == ("", TENANT)


async def test_what_comes_through_a_doorway_is_that_sessions_whatever_it_says(
    tmp_path: Path,
) -> None:
    said = {
        "session.id": "another", "gen_ai.agent.id": "another", "enduser.id": "another",
        "freehold.policy.decision": "allow", "kept": 1,
    }  # fmt: skip
    async with OtlpGround(tmp_path, session=SESSION).served() as ground:
        body = a_request(a_span(attributes=said), resource={"cloud.resource_id": "another"})
        answer = await ground.send(body.SerializeToString(), authorization="")
        assert answer.status == 200
        [kept] = ground.spans.spans
    assert (kept.tenant, kept.agent_id, kept.endpoint, kept.session_id, kept.user) == (
        TENANT, SESSION.runtime_id, "DEFAULT", SESSION.session_id, "anna",
    )  # fmt: skip
    assert (kept.origin, kept.agent_version) == ("agent", "3")
    assert "freehold.policy.decision" not in kept.attributes and kept.attributes["kept"] == 1


async def test_the_doorways_sink_takes_what_it_can_and_says_what_it_cannot(tmp_path: Path) -> None:
    ground = OtlpGround(tmp_path, capturing=Capturing(SESSION.runtime_id))
    said = {"session.id": "another", "gen_ai.prompt": "said", "freehold.metered": True}
    request = a_request(a_span("good", attributes=said), a_span("bad", span_id=b""))
    taken = await SessionTelemetry(ground.exports).accept(
        SESSION, "traces", gzip.compress(request.SerializeToString()),
        content_type="application/x-protobuf", content_encoding="gzip",
    )  # fmt: skip
    assert taken == Taken(1, "a span without a trace id or a span id (1)")
    [kept] = ground.spans.spans
    assert (kept.session_id, kept.agent_id, kept.origin) == (
        SESSION.session_id, SESSION.runtime_id, "agent",
    )  # fmt: skip
    assert kept.attributes == {"session.id": "another", "gen_ai.prompt": "said"}
    assert not kept.facts.metered
    await ground.ingest.close()


async def test_nothing_is_acknowledged_that_is_not_stored(tmp_path: Path) -> None:
    body = a_request(a_span()).SerializeToString()
    async with OtlpGround(tmp_path).served() as ground:
        ground.spans.failure = STORE_AWAY
        answer = await ground.send(body)
        assert (answer.status, answer.headers["retry-after"]) == (503, "3")
        assert answer.body[:3] == b"\x08\x0e\x12"
        ground.spans.failure = PlatformFailed("it cannot take these")
        assert (await ground.send(body)).status == 500
        ground.spans.failure = None
        ground.spans.gate.clear()
        sending = asyncio.ensure_future(ground.send(body))
        await asyncio.wait({sending}, timeout=0.2)
        assert not sending.done()
        ground.spans.gate.set()
        async with asyncio.timeout(30):
            assert (await sending).status == 200


async def test_beyond_what_may_wait_a_client_is_told_when_to_come_again(tmp_path: Path) -> None:
    body = a_request(a_span(), a_span()).SerializeToString()
    async with OtlpGround(tmp_path, spans_max=5).served() as ground:
        ground.spans.gate.clear()
        waiting = [asyncio.ensure_future(ground.send(body)) for _ in range(2)]
        async with asyncio.timeout(30):
            while ground.ingest._spans.held_items < 4:
                await asyncio.sleep(0.005)
        refused = await ground.send(body)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert refused.body[:3] == b"\x08\x08\x12"
        ground.spans.gate.set()
        assert [(await each).status for each in waiting] == [200, 200]
        assert (await ground.send(body)).status == 200
        assert len(ground.spans.rows) == 6


async def test_many_clients_share_a_write(tmp_path: Path) -> None:
    async with OtlpGround(tmp_path).served() as ground:
        ground.spans.gate.clear()
        body = a_request(a_span()).SerializeToString()
        sending = [asyncio.ensure_future(ground.send(body)) for _ in range(40)]
        async with asyncio.timeout(30):
            while ground.ingest._spans.held_items < 40:
                await asyncio.sleep(0.005)
        ground.spans.gate.set()
        assert {(await each).status for each in sending} == {200}
        assert len(ground.spans.rows) == 40
        assert len(ground.spans.batches) <= 4


async def test_what_the_store_cannot_take_is_no_loss_of_others(tmp_path: Path) -> None:
    class Picky:
        def __init__(self) -> None:
            self.names: list[str] = []
            self.first = asyncio.Event()

        async def write(self, spans: Any) -> None:
            await self.first.wait()
            if any(span.name == "poison" for span in spans):
                raise ValueError("a column that cannot hold it")
            self.names += [span.name for span in spans]

    picky = Picky()
    async with OtlpGround(tmp_path, stores={"spans": picky}).served() as ground:
        names = ["first", "second", "a", "poison", "b"]
        sending = []
        for name in names:
            body = a_request(a_span(name)).SerializeToString()
            sending.append(asyncio.ensure_future(ground.send(body)))
            async with asyncio.timeout(30):
                while ground.ingest._spans.held_items < len(sending):
                    await asyncio.sleep(0.005)
        picky.first.set()
        assert [(await each).status for each in sending] == [200, 200, 200, 500, 200]
    assert sorted(picky.names) == ["a", "b", "first", "second"]


async def test_logs_come_in(tmp_path: Path) -> None:
    request = ExportLogsServiceRequest()
    scoped = request.resource_logs.add().scope_logs.add()
    record = scoped.log_records.add(severity_number=9, severity_text="INFO", trace_id=b"\1" * 16)
    record.time_unix_nano = time.time_ns()
    record.body.string_value = "hello"
    fill(record.attributes, {"session.id": "one"})
    scoped.log_records.add(span_id=b"\1").body.string_value = "a span's id of one byte"
    async with OtlpGround(tmp_path).served() as ground:
        answer = await ground.send(request.SerializeToString(), "logs")
        assert b"32 or 16 hexadecimal digits" in answer.body
        [kept] = ground.logs.logs
    assert (kept.body, kept.severity, kept.trace_id, kept.session_id) == (
        "hello", 9, "01" * 16, "one",
    )  # fmt: skip


async def test_a_client_that_goes_away_leaves_nothing_half_done(tmp_path: Path) -> None:
    async with OtlpGround(tmp_path).served() as ground:
        reader, writer = await asyncio.open_connection(*ground.endpoint[7:].split(":"))
        writer.write(b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf")
        writer.close()
        await writer.wait_closed()
        del reader
        assert (await ground.send(a_request(a_span()).SerializeToString())).status == 200


async def test_an_empty_request_is_taken(tmp_path: Path) -> None:
    async with OtlpGround(tmp_path).served() as ground:
        empty = ExportTraceServiceRequest().SerializeToString()
        assert (await ground.send(empty)).status == 200
        assert (await ground.send(b"{}", headers=JSON)).body == b"{}"
        async with aiohttp.ClientSession() as http, http.options(f"{ground.endpoint}/v1/logs") as a:
            assert a.status == 405


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])
