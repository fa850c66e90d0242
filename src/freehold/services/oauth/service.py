"""Access tokens for agents: their own, a person's, or in exchange for a person's token."""

import time
from urllib.parse import urlsplit

import msgspec

from freehold.kernel import tracing
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import (
    AccessDenied,
    FreeholdError,
    NotFound,
    Unauthorized,
    Unavailable,
    ValidationFailed,
)
from freehold.kernel.request import Request
from freehold.ports.credentials import Oauth2Provider, Oauth2Providers
from freehold.ports.database import Database
from freehold.ports.oauth import Asked, OauthClient, OauthRefused, OauthUnavailable, Tokens
from freehold.ports.outbound import TokenOutcome, TokenWanted
from freehold.ports.tokens import TokenRefused, TokenRules, TokenVerifier
from freehold.ports.workloads import Workload, WorkloadTokens, check_presenter
from freehold.services.oauth import store
from freehold.services.oauth.authorizations import Authorizations
from freehold.services.oauth.grants import Fetch, Grants
from freehold.services.oauth.model import (
    OPEN,
    Flow,
    GrantKey,
    Phase,
    Session,
    digest,
    session_id,
    user_of,
)
from freehold.services.oauth.ports import ReturnUrls
from freehold.services.oauth.records import Records

_COMPLETE = "bedrock-agentcore:CompleteResourceTokenAuth"
_LISTED_MAX = 1000
_RESOLVED_MAX = 10_000
_RESOLVED_SECONDS_MAX = 60.0
_CACHED = "freehold.credential.cached"


class TokenAsked(msgspec.Struct, frozen=True, kw_only=True):
    """GetResourceOauth2Token's input."""

    workload_token: str
    provider: str
    flow: Flow
    asked: Asked
    session_uri: str | None = None
    return_url: str | None = None
    force: bool = False
    custom_state: str | None = None
    return_url_checked: bool = False
    """It is of the tenant's own configuration, and needs no allow-list."""

    def __repr__(self) -> str:
        return f"TokenAsked({self.provider}, {self.flow})"


class TokenGiven(msgspec.Struct, frozen=True, kw_only=True):
    """A token, or how its authorization stands."""

    access_token: str | None = None
    authorization_url: str | None = None
    session_uri: str | None = None
    failed: bool = False

    def __repr__(self) -> str:
        return "TokenGiven(...)"


class OauthService:
    def __init__(
        self,
        *,
        database: Database,
        client: OauthClient,
        providers: Oauth2Providers,
        workload_tokens: WorkloadTokens,
        return_urls: ReturnUrls,
        verifier: TokenVerifier,
        grants: Grants,
        authorizations: Authorizations,
        records: Records,
    ) -> None:
        self._database, self._client, self._providers = database, client, providers
        self._workload_tokens, self._return_urls = workload_tokens, return_urls
        self._verifier, self._records = verifier, records
        self._grants, self._authorizations = grants, authorizations
        self._resolved: dict[object, tuple[float, GrantKey, str]] = {}

    async def token(self, request: Request, wanted: TokenAsked) -> TokenGiven:
        """Every way to end is in the audit, the value never."""
        workload = await self._workload_tokens.read(wanted.workload_token, tenant=request.tenant)
        check_presenter(request.caller, workload)
        return await self._audited(request.caller, request.request_id, workload, wanted)

    async def token_for(
        self, workload: Workload, wanted: TokenWanted, *, caller: Caller, request_id: str
    ) -> TokenOutcome:
        """Implements `ports.outbound.OauthTokens`: for a part of the platform that is the workload.

        Which grant is meant is remembered for a minute (no secret is), so that a token that
        `Grants` has at hand costs no query but the audit's.
        """
        asked = TokenAsked(
            workload_token="", provider=wanted.provider, flow=Flow(wanted.flow),
            asked=wanted.asked, return_url=wanted.return_url, return_url_checked=True,
        )  # fmt: skip
        known = (
            workload.tenant, workload.name, workload.user, digest(workload.user_token or ""),
            wanted.provider, wanted.flow, wanted.asked.scopes, wanted.asked.resources,
            wanted.asked.audiences, tuple(wanted.asked.parameters.items()),
        )  # fmt: skip
        found = self._resolved.get(known)
        if found is not None and found[0] > time.monotonic():
            token = self._grants.at_hand(found[1])
            if token is not None:
                tracing.describe(attributes={_CACHED: True})
                await self._used(
                    caller, request_id, workload, asked,
                    arn=found[2], outcome="allowed", result="token",
                )  # fmt: skip
                return TokenOutcome(access_token=token)
        given = await self._audited(caller, request_id, workload, asked, known=known)
        return TokenOutcome(
            access_token=given.access_token,
            authorization_url=given.authorization_url,
            session_uri=given.session_uri,
        )

    async def _audited(
        self,
        caller: Caller,
        call_id: str,
        workload: Workload,
        wanted: TokenAsked,
        *,
        known: object = None,
    ) -> TokenGiven:
        provider: Oauth2Provider | None = None
        try:
            provider = await self._providers.oauth2_provider(workload.tenant, wanted.provider)
            given = await self._token(workload, provider, wanted)
        except FreeholdError as error:
            outcome = "denied" if isinstance(error, AccessDenied | Unauthorized) else "failed"
            arn = provider.arn if provider else None
            await self._used(
                caller, call_id, workload, wanted, arn=arn, outcome=outcome, error=error.code
            )
            raise
        result = "token" if given.access_token else "consent_asked"
        outcome = "failed" if given.failed else "allowed"
        if known is not None and given.access_token:
            key = GrantKey.of(wanted.flow, workload, provider, wanted.asked)
            self._remember(known, key, provider.arn)
        await self._used(
            caller, call_id, workload, wanted, arn=provider.arn, outcome=outcome, result=result
        )
        return given

    def _remember(self, known: object, key: GrantKey, arn: str) -> None:
        if len(self._resolved) >= _RESOLVED_MAX:
            del self._resolved[next(iter(self._resolved))]
        self._resolved[known] = (time.monotonic() + _RESOLVED_SECONDS_MAX, key, arn)

    def provider_changed(self, tenant: str) -> None:
        """One of the tenant's, or of any ("")."""
        for known, (_, key, _) in list(self._resolved.items()):
            if tenant in ("", key.tenant):
                del self._resolved[known]

    async def _used(
        self,
        caller: Caller,
        call_id: str,
        workload: Workload,
        wanted: TokenAsked,
        *,
        arn: str | None,
        outcome: str,
        **detail: str,
    ) -> None:
        await self._records.used(
            caller, call_id, tenant=workload.tenant, user=user_of(workload), workload=workload.name,
            provider=wanted.provider, resource=arn, outcome=outcome, flow=wanted.flow.value,
            scopes=" ".join(wanted.asked.scopes), **detail,
        )  # fmt: skip

    async def _token(
        self, workload: Workload, provider: Oauth2Provider, wanted: TokenAsked
    ) -> TokenGiven:
        key = GrantKey.of(wanted.flow, workload, provider, wanted.asked)
        if wanted.flow is Flow.USER_FEDERATION:
            return await self._of_person(key, workload, provider, wanted)
        if wanted.session_uri is not None:
            raise ValidationFailed("sessionUri belongs to the flow USER_FEDERATION")
        if wanted.flow is Flow.ON_BEHALF_OF:
            _check_exchange(workload, provider)
        if wanted.force:
            await self._grants.drop(key.tenant, key.id)

        async def fetch(_: str | None) -> Tokens:
            if wanted.flow is Flow.M2M:
                return await self._client.client_credentials(provider, wanted.asked)
            assert workload.user_token is not None, "checked before"
            return await self._client.on_behalf_of(
                provider, wanted.asked, user_token=workload.user_token
            )

        token = await self._fetched(key, provider, fetch)
        if token is None:
            raise Unavailable("the provider gave no token")
        return TokenGiven(access_token=token)

    async def _of_person(
        self, key: GrantKey, workload: Workload, provider: Oauth2Provider, wanted: TokenAsked
    ) -> TokenGiven:
        if workload.user is None:
            raise ValidationFailed(
                "USER_FEDERATION needs a workload access token that names a user: "
                "GetWorkloadAccessTokenForJWT or ...ForUserId"
            )
        if wanted.session_uri is not None:
            session = await self._own_session(key, wanted.session_uri)
            if (stands := self._stands(session)) is not None:
                return stands
        elif wanted.force:
            return await self._begin(key, workload, provider, wanted)

        async def fetch(refresh_token: str | None) -> Tokens:
            assert refresh_token is not None, "without one a person is asked"
            return await self._client.refresh(provider, wanted.asked, refresh_token)

        token = await self._fetched(key, provider, fetch)
        if token is not None:
            return TokenGiven(access_token=token)
        return await self._begin(key, workload, provider, wanted)

    async def _fetched(self, key: GrantKey, provider: Oauth2Provider, fetch: Fetch) -> str | None:
        cached = True

        async def asked(refresh_token: str | None) -> Tokens:
            nonlocal cached
            cached = False
            return await fetch(refresh_token)

        try:
            token = await self._grants.get(key, asked)
            tracing.describe(attributes={_CACHED: cached} if token is not None else {})
            return token
        except OauthRefused as error:
            raise AccessDenied(
                f"provider {provider.name} refuses a token: {error.error}"
            ) from error
        except OauthUnavailable as error:
            raise Unavailable(f"provider {provider.name} gives no token: {error}") from error

    async def _own_session(self, key: GrantKey, uri: str) -> Session:
        session = await self._authorizations.find(key.tenant, session_id(uri))
        if (session.workload, session.user) != (key.workload, key.user):
            raise NotFound("no authorization session has this id; it may be over")
        if session.grant_id != key.id:
            raise ValidationFailed("the authorization session was begun for something else")
        return session

    def _stands(self, session: Session) -> TokenGiven | None:
        """None: it was granted."""
        if session.phase is Phase.GRANTED:
            return None
        if session.phase not in OPEN or self._authorizations.over(session):
            return TokenGiven(session_uri=session.uri, failed=True)
        return TokenGiven(
            authorization_url=self._authorizations.url(session), session_uri=session.uri
        )

    async def _begin(
        self, key: GrantKey, workload: Workload, provider: Oauth2Provider, wanted: TokenAsked
    ) -> TokenGiven:
        if not provider.authorization_endpoint:
            raise ValidationFailed(f"provider {provider.name} has no authorization endpoint")
        url = wanted.return_url
        if url is not None:
            allowed = (
                (url,)
                if wanted.return_url_checked
                else await self._return_urls.return_urls(workload.tenant, workload.name)
            )
            if url not in allowed or urlsplit(url).fragment:
                raise ValidationFailed(
                    "resourceOauth2ReturnUrl is not one of the workload identity's "
                    "allowedResourceOauth2ReturnUrls"
                )
        session = await self._authorizations.begin(
            key, provider, wanted.asked, return_url=url, custom_state=wanted.custom_state
        )
        return TokenGiven(
            authorization_url=self._authorizations.url(session), session_uri=session.uri
        )

    async def complete(
        self, request: Request, uri: str, *, user_id: str | None, user_token: str | None
    ) -> None:
        """The application proves who sits at the browser: only it can know."""
        session = await self._authorizations.find(request.tenant, session_id(uri))
        if session.return_url is None:
            raise ValidationFailed("this session is completed on the platform's own page")
        if request.caller.kind is CallerKind.SESSION:
            raise AccessDenied("an agent does not say who its user is: the application does")
        if not await self._is_user(session, user_id, user_token):
            await self._authorizations.refuse(
                session, "another_user", by=request.caller, call_id=request.request_id
            )
            raise AccessDenied(
                "the user at the browser is not the one for whom the agent asked; "
                "nothing was stored"
            )
        if session.phase is Phase.GRANTED:
            return
        if session.phase is not Phase.CODE:
            raise ValidationFailed("the user has not come back from the provider, or it is over")
        await self._authorizations.complete(
            session, caller=request.caller, call_id=request.request_id
        )

    async def _is_user(self, session: Session, user_id: str | None, user_token: str | None) -> bool:
        if user_id is not None:
            return session.user == f"id:{user_id}"
        if user_token is None or not session.user.startswith("jwt:"):
            return False
        issuer = session.user.removeprefix("jwt:").partition("|")[0]
        rules = TokenRules(discovery_url=issuer.rstrip("/") + "/.well-known/openid-configuration")
        try:
            verified = await self._verifier.verify(user_token, rules)
        except TokenRefused:
            return False
        return session.user == f"jwt:{verified.issuer}|{verified.subject}"

    # -- what people gave

    async def grants(self, tenant: str, user: str | None) -> list[store.GrantRow]:
        async with self._database.connection() as connection:
            return await store.list_grants(connection, tenant, user=user, limit=_LISTED_MAX)

    async def forget_provider(self, tenant: str, name: str) -> None:
        """It was deleted: nobody can use what people granted there, so it goes too."""
        await self._grants.drop_of_provider(tenant, name)

    async def forget_workload(self, tenant: str, name: str) -> None:
        """What people granted an agent is not for another that takes its name."""
        await self._grants.drop_of_workload(tenant, name)

    async def revoke(self, request: Request, id: str) -> None:
        if not await self._grants.drop(request.tenant, id):
            raise NotFound("no grant has this id")


def _check_exchange(workload: Workload, provider: Oauth2Provider) -> None:
    if workload.user_token is None:
        raise ValidationFailed(
            "ON_BEHALF_OF_TOKEN_EXCHANGE needs a workload access token that was made from the "
            "user's own token: GetWorkloadAccessTokenForJWT, or a call with a bearer token"
        )
    if provider.on_behalf_of is None:
        raise ValidationFailed(f"provider {provider.name} has no onBehalfOfTokenExchangeConfig")
