"""OpenTelemetry's HTTP wire, handed to a sink. Without a sink it refuses: nothing is dropped."""

from typing import Protocol

import msgspec

from freehold.edges.doorway.reply import Reply
from freehold.edges.doorway.request import RequestBody
from freehold.kernel.errors import FreeholdError, NotImplementedYet, ValidationFailed
from freehold.kernel.session import DoorwaySession

SIGNALS = {"/v1/traces": "traces", "/v1/metrics": "metrics", "/v1/logs": "logs"}

_PROTOBUF = "application/x-protobuf"
_JSON = "application/json"
_GRPC_CODES = {400: 3, 403: 7, 413: 8, 429: 8, 501: 12, 503: 14}
_GRPC_INTERNAL = 13


class TelemetrySink(Protocol):
    async def accept(
        self,
        session: DoorwaySession,
        signal: str,
        body: bytes,
        *,
        content_type: str,
        content_encoding: str,
    ) -> None:
        """`signal`: traces, metrics or logs. What it promised of durability holds on return."""


async def export(
    sink: TelemetrySink | None,
    signal: str,
    session: DoorwaySession,
    body: RequestBody,
    *,
    headers: dict[str, str],
    reply: Reply,
) -> None:
    if sink is None:
        raise NotImplementedYet("this platform has no store for telemetry; it was not accepted")
    content_type = _content_type(headers)
    if content_type not in (_PROTOBUF, _JSON):
        raise ValidationFailed(f"content-type must be {_PROTOBUF} or {_JSON}")
    body.check_declared()
    data = await body.read()
    encoding = headers.get("content-encoding", "identity")
    await sink.accept(session, signal, data, content_type=content_type, content_encoding=encoding)
    await reply.whole(200, b"" if content_type == _PROTOBUF else b"{}", content_type)


async def refuse(error: FreeholdError, headers: dict[str, str], reply: Reply) -> None:
    """A `google.rpc.Status`, in the encoding of the request."""
    code = _GRPC_CODES.get(error.status, _GRPC_INTERNAL)
    if _content_type(headers) == _PROTOBUF:
        text = error.message.encode()[:1000]
        status = b"\x08" + _varint(code) + b"\x12" + _varint(len(text)) + text
        return await reply.whole(error.status, status, _PROTOBUF)
    document = {"code": code, "message": error.message}
    return await reply.whole(error.status, msgspec.json.encode(document), _JSON)


def _content_type(headers: dict[str, str]) -> str:
    return headers.get("content-type", _PROTOBUF).partition(";")[0].strip().lower()


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
