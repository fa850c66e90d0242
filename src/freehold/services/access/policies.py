"""Policies of single resources: who else is let in, and who is kept out."""

import ipaddress
import logging
import re
from typing import Any, NamedTuple

from freehold.kernel.arns import Arn
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import NotFound, ValidationFailed
from freehold.ports.database import Database
from freehold.ports.policies import (
    CompiledPolicies,
    Effect,
    Entity,
    PolicyEngine,
    PolicyRefused,
    PolicyRequest,
    Uid,
)
from freehold.services.access import policy_store as store
from freehold.services.access.cache import AgingCache
from freehold.services.access.schema import ACTION, RESOURCE, sharing_schema
from freehold.services.access.sharing import to_cedar

log = logging.getLogger("freehold.access")

_CACHED_MAX = 10_000
# A change is heard at once. The age is for a worker cut off from the notifications.
_CACHED_SECONDS_MAX = 60.0

# Endpoints share the policy of their runtime.
_RESOURCE = re.compile(r"(runtime|gateway|memory)/[^/]+")

PRINCIPAL_OF = {
    CallerKind.ACCESS_KEY: "Freehold::AccessKey",
    CallerKind.ADMIN: "Freehold::Person",
    CallerKind.PERSON: "Freehold::Person",
    CallerKind.OAUTH_USER: "Freehold::OAuthUser",
    CallerKind.SESSION: "Freehold::Session",
    CallerKind.GATEWAY: "Freehold::Gateway",
    CallerKind.ANONYMOUS: "Freehold::Anonymous",
}


class _InForce(NamedTuple):
    """`policies` is None where the resource has none."""

    arn: str
    policies: CompiledPolicies | None


class ResourcePolicyService:
    """A tenant's resources and their policies; and what a policy says of a call."""

    def __init__(self, database: Database, engine: PolicyEngine) -> None:
        self._database = database
        self._engine = engine
        self._schema = sharing_schema()
        self._known: AgingCache[_InForce] = AgingCache(
            items_max=_CACHED_MAX, seconds_max=_CACHED_SECONDS_MAX
        )
        self._changes = 0
        database.listen(store.CHANNEL, self._heard)

    async def put(self, tenant: str, arn: str, policy: str) -> None:
        resource = _own_resource(tenant, arn)
        self._compile(policy, arn)
        async with self._database.connection() as connection:
            if not await store.put(
                connection, tenant=tenant, resource=resource, arn=arn, policy=policy
            ):
                raise _absent(arn)
        self._heard(f"{tenant}/{resource}")

    async def get(self, tenant: str, arn: str) -> str:
        resource = _own_resource(tenant, arn)
        async with self._database.connection() as connection:
            found = await store.get(connection, tenant, resource)
        if found is None or found[0] != arn:
            raise NotFound(f"{arn} has no resource policy")
        return found[1]

    async def delete(self, tenant: str, arn: str) -> None:
        resource = _own_resource(tenant, arn)
        async with self._database.connection() as connection:
            if not await store.delete(connection, tenant, arn):
                raise NotFound(f"{arn} has no resource policy")
        self._heard(f"{tenant}/{resource}")

    async def effect(self, caller: Caller, operation: str, arn: Arn) -> Effect:
        """What the policy of a resource says; silent where it has none. Unavailable when it is
        not cached and the store is away."""
        resource = governing(arn.resource)
        if resource is None:
            return Effect.SILENT
        key = f"{arn.tenant}/{resource}"
        known = self._known.get(key)
        if known is None:
            known = await self._load(key, arn.tenant, resource)
        if known.policies is None:
            return Effect.SILENT
        decision = known.policies.decide(*_asked(caller, operation, known.arn))
        if decision.errors:
            log.warning("the policy of %s: %s", known.arn, "; ".join(decision.errors))
        return decision.effect

    async def _load(self, key: str, tenant: str, resource: str) -> _InForce:
        changes = self._changes
        async with self._database.connection() as connection:
            found = await store.get(connection, tenant, resource)
        known = _InForce("", None)
        if found is not None:
            arn, policy = found
            known = _InForce(arn, self._kept(policy, arn))
        # What was read may be old by now: of a change in the meantime we have heard.
        if changes == self._changes:
            self._known.put(key, known)
        return known

    def _kept(self, policy: str, arn: str) -> CompiledPolicies:
        """Of a policy that was taken once. Should it be refused today, nobody is let in."""
        try:
            return self._compile(policy, arn)
        except ValidationFailed as error:
            log.error("the policy of %s is not understood any more: %s", arn, error.message)
            return self._engine.compile("forbid (principal, action, resource);", self._schema)

    def _compile(self, policy: str, arn: str) -> CompiledPolicies:
        try:
            return self._engine.compile(to_cedar(policy, arn=arn), self._schema)
        except PolicyRefused as error:
            raise ValidationFailed(f"policy: {error}") from error

    def _heard(self, payload: str) -> None:
        """The resource whose policy changed; "" when any may have."""
        self._changes += 1
        if payload:
            self._known.drop(payload)
        else:
            self._known.clear()


def governing(resource: str) -> str | None:
    """`runtime/x` of `runtime/x/runtime-endpoint/DEFAULT`. None for what has no policy."""
    found = _RESOURCE.match(resource)
    return found[0] if found else None


def _own_resource(tenant: str, arn: str) -> str:
    parsed = Arn.parse(arn)
    if parsed is None or not _RESOURCE.fullmatch(parsed.resource):
        raise ValidationFailed(
            f"resourceArn: {arn!r} is not of an agent runtime, a gateway or a memory; endpoints "
            "share the policy of their runtime"
        )
    if parsed.tenant != tenant:
        raise _absent(arn)
    return parsed.resource


def _absent(arn: str) -> NotFound:
    return NotFound(f"no resource has the ARN {arn}")


def _asked(caller: Caller, operation: str, arn: str) -> tuple[PolicyRequest, tuple[Entity, Entity]]:
    principal = Entity(
        uid=Uid(PRINCIPAL_OF[caller.kind], caller.principal), attributes=_attributes(caller)
    )
    resource = Entity(uid=Uid(RESOURCE, arn), attributes={"arn": arn})
    request = PolicyRequest(
        principal=principal.uid,
        action=Uid(ACTION, operation),
        resource=resource.uid,
        context=_circumstances(caller),
    )
    return request, (principal, resource)


def _attributes(caller: Caller) -> dict[str, Any]:
    parts = Arn.parse(caller.principal) or Arn("", "", "", "", "")
    attributes: dict[str, Any] = {
        "tenant": caller.tenant,
        "arn": caller.principal,
        "kind": str(caller.kind),
        "parts": {
            "partition": parts.partition,
            "service": parts.service,
            "region": parts.region,
            "account": parts.tenant,
            "resource": parts.resource,
        },
    }
    if caller.user is not None:
        attributes["user"] = caller.user
    if caller.kind is CallerKind.SESSION:
        attributes["runtime"] = caller.principal.partition("/session/")[0]
    return attributes


def _circumstances(caller: Caller) -> dict[str, Any]:
    # What comes from a sandbox of ours, or a gateway, never leaves the machine.
    encrypted = caller.encrypted or caller.kind in (CallerKind.SESSION, CallerKind.GATEWAY)
    context: dict[str, Any] = {"encrypted": encrypted}
    address = _address(caller.source) if caller.source is not None else None
    if address is not None:
        context["ip"] = {"__extn": {"fn": "ip", "arg": address}}
    return context


def _address(source: str) -> str | None:
    """Without its zone; and of IPv4, where a socket for both kinds wrote it as one of IPv6."""
    try:
        address = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
