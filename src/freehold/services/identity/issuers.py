"""Whose word counts on who a user is.

Of an agent runtime's identity: the runtime's own authorizer (its DEFAULT endpoint's), and where it
has none, like of every other identity: the authorizers of all the tenant's runtimes, and the
issuers that the operator of the platform trusts for every tenant. A token must pass such an
authorizer whole, its audience and clients too: it is not enough that the same provider signed it
for another application.
"""

import base64
import binascii
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from freehold.kernel.errors import FreeholdError, Unavailable
from freehold.kernel.pages import PAGE_ITEMS_MAX
from freehold.ports.resources import Resource, ResourceKind, Resources
from freehold.ports.tokens import TokenRules
from freehold.services.identity.ports import RuntimeAuthorizers

_DEFAULT_ENDPOINT = "DEFAULT"
_TENANTS_MAX = 1000
RULES_MAX = 50


class TrustedIssuers:
    """Implements `UserIssuers`. What a tenant's runtimes say is cached until one changes."""

    def __init__(
        self,
        resources: Resources,
        *,
        runtime_kind: ResourceKind,
        authorizers: RuntimeAuthorizers,
        everywhere: Sequence[TokenRules] = (),
    ) -> None:
        self._resources, self._runtime_kind = resources, runtime_kind
        self._authorizers, self._everywhere = authorizers, tuple(everywhere)
        self._of_tenants: OrderedDict[str, tuple[TokenRules, ...]] = OrderedDict()
        self._changes = 0

    async def rules(self, tenant: str, runtime_id: str) -> Sequence[TokenRules]:
        if runtime_id:
            own = await self._of_runtime(tenant, runtime_id)
            if own is not None:
                return (own,)
        return (*self._everywhere, *await self._of_tenant(tenant))

    async def _of_tenant(self, tenant: str) -> tuple[TokenRules, ...]:
        found = self._of_tenants.get(tenant)
        if found is None:
            changes = self._changes
            found = await self._read(tenant)
            if changes == self._changes:
                self._of_tenants[tenant] = found
                if len(self._of_tenants) > _TENANTS_MAX:
                    self._of_tenants.popitem(last=False)
        return found

    async def _read(self, tenant: str) -> tuple[TokenRules, ...]:
        found: list[TokenRules] = []
        token: str | None = None
        while True:
            page = await self._resources.page(
                tenant, self._runtime_kind, limit=PAGE_ITEMS_MAX, token=token
            )
            for runtime in page.items:
                if _has_authorizer(runtime):
                    rules = await self._of_runtime(tenant, runtime.id)
                    if rules is not None and rules not in found:
                        found.append(rules)
            token = page.next_token
            if token is None or len(found) >= RULES_MAX:
                return tuple(found[:RULES_MAX])

    async def _of_runtime(self, tenant: str, runtime_id: str) -> TokenRules | None:
        try:
            return await self._authorizers.token_rules(tenant, runtime_id, _DEFAULT_ENDPOINT)
        except Unavailable:
            raise
        except FreeholdError:  # it is gone, or none of its versions was ever ready
            return None

    def heard_change(self, payload: str) -> None:
        """A resource changed ("{tenant}/{kind}/{id}"), or anything may have ("")."""
        tenant, _, kind = payload.partition("/")
        if not payload:
            self._changes += 1
            self._of_tenants.clear()
        elif kind.startswith(self._runtime_kind.name):
            self._changes += 1
            self._of_tenants.pop(tenant, None)


def likeliest_first(rules: Sequence[TokenRules], token: str) -> list[TokenRules]:
    """By what the token says of its issuer, which nobody has verified yet: only an order."""
    issuer = _claimed_issuer(token)
    return sorted(rules, key=lambda each: not issuer or not each.discovery_url.startswith(issuer))


class _Issuer(msgspec.Struct, frozen=True):
    iss: str = ""


def _claimed_issuer(token: str) -> str:
    encoded = token.partition(".")[2].partition(".")[0]
    try:
        text = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        return msgspec.json.decode(text, type=_Issuer).iss
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return ""


def _has_authorizer(runtime: Resource) -> bool:
    return bool(runtime.document.get("authorizerConfiguration"))
