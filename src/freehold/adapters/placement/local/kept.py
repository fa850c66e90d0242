"""What a new node must know to adopt a session: `session.json` in its directory. No secret."""

from pathlib import Path

import msgspec

from freehold.adapters.placement.local.session import LiveSession
from freehold.ports.egress import SessionEgress
from freehold.ports.placement import Launch, SessionKey, SessionRecord
from freehold.ports.sandbox import SandboxSpec

_FILE = "session.json"


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """`ready`: the agent has answered, and somebody may have been told so."""

    key: SessionKey
    runtime_arn: str
    runtime_name: str
    user: str | None
    version: int
    tier: str
    port: int
    protocol: str = "HTTP"
    idle_seconds: int
    lifetime_seconds: int
    spec: SandboxSpec
    egress: SessionEgress = SessionEgress()
    ready: bool = False
    cpu_before: float = 0.0
    """As in Meter."""

    def write(self, directory: Path) -> None:
        """Whole or not at all: a cut-off file would lose the session that it stands for."""
        fresh = directory / f"{_FILE}.new"
        fresh.write_bytes(msgspec.json.encode(self))
        fresh.replace(directory / _FILE)


def read(directory: Path) -> Kept | None:
    try:
        return msgspec.json.decode((directory / _FILE).read_bytes(), type=Kept)
    except (OSError, msgspec.DecodeError):
        return None


def kept_of(session: LiveSession, launch: Launch, spec: SandboxSpec) -> Kept:
    return Kept(
        key=session.key, runtime_arn=session.runtime_arn, user=session.user,
        runtime_name=launch.runtime_name, version=session.version, tier=session.tier,
        port=session.port, protocol=session.protocol, idle_seconds=session.idle_seconds,
        lifetime_seconds=session.lifetime_seconds, egress=session.egress,
        spec=msgspec.structs.replace(spec, environment={}), cpu_before=session.meter.cpu_before,
    )  # fmt: skip


def record_of(session: LiveSession, launch: Launch) -> SessionRecord:
    """What the database gets to know before the sandbox starts."""
    return SessionRecord(
        tenant=session.key.tenant, sandbox_id=session.sandbox_id,
        runtime_id=session.key.runtime_id, runtime_name=launch.runtime_name,
        endpoint=session.key.endpoint, version=session.version,
        session_id=session.key.session_id, user=session.user, tier=session.tier, status="STARTING",
        started_at=session.started_at, last_used_at=session.last_used_at,
        start="" if session.sandbox is None else session.start, start_note=session.start_note,
    )  # fmt: skip
