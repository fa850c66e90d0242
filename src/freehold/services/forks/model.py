"""Forks as the service knows them, and what bounds them."""

import secrets
from datetime import datetime
from typing import Any, Literal

import msgspec

from freehold.ports.replay import FORK_PREFIX

Status = Literal["PENDING", "RUNNING", "COMPLETED", "FAILED", "DIVERGED", "INTERRUPTED"]
TurnStatus = Literal["PENDING", "RUNNING", "COMPLETED", "FAILED"]
Until = Literal["turn", "session"]
StepKind = Literal["turn", "model", "tool"]
Place = Literal["before", "step", "after"]

UNDER_WAY: tuple[Status, ...] = ("PENDING", "RUNNING")
CAPTURE_TAG = "freehold:content-capture"
MODE_OPERATION = "freehold:ChangePolicyMode"
"""Authorized besides, where a fork has another engine than the gateways': it may permit more."""

RECORD_BYTES_MAX = 64 << 20
"""Of the payloads and answers that are kept for one fork."""
FORKS_MAX = 1000
"""Of one tenant."""
SESSION_TRACES_MAX = 500
SESSION_DAYS = 31
"""How far from the step the session's other traces are looked for, before and after."""
TEXT_BYTES_MAX = 256 << 10
"""Of each text of a change."""
TURN_SECONDS_MAX = 900
"""From an invocation to the last byte of its answer, as in AWS."""
ANSWER_BYTES_MAX = 256 << 20

CHANGES: dict[StepKind, tuple[str, ...]] = {
    "turn": ("payload", "model", "system", "policyEngineId"),
    "model": ("model", "system", "prompt", "policyEngineId"),
    "tool": ("toolAnswer", "model", "system", "policyEngineId"),
}
"""What can be changed, by the kind of the step."""


class ForkChange(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True,
    forbid_unknown_fields=True,
):  # fmt: skip
    """What is different from the step on. `model` and `system` (all instructions) hold for every
    call of a model from then on; `prompt` is the newest message of the user's, in the step's own
    request; `payload` (text, or a JSON document) is the turn's, `toolAnswer` (text, or MCP's
    CallToolResult) that of the tool's call; `policyEngineId` names the engine that decides on
    gateways' tools from then on. Nothing at all: run it again from here."""

    model: str | None = None
    system: str | None = None
    prompt: str | None = None
    payload: Any = None
    tool_answer: Any = None
    policy_engine_id: str | None = None

    def __repr__(self) -> str:
        return f"ForkChange({', '.join(self.members())})"  # what it says may be somebody's

    def members(self) -> list[str]:
        """Those that are given, by their names in the API."""
        return list(msgspec.to_builtins(self))


class ForkStep(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`turn` from 1; `position` from 1 among the turn's calls, 0 for the turn itself."""

    kind: StepKind
    name: str
    turn: int
    position: int


class Creator(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who forked: by which key, or as which person. What they may do is looked up when it is."""

    kind: str
    principal: str
    access_key_id: str | None = None
    user: str | None = None


class TurnRow(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    recorded_trace_id: str
    recorded_failed: bool = False
    payload: bytes = b""
    content_type: str = ""
    trace_id: str = ""
    status: TurnStatus = "PENDING"


class CallRow(msgspec.Struct, frozen=True, kw_only=True):
    """Of a call of the record; see the table."""

    turn: int
    position: int
    lane: str
    place: Place
    digest: str
    answer: bytes | None = None
    content_type: str = ""
    taken: bool = False


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """`waiting`: of the record, and not asked for so far."""

    recorded: int = 0
    given: int = 0
    live: int = 0
    differing: int = 0
    waiting: int = 0


class Fork(msgspec.Struct, frozen=True, kw_only=True):
    """`engine_arn` is the change's `policyEngineId` in full. `turns` without their payloads."""

    tenant: str
    id: str
    agent_id: str
    endpoint: str
    recorded_version: str
    trace_id: str
    span_id: str
    recorded_session_id: str
    recorded_at: datetime
    step: ForkStep
    change: ForkChange
    until: Until
    creator: Creator
    created_by: str
    created_at: datetime
    engine_arn: str = ""
    notes: list[str] = []
    status: Status = "PENDING"
    reason: str = ""
    version: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    turn: int = 0
    reached: bool = False
    diverged: str = ""
    counts: Counts = Counts()
    turns: list[TurnRow] = []


def new_fork_id() -> str:
    return f"{FORK_PREFIX}{secrets.token_hex(16)}"
