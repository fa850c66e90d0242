"""What a doorway allows one session."""

import msgspec


class DoorwayLimits(msgspec.Struct, frozen=True, kw_only=True):
    """`idle_seconds_max`: between two reads of an answer; a model may think long."""

    body_bytes_max: int = 25 << 20
    telemetry_bytes_max: int = 4 << 20
    calls_per_session_max: int = 64
    connect_seconds_max: float = 10
    idle_seconds_max: float = 300
    call_seconds_max: float = 3600
