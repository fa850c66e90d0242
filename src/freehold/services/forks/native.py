"""Forks of recorded sessions in our own API."""

import re

import msgspec

from freehold.kernel.errors import ValidationFailed
from freehold.kernel.operation import Operation, Parameter, Params
from freehold.kernel.request import Request
from freehold.services.forks.comparing import Comparing
from freehold.services.forks.model import ForkChange, Until
from freehold.services.forks.service import Forks, Given
from freehold.services.forks.store import Filter
from freehold.services.forks.views import (
    ForkComparison,
    ForkPage,
    ForkPoint,
    ForkView,
    fork_view,
    listed,
    point_view,
)

_STATUSES = ("PENDING", "RUNNING", "COMPLETED", "FAILED", "DIVERGED", "INTERRUPTED")
_HEXADECIMAL = re.compile(r"[0-9a-f]+")
_NAME_CHARACTERS_MAX = 256


class ForkGiven(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """The span is a step of the session: an invocation, or a call of a model or of a gateway's tool
    that it made. `until` "turn" ends with the step's turn, "session" sends the later payloads too.
    `endpoint` is the recorded one where it is not given: name another to fork on its version."""

    trace_id: str
    span_id: str
    change: ForkChange = ForkChange()
    until: Until = "turn"
    endpoint: str = ""


_FORK = (Parameter(name="forkId", meaning="The fork", where="path"),)
_TRACE = Parameter(name="traceId", meaning="The trace: 32 hexadecimal digits", where="path")
_SPAN = Parameter(name="spanId", meaning="The span: 16 hexadecimal digits", where="path")
_LIST = (
    Parameter(name="traceId", meaning="Only of this recorded trace"),
    Parameter(name="sessionId", meaning="Only of this recorded session"),
    Parameter(name="agentId", meaning="Only of this runtime"),
    Parameter(name="status", meaning="Only with this status", choices=_STATUSES),
    Parameter(
        name="limit", meaning="Items a page", kind="integer", default=100, minimum=1, maximum=1000
    ),
    Parameter(name="nextToken", meaning="Where the previous page ended"),
)


def operations(forks: Forks, comparing: Comparing) -> list[Operation]:
    own = _Own(forks, comparing)
    return [
        Operation(
            name="CreateFork", method="POST", path="/forks", act=own.create, body=ForkGiven,
            answer=ForkView, status=201,
            summary="Run a recorded session again from a step, with a change; what came before is "
            "answered from the record",
        ),
        Operation(
            name="ListForks", method="GET", path="/forks", act=own.list, answer=ForkPage,
            parameters=_LIST, summary="Forks, newest first",
        ),
        Operation(
            name="GetFork", method="GET", path="/forks/{forkId}", act=own.get, answer=ForkView,
            parameters=_FORK, summary="One fork: how far it is, and how it ended",
        ),
        Operation(
            name="DeleteFork", method="DELETE", path="/forks/{forkId}", act=own.delete,
            parameters=_FORK, status=204,
            summary="Stop a fork, and forget it with its part of the record; its traces stay",
        ),
        Operation(
            name="CompareFork", method="GET", path="/forks/{forkId}/comparison", act=own.compare,
            answer=ForkComparison, parameters=_FORK,
            summary="A fork beside its record: each step, what was asked and answered, and sums",
        ),
        Operation(
            name="GetForkPoint", method="GET", path="/traces/{traceId}/spans/{spanId}/fork-point",
            act=own.point, answer=ForkPoint, parameters=(_TRACE, _SPAN),
            summary="Whether a session can be forked at a span, what can be changed there, or why "
            "not",
        ),
    ]  # fmt: skip


class _Own:
    def __init__(self, forks: Forks, comparing: Comparing) -> None:
        self._forks, self._comparing = forks, comparing

    async def create(self, request: Request, _: Params, body: ForkGiven) -> ForkView:
        given = Given(
            trace_id=_hexadecimal("traceId", body.trace_id, 32),
            span_id=_hexadecimal("spanId", body.span_id, 16),
            change=body.change, until=body.until, endpoint=_name("endpoint", body.endpoint),
        )  # fmt: skip
        return fork_view(await self._forks.create(request.caller, request.tenant, given))

    async def list(self, request: Request, params: Params, _: object) -> ForkPage:
        filter = Filter(
            trace_id=(params["traceId"] or "").lower(),
            recorded_session_id=params["sessionId"] or "",
            agent_id=params["agentId"] or "",
            status=params["status"] or "",
        )
        page = await self._forks.page(
            request.tenant, filter, limit=params["limit"], token=params["nextToken"]
        )
        return ForkPage(forks=[listed(each) for each in page.items], next_token=page.next_token)

    async def get(self, request: Request, params: Params, _: object) -> ForkView:
        return fork_view(await self._forks.get(request.tenant, params["forkId"]))

    async def delete(self, request: Request, params: Params, _: object) -> None:
        await self._forks.delete(request.caller, request.tenant, params["forkId"])

    async def compare(self, request: Request, params: Params, _: object) -> ForkComparison:
        return await self._comparing.compare(
            await self._forks.get(request.tenant, params["forkId"])
        )

    async def point(self, request: Request, params: Params, _: object) -> ForkPoint:
        found = await self._forks.point(
            request.tenant,
            _hexadecimal("traceId", params["traceId"], 32),
            _hexadecimal("spanId", params["spanId"], 16),
        )
        return point_view(found)


def _hexadecimal(name: str, value: str, digits: int) -> str:
    value = value.lower()
    if len(value) != digits or not _HEXADECIMAL.fullmatch(value):
        raise ValidationFailed(f"{name}: expected {digits} hexadecimal digits")
    return value


def _name(what: str, value: str) -> str:
    if len(value) > _NAME_CHARACTERS_MAX or not (value == "" or value.isprintable()):
        raise ValidationFailed(f"{what}: at most {_NAME_CHARACTERS_MAX} characters")
    return value
