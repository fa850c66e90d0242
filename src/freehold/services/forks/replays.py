"""`ports.replay.Replays` over the kept record: whichever worker's doorway asks, each call of the
record is given once. All is decided in one transaction that holds the fork's row.
"""

from collections.abc import Collection

import msgspec

from freehold.kernel.errors import Conflict
from freehold.kernel.session import DoorwaySession
from freehold.ports.database import Connection, Database
from freehold.ports.replay import LiveModel, LiveTool, ModelAnswer, ToolAnswer, is_fork
from freehold.services.forks import calls_store
from freehold.services.forks.calls_store import Asked
from freehold.services.forks.content import tool_text
from freehold.services.forks.digests import digest_of_arguments, digests_of
from freehold.services.forks.matching import Found, find
from freehold.services.forks.model import ForkChange
from freehold.services.forks.record import lane_of_model, lane_of_tool

# What leaves nothing behind, and is in no record: asked anew, wherever the fork is.
_HARMLESS = frozenset({"Embeddings", "ListModels", "GetModel", "CountTokens"})
_HARMLESS_ENDS = ("/embeddings", "/models", "/count_tokens")


class _Refused(Exception):
    """To be raised as a Conflict once what is told of it is stored."""


class ForkReplays:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def model(
        self, session: DoorwaySession, *, operation: str, model: str, body: bytes
    ) -> ModelAnswer | LiveModel | None:
        if not is_fork(session.session_id):
            return None
        what = f"the model call {operation}" + (f" of {model}" if model else "")
        asking = _Asking(
            tenant=session.tenant, id=session.session_id, runtime_id=session.runtime_id,
            lane=lane_of_model(operation), digests=digests_of(body), what=what,
            harmless=_is_harmless(operation),
        )  # fmt: skip
        answer = await self._found(asking)
        if answer is None:
            return None
        if answer.found.what == "recorded":
            assert answer.found.call is not None, "it is of the record"
            return ModelAnswer(
                body=answer.body, content_type=answer.found.call.content_type,
                differs=answer.found.differs,
            )  # fmt: skip
        change = answer.fork.change if not asking.harmless else ForkChange()
        at_step = answer.found.what == "step"
        return LiveModel(
            model=change.model or "", system=change.system or "",
            prompt=(change.prompt or "") if at_step else "",
        )  # fmt: skip

    async def tool(
        self, *, tenant: str, session_id: str, gateway_id: str, name: str, arguments: object
    ) -> ToolAnswer | LiveTool | None:
        if not is_fork(session_id):
            return None
        asking = _Asking(
            tenant=tenant, id=session_id, lane=lane_of_tool(gateway_id, name),
            digests=(digest_of_arguments(arguments),), what=f"the call of the tool {name}",
        )  # fmt: skip
        answer = await self._found(asking)
        if answer is None:
            return None
        if answer.found.what == "recorded":
            result = msgspec.json.decode(answer.body)
            return ToolAnswer(result=result, differs=answer.found.differs)
        given = answer.fork.change.tool_answer
        if answer.found.what == "step" and given is not None:
            return ToolAnswer(result=given_result(given), given=True)
        return LiveTool(engine_arn=answer.fork.engine_arn)

    async def _found(self, asking: "_Asking") -> "_Answer | None":
        refused = ""
        async with self._database.transaction() as connection:
            fork = await calls_store.asked(connection, asking.tenant, asking.id)
            if fork is None:
                return None
            try:
                return await _answer(connection, fork, asking)
            except _Refused as error:
                refused = str(error)
        raise Conflict(refused)


class _Asking(msgspec.Struct, frozen=True, kw_only=True):
    tenant: str
    id: str
    lane: str
    digests: Collection[str]
    what: str
    runtime_id: str = ""
    harmless: bool = False


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    fork: Asked
    found: Found
    body: bytes = b""


async def _answer(connection: Connection, fork: Asked, asking: _Asking) -> _Answer:
    tenant, id = asking.tenant, asking.id
    if fork.deleted or fork.status != "RUNNING" or fork.turn == 0:
        raise _Refused("this session is a fork that is not under way: nothing is called for it")
    if asking.runtime_id not in ("", fork.agent_id):
        raise _Refused("this session has the id of another agent's fork")
    found = Found("live")
    if fork.turn <= fork.step.turn:
        lane = await calls_store.lane(connection, tenant, id, turn=fork.turn, lane=asking.lane)
        found = find(lane, asking.digests, reached=fork.reached)
    if found.what == "unknown":
        if not asking.harmless:
            why = f"{asking.what} is not in the record, and the step was not reached yet"
            await calls_store.tell(connection, tenant, id, diverged=f"turn {fork.turn}: {why}")
            raise _Refused(f"the fork left the record: {why}")
        found = Found("live")
    body = b""
    if found.call is not None:
        body = await calls_store.take(connection, tenant, id, found.call)
    given = found.what == "step" and fork.change.tool_answer is not None
    source = "recorded" if found.what == "recorded" else "given" if given else "live"
    await calls_store.tell(
        connection, tenant, id, reached=found.what == "step",
        count={source: 1, "differing": int(found.differs)},
    )  # fmt: skip
    return _Answer(fork=fork, found=found, body=body)


def given_result(given: object) -> dict[str, object]:
    """MCP's CallToolResult of a change's `toolAnswer`."""
    return tool_text(given) if isinstance(given, str) else msgspec.convert(given, dict[str, object])


def _is_harmless(operation: str) -> bool:
    return operation in _HARMLESS or operation.endswith(_HARMLESS_ENDS)
