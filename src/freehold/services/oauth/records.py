"""What the audit is told of a use: who, for whom, which agent, which provider, how it went."""

from freehold.kernel import clock
from freehold.kernel.caller import Caller
from freehold.ports.audit import Audit, AuditEvent
from freehold.services.oauth.model import Session, shown_user

BROWSER = "browser"
"""The principal of steps that a browser makes: nobody is signed in there, and nothing is shown."""


class Records:
    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def used(
        self,
        caller: Caller,
        call_id: str,
        *,
        operation: str = "bedrock-agentcore:GetResourceOauth2Token",
        tenant: str | None = None,
        user: str,
        workload: str,
        provider: str,
        resource: str | None,
        outcome: str,
        **detail: str,
    ) -> None:
        """Durable before what was used is handed out. `outcome`: allowed, denied, failed. `tenant`
        is whose provider it is, where the caller may be another's."""
        await self._audit.write(
            AuditEvent(
                tenant=tenant or caller.tenant,
                call_id=call_id,
                phase="use",
                at=clock.now(),
                operation=operation,
                principal=caller.principal,
                kind=str(caller.kind),
                user=shown_user(user) or None,
                resource=resource,
                outcome=outcome,
                detail={"workload": workload, "provider": provider, **detail},
            )
        )

    async def stepped(
        self, session: Session, step: str, outcome: str, *, why: str = "", by: Caller | None = None,
        call_id: str = "",
    ) -> None:  # fmt: skip
        """Of an authorization under way, by a browser or by the signed-in person `by`."""
        detail = {"workload": session.workload, "provider": session.provider, "session": session.id}
        await self._audit.write(
            AuditEvent(
                tenant=session.tenant,
                call_id=call_id or session.id,
                phase="decision",
                at=clock.now(),
                operation=f"freehold:{step}",
                principal=by.principal if by else BROWSER,
                kind=str(by.kind) if by else BROWSER,
                user=shown_user(session.user),
                outcome=outcome,
                detail={**detail, "why": why} if why else detail,
            )
        )
