"""Workload identities as other services see them: who an agent is, and for whom it acts."""

import re
from typing import Protocol

import msgspec

from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied
from freehold.kernel.session import runtime_and_session


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What a workload access token says. `user` is None where the agent acts for itself.

    `user` is "{issuer}|{subject}" of a verified JWT (`user_token` is then that token, for
    on-behalf-of exchange, and None in every other case), or the plain id that the caller vouched
    for. `session` is the runtime session that the token was made for, where it was. `actors` are
    the names of the agents that called it on the same user's behalf, the nearest first;
    `user_until` (Unix seconds) is when the user's own token ends.
    """

    tenant: str
    name: str
    user: str | None = None
    user_token: str | None = None
    session: str | None = None
    actors: tuple[str, ...] = ()
    user_until: float | None = None

    def __repr__(self) -> str:
        return f"Workload({self.tenant}, {self.name}, user={self.user})"


ISSUER = re.compile(r"[^|]*[.:][^|]*\|", re.DOTALL)
"""How "{issuer}|{subject}", the user of a verified token, begins: an issuer is a URL or, of old, a
host name. An id that a caller vouches for never begins so."""


def is_verified(user: str) -> bool:
    """Whether a token said it; else a caller vouched for it."""
    return ISSUER.match(user) is not None


def check_presenter(caller: Caller, workload: Workload) -> None:
    """Raises AccessDenied where a session shows a token of another agent's, or of another session:
    it would be stolen."""
    if caller.kind is not CallerKind.SESSION:
        return
    runtime_id, session_id = runtime_and_session(caller)
    if workload.name != runtime_id or workload.session not in (None, session_id):
        raise AccessDenied("the workload access token was made for another session")


class WorkloadTokens(Protocol):
    async def issue(self, workload: Workload) -> str:
        """Short-lived, signed by the platform; it is opaque to agents."""

    async def read(self, token: str, *, tenant: str) -> Workload:
        """Raises TokenRefused (401) for a token that is not ours, of another tenant, or expired."""


class WorkloadAssertions(Protocol):
    async def assertion(self, workload: Workload, *, audience: str) -> str:
        """A JWT for somebody else (RFC 7523): `sub` is the workload's ARN. Whoever it is for checks
        it with the platform's JWKS; no part of the platform takes it for an access token."""
