"""An InvocationService with doubles around it: sandboxes that are numbers, agents of one answer."""

import socket
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

from freehold.kernel.body import Body, BytesBody
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import Unavailable
from freehold.ports.agents import AgentReply, AgentRequest
from freehold.ports.placement import Launch, Lease, SessionKey, SessionLine
from freehold.services.runtime.invocations import Invocation, InvocationService
from freehold.services.runtime.model import Deployment, Prepared
from freehold.services.runtime.protocols import Served
from freehold.services.runtime.service import RuntimeService

DEPLOYMENT = Deployment(
    tenant="100000000001", runtime_id="x-AAAAAAAAAA", runtime_arn="arn", runtime_name="x",
    endpoint="DEFAULT", version=1, tier="", served=Served(protocol="A2A", port=9000, path="/"),
    entry_point=("main.py",), environment={},
    idle_seconds=60, lifetime_seconds=60, header_allowlist=frozenset(),
    prepared=Prepared(code="code", layers=(), interpreter="PYTHON_3_11"),
)  # fmt: skip


class Sessions:
    """A placement whose sandboxes are numbers; those in `over` have ended."""

    def __init__(self) -> None:
        self.held: list[str] = []
        self.acquired = 0
        self.over: set[str] = set()
        self.node_is_away = False

    async def acquire(self, launch: Launch) -> Lease:
        self.acquired += 1
        lease = Lease(
            key=launch.key, sandbox_id=f"s-{self.acquired}", tier="container",
            version=launch.version, started_at=datetime.now(UTC),
        )  # fmt: skip
        self.held.append(lease.sandbox_id)
        return lease

    def release(self, lease: Lease) -> None:
        self.held.remove(lease.sandbox_id)

    async def why_ended(self, sandbox_id: str) -> str | None:
        if self.node_is_away:
            raise Unavailable("no node")
        return "it was its time" if sandbox_id in self.over else None

    async def connect(self, sandbox_id: str, port: int) -> socket.socket:
        raise NotImplementedError

    async def stop(self, key: SessionKey, reason: str) -> bool:
        raise NotImplementedError

    async def stop_runtime(self, tenant: str, runtime_id: str, reason: str) -> int:
        raise NotImplementedError

    def read_log(
        self, tenant: str, runtime_id: str, sandbox_id: str, *, tail: int, follow: bool
    ) -> AsyncGenerator[str, None]:
        raise NotImplementedError

    def follow_logs(
        self, tenant: str, runtime_id: str, *, tail: int
    ) -> AsyncGenerator[SessionLine, None]:
        raise NotImplementedError


class Reply:
    status = 200

    def __init__(self, *chunks: bytes | Exception, **headers: str) -> None:
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self._chunks = chunks
        self.closed = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    async def read(self, bytes_max: int) -> bytes:
        return b"".join([chunk async for chunk in self.chunks()])[:bytes_max]

    def close(self) -> None:
        self.closed += 1


class Agents:
    """Answers with what it was given, in turn."""

    def __init__(self, *answers: Reply | BaseException) -> None:
        self._answers = list(answers)
        self.bodies: list[bytes] = []

    async def send(self, request: AgentRequest) -> AgentReply:
        answer = self._answers.pop(0)
        self.bodies.append(await request.body.read())
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Identities:
    def arn(self, runtime_arn: str) -> str:
        return "identity"

    async def ensure(self, tenant: str, runtime_id: str) -> None: ...

    async def act_for(self, *_: Any, **__: Any) -> tuple[str | None, dict[str, str]]:
        return None, {}


class Runtimes:
    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    async def resolve(self, tenant: str, runtime_id: str, endpoint: str) -> Deployment:
        return self._deployment


def service(
    sessions: Sessions, agents: Agents, deployment: Deployment = DEPLOYMENT
) -> InvocationService:
    return InvocationService(
        runtimes=cast(RuntimeService, Runtimes(deployment)), placement=sessions, agents=agents,
        store=cast(Any, None), identities=Identities(),
    )  # fmt: skip


def call(
    body: Body | None = None, content_type: str | None = None, session_id: str | None = None
) -> Invocation:
    return Invocation(
        caller=Caller(tenant=DEPLOYMENT.tenant, principal="tests", kind=CallerKind.ACCESS_KEY),
        tenant=DEPLOYMENT.tenant, runtime_arn=DEPLOYMENT.runtime_id, endpoint=None,
        session_id=session_id, user=None, request_id="r", content_type=content_type,
        accept=None, headers={}, trace={}, body=body or BytesBody(b"asked"),
    )  # fmt: skip
