"""What spans say of agents, and how what an agent does becomes a part of the call it serves."""

from freehold.kernel import tracing
from freehold.kernel.clock import now
from freehold.kernel.errors import FreeholdError
from freehold.kernel.tracing import Context
from freehold.ports.placement import Launch, Lease, Placement
from freehold.ports.replay import FORK_ID, is_fork
from freehold.ports.trace_board import TraceBoard
from freehold.services.runtime.model import Deployment
from freehold.services.runtime.turns import Turn

_OPERATION = "freehold.operation"


def tell_agent(deployment: Deployment, session_id: str, user: str | None) -> None:
    """In the operation's own span; a call from within, such as a function's, has its caller's."""
    span = tracing.current()
    if span is None or _OPERATION not in span.attributes:
        return
    trail = span.trail
    trail.agent_id, trail.agent_version = deployment.runtime_id, str(deployment.version)
    trail.endpoint, trail.session_id = deployment.endpoint, session_id
    trail.user = user or trail.user
    trail.content = deployment.captures_content
    if span.name == "invoke_agent":
        span.attributes["gen_ai.operation.name"] = span.name
    span.name = f"{span.name} {deployment.runtime_name}"
    span.attributes |= {
        "gen_ai.agent.id": deployment.runtime_id,
        "gen_ai.agent.name": deployment.runtime_name,
        "gen_ai.agent.version": trail.agent_version,
        "gen_ai.conversation.id": session_id,
    }
    if is_fork(session_id):
        span.attributes[FORK_ID] = session_id


async def acquired(placement: Placement, launch: Launch) -> Lease:
    """With a span of its own, where a sandbox had to be started first."""
    span = tracing.current()
    if span is None:
        return await placement.acquire(launch)
    asked_at = now()
    starting = span.child("session start")
    try:
        lease = await placement.acquire(launch)
    except BaseException as error:
        starting.fail(error.code if isinstance(error, FreeholdError) else type(error).__name__)
        starting.end()
        raise
    if lease.started_at >= asked_at:
        starting.attributes |= {
            "freehold.session.tier": lease.tier,
            "freehold.session.start": lease.start,
            "freehold.sandbox.id": lease.sandbox_id,
        }
        if lease.start_note:
            starting.attributes["freehold.session.start_note"] = lease.start_note
        starting.end()
    return lease


class Serving:
    """While an agent serves a call, what it asks of the platform is a part of that call. `turn` is
    told at its end."""

    def __init__(self, board: TraceBoard | None, turn: Turn | None = None) -> None:
        span = tracing.current()
        self._turn = turn
        self._board = board if span is not None else None
        self._context: Context | None = None if span is None else span.context
        self._sandbox_id = ""

    def begin(self, sandbox_id: str) -> None:
        if self._board is not None and self._context is not None:
            self._sandbox_id = sandbox_id
            self._board.show(sandbox_id, self._context)

    def end(self) -> None:
        """Once or more often."""
        if self._board is not None and self._context is not None and self._sandbox_id:
            self._board.clear(self._sandbox_id, self._context)
            self._sandbox_id = ""
        if self._turn is not None:
            self._turn.tell()
            self._turn = None
