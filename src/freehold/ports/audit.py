"""What was done and decided, for good: append-only, by tenant."""

from datetime import datetime
from typing import Protocol

import msgspec

PLATFORM_TENANT = "000000000000"
"""Whose lines those are that belong to no tenant: callers that nobody could authenticate."""


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. Never holds a secret, a payload or a token.

    `call_id` joins the lines of one call (its request id). `phase`: "intent" before the act,
    "outcome" after it, "use" of a credential or "decision" in between. `outcome`: "allowed",
    "denied", "failed", "unknown" (the process ended in the middle) or "" where it is not known yet.
    `detail` is small and flat. Texts are cut where they are longer than a line should hold.
    """

    tenant: str
    call_id: str
    phase: str
    at: datetime
    operation: str
    principal: str
    kind: str
    user: str | None = None
    resource: str | None = None
    source: str | None = None
    outcome: str = ""
    status: int = 0
    detail: dict[str, str] = {}


class Audit(Protocol):
    async def write(self, event: AuditEvent) -> None:
        """Durable when it returns; what comes together is committed together. Or Unavailable."""


class CallAudit(Audit, Protocol):
    """What the governed path needs besides."""

    def note(self, event: AuditEvent) -> None:
        """Durable soon: for what nobody waits for, such as the end of a call whose client left."""
