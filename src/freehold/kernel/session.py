"""Who calls from inside a sandbox: known by the connection, never by what a request says."""

from collections.abc import Mapping
from typing import Any

import msgspec

from freehold.kernel.arns import Arn
from freehold.kernel.caller import Caller, CallerKind

SESSION_STATE = "freehold.session"
"""The key in an ASGI scope's `state` that the acceptor of a session's connection sets."""

CALLER_STATE = "freehold.caller"
"""The same for a request that the platform makes of itself: the `Caller` for whom it does."""


class DoorwaySession(msgspec.Struct, frozen=True, kw_only=True):
    """The session whose loopback port a connection came through.

    `endpoint` is the endpoint's name (DEFAULT, or one that pins a version), `version` the version
    of the runtime that runs in it; `user` is the `runtimeUserId` of the invocation that began the
    session, where there was one.
    """

    tenant: str
    runtime_id: str
    runtime_arn: str
    endpoint: str
    session_id: str
    sandbox_id: str
    version: str = ""
    user: str | None = None


def doorway_session(scope: Mapping[str, Any]) -> DoorwaySession | None:
    """The session that a connection belongs to; None for every other connection."""
    state = scope.get("state")
    session = state.get(SESSION_STATE) if state else None
    return session if isinstance(session, DoorwaySession) else None


def session_caller(scope: Mapping[str, Any]) -> Caller | None:
    """The caller of a request that came through a doorway, or from a gateway in this process; None
    where it came otherwise.

    An authenticator asks this first, and for such a call looks at no header: the SDK inside signs
    with marker credentials that open nothing.
    """
    state = scope.get("state")
    inner = state.get(CALLER_STATE) if state else None
    if isinstance(inner, Caller):
        return inner
    session = doorway_session(scope)
    if session is None:
        return None
    return Caller(
        tenant=session.tenant,
        principal=f"{session.runtime_arn}/session/{session.session_id}",
        kind=CallerKind.SESSION,
        user=session.user,
    )


def runtime_and_session(caller: Caller) -> tuple[str, str]:
    """Whose code calls from a sandbox: the runtime's id and the session's, as the connection said.

    Who takes a token from a session compares it with these: of another it would be stolen.
    """
    assert caller.kind is CallerKind.SESSION, "asked of sessions only"
    arn = Arn.parse(caller.principal)
    assert arn is not None, "a session's principal begins with its runtime's ARN"
    _, runtime_id, _, session_id = arn.resource.split("/", 3)
    return runtime_id, session_id
