"""What the governed path writes to the audit: which calls get which lines, and what stands there.

An act has two lines: its intent, durable before it begins, and its outcome, durable before the
caller is told. A read changes nothing, so that it has the second alone; so has a call that was
refused. Telemetry is data, not an act: only its refusal is written.
"""

import asyncio
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from freehold.kernel import clock
from freehold.ports.audit import PLATFORM_TENANT, AuditEvent, CallAudit

if TYPE_CHECKING:
    from freehold.edges.pipeline import Call

_READS = (
    "BatchGet", "Describe", "Explain", "Export", "Follow", "Get", "Head", "List", "Preview",
    "Query", "Read", "Report", "Retrieve", "Search", "Verify",
)  # fmt: skip
# They are named like reads: one starts a session, the others give out what opens something.
_ACTS = frozenset({"GetAgentCard"})
_GIVES_OUT = ("AccessToken", "ApiKey", "Credentials", "Oauth2Token", "PaymentToken", "Secret")
_DATA = frozenset({"doorway:ExportTelemetry", "doorway:GetCredentials", "freehold:ExportTelemetry"})

_CLIENT_LEFT = 499
_ACTING = "act"
_DECISIONS = frozenset({"limit", "authenticate", "authorize"})


@lru_cache(maxsize=2048)
def is_read(operation: str) -> bool:
    """By its name; what is not known to read, acts."""
    name = operation.rpartition(":")[2]
    if name in _ACTS or not name.startswith(_READS):
        return False
    given = name.split("For", 1)[0]  # GetWorkloadAccessTokenForJWT
    return not given.endswith(_GIVES_OUT)


class Auditing:
    """Of one pipeline. A line that cannot be written refuses the call: Unavailable."""

    def __init__(self, audit: CallAudit) -> None:
        self._audit = audit

    async def intend(self, call: "Call") -> None:
        call.stage = _ACTING
        if not is_read(call.operation) and call.operation not in _DATA:
            await self._audit.write(_event(call, "intent"))

    async def settle(self, call: "Call") -> None:
        """The outcome, once; a second call does nothing, whatever became of the first."""
        if not call.settled:
            call.settled = True
            if self._is_told(call):
                await self._audit.write(_event(call, "outcome", _outcome(call), call.status))

    async def broke_off(self, call: "Call", error: BaseException) -> None:
        """A call that ends with an exception."""
        if call.settled:
            return
        if isinstance(error, Exception):
            if call.status < 400:  # an answer that began well, too, is broken off by this
                call.status = int(getattr(error, "status", 500))
            call.noted.setdefault("error", str(getattr(error, "code", type(error).__name__)))
            await self.settle(call)
            return
        # Cancelled: nobody waits for an answer, and to wait here would hold up the cancellation.
        call.settled = True
        call.status = call.status or _CLIENT_LEFT
        if isinstance(error, asyncio.CancelledError):
            call.noted.setdefault("error", "Cancelled")
        if self._is_told(call):
            self._audit.note(_event(call, "outcome", "failed", call.status))

    @staticmethod
    def _is_told(call: "Call") -> bool:
        return call.stage != _ACTING or call.operation not in _DATA


def note_created(call: "Call", output: object) -> None:
    """What a Create made: the request does not name it. `output`: members by name, or a struct."""
    made = call.operation.rpartition(":")[2].removeprefix("Create")
    if call.auditing is None or call.operation.endswith(":" + made):
        return
    noun = made[:1].lower() + made[1:]
    inner = output.get(noun) if isinstance(output, Mapping) else None
    if isinstance(inner, Mapping):
        # CreateMemory answers {"memory": {"arn"...}}, CreateEvent {"event": {"eventId"...}}.
        values = [inner.get("arn"), inner.get(f"{noun}Id")]
    elif isinstance(output, Mapping):
        own = noun + "Arn"
        # What is made within another may have no ARN of its own, where there is the other's.
        ids = [name for name in output if name.endswith("Id") and _ends(made, name[:-2])]
        arns = [name for name in output if name.endswith("Arn")]
        values = [output.get(name) for name in (own, "credentialProviderArn", *ids, *arns)]
    else:
        values = [getattr(output, name, None) for name in ("arn", "access_key_id", "id", "name")]
    found = next((value for value in values if isinstance(value, str)), None)
    if found is not None:
        call.noted["created"] = found


def _ends(made: str, noun: str) -> bool:
    """GatewayTarget is a target, and no gateway."""
    return made.lower() != noun.lower() and made.lower().endswith(noun.lower())


def _outcome(call: "Call") -> str:
    if "refused" in call.noted:
        return "denied"  # in words for a model, which are no HTTP error
    if 0 < call.status < 400:
        return "allowed"
    if call.status in (401, 403) or (call.stage in _DECISIONS and call.status < 500):
        return "denied"
    return "failed"


def _event(call: "Call", phase: str, outcome: str = "", status: int = 0) -> AuditEvent:
    caller, client = call.caller, call.scope.get("client")
    detail = {"edge": call.edge}
    if caller is not None and caller.access_key_id is not None:
        detail["access_key_id"] = caller.access_key_id
    if phase == "outcome":
        detail |= call.noted
    return AuditEvent(
        tenant=call.tenant or (caller.tenant if caller is not None else PLATFORM_TENANT),
        call_id=call.request_id,
        phase=phase,
        at=clock.now(),
        operation=call.operation,
        principal=caller.principal if caller is not None else "unauthenticated",
        kind=caller.kind.value if caller is not None else "",
        user=caller.user if caller is not None else None,
        # The path without its query, which may hold a signature.
        resource=call.resource_arn or call.scope["raw_path"].decode("latin-1"),
        source=client[0] or None if client else None,
        outcome=outcome,
        status=status,
        detail=detail,
    )
