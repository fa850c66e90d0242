"""What identity needs from other services."""

from collections.abc import Sequence
from typing import Protocol

from freehold.ports.tokens import TokenRules


class RuntimeAuthorizers(Protocol):
    async def token_rules(self, tenant: str, runtime_id: str, endpoint: str) -> TokenRules | None:
        """Which tokens a runtime's endpoint takes from its callers. None: it takes signatures."""


class UserIssuers(Protocol):
    async def rules(self, tenant: str, runtime_id: str) -> Sequence[TokenRules]:
        """Which tokens say who a user of this tenant is. `runtime_id` is "" for an identity that
        belongs to no runtime. Empty: none does."""
