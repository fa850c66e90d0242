"""An authorizer of one runtime that takes one token."""

from typing import Any

from aws_edge_driver import TENANT

from freehold.kernel.caller import Caller, CallerKind
from freehold.ports.authorizer import BearerTarget
from freehold.ports.tokens import TokenRefused


class OneGoodToken:
    """Implements `ports.authorizer.BearerTokens`. What it was asked stands in `asked`."""

    def __init__(self, *, demanded: bool = True) -> None:
        self._demanded = demanded
        self.asked: list[BearerTarget] = []

    async def caller(self, token: str, target: BearerTarget) -> Caller:
        self.asked.append(target)
        if token != "good":
            raise TokenRefused("no such token")
        return Caller(
            tenant=TENANT,
            principal="issuer|someone",
            kind=CallerKind.OAUTH_USER,
            user="issuer|someone",
            resource=target.resource,
        )

    async def demanded(self, target: BearerTarget, *, tenant: str | None = None) -> bool:
        return self._demanded

    async def metadata(self, target: BearerTarget, resource_url: str) -> dict[str, Any] | None:
        return {"resource": resource_url} if self._demanded else None
