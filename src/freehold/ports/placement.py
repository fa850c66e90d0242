"""Where a session's sandbox runs, and how an API worker reaches it."""

import socket
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Protocol

import msgspec

from freehold.ports.egress import SessionEgress
from freehold.ports.sandbox import Command, CommandSpec, Limits


class SessionKey(msgspec.Struct, frozen=True):
    """At most one live sandbox answers to a key."""

    tenant: str
    runtime_id: str
    endpoint: str
    session_id: str


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """All that a node must know to start a session. Kept in memory only: it carries environment.

    `code` and `layers` are directories that the build of this version published, or `image` alone,
    an unpacked container image, which says itself what runs. `port` is where
    the agent listens inside, `protocol` what it serves there. `tier` empty: the platform's default.
    `captures_content`: its traces may hold what it says and is told.
    """

    key: SessionKey
    runtime_arn: str
    runtime_name: str
    version: int
    user: str | None
    tier: str
    interpreter: str
    code: str
    layers: tuple[str, ...]
    image: str = ""
    entry_point: tuple[str, ...]
    environment: dict[str, str]
    port: int
    protocol: str = "HTTP"
    idle_seconds: int
    lifetime_seconds: int
    limits: Limits
    egress: SessionEgress = SessionEgress()
    captures_content: bool = False


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The right to use a running sandbox. While any is held the session is not idle. `user` is
    whom the session was begun for.
    """

    key: SessionKey
    sandbox_id: str
    tier: str
    version: int
    started_at: datetime
    user: str | None = None
    start: str = ""
    start_note: str = ""
    """As in `SessionRecord`."""


class KeptWarm(msgspec.Struct, frozen=True, kw_only=True):
    """So many started sandboxes wait for sessions of an endpoint. The session id of `launch.key`
    is empty.
    """

    launch: Launch
    count: int


class SessionLine(msgspec.Struct, frozen=True):
    """`text` is `{ISO time} {what the session wrote}`."""

    session_id: str
    text: str


class PlacedCommand(Command, Protocol):
    @property
    def resumed(self) -> bool:
        """It has a name, and somebody had it before."""


class Placement(Protocol):
    async def acquire(self, launch: Launch) -> Lease:
        """The key's sandbox: the running one, or one started now and ready to be called.

        Raises Throttled (queue or machine full), RuntimeClientFailed (the agent did not come up;
        the message has its last log lines), Unavailable (no node).
        """

    def release(self, lease: Lease) -> None:
        """Every acquire is followed by one release."""

    def keep_warm(self, wanted: list[KeptWarm]) -> None:
        """All that is wanted, in place of what was. Nobody waits for it; the ceiling on the memory
        of warmth comes before it. Told again by itself to a node that comes back.
        """

    async def connect(self, sandbox_id: str, port: int) -> socket.socket:
        """A stream to the port inside. ConnectionError when nothing answers there."""

    async def execute(
        self, sandbox_id: str, spec: CommandSpec, *, name: str | None = None
    ) -> PlacedCommand:
        """A program beside the agent; it counts as use of the session while it runs.

        Without a `name` it ends when the returned Command is closed or its caller dies. With one
        it stays, and `close` only lets go of it: who asks for that name again gets the running
        one, first its last 256 KiB of output, and takes it over from who had it (whose `wait` then
        raises Conflict). One that nobody has for as long as the session may idle is ended. Raises
        Throttled (ten named ones in a session), RuntimeClientFailed (no such program, session
        ended).
        """

    async def end_command(self, sandbox_id: str, name: str) -> bool:
        """Ends a named one. False: there is none."""

    async def why_ended(self, sandbox_id: str) -> str | None:
        """For people, if the sandbox has ended (waits a moment for an end that is under way)."""

    async def stop(self, key: SessionKey, reason: str) -> bool:
        """False: no such session. Returns when nothing of it is left."""

    async def stop_runtime(self, tenant: str, runtime_id: str, reason: str) -> int:
        """Every session of a runtime; how many there were."""

    def read_log(
        self, tenant: str, runtime_id: str, sandbox_id: str, *, tail: int, follow: bool
    ) -> AsyncGenerator[str, None]:
        """Lines `{ISO time} {text}`: the last `tail`, then, with `follow`, as they come."""

    def follow_logs(
        self, tenant: str, runtime_id: str, *, tail: int
    ) -> AsyncGenerator[SessionLine, None]:
        """Of every live session of a runtime, and of those that start later, as they come."""


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a session. Usage is None where the machine cannot measure it.

    `start`: "forked" or "restored" from what was prepared for its version, "warm" (it was there
    and waited) or "cold"; empty while it starts. `start_note`: why it was none of the better ones.
    """

    tenant: str
    sandbox_id: str
    runtime_id: str
    runtime_name: str
    endpoint: str
    version: int
    session_id: str
    user: str | None
    tier: str
    status: str
    started_at: datetime
    last_used_at: datetime
    ended_at: datetime | None = None
    end_reason: str | None = None
    invocations: int = 0
    cpu_seconds: float | None = None
    memory_gb_seconds: float | None = None
    start: str = "cold"
    start_note: str = ""


class SessionUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Totals since the session began, so that writing them twice is harmless."""

    sandbox_id: str
    status: str
    last_used_at: datetime
    invocations: int
    cpu_seconds: float | None
    memory_gb_seconds: float | None
    start: str = "cold"
    start_note: str = ""


class SessionJournal(Protocol):
    """Where a node writes down what becomes of its sessions."""

    async def started(self, node: str, record: SessionRecord) -> None: ...

    async def metered(self, usages: list[SessionUsage]) -> None: ...

    async def ended(self, usage: SessionUsage, ended_at: datetime, reason: str) -> None: ...

    async def counted(self, sandbox_id: str, invocations: int) -> None:
        """Invocations of a session that were reported after its end was written."""

    async def unfinished(self, node: str) -> list[SessionRecord]:
        """Those of this node that have not ended: what a new node adopts or ends."""
