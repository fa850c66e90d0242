"""Telemetry goes to a sink; without one it is refused and not silently dropped."""

import io
from typing import Any

import pytest
from served_doorway import SESSION, open_doorway

from freehold.edges.doorway import DoorwayLimits
from freehold.kernel.errors import Unavailable
from freehold.kernel.session import DoorwaySession

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}


class Sink:
    def __init__(self, *, full: bool = False) -> None:
        self.accepted: list[tuple[DoorwaySession, str, bytes, str, str]] = []
        self._full = full

    async def accept(
        self,
        session: DoorwaySession,
        signal: str,
        body: bytes,
        *,
        content_type: str,
        content_encoding: str,
    ) -> None:
        if self._full:
            raise Unavailable("the store is full")
        self.accepted.append((session, signal, body, content_type, content_encoding))


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
async def test_without_a_sink_telemetry_is_refused_in_its_own_encoding(signal: str) -> None:
    async with open_doorway() as door:
        url = f"{door.url}/v1/{signal}"
        async with door.http.post(url, data=b"\x0a\x00", headers=PROTOBUF) as answer:
            assert answer.status == 501
            assert answer.content_type == "application/x-protobuf"
            # google.rpc.Status: field 1, code 12 (UNIMPLEMENTED); field 2, the message.
            status = await answer.read()
            assert status[:3] == b"\x08\x0c\x12"
            assert status[3] == len(status) - 4
        async with door.http.post(url, data=b"{}", headers=JSON) as answer:
            assert (await answer.json())["code"] == 12


async def test_a_sink_gets_the_export_with_its_session() -> None:
    sink = Sink()
    async with open_doorway(telemetry=sink) as door:
        headers: dict[str, Any] = {**PROTOBUF, "content-encoding": "gzip"}
        async with door.http.post(f"{door.url}/v1/traces", data=b"12", headers=headers) as answer:
            assert (answer.status, await answer.read()) == (200, b"")
        async with door.http.post(f"{door.url}/v1/logs", data=b"{}", headers=JSON) as answer:
            assert (answer.status, await answer.read()) == (200, b"{}")
        assert door.authorizing.asked[0][1] == "doorway:ExportTelemetry"
    assert sink.accepted == [
        (SESSION, "traces", b"12", "application/x-protobuf", "gzip"),
        (SESSION, "logs", b"{}", "application/json", "identity"),
    ]


async def test_what_a_sink_cannot_take_is_refused() -> None:
    limits = DoorwayLimits(telemetry_bytes_max=1 << 20)
    async with open_doorway(telemetry=Sink(full=True), limits=limits) as door:
        url = f"{door.url}/v1/traces"
        async with door.http.post(url, data=b"{}", headers=JSON) as answer:
            assert answer.status == 503
            assert (await answer.json())["message"] == "the store is full"
        async with door.http.post(
            url, data=io.BytesIO(b" " * (1 << 20) + b"{}"), headers=JSON
        ) as answer:
            assert answer.status == 413
        async with door.http.post(url, data=b"<a/>", headers={"content-type": "a/xml"}) as answer:
            assert answer.status == 400
        async with door.http.get(url) as answer:
            assert answer.status == 404
