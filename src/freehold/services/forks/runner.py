"""A fork is run: turn after turn its session is invoked, as the person who forked it.

A job does it, once: what an agent did cannot be undone, so that one which was cut short is not
begun anew. The roles of who forked are looked up before each turn.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from freehold.kernel import clock, tracing
from freehold.kernel.caller import Caller
from freehold.kernel.errors import FreeholdError
from freehold.ports.authorizer import Authorizer
from freehold.ports.database import Database
from freehold.ports.replay import FORK_ID
from freehold.ports.spans import SpanStore
from freehold.ports.web import Unreachable, WebStream
from freehold.services.forks import store
from freehold.services.forks.model import (
    ANSWER_BYTES_MAX,
    MODE_OPERATION,
    TURN_SECONDS_MAX,
    Fork,
    Status,
    TurnRow,
    TurnStatus,
)
from freehold.services.forks.ports import Agents, Creators, Turn
from freehold.services.forks.record import Record, lane_of

log = logging.getLogger("freehold.forks")

_PROBLEM_BYTES_MAX = 64 << 10
_REASON_CHARACTERS_MAX = 1000
_SPANS_SECONDS_MAX = 10.0
_SPANS_EVERY_SECONDS = 0.25
_CUT_SHORT = "the platform was stopped while it ran; nothing is invoked a second time. Fork again"


class _Ended(Exception):
    def __init__(self, status: Status, reason: str = "") -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class _TurnFailed(Exception):
    """The agent's own answer, or the platform's refusal."""


def job_of(tenant: str, id: str) -> dict[str, Any]:
    return {"tenant": tenant, "fork": id}


class Runner:
    def __init__(
        self,
        database: Database,
        *,
        spans: SpanStore,
        agents: Agents,
        creators: Creators,
        authorizer: Authorizer,
        turn_seconds_max: float = TURN_SECONDS_MAX,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._database, self._spans = database, spans
        self._agents, self._creators, self._authorizer = agents, creators, authorizer
        self._turn_seconds_max, self._now = turn_seconds_max, now

    async def work(self, payload: dict[str, Any]) -> None:
        tenant, id = payload["tenant"], payload["fork"]
        async with self._database.connection() as connection:
            first = await store.begin(connection, tenant, id, self._now())
            fork = await store.get(connection, tenant, id)
        if fork is None:
            return
        ended = _Ended("COMPLETED")
        try:
            if not first:
                raise _Ended("INTERRUPTED", _CUT_SHORT)
            for turn in fork.turns:
                await self._turn(fork, turn.number)
        except _Ended as how:
            ended = how
        except FreeholdError as error:
            ended = _Ended("FAILED", error.message)
        except Exception:  # the boundary: whatever it is, the fork ends
            log.exception("fork %s broke", id)
            ended = _Ended("FAILED", "an error of the platform's own; its log has more")
        await self._end(fork, ended)

    async def stop(self, caller: Caller, fork: Fork) -> None:
        """Its session, wherever it is."""
        await self._agents.stop(caller, _asked(fork, TurnRow(number=0, recorded_trace_id="")))

    # -- a turn

    async def _turn(self, fork: Fork, number: int) -> None:
        """Raises _Ended."""
        async with self._database.transaction() as connection:
            if not await store.begin_turn(connection, fork.tenant, fork.id, number):
                raise _Ended("INTERRUPTED", "it was deleted")
            turn = await store.turn(connection, fork.tenant, fork.id, number)
        assert turn is not None, "it was begun"
        caller = await self._creators.caller(fork.tenant, fork.creator)
        if fork.engine_arn:
            await self._authorizer.authorize(caller, MODE_OPERATION, fork.engine_arn)
        try:
            async with asyncio.timeout(self._turn_seconds_max):
                await self._invoke(caller, fork, turn)
            problem = ""
        except _TurnFailed as error:
            problem = f"turn {number}: {error}"
        except TimeoutError:
            problem = f"turn {number} took longer than {self._turn_seconds_max:g} seconds"
        except Unreachable as error:
            raise _Ended("INTERRUPTED", f"turn {number}: {error}. Fork again") from error
        await self._tell(fork, number, "FAILED" if problem else "COMPLETED")
        await self._judge(fork, turn, problem)

    async def _invoke(self, caller: Caller, fork: Fork, turn: TurnRow) -> None:
        stream = await self._agents.invoke(caller, _asked(fork, turn))
        try:
            context = tracing.parse(stream.headers.get("traceparent", ""))
            if context is not None:
                await self._tell(fork, turn.number, "RUNNING", trace_id=context.trace_id)
            if stream.status >= 300:
                raise _TurnFailed(await _problem(stream))
            size = 0
            async for chunk in stream.chunks():
                size += len(chunk)
                if size > ANSWER_BYTES_MAX:
                    raise _TurnFailed(f"its answer has more than {ANSWER_BYTES_MAX >> 20} MiB")
        finally:
            stream.close()

    async def _judge(self, fork: Fork, turn: TurnRow, problem: str) -> None:
        """What the turn means for the fork. Raises _Ended where it does not go on."""
        async with self._database.connection() as connection:
            now = await store.get(connection, fork.tenant, fork.id)
        if now is None:
            raise _Ended("INTERRUPTED", "it was deleted")
        if now.diverged:
            raise _Ended("DIVERGED", now.diverged)
        before = turn.number < fork.step.turn
        if problem and not (before and turn.recorded_failed):
            raise _Ended("FAILED", problem)
        if turn.number == fork.step.turn and not now.reached:
            raise _Ended(
                "DIVERGED",
                f"turn {turn.number} ended, and the agent did not come to the step: with what it "
                "was given it went another way",
            )

    async def _tell(
        self, fork: Fork, number: int, status: TurnStatus, *, trace_id: str = ""
    ) -> None:
        async with self._database.connection() as connection:
            await store.set_turn(
                connection, fork.tenant, fork.id, number, status, trace_id=trace_id
            )

    # -- its end

    async def _end(self, fork: Fork, ended: _Ended) -> None:
        with contextlib.suppress(FreeholdError, Unreachable):  # else it ends when it is idle
            await self.stop(await self._creators.caller(fork.tenant, fork.creator), fork)
        version = await self._told(fork)
        async with self._database.transaction() as connection:
            if version:
                await store.set_version(connection, fork.tenant, fork.id, version)
            await store.end(
                connection, fork.tenant, fork.id, ended.status,
                reason=ended.reason[:_REASON_CHARACTERS_MAX], at=self._now(),
            )  # fmt: skip

    async def _told(self, fork: Fork) -> str:
        """Once its spans are there: who sees that it has ended can compare it. The version of the
        agent that ran, as they say; "" where they do not come."""
        async with self._database.connection() as connection:
            now = await store.get(connection, fork.tenant, fork.id)
        traces = [turn.trace_id for turn in now.turns if turn.trace_id] if now is not None else []
        if now is None or not traces:
            return ""
        calls = now.counts.recorded + now.counts.given + now.counts.live
        version = ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SPANS_SECONDS_MAX):
                while True:
                    spans = [
                        span
                        for trace_id in dict.fromkeys(traces)
                        for span in await self._spans.trace(fork.tenant, trace_id)
                    ]
                    record = Record(spans, agent_id=fork.agent_id, session_id=fork.id)
                    version = next((turn.span.agent_version for turn in record), version)
                    told = sum(FORK_ID in span.attributes and bool(lane_of(span)) for span in spans)
                    if len(record.turns) >= len(traces) and told >= calls:
                        break
                    await asyncio.sleep(_SPANS_EVERY_SECONDS)
        return version


def _asked(fork: Fork, turn: TurnRow) -> Turn:
    return Turn(
        tenant=fork.tenant, agent_id=fork.agent_id, endpoint=fork.endpoint, session_id=fork.id,
        payload=turn.payload, content_type=turn.content_type,
    )  # fmt: skip


class _Refusal(msgspec.Struct):
    message: str = ""


async def _problem(stream: WebStream) -> str:
    content = await stream.read(_PROBLEM_BYTES_MAX)
    try:
        said = msgspec.json.decode(content, type=_Refusal).message
    except msgspec.MsgspecError:
        said = content[:_REASON_CHARACTERS_MAX].decode(errors="replace")
    return said or f"the agent answered with status {stream.status}"
