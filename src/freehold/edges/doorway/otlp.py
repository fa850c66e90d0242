"""OpenTelemetry's HTTP wire, handed to a sink. Without a sink it refuses: nothing is dropped."""

from typing import Protocol

from freehold.edges.doorway.reply import Reply
from freehold.edges.doorway.request import RequestBody
from freehold.edges.otlp_wire import (
    checked_type,
    content_type,
    refusal,
    retry_headers,
    taken,
)
from freehold.kernel.errors import FreeholdError, NotImplementedYet
from freehold.kernel.session import DoorwaySession
from freehold.ports.exports import Signal, Taken


class TelemetrySink(Protocol):
    async def accept(
        self,
        session: DoorwaySession,
        signal: Signal,
        body: bytes,
        *,
        content_type: str,
        content_encoding: str,
    ) -> Taken | None:
        """What it promised of durability holds on return. None: all was taken."""


async def export(
    sink: TelemetrySink | None,
    signal: Signal,
    session: DoorwaySession,
    body: RequestBody,
    *,
    headers: dict[str, str],
    reply: Reply,
) -> None:
    if sink is None:
        raise NotImplementedYet("this platform has no store for telemetry; it was not accepted")
    kind = checked_type(headers)
    body.check_declared()
    data = await body.read()
    encoding = headers.get("content-encoding", "identity")
    outcome = await sink.accept(session, signal, data, content_type=kind, content_encoding=encoding)
    await reply.whole(200, taken(signal, outcome, kind), kind)


async def refuse(error: FreeholdError, headers: dict[str, str], reply: Reply) -> None:
    body, kind = refusal(error, content_type(headers))
    await reply.whole(error.status, body, kind, retry_headers(error))
