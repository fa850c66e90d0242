"""What an API worker and the node say to each other over unix sockets."""

from typing import Any, Literal

import msgspec

from freehold.ports.egress import SessionEgress
from freehold.ports.placement import KeptWarm, Launch, Lease, SessionKey
from freehold.ports.sandbox import CommandSpec


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


class KeepWarm(msgspec.Struct, frozen=True, tag=True):
    """What endpoints want to wait for their sessions: all of it. Every worker says the same."""

    wanted: list[KeptWarm]


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


class EndCommand(msgspec.Struct, frozen=True, tag=True):
    id: int
    sandbox_id: str
    name: str


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


class EgressRefused(msgspec.Struct, frozen=True, tag=True):
    """Egress process to node, for the session's log. `count`: so many in all."""

    sandbox_id: str
    why: str
    count: int


Question = Acquire | Stop | StopRuntime | WhyEnded | EndCommand
ToNode = (
    Hello | Acquire | Hold | Used | Release | Stop | StopRuntime | WhyEnded | EndCommand
    | ReadLog | StopReading
    | KeepWarm | EgressRefused
)  # fmt: skip


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


class Execute(msgspec.Struct, frozen=True, tag=True):
    """First word on a connection to `commands.sock`: answered by Executed, then ToCommand and
    FromCommand. The end of the connection is the end of a command without a name.
    """

    sandbox_id: str
    spec: CommandSpec
    name: str = ""


class Executed(msgspec.Struct, frozen=True, tag=True):
    """`code` empty: it runs (`resumed`: it did already). Else that of a FreeholdError."""

    code: str = ""
    message: str = ""
    resumed: bool = False


class Input(msgspec.Struct, frozen=True, tag=True):
    """Empty: no more comes."""

    data: bytes


class Resize(msgspec.Struct, frozen=True, tag=True):
    rows: int
    columns: int


ToCommand = Input | Resize


class Output(msgspec.Struct, frozen=True, tag=True):
    stream: Literal["stdout", "stderr"]
    data: bytes


class Taken(msgspec.Struct, frozen=True, tag=True):
    """So many bytes of input have gone to the program."""

    count: int


class Exited(msgspec.Struct, frozen=True, tag=True):
    code: int


class TakenOver(msgspec.Struct, frozen=True, tag=True):
    """Another caller has it now."""


FromCommand = Output | Taken | Exited | TakenOver


class DoorwayConnection(msgspec.Struct, frozen=True, tag=True):
    """Node to worker, with the accepted connection beside it."""

    tenant: str
    runtime_id: str
    runtime_arn: str
    endpoint: str
    session_id: str
    sandbox_id: str
    version: str
    user: str | None


class EgressConnection(msgspec.Struct, frozen=True, tag=True):
    """Node to egress process, with a connection from inside the session beside it. `egress` None,
    and no connection: the session has ended, and so do all that it had.
    """

    sandbox_id: str
    egress: SessionEgress | None
