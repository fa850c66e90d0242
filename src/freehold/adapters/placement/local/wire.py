"""What an API worker and the node say to each other over unix sockets."""

from typing import Any

import msgspec

from freehold.ports.placement import Launch, Lease, SessionKey


class Hello(msgspec.Struct, frozen=True, tag=True):
    """First message of a link. The worker takes doorway connections on this socket path."""

    doorway: str


class Acquire(msgspec.Struct, frozen=True, tag=True):
    id: int
    launch: Launch


class Used(msgspec.Struct, frozen=True, tag=True):
    """Invocations since the worker last spoke of this session."""

    sandbox_id: str
    invocations: int


class Hold(msgspec.Struct, frozen=True, tag=True):
    """After the node came back: the worker uses this session since before; Release as ever."""

    sandbox_id: str


class Release(msgspec.Struct, frozen=True, tag=True):
    """The worker lets go. `idle_seconds`: since its last request; `invocations`: as in Used."""

    sandbox_id: str
    idle_seconds: float
    invocations: int


class Stop(msgspec.Struct, frozen=True, tag=True):
    id: int
    key: SessionKey
    reason: str


class StopRuntime(msgspec.Struct, frozen=True, tag=True):
    id: int
    tenant: str
    runtime_id: str
    reason: str


class WhyEnded(msgspec.Struct, frozen=True, tag=True):
    id: int
    sandbox_id: str


class ReadLog(msgspec.Struct, frozen=True, tag=True):
    """Answered by many LogLines; `id` again in StopReading. `sandbox_id` empty: of every session
    of the runtime, those that start later included; always with `follow`.
    """

    id: int
    tenant: str
    runtime_id: str
    sandbox_id: str
    tail: int
    follow: bool


class StopReading(msgspec.Struct, frozen=True, tag=True):
    id: int


Question = Acquire | Stop | StopRuntime | WhyEnded
ToNode = (
    Hello | Acquire | Hold | Used | Release | Stop | StopRuntime | WhyEnded | ReadLog | StopReading
)


class Answer(msgspec.Struct, frozen=True, tag=True):
    id: int
    value: Any = None


class Granted(msgspec.Struct, frozen=True, tag=True):
    id: int
    lease: Lease


class Refused(msgspec.Struct, frozen=True, tag=True):
    """`code` is that of a FreeholdError."""

    id: int
    code: str
    message: str


class Ended(msgspec.Struct, frozen=True, tag=True):
    """To every link that held a lease of it, when its end begins: nobody new may have it."""

    sandbox_id: str
    reason: str


class LogLines(msgspec.Struct, frozen=True, tag=True):
    """Of one session. `ended`: nothing more comes for this reader."""

    id: int
    session_id: str
    lines: list[str]
    ended: bool


ToWorker = Answer | Granted | Refused | Ended | LogLines


class Connect(msgspec.Struct, frozen=True, tag=True):
    """On a socket of its own: answered by Connected, with the descriptor beside it."""

    sandbox_id: str
    port: int


class Connected(msgspec.Struct, frozen=True, tag=True):
    """`error` empty: a descriptor is there."""

    error: str = ""


class DoorwayConnection(msgspec.Struct, frozen=True, tag=True):
    """Node to worker, with the accepted connection beside it."""

    tenant: str
    runtime_id: str
    runtime_arn: str
    endpoint: str
    session_id: str
    sandbox_id: str
    user: str | None
