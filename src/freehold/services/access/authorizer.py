"""The one authorization step: a role's policies, a resource's own policy, and Cedar between them.

Three answers: yes; no (AccessDenied), which depends on nothing but who calls and what for; and "no
such resource" (NotFound), which another tenant's resource gives whether it exists or not.
"""

import logging
import re
from pathlib import Path
from typing import NamedTuple

from freehold.kernel.arns import Arn
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied, NotFound
from freehold.ports.policies import Decision, Effect, Entity, PolicyEngine, PolicyRequest, Uid
from freehold.services.access.actions import GROUPS_OF, SHAREABLE, TELLS, UNGROUPED
from freehold.services.access.model import is_tenant
from freehold.services.access.policies import PRINCIPAL_OF, ResourcePolicyService, governing
from freehold.services.access.schema import ACTION, RESOURCE, ROLE, roles_schema

log = logging.getLogger("freehold.access")

_OPERATION = re.compile(r"[a-z0-9.-]+:[A-Za-z0-9._:-]+")
_SHAREABLE = frozenset(SHAREABLE)
_KINDS_WITH_ROLES = frozenset({CallerKind.ACCESS_KEY, CallerKind.PERSON, CallerKind.ADMIN})
_DECISIONS_MAX = 50_000


class _Question(NamedTuple):
    """All that a decision about roles depends on, and so what it is kept by."""

    kind: CallerKind
    roles: frozenset[str]
    action: str
    own: bool = True
    shared: bool = False
    forbidden: bool = False
    accepted: bool = False


class CedarAuthorizer:
    """Implements `ports.authorizer.Authorizer`. What it does not recognise it denies."""

    def __init__(self, engine: PolicyEngine, policies: ResourcePolicyService) -> None:
        roles = Path(__file__).with_name("roles.cedar").read_text(encoding="utf-8")
        self._roles = engine.compile(roles, roles_schema())
        self._policies = policies
        self._decided: dict[_Question, bool] = {}

    async def authorize(self, caller: Caller, operation: str, resource_arn: str | None) -> str:
        _check(caller, operation)
        arn = None if resource_arn is None else _parsed(resource_arn)
        action = operation if operation in GROUPS_OF else UNGROUPED
        question = _Question(
            caller.kind, _roles(caller), action, accepted=_is_accepted(caller, arn)
        )
        if not self._allowed(question):
            raise AccessDenied(_refusal(caller, operation))
        own = arn is None or arn.tenant == caller.tenant
        if operation not in _SHAREABLE:
            if not own:
                raise _absent(resource_arn)
            for telling in TELLS.get(operation, ()):
                if await self._forbids(caller, telling, arn):
                    raise AccessDenied(f"the policy of {resource_arn} forbids {_name(telling)}")
            return caller.tenant
        if arn is None:
            # Its policy would not be asked: somebody found a name that the edge does not know.
            raise AccessDenied("the request does not name the resource that it acts on by an ARN")
        effect = await self._policies.effect(caller, operation, arn)
        question = question._replace(
            own=own, shared=effect is Effect.ALLOW, forbidden=effect is Effect.FORBID
        )
        if self._allowed(question):
            return arn.tenant
        if not own:
            raise _absent(resource_arn)
        raise AccessDenied(f"the policy of {resource_arn} forbids {_name(operation)}")

    async def _forbids(self, caller: Caller, operation: str, arn: Arn | None) -> bool:
        return arn is None or await self._policies.effect(caller, operation, arn) is Effect.FORBID

    def _allowed(self, question: _Question) -> bool:
        known = self._decided.get(question)
        if known is not None:
            return known
        decision = self._decide(question)
        if decision.errors:
            # Not kept: the engine may be well again the next time.
            log.error("%s could not be decided: %s", question.action, "; ".join(decision.errors))
            return False
        if len(self._decided) >= _DECISIONS_MAX:
            self._decided.clear()
        self._decided[question] = decision.allowed
        return decision.allowed

    def _decide(self, question: _Question) -> Decision:
        roles = [Uid(ROLE, role) for role in sorted(question.roles)]
        principal = Entity(uid=Uid(PRINCIPAL_OF[question.kind], "caller"), parents=roles)
        resource = Entity(uid=Uid(RESOURCE, "resource"))
        request = PolicyRequest(
            principal=principal.uid,
            action=Uid(ACTION, question.action),
            resource=resource.uid,
            context={
                "own": question.own,
                "shared": question.shared,
                "forbidden": question.forbidden,
                "accepted": question.accepted,
            },
        )
        entities = [principal, resource, *(Entity(uid=role) for role in roles)]
        return self._roles.decide(request, entities)


def _check(caller: Caller, operation: str) -> None:
    if (
        not isinstance(caller, Caller)
        or not isinstance(caller.kind, CallerKind)
        or not is_tenant(caller.tenant)
        or (operation not in GROUPS_OF and not _OPERATION.fullmatch(operation))
    ):
        raise AccessDenied("the caller or the operation is not one that this platform knows")


def _parsed(resource_arn: str) -> Arn:
    arn = Arn.parse(resource_arn)
    if arn is None:
        raise AccessDenied("the resource is not named by an ARN")
    return arn


def _roles(caller: Caller) -> frozenset[str]:
    if caller.kind not in _KINDS_WITH_ROLES:
        return frozenset()
    return caller.roles | {"admin"} if caller.kind is CallerKind.ADMIN else caller.roles


def _is_accepted(caller: Caller, arn: Arn | None) -> bool:
    """Whether a token was accepted by the authorizer of what it is used for now."""
    if caller.resource is None or arn is None or arn.tenant != caller.tenant:
        return False
    named = Arn.parse(caller.resource)
    resource = named.resource if named is not None else f"runtime/{caller.resource}"
    return governing(resource) is not None and governing(resource) == governing(arn.resource)


def _refusal(caller: Caller, operation: str) -> str:
    name = _name(operation)
    if caller.kind is CallerKind.SESSION:
        return f"a session may not call {name}"
    if caller.kind is CallerKind.GATEWAY:
        return f"a gateway may not call {name}"
    if caller.kind is CallerKind.OAUTH_USER:
        return f"this token does not open {name} here"
    if caller.kind is CallerKind.ANONYMOUS:
        return f"{name} is not for callers without a name"
    roles = ", ".join(sorted(_roles(caller))) or "none"
    return f"{name} is not allowed with the roles of this caller ({roles})"


def _name(operation: str) -> str:
    return operation.partition(":")[2]


def _absent(resource_arn: str | None) -> NotFound:
    # The words of a resource that is absent: whether it exists is not the caller's.
    return NotFound(f"no resource has the ARN {resource_arn}")
