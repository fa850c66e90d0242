"""Calls of a session that was forked from a recorded one.

Before the step that it was forked at each call of a model and of a gateway's tool is answered from
the record, and goes nowhere; at the step comes the change; from then on all is live. Who makes such
a call asks here first. For every other session the answer is None, at once and without waiting.
"""

from typing import Any, Protocol

import msgspec

from freehold.kernel.session import DoorwaySession

FORK_PREFIX = "fork-"
"""A fork's id begins so, and is the id of its session as well: 32 hexadecimal digits follow."""

REPLAY = "freehold.replay"
"""Attribute of a span of such a call: where its answer came from (`Source`)."""
REPLAY_DIFFERS = "freehold.replay.differs"
"""True where the call was answered from the record of a call that asked something else."""
REPLAY_CHANGED = "freehold.replay.changed"
"""True of a call that is made with another model, other instructions or another prompt."""
FORK_ID = "freehold.fork.id"
"""Attribute of the same spans, and of the fork's invocations."""


class ModelAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """From the record: the provider's body as it was, a whole stream too. Spans of it have no
    tokens: nothing was used."""

    body: bytes
    content_type: str
    differs: bool = False


class LiveModel(msgspec.Struct, frozen=True, kw_only=True):
    """To be made. What is not "" takes the place of what the agent asked: `model` of the model's
    name, `system` of all instructions, `prompt` of the newest message of the user's."""

    model: str = ""
    system: str = ""
    prompt: str = ""


class ToolAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """MCP's CallToolResult: of the record, or what the fork was given in its place (`given`)."""

    result: dict[str, Any]
    given: bool = False
    differs: bool = False


class LiveTool(msgspec.Struct, frozen=True, kw_only=True):
    """To be made. `engine_arn`: the policy engine that decides, in ENFORCE, in place of the
    gateway's own; "" for that."""

    engine_arn: str = ""


class Replays(Protocol):
    """Both raise Conflict, for the agent to see and for the fork to end as "diverged", where the
    call is none of the record's and its step was not reached yet: nothing goes out unasked."""

    async def model(
        self, session: DoorwaySession, *, operation: str, model: str, body: bytes
    ) -> ModelAnswer | LiveModel | None:
        """`operation` is the doorway's name of it, or "gateway:" and the path behind a gateway."""

    async def tool(
        self, *, tenant: str, session_id: str, gateway_id: str, name: str, arguments: object
    ) -> ToolAnswer | LiveTool | None:
        """`name` is what the client says; `session_id` of the session that calls."""


def is_fork(session_id: str) -> bool:
    """By its looks: whether one of that id is there, `Replays` knows."""
    return len(session_id) == len(FORK_PREFIX) + 32 and session_id.startswith(FORK_PREFIX)
