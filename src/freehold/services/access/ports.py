"""What access needs from other services."""

from typing import Protocol

from freehold.ports.tokens import TokenRules


class OpenTenants(Protocol):
    async def is_open(self, tenant: str) -> bool:
        """Not disabled. Cached: called on every request."""


class Authorizers(Protocol):
    """The authorizers of one kind of resource."""

    async def token_rules(self, tenant: str, id: str, endpoint: str) -> TokenRules | None:
        """Of an agent runtime: those of the version that answers at this endpoint. None: it takes
        no tokens. NotFound, Conflict. Cached: called on every request."""
