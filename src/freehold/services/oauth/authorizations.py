"""Three-legged OAuth: a person's browser goes to the provider and comes back, and what it brought
counts only once it is proven that the person is the one for whom the agent asked."""

import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import msgspec

from freehold.kernel import clock, ids
from freehold.kernel.caller import Caller
from freehold.kernel.errors import (
    AccessDenied,
    FreeholdError,
    NotFound,
    Unavailable,
    ValidationFailed,
)
from freehold.ports.consent import AUTHORIZE_PATH, Departure
from freehold.ports.credentials import CALLBACK_PATH, Oauth2Provider, Oauth2Providers
from freehold.ports.database import Database
from freehold.ports.oauth import Asked, OauthClient, OauthRefused, OauthUnavailable
from freehold.ports.secrets import SealBroken, TenantSealer
from freehold.services.oauth import sessions_store as store
from freehold.services.oauth.grants import Grants
from freehold.services.oauth.model import (
    SESSION_MINUTES,
    SESSION_URN,
    Flow,
    GrantKey,
    Phase,
    Secrets,
    Session,
    digest,
    session_id,
)
from freehold.services.oauth.records import Records

_ERROR = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_CODE_CHARS_MAX = 8192
CONSENT_PAGE = "/console/consent/"


class Authorizations:
    """Implements `ports.consent.BrowserSteps`. `public_url` is how browsers reach the platform."""

    def __init__(
        self,
        *,
        database: Database,
        sealer: TenantSealer,
        client: OauthClient,
        providers: Oauth2Providers,
        grants: Grants,
        records: Records,
        public_url: str,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._database, self._sealer, self._client = database, sealer, client
        self._providers, self._grants, self._records = providers, grants, records
        self._public_url, self._now = public_url.rstrip("/"), now

    async def begin(
        self,
        key: GrantKey,
        provider: Oauth2Provider,
        asked: Asked,
        *,
        return_url: str | None,
        custom_state: str | None,
    ) -> Session:
        session = Session(
            tenant=key.tenant,
            id=ids.random_text(43),
            grant_id=key.id,
            provider=key.provider,
            workload=key.workload,
            user=key.user,
            scopes=asked.scopes,
            resources=asked.resources,
            audiences=asked.audiences,
            return_url=return_url,
            redirect_uri=self._public_url + CALLBACK_PATH + provider.callback_id,
            phase=Phase.ASKED,
            failure="",
            sealed=None,
            browser_hash=None,
            expires_at=self._now() + timedelta(minutes=SESSION_MINUTES),
        )
        kept = Secrets(parameters=dict(asked.parameters), custom_state=custom_state)
        sealed = await self._seal(session, kept)
        async with self._database.transaction() as connection:
            await store.insert(connection, session, sealed=sealed)
        return session

    def url(self, session: Session) -> str:
        """Where the person begins."""
        if session.return_url is None:
            return f"{self._public_url}{CONSENT_PAGE}{session.id}"
        return f"{self._public_url}{AUTHORIZE_PATH}?request_uri={quote(session.uri, safe='')}"

    async def find(self, tenant: str, id: str) -> Session:
        session = await self._get(id)
        if session is None or session.tenant != tenant:
            raise NotFound("no authorization session has this id; it may be over")
        return session

    def over(self, session: Session) -> bool:
        return session.expires_at <= self._now()

    # -- the browser

    async def ticket(self, session: Session) -> str:
        """For a person who agreed on the console's page: the next step of this one browser."""
        ticket = secrets.token_urlsafe(32)
        async with self._database.connection() as connection:
            if not await store.approve(connection, session.id, digest(ticket)):
                raise ValidationFailed("this request was answered before, or is over")
        query = urlencode({"request_uri": session.uri, "ticket": ticket})
        return f"{self._public_url}{AUTHORIZE_PATH}?{query}"

    async def leave(self, request_uri: str, ticket: str | None) -> Departure | str:
        session = await self._get(session_id(request_uri))
        if session is None or not request_uri.startswith(SESSION_URN) or self.over(session):
            raise NotFound("This link is over. Ask the agent again.")
        if session.return_url is None and ticket is None:
            return self.url(session)
        provider = await self._providers.oauth2_provider(session.tenant, session.provider)
        kept = await self._open(session)
        state, browser = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        verifier = secrets.token_urlsafe(48)
        sealed = await self._seal(session, msgspec.structs.replace(kept, verifier=verifier))
        async with self._database.connection() as connection:
            left = await store.leave(
                connection, session.id, ticket=None if ticket is None else digest(ticket),
                state=digest(state), browser=digest(browser), sealed=sealed,
            )  # fmt: skip
        if not left:
            raise NotFound("This link was used before. Ask the agent again.")
        asked = msgspec.structs.replace(session.asked, parameters=kept.parameters)
        url = self._client.authorization_url(
            provider, asked, redirect_uri=session.redirect_uri, state=state, verifier=verifier
        )
        return Departure(
            url=url, name=_cookie(session), value=browser, seconds=SESSION_MINUTES * 60
        )

    async def come_back(
        self, callback_id: str, query: Mapping[str, str], cookies: Mapping[str, str]
    ) -> str:
        """Nothing is stored of an answer that fails a check, and its state is used up."""
        owner = await self._providers.oauth2_callback(callback_id)
        if owner is None or not query.get("state"):
            raise NotFound("This address is for answers of a provider.")
        provider = await self._providers.oauth2_provider(*owner)
        async with self._database.connection() as connection:
            session = await store.come_back(connection, digest(query["state"]))
        if session is None:
            raise AccessDenied("This sign-in was answered before, or took too long.")
        if session.browser_hash is None or session.sealed is None:
            raise AccessDenied("This sign-in was not begun.")
        kept = await self._open(session)
        if why := _mismatch(session, provider, owner, query, cookies):
            await self._fail(session, why)
            raise AccessDenied(
                "This answer does not belong to a sign-in that this browser began here. "
                "Nothing was given to the agent."
            )
        if "error" in query or not 0 < len(query.get("code", "")) <= _CODE_CHARS_MAX:
            why = _cleaned(query.get("error", "no_code"))
            await self._fail(session, why)
            return self._next(session, kept.custom_state, error=why)
        kept = msgspec.structs.replace(kept, code=query["code"])
        if session.return_url is None:
            await self._redeem_for_console(session, kept)
        else:
            sealed = await self._seal(session, kept)
            await self._records.stepped(session, "OAuthAuthorizationReturned", "allowed")
            await self._move(session, Phase.REDEEMING, Phase.CODE, sealed=sealed)
        return self._next(session, kept.custom_state)

    async def _redeem_for_console(self, session: Session, kept: Secrets) -> None:
        """The person proved who they are before they left, in this same browser."""
        try:
            await self._redeem(session, kept)
        except (AccessDenied, Unavailable):
            return  # the page shows the session's failure
        await self._records.stepped(session, "OAuthConsentGranted", "allowed")

    # -- the end

    async def complete(self, session: Session, *, caller: Caller, call_id: str) -> None:
        """The application says that `session.user` is who sits at the browser."""
        kept = await self._open(session)
        await self._move(session, Phase.CODE, Phase.REDEEMING)
        await self._redeem(session, kept)
        await self._records.stepped(
            session, "OAuthConsentGranted", "allowed", by=caller, call_id=call_id
        )

    async def refuse(
        self, session: Session, why: str, *, by: Caller, call_id: str = "", denied: bool = False
    ) -> bool:
        """Ends a session that is open, and drops what its browser brought; whether it was open."""
        came_from = (Phase.ASKED, Phase.UNDER_WAY, Phase.CODE)
        to = Phase.DENIED if denied else Phase.FAILED
        async with self._database.connection() as connection:
            moved = await store.move(connection, session, came_from, to, failure=why)
        if moved:
            await self._records.stepped(
                session, "OAuthConsentRefused", "denied", why=why, by=by, call_id=call_id
            )
        return moved

    async def _redeem(self, session: Session, kept: Secrets) -> None:
        assert kept.code is not None, "a browser brought a code"
        assert kept.verifier is not None, "it left with a challenge"
        try:
            provider = await self._providers.oauth2_provider(session.tenant, session.provider)
            key = _key(session, provider)
            tokens = await self._client.redeem(
                provider, session.asked, code=kept.code, redirect_uri=session.redirect_uri,
                verifier=kept.verifier,
            )  # fmt: skip
            await self._grants.put(key, tokens)
        except OauthRefused as error:
            await self._fail(session, error.error)
            raise AccessDenied(f"the provider refuses the code: {error.error}") from error
        except OauthUnavailable as error:
            await self._fail(session, "provider_unavailable")
            raise Unavailable(f"the provider gave no token: {error}") from error
        except FreeholdError as error:
            await self._fail(session, error.code)
            raise
        await self._move(session, Phase.REDEEMING, Phase.GRANTED)

    async def _fail(self, session: Session, why: str) -> None:
        open_phases = (Phase.UNDER_WAY, Phase.CODE, Phase.REDEEMING)
        async with self._database.connection() as connection:
            await store.move(connection, session, open_phases, Phase.FAILED, failure=why)
        await self._records.stepped(session, "OAuthConsentRefused", "failed", why=why)

    async def _move(
        self, session: Session, came_from: Phase, to: Phase, *, sealed: bytes | None = None
    ) -> None:
        async with self._database.connection() as connection:
            if not await store.move(connection, session, (came_from,), to, sealed=sealed):
                raise ValidationFailed("the authorization session is over, or was completed before")

    async def _get(self, id: str) -> Session | None:
        async with self._database.connection() as connection:
            return await store.get(connection, id)

    async def _seal(self, session: Session, kept: Secrets) -> bytes:
        plain = msgspec.json.encode(kept)
        return await self._sealer.seal(session.tenant, plain, context=session.context)

    async def _open(self, session: Session) -> Secrets:
        if session.sealed is None:
            raise ValidationFailed("the authorization session is over")
        try:
            plain = await self._sealer.open(session.tenant, session.sealed, context=session.context)
        except SealBroken as error:
            raise Unavailable("the authorization session cannot be opened") from error
        return msgspec.json.decode(plain, type=Secrets)

    def _next(self, session: Session, custom_state: str | None, *, error: str = "") -> str:
        if session.return_url is None:
            return self.url(session)
        parts = urlsplit(session.return_url)
        query = parse_qsl(parts.query, keep_blank_values=True)
        query.append(("session_id", session.uri))
        if custom_state is not None:
            query.append(("state", custom_state))
        if error:
            query.append(("error", error))
        return urlunsplit(parts._replace(query=urlencode(query)))


def _cookie(session: Session) -> str:
    return f"freehold_oauth_{session.id[:16]}"


def _key(session: Session, provider: Oauth2Provider) -> GrantKey:
    key = GrantKey.made(
        Flow.USER_FEDERATION, provider, session.asked,
        tenant=session.tenant, workload=session.workload, user=session.user,
    )  # fmt: skip
    if key.id != session.grant_id:
        raise ValidationFailed("the credential provider was changed in the meantime; ask again")
    return key


def _mismatch(
    session: Session,
    provider: Oauth2Provider,
    owner: tuple[str, str],
    query: Mapping[str, str],
    cookies: Mapping[str, str],
) -> str:
    """Which check an answer fails; "" when none."""
    if owner != (session.tenant, session.provider):
        return "another_provider"  # mix-up: the answer came to the callback of another
    cookie = digest(cookies.get(_cookie(session), ""))
    if session.browser_hash is None or not hmac.compare_digest(cookie, session.browser_hash):
        return "another_browser"
    promised = provider.metadata.get("authorization_response_iss_parameter_supported") is True
    issuer = query.get("iss")  # RFC 9207
    known = provider.issuer and "{" not in provider.issuer  # Entra ID's shared address: a pattern
    if (issuer is None and promised) or (
        issuer is not None and known and issuer != provider.issuer
    ):
        return "another_issuer"
    return ""


def _cleaned(error: str) -> str:
    return error if _ERROR.fullmatch(error) else "an_error"
