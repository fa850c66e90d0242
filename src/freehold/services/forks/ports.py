"""What this service needs from others."""

from typing import Protocol

import msgspec

from freehold.kernel.caller import Caller
from freehold.ports.web import WebStream
from freehold.services.forks.model import Creator


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One invocation of an agent."""

    tenant: str
    agent_id: str
    endpoint: str
    session_id: str
    payload: bytes
    content_type: str


class Agents(Protocol):
    """Agents of this platform, called as anybody calls them: who may is decided, and kept in the
    audit, as for every call."""

    async def invoke(self, caller: Caller, turn: Turn) -> WebStream:
        """Its answer, good or bad, as it comes. Raises Unreachable."""

    async def stop(self, caller: Caller, turn: Turn) -> None:
        """The session; one that runs no more is stopped already. Raises AccessDenied,
        Unavailable."""


class Creators(Protocol):
    async def caller(self, tenant: str, creator: Creator) -> Caller:
        """Who forked, with the roles of now. AccessDenied where they are let in no more."""


class Engines(Protocol):
    async def arn(self, tenant: str, engine_id: str) -> str | None:
        """Of a policy engine of this account; None where there is none that could decide."""
