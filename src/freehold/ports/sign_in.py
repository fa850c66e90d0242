"""Sign-in of people in a browser, and their leave for a sign-in of a command line."""

from datetime import datetime
from typing import Protocol

import msgspec

from freehold.kernel.caller import Caller
from freehold.kernel.errors import Unauthorized


class SignInRefused(Unauthorized):
    """401. The message may be shown: it repeats no input, nor says whether a name is known."""


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """`binding` is a secret of this browser alone: an HttpOnly, SameSite=Lax cookie on the
    callback's path for `seconds_max`, given back to `finish` and deleted then."""

    url: str
    binding: str
    seconds_max: int

    def __repr__(self) -> str:
        return "Begun(...)"


class SignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """`token` is new at every sign-in: an HttpOnly, SameSite=Lax cookie for `seconds_max`.
    `next` is a path of this server, checked."""

    token: str
    seconds_max: int
    caller: Caller
    next: str

    def __repr__(self) -> str:
        return f"SignedIn({self.caller.principal})"


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant in which a person has roles."""

    tenant: str
    name: str
    roles: frozenset[str]


class SignIn(Protocol):
    """`source` is the client's address: guesses are throttled by it, and the audit has it.

    Throttled after too many guesses; Unavailable when the provider or the store is away.
    """

    @property
    def provider(self) -> str | None:
        """The host of the OpenID provider, for the button's text; None: `local` is the way."""

    async def begin(self, next: str = "/console") -> Begun:
        """Where to send the browser. A `next` that is no path of this server becomes /console."""

    async def finish(self, query: str, *, binding: str | None, source: str) -> SignedIn:
        """`query` is the callback's raw query string (/console/callback). Once for each `begin`."""

    async def local(
        self, name: str, password: str, *, next: str = "/console", source: str
    ) -> SignedIn: ...

    async def session(self, token: str) -> Caller | None:
        """The caller as of now (roles change at once); None: unknown, ended, idle or too old."""

    async def end(self, token: str) -> None: ...

    async def accounts(self, token: str) -> list[Account]:
        """Where else the person of this session may act; the first tenant first."""

    async def switch(self, token: str, tenant: str) -> SignedIn:
        """The same person in another account: a new token, the old one ends."""


class DeviceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Shown to the person before they approve. `description` is what the device says of itself.

    `nearby`: the answer goes back to a port of the browser's own machine, so that nobody elsewhere
    can have it. Where it is False the page warns: only who started `freehold login` should go on.
    """

    user_code: str
    description: str
    source: str
    nearby: bool
    expires_at: datetime


class Approved(msgspec.Struct, frozen=True, kw_only=True):
    """`redirect`: on http://127.0.0.1:{port}, where the browser goes; None: say that it is done."""

    redirect: str | None = None

    def __repr__(self) -> str:
        return "Approved(...)"


class Devices(Protocol):
    """For the page /console/device, whose `?code=` may hold a user code. Codes may be typed in
    lower case and without the dash. NotFound: unknown, expired or answered; Throttled: too many
    wrong ones by this person. Only callers of kind PERSON; AccessDenied to others."""

    async def pending(self, user_code: str, caller: Caller) -> DeviceRequest: ...

    async def approve(self, user_code: str, caller: Caller) -> Approved:
        """Credentials for this person in the caller's tenant go to the device."""

    async def deny(self, user_code: str, caller: Caller) -> None: ...
