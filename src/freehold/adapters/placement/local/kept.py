"""What a new node must know to adopt a session: `session.json` in its directory. No secret."""

from pathlib import Path

import msgspec

from freehold.ports.placement import SessionKey
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
    ready: bool = False

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
