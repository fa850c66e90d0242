"""What is enforced and what is only recorded: who may change that, and the line that tells."""

from collections.abc import Mapping

from freehold.kernel.clock import now
from freehold.kernel.errors import AccessDenied
from freehold.kernel.request import Request
from freehold.ports.audit import Audit, AuditEvent
from freehold.ports.authorizer import Authorizer
from freehold.services.policy.model import MODE_OPERATION


class PolicyDecisions:
    """The lines of the audit between a call's intent and its outcome."""

    def __init__(self, *, authorizer: Authorizer, audit: Audit) -> None:
        self._authorizer, self._audit = authorizer, audit

    async def mode_change(
        self, request: Request, resource_arn: str, detail: Mapping[str, str]
    ) -> None:
        """`detail` has "from" and "to". Raises AccessDenied. The line precedes the change."""
        try:
            await self._authorizer.authorize(request.caller, MODE_OPERATION, resource_arn)
        except AccessDenied:
            await self.write(request, MODE_OPERATION, resource_arn, "denied", detail)
            raise
        await self.write(request, MODE_OPERATION, resource_arn, "allowed", detail)

    async def write(
        self,
        request: Request,
        operation: str,
        resource_arn: str,
        outcome: str,
        detail: Mapping[str, str],
    ) -> None:
        caller = request.caller
        await self._audit.write(
            AuditEvent(
                tenant=request.tenant,
                call_id=request.request_id,
                phase="decision",
                at=now(),
                operation=operation,
                principal=caller.principal,
                kind=caller.kind.value,
                user=caller.user,
                resource=resource_arn,
                source=request.source or caller.source,
                outcome=outcome,
                detail=dict(detail),
            )
        )
