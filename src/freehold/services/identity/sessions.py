"""The workload access token that each call of an agent brings to it, and whom that call is for."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime

import msgspec

from freehold.kernel import clock
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied, NotFound, Unauthorized
from freehold.kernel.session import runtime_and_session
from freehold.ports.authorizer import Authorizer
from freehold.ports.tokens import TokenRefused
from freehold.ports.workloads import Workload
from freehold.services.identity.model import (
    arn_of_runtime,
    checked_user_id,
    verified_user,
)
from freehold.services.identity.service import WorkloadIdentities, return_urls
from freehold.services.identity.tokens import WorkloadTokenService

FOR_USER = "bedrock-agentcore:InvokeAgentRuntimeForUser"
"""AWS's name of the permission to say for which user one calls."""

_CACHED_MAX = 10_000
# A key belongs to a program, which may have users of its own; a person has only themselves.
_MAY_NAME_OTHERS = frozenset({"admin", "developer"})


class _Issued(msgspec.Struct, frozen=True):
    token: str
    expires_at: float
    reused_until: float

    def __repr__(self) -> str:
        return f"_Issued(until {self.expires_at})"


class SessionIdentities:
    """Implements `services/runtime/ports.RuntimeIdentities`.

    A token is signed once for a session and a user, and used again until a third of its time is
    left. `callback_url` is where consent ends for agents that name no place of their own.
    """

    def __init__(
        self,
        tokens: WorkloadTokenService,
        identities: WorkloadIdentities,
        *,
        authorizer: Authorizer,
        callback_url: str = "",
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._tokens, self._identities, self._authorizer = tokens, identities, authorizer
        self._callback_url, self._now = callback_url, now
        self._issued: OrderedDict[tuple[object, ...], _Issued] = OrderedDict()

    def arn(self, runtime_arn: str) -> str:
        return arn_of_runtime(runtime_arn)

    async def ensure(self, tenant: str, runtime_id: str) -> None:
        await self._identities.ensure_of_runtime(tenant, runtime_id)

    async def act_for(
        self,
        caller: Caller,
        *,
        tenant: str,
        runtime_arn: str,
        session_id: str,
        named: str | None,
        handed: str | None,
    ) -> tuple[str | None, dict[str, str]]:
        """The user whom a call is for, and the headers that the agent gets with it.

        `named` is the request's runtimeUserId, `handed` the workload access token that it brings.
        """
        given = await self._handed(caller, handed)
        acting = await self._acting(caller, tenant, runtime_arn, named, given)
        runtime_id = runtime_arn.rpartition("/")[2]
        workload = msgspec.structs.replace(acting, name=runtime_id, session=session_id)
        try:
            identity = await self._identities.get(tenant, runtime_id)
        except NotFound:  # a runtime from before it had one
            await self.ensure(tenant, runtime_id)
            identity = await self._identities.get(tenant, runtime_id)
        token = await self._token(workload)
        headers = {"WorkloadAccessToken": token, "X-Amz-Bedrock-AgentCore-Identity-WAT": token}
        callback = next(iter(return_urls(identity)), self._callback_url)
        if callback:
            headers["OAuth2CallbackUrl"] = callback
        return acting.user, headers

    async def _token(self, workload: Workload) -> str:
        key = (
            workload.tenant, workload.name, workload.session, workload.user, workload.actors,
            workload.user_until, hashlib.sha256((workload.user_token or "").encode()).digest(),
        )  # fmt: skip
        now = self._now().timestamp()
        found = self._issued.get(key)
        if found is None or found.reused_until <= now:
            token, expires_at = await self._tokens.issued(workload)
            reused_until = expires_at - self._tokens.seconds / 3
            if workload.user_until is not None and expires_at >= int(workload.user_until):
                reused_until = expires_at  # a new one would not live longer
            found = _Issued(token, expires_at, reused_until)
            self._issued.pop(key, None)
            self._issued[key] = found
            if len(self._issued) > _CACHED_MAX:
                self._issued.popitem(last=False)
        return found.token

    async def _handed(self, caller: Caller, token: str | None) -> Workload | None:
        """The token that a caller hands on. A session hands on its own, and nobody else's."""
        if token is None:
            return None
        given = await self._tokens.read(token, tenant=caller.tenant)
        if caller.kind is CallerKind.SESSION:
            runtime_id, session_id = runtime_and_session(caller)
            if given.name != runtime_id or given.session not in (None, session_id):
                raise TokenRefused("a session hands on its own workload access token only")
        return given

    async def _acting(
        self,
        caller: Caller,
        tenant: str,
        runtime_arn: str,
        named: str | None,
        given: Workload | None,
    ) -> Workload:
        if caller.kind is CallerKind.OAUTH_USER:
            return _of_oauth_user(caller, tenant, given)
        actors = _actors(caller, given)
        if tenant != caller.tenant:
            # Of another account's users no caller can speak, whatever its policy lets in.
            if named is not None:
                raise AccessDenied("runtimeUserId: only callers of the same account name a user")
            return Workload(tenant=tenant, name="")
        user = given.user if given else None
        if named is not None and named != user:
            if user is not None:
                raise AccessDenied("runtimeUserId: the workload access token is of another user")
            await self._check_may_name(caller, runtime_arn, named)
            return Workload(tenant=tenant, name="", user=named, actors=actors)
        if user is None and caller.kind in (CallerKind.PERSON, CallerKind.ADMIN):
            user = caller.user
        return Workload(
            tenant=tenant,
            name="",
            user=user,
            user_token=given.user_token if given else None,
            user_until=given.user_until if given else None,
            actors=actors,
        )

    async def _check_may_name(self, caller: Caller, runtime_arn: str, named: str) -> None:
        """Who says for which user it calls needs the permission for it."""
        if caller.kind is CallerKind.SESSION:
            if named != caller.user:
                raise AccessDenied(
                    "runtimeUserId: a session names no other user than the one it was begun for; "
                    "hand on the workload access token (X-Amz-Bedrock-AgentCore-Identity-WAT)"
                )
            return
        if caller.kind is CallerKind.PERSON and not caller.roles & _MAY_NAME_OTHERS:
            if named != caller.user:
                raise AccessDenied("runtimeUserId: a person calls for themselves")
            return
        checked_user_id(named)
        await self._authorizer.authorize(caller, FOR_USER, runtime_arn)


def _of_oauth_user(caller: Caller, tenant: str, given: Workload | None) -> Workload:
    """The user is the token's, whatever else the request says."""
    issuer, subject = caller.claims.get("iss"), caller.claims.get("sub")
    if not caller.user or caller.user != verified_user(str(issuer or ""), str(subject or "")):
        raise Unauthorized("the token does not say who its user is (iss, sub)")
    if given is not None and given.user not in (None, caller.user):
        raise TokenRefused("the workload access token is of another user than the bearer token")
    expires_at = caller.claims.get("exp")
    return Workload(
        tenant=tenant,
        name="",
        user=caller.user,
        user_token=caller.token,
        user_until=expires_at if isinstance(expires_at, int | float) else None,
        actors=(given.name, *given.actors) if given and tenant == given.tenant else (),
    )


def _actors(caller: Caller, given: Workload | None) -> tuple[str, ...]:
    if given is not None:
        return (given.name, *given.actors)
    if caller.kind is CallerKind.SESSION:
        return (runtime_and_session(caller)[0],)
    if caller.kind is CallerKind.GATEWAY:
        return (caller.principal.rpartition("/")[2],)  # a gateway's identity has its id for a name
    return ()
