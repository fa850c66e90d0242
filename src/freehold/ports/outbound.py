"""Credentials that the platform's own services ask for, where no workload token was shown.

Who asks is a `Workload` that the service itself made out: it is never read from a request.
"""

from typing import Literal, Protocol

import msgspec

from freehold.kernel.caller import Caller
from freehold.ports.oauth import Asked
from freehold.ports.targets import RequestSigner
from freehold.ports.workloads import Workload

TokenFlow = Literal["M2M", "USER_FEDERATION", "ON_BEHALF_OF_TOKEN_EXCHANGE"]


class TokenWanted(msgspec.Struct, frozen=True, kw_only=True):
    """`provider` is the credential provider's name. `return_url`: where the person's browser ends
    after they agreed; without one, on the platform's own page."""

    provider: str
    flow: TokenFlow
    asked: Asked = Asked()
    return_url: str | None = None


class TokenOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """A token, or where a person has to agree first."""

    access_token: str | None = None
    authorization_url: str | None = None
    session_uri: str | None = None

    def __repr__(self) -> str:
        return "TokenOutcome(...)"


class OauthTokens(Protocol):
    async def token_for(
        self, workload: Workload, wanted: TokenWanted, *, caller: Caller, request_id: str
    ) -> TokenOutcome:
        """The use is in the audit before it returns. Raises AccessDenied, NotFound, Unavailable,
        ValidationFailed, with words that hold no secret."""


class ApiKeys(Protocol):
    async def api_key_for(
        self, workload: Workload, name: str, *, caller: Caller, request_id: str
    ) -> str:
        """As `token_for`."""


class AwsRoles(Protocol):
    """Keys of AWS's that the operator gave to roles, each of one tenant."""

    def has(self, tenant: str, role: str) -> bool: ...

    async def signer(self, tenant: str, role: str, *, service: str, region: str) -> RequestSigner:
        """Signs with the keys of this role. Raises AccessDenied where the tenant has none."""
