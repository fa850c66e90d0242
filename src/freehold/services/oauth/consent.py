"""Consent on the console's own page, by a person who is signed in there."""

from urllib.parse import urlsplit

from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied, Conflict, NotFound, ValidationFailed
from freehold.ports.consent import ConsentAsked
from freehold.ports.credentials import Oauth2Providers
from freehold.services.oauth.authorizations import Authorizations
from freehold.services.oauth.model import Phase, Session, shown_user
from freehold.services.oauth.records import Records
from freehold.services.oauth.words import VENDORS, in_words

_STATUS = {
    Phase.ASKED: "ASKED",
    Phase.UNDER_WAY: "UNDER_WAY",
    Phase.CODE: "UNDER_WAY",
    Phase.REDEEMING: "UNDER_WAY",
    Phase.GRANTED: "GRANTED",
    Phase.DENIED: "DENIED",
    Phase.FAILED: "FAILED",
}
_STILL_OPEN = ("ASKED", "UNDER_WAY")


class ConsentPage:
    """Implements `ports.consent.Consents`."""

    def __init__(
        self, authorizations: Authorizations, providers: Oauth2Providers, records: Records
    ) -> None:
        self._authorizations, self._providers, self._records = authorizations, providers, records

    async def asked(self, id: str, person: Caller) -> ConsentAsked:
        session = await self._session(id, person)
        provider = await self._providers.oauth2_provider(session.tenant, session.provider)
        at = urlsplit(provider.authorization_endpoint)
        return ConsentAsked(
            id=session.id,
            agent=session.workload,
            provider=session.provider,
            vendor=VENDORS.get(provider.vendor, ""),
            account_host=at.netloc,
            account_origin=f"{at.scheme}://{at.netloc}",
            scopes=in_words(provider.vendor, session.scopes),
            user=shown_user(session.user),
            expires_at=session.expires_at,
            status=self._status(session),  # type: ignore[arg-type]
            failure=session.failure,
        )

    async def approve(self, id: str, person: Caller) -> str:
        session = await self._session(id, person)
        if self._status(session) not in _STILL_OPEN:
            raise Conflict("this request was answered before, or is over")
        try:
            url = await self._authorizations.ticket(session)
        except ValidationFailed as error:
            raise Conflict(error.message) from error
        await self._records.stepped(session, "OAuthConsentApproved", "allowed", by=person)
        return url

    async def deny(self, id: str, person: Caller) -> None:
        session = await self._session(id, person)
        if not await self._authorizations.refuse(session, "access_denied", by=person, denied=True):
            raise Conflict("this request was answered before, or is over")

    async def _session(self, id: str, person: Caller) -> Session:
        session = await self._authorizations.find(person.tenant, id)
        if session.return_url is not None:
            raise NotFound("this request is answered in the application that it came from")
        if not is_user(person, session.user):
            await self._records.stepped(
                session, "OAuthConsentRefused", "denied", why="another_person", by=person
            )
            raise AccessDenied("an agent asks another person than you; if it was you, check who "
                               "is signed in here")  # fmt: skip
        return session

    def _status(self, session: Session) -> str:
        status = _STATUS[session.phase]
        if status in _STILL_OPEN and self._authorizations.over(session):
            return "EXPIRED"
        return status


def is_user(person: Caller, user: str) -> bool:
    """Whether a signed-in person is the user for whom an agent asks: by their name here, where the
    caller vouched for an id, or by what their own provider calls them."""
    if person.kind not in (CallerKind.PERSON, CallerKind.ADMIN):
        return False
    how, _, name = user.partition(":")
    if how == "id":
        return person.user is not None and name == person.user
    issuer, subject = person.claims.get("iss"), person.claims.get("sub")
    return how == "jwt" and bool(issuer and subject) and name == f"{issuer}|{subject}"
