"""The service of forks over the real store, with an agent that is a few lines of the test's."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from recorded_spans import Told, request

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.spans.postgres import PostgresSpans
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied, FreeholdError
from freehold.kernel.operation import Operation
from freehold.kernel.request import Request
from freehold.kernel.session import DoorwaySession
from freehold.ports.jobs import Job, JobState
from freehold.ports.replay import FORK_ID, REPLAY, LiveModel, LiveTool, ModelAnswer, ToolAnswer
from freehold.ports.spans import SpanRecord
from freehold.services.forks.comparing import Comparing
from freehold.services.forks.model import Creator
from freehold.services.forks.native import ForkGiven, operations
from freehold.services.forks.ports import Turn
from freehold.services.forks.reading import Sessions
from freehold.services.forks.replays import ForkReplays
from freehold.services.forks.runner import Runner
from freehold.services.forks.service import Forks

Asked = ModelAnswer | LiveModel | ToolAnswer | LiveTool | None


class Answer:
    """`ports.web.WebStream`."""

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.status, self.headers, self._body = status, headers, body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._body

    async def read(self, bytes_max: int) -> bytes:
        return self._body[:bytes_max]

    def close(self) -> None:
        pass


@dataclass
class Agent:
    """Acts as `acts` says, asks `replays` as a doorway does, and tells its spans."""

    replays: ForkReplays
    spans: PostgresSpans
    acts: Callable[["Agent", Turn], Awaitable[None]] | None = None
    turns: list[Turn] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    found: list[Asked] = field(default_factory=list)
    status: int = 200
    problem: BaseException | None = None
    told: Told = field(default_factory=Told)

    async def invoke(self, caller: Caller, turn: Turn) -> Answer:
        self.turns.append(turn)
        self.callers.append(caller)
        told = self.told = Told(
            turn.tenant, session=turn.session_id, agent=turn.agent_id, began_ns=time.time_ns()
        )
        span = told.turn(turn.payload.decode())
        if self.acts is not None:
            await self.acts(self, turn)
        if self.problem is not None:
            raise self.problem
        await self.spans.write(told.spans)
        headers = {"traceparent": f"00-{span.trace_id}-{span.span_id}-01"}
        body = b'{"done": 1}' if self.status < 300 else b'{"message": "the agent is unwell"}'
        return Answer(self.status, body, headers)

    async def stop(self, caller: Caller, turn: Turn) -> None:
        self.stopped.append(turn.session_id)

    async def model(self, turn: Turn, asked: Any, operation: str = "ChatCompletions") -> Asked:
        found = await self.replays.model(
            session_of(turn.tenant, turn.session_id, agent=turn.agent_id),
            operation=operation, model="gpt-4o", body=request(asked).encode(),
        )  # fmt: skip
        self.found.append(found)
        told = found.body.decode() if isinstance(found, ModelAnswer) else None
        self.told.model(asked, "now", operation=operation, attributes=_source(turn, found, told))
        return found

    async def tool(self, turn: Turn, name: str = "bank___pay", arguments: Any = None) -> Asked:
        found = await self.replays.tool(
            tenant=turn.tenant, session_id=turn.session_id, gateway_id="gw-1", name=name,
            arguments=arguments,
        )  # fmt: skip
        self.found.append(found)
        result = found.result if isinstance(found, ToolAnswer) else "now"
        self.told.tool(name, arguments, result, attributes=_source(turn, found))
        return found


def _source(turn: Turn, found: Asked, answer: str | None = None) -> dict[str, Any]:
    """What a doorway's span says of it."""
    live = isinstance(found, LiveModel | LiveTool)
    given = isinstance(found, ToolAnswer) and found.given
    source = {REPLAY: "live" if live else "given" if given else "recorded"}
    response = {} if answer is None else {"freehold.exchange.response": answer}
    return {FORK_ID: turn.session_id, **source, **response}


class Creators:
    """Everybody is let in until it is said otherwise."""

    refused = ""

    async def caller(self, tenant: str, creator: Creator) -> Caller:
        if self.refused:
            raise AccessDenied(self.refused)
        return Caller(tenant=tenant, principal=creator.principal, kind=CallerKind.ACCESS_KEY)


class Authorizer:
    """Everybody may do everything, but for what is said."""

    refuses = ""

    async def authorize(self, caller: Caller, operation: str, resource_arn: str | None) -> str:
        if operation == self.refuses:
            raise AccessDenied(f"{operation} is not allowed")
        return caller.tenant


class Engines:
    async def arn(self, tenant: str, engine_id: str) -> str | None:
        return f"arn:engine/{engine_id}" if engine_id == "engine-1" else None


class Queue:
    """`ports.jobs.Jobs`: what is enqueued waits until the test runs it."""

    def __init__(self) -> None:
        self.waiting: dict[str, dict[str, Any]] = {}

    async def enqueue(self, kind: str, payload: dict[str, Any], *, id: str) -> None:
        self.waiting.setdefault(id, payload)

    async def get(self, id: str) -> Job | None:
        if id not in self.waiting:
            return None
        fields = {"kind": "fork", "state": JobState.QUEUED, "attempts": 0, "error": None}
        return msgspec.convert({"id": id, **fields, "created_at": "2026-01-01T00:00:00Z"}, Job)

    def register(self, *_: Any, **__: Any) -> None:
        raise AssertionError("not the service's to say")

    async def start(self) -> None: ...

    async def close(self) -> None: ...


@dataclass
class Ground:
    tenant: str
    spans: PostgresSpans
    replays: ForkReplays
    agent: Agent
    creators: Creators
    authorizer: Authorizer
    jobs: Queue
    runner: Runner
    service: Forks
    operations: dict[str, Operation]

    async def ask(
        self, name: str, body: Any = None, *, tenant: str | None = None, **given: Any
    ) -> Any:
        """The answer as it goes over the wire."""
        operation = self.operations[name]
        params = {each.name: each.default for each in operation.parameters}
        assert given.keys() <= params.keys(), "a parameter that the operation does not have"
        caller = Caller(
            tenant=tenant or self.tenant, principal="tests", kind=CallerKind.ACCESS_KEY,
            access_key_id="FHIATESTS",
        )  # fmt: skip
        sent = None if body is None else msgspec.convert(body, operation.body)
        request = Request(caller=caller, request_id="r")
        answer = await operation.act(request, {**params, **given}, sent)
        return None if answer is None else json.loads(msgspec.json.encode(answer))

    async def fork(self, span: SpanRecord, **given: Any) -> Any:
        body = {"traceId": span.trace_id, "spanId": span.span_id, **given}
        assert msgspec.convert(body, ForkGiven)
        return await self.ask("CreateFork", body)

    async def run(self, made: Any) -> Any:
        """To its end, as its job does."""
        await self.runner.work({"tenant": self.tenant, "fork": made["forkId"]})
        return await self.ask("GetFork", forkId=made["forkId"])

    async def forked(self, span: SpanRecord, **given: Any) -> Any:
        return await self.run(await self.fork(span, **given))

    async def refusal(self, asking: Awaitable[Any]) -> tuple[int, str]:
        try:
            answer = await asking
        except FreeholdError as error:
            return error.status, error.message
        raise AssertionError(f"it was not refused: {answer}")

    async def written(self, told: Told) -> Told:
        await self.spans.write(told.spans)
        return told


def ground(database: PostgresDatabase, tenant: str) -> Ground:
    spans, replays = PostgresSpans(database), ForkReplays(database)
    agent, creators, authorizer = Agent(replays, spans), Creators(), Authorizer()
    jobs, sessions = Queue(), Sessions(spans)
    runner = Runner(
        database, spans=spans, agents=agent, creators=creators, authorizer=authorizer,
        turn_seconds_max=60,
    )  # fmt: skip
    service = Forks(
        database, sessions=sessions, jobs=jobs, engines=Engines(), authorizer=authorizer,
        runner=runner,
    )  # fmt: skip
    return Ground(
        tenant, spans, replays, agent, creators, authorizer, jobs, runner, service,
        {each.name: each for each in operations(service, Comparing(sessions))},
    )  # fmt: skip


def session_of(tenant: str, session_id: str, *, agent: str = "agent-x") -> DoorwaySession:
    return DoorwaySession(
        tenant=tenant, runtime_id=agent, runtime_arn=f"arn:runtime/{agent}", endpoint="DEFAULT",
        session_id=session_id, sandbox_id="s",
    )  # fmt: skip


async def together(*asking: Awaitable[Any]) -> list[Any]:
    async with asyncio.timeout(120):
        return list(await asyncio.gather(*asking))
