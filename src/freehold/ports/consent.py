"""A person lets an agent use an account of theirs: what the console's page shows and does.

The page is /console/consent/{id}: agents hand out its address; the provider's answer ends there.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from freehold.kernel.caller import Caller


class ScopeInWords(msgspec.Struct, frozen=True):
    """`words` is "" for a scope that we have no words for: then show its name alone."""

    scope: str
    words: str


class ConsentAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for what. All text comes from tenants: escape it.

    `agent` is the workload identity's name; `provider` the credential provider's name, `vendor`
    that of its make ("GitHub", or "" for one of the tenant's own); `account_host` is where the
    person goes on to sign in ("github.com") and `account_origin` the same as an origin, which the
    page's `form-action` must allow, because approving redirects there. `user` is for whom.
    `status` says whether it can still be answered.
    """

    id: str
    agent: str
    provider: str
    vendor: str
    account_host: str
    account_origin: str
    scopes: tuple[ScopeInWords, ...]
    user: str
    expires_at: datetime
    status: Literal["ASKED", "UNDER_WAY", "GRANTED", "DENIED", "FAILED", "EXPIRED"]
    failure: str = ""


class Consents(Protocol):
    """`person` is the signed-in person of the console (CallerKind.PERSON or ADMIN).

    Every method: NotFound for an id that is unknown or of another tenant, AccessDenied where the
    agent asks for another user than this person. Both before anything is shown or stored. A page
    reads `asked` anew after the person comes back: its `status` is the outcome.
    """

    async def asked(self, id: str, person: Caller) -> ConsentAsked: ...

    async def approve(self, id: str, person: Caller) -> str:
        """Where the browser goes next, as a full URL: an address of the platform's own, which
        redirects to the provider. Use it at once, and once. Conflict if no longer ASKED or
        UNDER_WAY."""

    async def deny(self, id: str, person: Caller) -> None:
        """The agent is told that it failed. Conflict if it was answered before."""


AUTHORIZE_PATH = "/identities/oauth2/authorize"
"""Of the platform: opens an authorization in a person's browser. `?request_uri=` names it."""


class Departure(msgspec.Struct, frozen=True, kw_only=True):
    """The browser goes to `url` with the cookie `name`=`value`, HttpOnly, SameSite=Lax, below
    /identities/oauth2, for `seconds`: only the browser that left may bring back the answer."""

    url: str
    name: str
    value: str
    seconds: int

    def __repr__(self) -> str:
        return "Departure(...)"


class BrowserSteps(Protocol):
    """What a browser does on its way to the provider and back. Both raise NotFound, AccessDenied
    or ValidationFailed, with words for the person, or Unavailable."""

    async def leave(self, request_uri: str, ticket: str | None) -> Departure | str:
        """Or the address of the page that must be answered first."""

    async def come_back(
        self, callback_id: str, query: Mapping[str, str], cookies: Mapping[str, str]
    ) -> str:
        """Where the browser goes next: to the application, or to the console's page."""
