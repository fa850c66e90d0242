"""Each lease of a session is given back once, however the call that took it ends."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from freehold.kernel.body import BytesBody
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import RuntimeClientFailed, Unavailable
from freehold.ports.agents import AgentBroke, AgentReply, AgentRequest
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
    async def resolve(self, tenant: str, runtime_id: str, endpoint: str) -> Deployment:
        return DEPLOYMENT


@pytest.fixture
def sessions() -> Sessions:
    return Sessions()


def service(sessions: Sessions, agents: Agents) -> InvocationService:
    return InvocationService(
        runtimes=cast(RuntimeService, Runtimes()), placement=sessions, agents=agents,
        store=cast(Any, None), identities=Identities(),
    )  # fmt: skip


def call() -> Invocation:
    return Invocation(
        caller=Caller(tenant=DEPLOYMENT.tenant, principal="tests", kind=CallerKind.ACCESS_KEY),
        tenant=DEPLOYMENT.tenant, runtime_arn=DEPLOYMENT.runtime_id, endpoint=None,
        session_id=None, user=None, request_id="r", content_type=None, accept=None, headers={},
        trace={}, body=BytesBody(b"asked"),
    )  # fmt: skip


async def test_a_whole_answer_gives_it_back(sessions: Sessions) -> None:
    answered = await service(sessions, Agents(Reply(b"{}", content_length="2"))).invoke(call())
    assert answered.body == b"{}"
    assert sessions.held == []


async def test_a_stream_gives_it_back_at_its_end(sessions: Sessions) -> None:
    reply = Reply(b"a", b"b")
    answered = await service(sessions, Agents(reply)).invoke(call())
    assert not isinstance(answered.body, bytes)
    assert sessions.held == ["s-1"]
    assert [chunk async for chunk in answered.body] == [b"a", b"b"]
    assert (sessions.held, reply.closed) == ([], 1)


async def test_a_stream_that_is_left_gives_it_back(sessions: Sessions) -> None:
    reply = Reply(b"a", b"b")
    answered = await service(sessions, Agents(reply)).invoke(call())
    body = cast(Any, answered.body)
    assert await anext(body) == b"a"
    await body.aclose()
    await body.aclose()
    assert (sessions.held, reply.closed) == ([], 1)


async def test_a_stream_that_nobody_began_to_read_gives_it_back(sessions: Sessions) -> None:
    """The client left in the moment that its answer began."""
    reply = Reply(b"a")
    answered = await service(sessions, Agents(reply)).invoke(call())
    await cast(Any, answered.body).aclose()
    assert (sessions.held, reply.closed) == ([], 1)


async def test_a_broken_stream_gives_it_back(sessions: Sessions) -> None:
    reply = Reply(b"a", AgentBroke("it broke"), content_type="text/plain")
    answered = await service(sessions, Agents(reply)).invoke(call())
    with pytest.raises(RuntimeClientFailed, match="it broke"):
        [chunk async for chunk in cast(Any, answered.body)]
    assert sessions.held == []


@pytest.mark.parametrize(
    "failure", [AgentBroke("it broke"), asyncio.CancelledError(), Unavailable("no node")]
)
async def test_a_call_without_an_answer_gives_it_back(
    sessions: Sessions, failure: BaseException
) -> None:
    with pytest.raises((RuntimeClientFailed, asyncio.CancelledError, Unavailable)):
        await service(sessions, Agents(failure)).invoke(call())
    assert sessions.held == []


async def test_it_is_given_back_while_the_node_is_away(sessions: Sessions) -> None:
    sessions.node_is_away = True
    with pytest.raises(Unavailable):
        await service(sessions, Agents(AgentBroke("it broke"))).invoke(call())
    assert sessions.held == []


async def test_a_session_that_was_over_before_it_was_reached_gives_way_to_a_new_one(
    sessions: Sessions,
) -> None:
    sessions.over.add("s-1")
    agents = Agents(AgentBroke("nobody", unreached=True), Reply(b"{}", content_length="2"))
    answered = await service(sessions, agents).invoke(call())
    assert answered.body == b"{}"
    assert agents.bodies == [b"asked", b"asked"]
    assert (sessions.held, sessions.acquired) == ([], 2)


async def test_but_only_once_and_never_what_an_agent_may_have_seen(sessions: Sessions) -> None:
    sessions.over |= {"s-1", "s-2", "s-3"}
    unreached = AgentBroke("nobody", unreached=True)
    with pytest.raises(RuntimeClientFailed, match="it was its time"):
        await service(sessions, Agents(unreached, unreached)).invoke(call())
    assert sessions.acquired == 2
    with pytest.raises(RuntimeClientFailed, match="it was its time"):
        await service(sessions, Agents(AgentBroke("it broke"))).invoke(call())
    assert sessions.acquired == 3
    assert sessions.held == []


CARD = b'{"name": "x"}'


async def test_a_card_gives_it_back(sessions: Sessions) -> None:
    reply = Reply(CARD)
    arn, session = DEPLOYMENT.runtime_id, "s" * 33
    got = await service(sessions, Agents(reply)).card("100000000001", arn, None, session, "r")
    assert got == (session, {"name": "x"})
    assert (sessions.held, reply.closed) == ([], 1)


def not_found() -> Reply:
    reply = Reply(b"Not Found")
    reply.status = 404
    return reply


@pytest.mark.parametrize(
    "answer",
    [not_found(), Reply(b"[]"), Reply(CARD[:5], AgentBroke("it broke")), AgentBroke("it broke")],
    ids=["none", "no object", "broken off", "no answer"],
)
async def test_a_card_that_cannot_be_had_gives_it_back(
    sessions: Sessions, answer: Reply | AgentBroke
) -> None:
    with pytest.raises(RuntimeClientFailed):
        await service(sessions, Agents(answer)).card("1", DEPLOYMENT.runtime_id, None, None, "r")
    assert sessions.held == []
