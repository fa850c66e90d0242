"""Callers who show a token instead of a signature: users of a resource with its own authorizer."""

from collections.abc import Mapping
from typing import Any

from freehold.kernel.arns import Arn
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import FreeholdError, Unavailable
from freehold.ports.authorizer import BearerTarget
from freehold.ports.tokens import TokenRefused, TokenRules, TokenVerifier
from freehold.services.access.model import is_tenant
from freehold.services.access.ports import Authorizers, OpenTenants

_NOT_ACCEPTED = "The token is not accepted here."


class ResourceBearerTokens:
    """Implements `ports.authorizer.BearerTokens`; `authorizers` by what a resource's name begins
    with ("runtime", "gateway").

    A stranger learns nothing of what exists: a resource that is not there, and one that takes
    signatures alone, answer like a token that is no good.
    """

    def __init__(
        self,
        verifier: TokenVerifier,
        authorizers: Mapping[str, Authorizers],
        *,
        tenants: OpenTenants,
    ) -> None:
        self._verifier, self._authorizers, self._tenants = verifier, authorizers, tenants

    async def caller(self, token: str, target: BearerTarget) -> Caller:
        tenant, _, _ = _place(target)
        rules = await self._rules(target)
        if tenant is None or rules is None or not await self._tenants.is_open(tenant):
            raise TokenRefused(_NOT_ACCEPTED)
        verified = await self._verifier.verify(token, rules)
        if not verified.subject:
            raise TokenRefused("The token names no subject.")
        user = f"{verified.issuer}|{verified.subject}"
        return Caller(
            tenant=tenant,
            principal=user,
            kind=CallerKind.OAUTH_USER,
            user=user,
            claims=verified.claims,
            token=token,
            resource=target.resource,
        )

    async def demanded(self, target: BearerTarget, *, tenant: str | None = None) -> bool:
        return await self._rules(target, tenant) is not None

    async def metadata(self, target: BearerTarget, resource_url: str) -> dict[str, Any] | None:
        rules = await self._rules(target)
        if rules is None:
            return None
        document: dict[str, Any] = {
            "resource": resource_url,
            "authorization_servers": [_issuer(rules.discovery_url)],
            "bearer_methods_supported": ["header"],
        }
        if rules.scopes:
            document["scopes_supported"] = sorted(rules.scopes)
        return document

    async def _rules(self, target: BearerTarget, tenant: str | None = None) -> TokenRules | None:
        named, kind, id = _place(target)
        tenant = named or tenant
        authorizers = self._authorizers.get(kind)
        if tenant is None or authorizers is None:
            return None
        try:
            return await authorizers.token_rules(tenant, id, target.qualifier or "DEFAULT")
        except Unavailable:
            raise
        except FreeholdError:  # absent, or not ready: whoever may know is told further on
            return None


def _place(target: BearerTarget) -> tuple[str | None, str, str]:
    """The tenant, where the request names one, the resource's kind and its id. An id alone is an
    agent runtime's."""
    arn = Arn.parse(target.resource)
    if arn is not None:
        kind, _, id = arn.resource.partition("/")
        return arn.tenant if is_tenant(arn.tenant) else None, kind, id
    tenant = target.account
    known = tenant if tenant is not None and is_tenant(tenant) else None
    return known, "runtime", target.resource


def _issuer(discovery_url: str) -> str:
    """Of a discovery document's address; a path behind the well-known part is RFC 8414's."""
    base, _, rest = discovery_url.partition("/.well-known/")
    return base + rest.partition("/")[1] + rest.partition("/")[2]
