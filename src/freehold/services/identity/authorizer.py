"""The authorization step, in its first form: a tenant and what is its own."""

import re

from freehold.kernel.arns import Arn
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied, NotFound
from freehold.services.identity.model import is_tenant

_OPERATION = re.compile(r"[a-z0-9.-]+:[A-Za-z0-9._:-]+")

# An agent runs code that nobody vouches for: it gets what it needs, and no key to its tenant.
_OPEN_TO_SESSIONS = frozenset({"bedrock-agentcore:InvokeAgentRuntime"})
_DOORWAY_SERVICES = frozenset({"doorway", "models"})


class TenantAuthorizer:
    """Implements `ports.authorizer.Authorizer`. What it does not recognise it denies."""

    async def authorize(self, caller: Caller, operation: str, resource_arn: str | None) -> None:
        if (
            not isinstance(caller, Caller)
            or not isinstance(caller.kind, CallerKind)
            or not is_tenant(caller.tenant)
            or not _OPERATION.fullmatch(operation)
        ):
            raise AccessDenied("the caller or the operation is not one that this platform knows")
        if caller.kind is CallerKind.SESSION and not _open_to_sessions(operation):
            raise AccessDenied(f"a session may not call {operation.partition(':')[2]}")
        if resource_arn is None:
            return
        arn = Arn.parse(resource_arn)
        if arn is None:
            raise AccessDenied("the resource is not named by an ARN")
        if arn.tenant != caller.tenant:
            # The words of a resource that is absent: whether it exists is not the caller's.
            raise NotFound(f"no resource has the ARN {resource_arn}")


def _open_to_sessions(operation: str) -> bool:
    return operation in _OPEN_TO_SESSIONS or operation.partition(":")[0] in _DOORWAY_SERVICES
