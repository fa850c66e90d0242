"""Forks as our own API shows them."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from freehold.services.forks.model import (
    CHANGES,
    Fork,
    ForkChange,
    ForkStep,
    Status,
    TurnStatus,
    Until,
)
from freehold.services.forks.service import Point


class ForkTurn(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`traceId` is the fork's own, "" before it was invoked."""

    number: int
    recorded_trace_id: str
    trace_id: str
    status: TurnStatus


class ForkCalls(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How many calls were answered from the record, by what the fork was given, or made; of the
    recorded ones, `differing` asked something else than the record's. `waiting`: calls of the
    record that nobody asked for so far."""

    recorded: int
    given: int
    live: int
    differing: int
    waiting: int


class ForkView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`sessionId` is the fork's own session, by which its traces and logs are found. `reason` says
    why it did not end well, `notes` what to bear in mind: what is run again, and is not answered
    from the record. `version` is the agent's that ran, "" until it is known."""

    fork_id: str
    session_id: str
    status: Status
    reason: str
    notes: list[str]
    agent_id: str
    endpoint: str
    recorded_version: str
    version: str
    trace_id: str
    span_id: str
    recorded_session_id: str
    recorded_at: datetime
    step: ForkStep
    change: ForkChange
    until: Until
    turns: list[ForkTurn]
    calls: ForkCalls
    created_at: datetime
    created_by: str
    started_at: datetime | None
    ended_at: datetime | None


class ForkPage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Newest first. Of a long change there is the beginning of its text."""

    forks: list[ForkView]
    next_token: str | None


class ForkPoint(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Whether a span can be forked at; if not, `reason` says why, and what to do. `turns` has the
    session, `callsBefore` come from the record; `forks` are there of this span. `changes`: which
    members of a fork's `change` fit."""

    possible: bool
    reason: str
    step: ForkStep | None
    turns: int
    calls_before: int
    forks: int
    changes: list[str]
    notes: list[str]


RowKind = Literal["turn", "model", "tool", "memory", "inner"]
Verdict = Literal["same", "differs", "only_recorded", "only_fork"]


class ForkSides(msgspec.Struct, frozen=True, kw_only=True):
    """Texts; "" where there is none, or it was not kept."""

    recorded: str
    fork: str


class StepView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`asked` and `answered` are texts, or JSON. What came from the record took no tokens."""

    span_id: str
    trace_id: str
    started_at: datetime
    duration_ms: float
    status: Literal["ok", "error"]
    model: str
    asked: str
    answered: str
    input_tokens: int
    output_tokens: int
    cost: float | None


class ForkRow(msgspec.Struct, frozen=True, kw_only=True):
    """One step of both sides. `source` is where the fork's answer came from; `inner` are tools in
    the agent's own process."""

    kind: RowKind
    name: str
    source: Literal["recorded", "given", "live", ""]
    verdict: Verdict
    recorded: StepView | None
    fork: StepView | None


class ForkComparedTurn(msgspec.Struct, frozen=True, kw_only=True):
    """`rows` begin with the turn itself."""

    number: int
    payload: ForkSides
    answer: ForkSides
    rows: list[ForkRow]


class ForkTotals(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Of a side's turns together. `cost` in US dollars, None where no price is known."""

    duration_ms: float
    model_calls: int
    tool_calls: int
    input_tokens: int
    output_tokens: int
    cost: float | None


class ForkBothTotals(msgspec.Struct, frozen=True, kw_only=True):
    """Of the record, the turns that the fork has as well."""

    recorded: ForkTotals
    fork: ForkTotals


class ForkPlace(msgspec.Struct, frozen=True, kw_only=True):
    """`row` from 0."""

    turn: int
    row: int


class ForkComparison(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`truncated`: texts were shortened, or one side's spans are not all there any more."""

    fork: ForkView
    turns: list[ForkComparedTurn]
    totals: ForkBothTotals
    first_difference: ForkPlace | None
    truncated: bool


_LISTED_CHARACTERS_MAX = 1000


def listed(fork: Fork) -> ForkView:
    change = {
        name: _shortened(value) for name, value in msgspec.structs.asdict(fork.change).items()
    }
    return msgspec.structs.replace(fork_view(fork), change=ForkChange(**change))


def _shortened(value: Any) -> Any:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return value if len(text) <= _LISTED_CHARACTERS_MAX else text[:_LISTED_CHARACTERS_MAX] + "..."


def fork_view(fork: Fork) -> ForkView:
    shared: dict[str, Any] = {
        name: getattr(fork, name)
        for name in ForkView.__struct_fields__
        if name in Fork.__struct_fields__ and name != "turns"
    }
    return ForkView(
        fork_id=fork.id,
        session_id=fork.id,
        turns=[
            ForkTurn(
                number=turn.number, recorded_trace_id=turn.recorded_trace_id,
                trace_id=turn.trace_id, status=turn.status,
            )
            for turn in fork.turns
        ],
        calls=ForkCalls(**msgspec.structs.asdict(fork.counts)),
        **shared,
    )  # fmt: skip


def point_view(point: Point) -> ForkPoint:
    possible = not point.reason and point.step is not None
    return ForkPoint(
        possible=possible, reason=point.reason, step=point.step, turns=point.turns,
        calls_before=point.calls_before, forks=point.forks, notes=point.notes,
        changes=list(CHANGES[point.step.kind]) if possible and point.step is not None else [],
    )  # fmt: skip
