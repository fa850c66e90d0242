"""Who may have a workload access token, and for which user."""

from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied, Unavailable
from freehold.kernel.session import runtime_and_session
from freehold.ports.tokens import TokenRefused, TokenVerifier, VerifiedToken
from freehold.ports.workloads import Workload
from freehold.services.identity.issuers import likeliest_first
from freehold.services.identity.model import (
    checked_user_id,
    verified_user,
)
from freehold.services.identity.ports import UserIssuers
from freehold.services.identity.service import WorkloadIdentities
from freehold.services.identity.tokens import WorkloadTokenService

_OF_A_TENANT = frozenset({CallerKind.ACCESS_KEY, CallerKind.PERSON, CallerKind.ADMIN})


class TokenGrants:
    """What stands behind the three GetWorkloadAccessToken operations.

    Which operations a role may call at all is the authorization step's. Here: a session gets
    tokens of its own runtime's identity alone, and for no user that it merely names.
    """

    def __init__(
        self,
        tokens: WorkloadTokenService,
        identities: WorkloadIdentities,
        *,
        issuers: UserIssuers,
        verifier: TokenVerifier,
    ) -> None:
        self._tokens, self._identities = tokens, identities
        self._issuers, self._verifier = issuers, verifier

    async def for_itself(self, caller: Caller, tenant: str, name: str) -> str:
        return await self._tokens.issue(self._workload(caller, tenant, name))

    async def for_user_id(self, caller: Caller, tenant: str, name: str, user: str) -> str:
        workload = self._workload(caller, tenant, name)
        if caller.kind is not CallerKind.SESSION:
            checked_user_id(user)
        elif user != caller.user:
            raise AccessDenied(
                "a session names no other user than the one it was begun for; show the user's "
                "token (GetWorkloadAccessTokenForJWT)"
            )
        return await self._tokens.issue(_for(workload, user=user))

    async def for_jwt(self, caller: Caller, tenant: str, name: str, user_token: str) -> str:
        """TokenRefused for a token that nobody whom the identity's tenant trusts has signed."""
        workload = self._workload(caller, tenant, name)
        runtime_id = (await self._identities.get(tenant, name)).parent
        verified = await self._verified(tenant, runtime_id, user_token)
        return await self._tokens.issue(
            _for(
                workload,
                user=verified_user(verified.issuer, verified.subject),
                user_token=user_token,
                user_until=verified.expires_at,
            )
        )

    def _workload(self, caller: Caller, tenant: str, name: str) -> Workload:
        if tenant != caller.tenant:
            raise AccessDenied("workload access tokens are for callers of the same account")
        if caller.kind is CallerKind.SESSION:
            runtime_id, session_id = runtime_and_session(caller)
            if name != runtime_id:
                raise AccessDenied(
                    f"a session gets tokens of its own agent's identity, {runtime_id}"
                )
            return Workload(tenant=tenant, name=name, session=session_id)
        if caller.kind not in _OF_A_TENANT:
            raise AccessDenied("this caller gets no workload access tokens")
        return Workload(tenant=tenant, name=name)

    async def _verified(self, tenant: str, runtime_id: str, user_token: str) -> VerifiedToken:
        """By the first of the trusted rules that it passes, whole."""
        rules = await self._issuers.rules(tenant, runtime_id)
        if not rules:
            raise TokenRefused(
                "no issuer of users' tokens is trusted for this identity: give its agent runtime "
                "an authorizer (customJWTAuthorizer), or ask the operator (user_token_issuers)"
            )
        refused: TokenRefused | None = None
        away: Unavailable | None = None
        for each in likeliest_first(rules, user_token):
            try:
                return await self._verifier.verify(user_token, each)
            except TokenRefused as error:
                refused = refused or error
            except Unavailable as error:
                away = away or error
        if away is not None:
            raise away
        assert refused is not None, "there were rules, and each raised"
        raise refused


def _for(
    workload: Workload,
    *,
    user: str,
    user_token: str | None = None,
    user_until: float | None = None,
) -> Workload:
    return Workload(
        tenant=workload.tenant,
        name=workload.name,
        session=workload.session,
        user=user,
        user_token=user_token,
        user_until=user_until,
    )
