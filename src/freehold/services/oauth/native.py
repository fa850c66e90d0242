"""What people granted to agents, in our own API: seen, and taken back."""

from datetime import datetime
from typing import Any

import msgspec

from freehold.kernel.operation import Operation, Parameter, Params
from freehold.kernel.request import Request
from freehold.services.oauth.model import shown_user
from freehold.services.oauth.service import OauthService


class GrantView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Without any token. `expiresAt` is the access token's end; where it can be renewed, the grant
    goes on."""

    grant_id: str
    provider: str
    agent: str
    user: str
    scopes: list[str]
    resources: list[str]
    renewable: bool
    expires_at: datetime | None
    granted_at: datetime
    updated_at: datetime


class GrantList(msgspec.Struct, frozen=True):
    grants: list[GrantView]


def operations(oauth: OauthService) -> list[Operation]:
    own = _Own(oauth)
    user = Parameter(name="user", meaning="Only those of this user, as the agents' tokens name it")
    grant = Parameter(name="grantId", meaning="The grant's id", where="path")
    return [
        Operation(
            name="ListOauthGrants", method="GET", path="/oauth/grants", act=own.list_grants,
            summary="What people granted to agents at OAuth providers, newest first",
            parameters=(user,), answer=GrantList,
        ),
        Operation(
            name="RevokeOauthGrant", method="DELETE", path="/oauth/grants/{grantId}",
            act=own.revoke, parameters=(grant,), status=204,
            summary="Forget a grant: its agent must ask again",
        ),
    ]  # fmt: skip


class _Own:
    def __init__(self, oauth: OauthService) -> None:
        self._oauth = oauth

    async def list_grants(self, request: Request, params: Params, _: Any) -> GrantList:
        rows = await self._oauth.grants(request.tenant, params["user"])
        return GrantList(
            [
                GrantView(
                    grant_id=row[0], provider=row[1], agent=row[2], user=shown_user(row[3]),
                    scopes=row[4], resources=row[5], renewable=row[6], expires_at=row[7],
                    granted_at=row[8], updated_at=row[9],
                )
                for row in rows
            ]
        )  # fmt: skip

    async def revoke(self, request: Request, params: Params, _: Any) -> None:
        await self._oauth.revoke(request, params["grantId"])
