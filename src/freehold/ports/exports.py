"""What OTLP brings, from whichever edge it came in through, on its way to the stores."""

from typing import Literal, Protocol

import msgspec

from freehold.kernel.errors import FreeholdError
from freehold.kernel.session import DoorwaySession
from freehold.ports.spans import Origin

Signal = Literal["traces", "metrics", "logs"]


class RequestTooLarge(FreeholdError):
    """Sent again it is too large again: a client has to send less at once."""

    code = "RequestTooLarge"
    status = 413


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Who sends. Of an agent in a sandbox all of it is known by its connection, and what its
    telemetry says of itself counts for nothing; of a client outside the tenant alone is known, and
    the rest is read from what it sends."""

    tenant: str
    origin: Origin
    agent_id: str = ""
    agent_version: str = ""
    endpoint: str = ""
    session_id: str = ""
    user: str = ""


def source_of(session: DoorwaySession) -> Source:
    return Source(
        tenant=session.tenant,
        origin="agent",
        agent_id=session.runtime_id,
        agent_version=session.version,
        endpoint=session.endpoint,
        session_id=session.session_id,
        user=session.user or "",
    )


class Taken(msgspec.Struct, frozen=True):
    """`rejected`: how many spans, records or points were not taken, and will not be if they are
    sent again; `message` says why."""

    rejected: int = 0
    message: str = ""


class Exports(Protocol):
    async def take(
        self, source: Source, signal: Signal, body: bytes, *, content_type: str, encoding: str
    ) -> Taken:
        """Durable on return. `content_type` is application/x-protobuf or application/json,
        `encoding` what the body is compressed with. Raises ValidationFailed, RequestTooLarge,
        Throttled where too much waits already, Unavailable: then nothing was taken."""
