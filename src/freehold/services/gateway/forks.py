"""Calls that a fork makes through a gateway: answered from its record, or made with its change.

A fork is known by the connection that it comes through, as every session is: whatever token it
shows a gateway that wants one.
"""

from typing import Any

import msgspec

from freehold.kernel.errors import Conflict
from freehold.kernel.request import Request
from freehold.kernel.session import DoorwaySession
from freehold.kernel.tracing import Span
from freehold.ports.exchanges import changed, wire_of_path
from freehold.ports.passages import Passing
from freehold.ports.replay import LiveModel, LiveTool, ModelAnswer, Replays, ToolAnswer, is_fork
from freehold.ports.targets import Json
from freehold.services.gateway import results
from freehold.services.gateway.calls import Asking
from freehold.services.gateway.flow import Flow, WithoutUsage
from freehold.services.gateway.inference import CHAT, Prompt
from freehold.services.gateway.traces import ModelCall, told_of_fork

NAME_LENGTH_MAX = 256
"""Of a tool's name as spans, and so records, have it."""


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """A model's call to be made: its body, changed or not, and what its span says of it."""

    body: bytes
    told: dict[str, Any]


class Forks:
    """`replays` is None where nothing is recorded that could be forked."""

    def __init__(self, replays: Replays | None) -> None:
        self._replays = replays

    async def tool(self, asking: Asking, name: str, span: Span) -> Json | Asking:
        """The result where there is one without a call; else what is to be called.

        The record is of the whole call: what is answered from it is not looked for, limited,
        intercepted or decided anew. A task that was recorded is one by its id alone: what a fork
        asks of it later goes to the target.
        """
        session = _fork(asking.request)
        if session is None or self._replays is None:
            return asking
        try:
            found = await self._replays.tool(
                tenant=session.tenant,
                session_id=session.session_id,
                gateway_id=asking.catalog.door.gateway_id,
                name=name[:NAME_LENGTH_MAX],
                arguments=asking.message.params.get("arguments"),
            )
        except Conflict as error:
            span.attributes |= told_of_fork(session.session_id)
            return results.refused(error.message, "replay")
        match found:
            case ToolAnswer():
                source = "given" if found.given else "recorded"
                told = told_of_fork(session.session_id, source, differs=found.differs)
                span.attributes |= told
                return dict(found.result)
            case LiveTool():
                span.attributes |= told_of_fork(session.session_id, "live")
                if found.engine_arn:
                    catalog = asking.catalog.decided_by(found.engine_arn)
                    return msgspec.structs.replace(asking, catalog=catalog)
        return asking

    async def model(
        self, passing: Passing, path: str, prompt: Prompt, raw: bytes
    ) -> Flow | Live | None:
        """None for what is no fork's. `path` is the one below `/inference`. Raises Conflict, and
        ValidationFailed where the change has no place in what is asked.

        The record is of what the target was asked: interceptors, around it, are called again.
        """
        session = _fork(passing.request)
        if session is None or self._replays is None:
            return None
        call = ModelCall(path, prompt.model, raw, told=told_of_fork(session.session_id))
        with call.beginning():
            found = await self._replays.model(
                session, operation=f"gateway:{path}", model=prompt.model, body=raw
            )
            body = _changed(path, raw, found) if isinstance(found, LiveModel) else raw
        match found:
            case ModelAnswer():
                told = told_of_fork(session.session_id, "recorded", differs=found.differs)
                call.recorded(found, told)
                return _flow(found, path, prompt)
            case LiveModel():
                told = told_of_fork(session.session_id, "live", changed=body is not raw)
                return Live(body=body, told=told)
        return None


def _fork(request: Request) -> DoorwaySession | None:
    session = request.session
    return session if session is not None and is_fork(session.session_id) else None


def _changed(path: str, raw: bytes, live: LiveModel) -> bytes:
    return changed(
        wire_of_path(path), raw, model=live.model, system=live.system, prompt=live.prompt
    )


def _flow(found: ModelAnswer, path: str, prompt: Prompt) -> Flow:
    body = found.body
    if path == CHAT and prompt.streams and not prompt.reports_usage:
        # The limits may have asked for what the agent did not, and so it is in the record.
        without = WithoutUsage()
        body = without.feed(body) + without.rest()
    headers = {"content-type": found.content_type, "content-length": str(len(body))}
    return Flow(200, headers, body)
