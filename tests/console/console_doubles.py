"""What the console shows, without what is behind it: doubles of the ports that it needs."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from freehold.console.platform import address
from freehold.console.visit import Visit
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.errors import AccessDenied, Conflict, NotFound, Throttled
from freehold.ports.consent import ConsentAsked, ScopeInWords
from freehold.ports.sign_in import (
    Account,
    Approved,
    Begun,
    DeviceRequest,
    SignedIn,
    SignInRefused,
)
from freehold.ports.web import WebStream

FIRST, SECOND = "123456789012", "210987654321"
PASSWORD = "correct horse battery staple"


def person(name: str = "ada", tenant: str = FIRST, *roles: str) -> Caller:
    return Caller(
        tenant=tenant,
        principal=f"arn:aws:iam::{tenant}:user/{name}",
        kind=CallerKind.PERSON,
        user=name,
        roles=frozenset(roles or ("admin",)),
    )


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=9, seconds=40)


class SignInDouble:
    """Implements `ports.sign_in.SignIn`: everybody knows the one password."""

    def __init__(self) -> None:
        self.provider: str | None = None
        self.sessions: dict[str, Caller] = {}
        self.begun: list[str] = []
        self.finished: list[tuple[str, str | None]] = []
        self.failing: Exception | None = None
        self.next = "/console"
        self.roles: tuple[str, ...] = ("admin",)
        self._number = 0

    async def begin(self, next: str = "/console") -> Begun:
        self._fail()
        self.begun.append(next)
        self.next = next
        return Begun(url="https://login.example.test/authorize?x=1", binding="b1", seconds_max=600)

    async def finish(self, query: str, *, binding: str | None, source: str) -> SignedIn:
        self._fail()
        self.finished.append((query, binding))
        if binding != "b1":
            raise SignInRefused("this sign-in was not begun in this browser; begin again")
        return self.enter(next=self.next)

    async def local(
        self, name: str, password: str, *, next: str = "/console", source: str
    ) -> SignedIn:
        self._fail()
        if password != PASSWORD:
            raise SignInRefused("that name or password is not right")
        return self.enter(name, next=next)

    def enter(self, name: str = "ada", *, tenant: str = FIRST, next: str = "/console") -> SignedIn:
        self._number += 1
        token = f"session-{self._number}-of-{name}"
        caller = self.sessions[token] = person(name, tenant, *self.roles)
        return SignedIn(token=token, seconds_max=3600, caller=caller, next=next)

    async def session(self, token: str) -> Caller | None:
        self._fail()
        return self.sessions.get(token)

    async def end(self, token: str) -> None:
        self.sessions.pop(token, None)

    async def accounts(self, token: str) -> list[Account]:
        return [
            Account(tenant=FIRST, name="Home", roles=frozenset({"admin"})),
            Account(tenant=SECOND, name="<b>Laboratory</b>", roles=frozenset({"auditor"})),
        ]

    async def switch(self, token: str, tenant: str) -> SignedIn:
        if tenant not in (FIRST, SECOND):
            raise AccessDenied("you have no role in that account")
        caller = self.sessions.pop(token)
        return self.enter(str(caller.user), tenant=tenant)

    def _fail(self) -> None:
        if self.failing is not None:
            raise self.failing


class DevicesDouble:
    """Implements `ports.sign_in.Devices`: knows one code."""

    def __init__(self) -> None:
        self.request = DeviceRequest(
            user_code="BCDF-GHJK",
            description="freehold login on ada-laptop (Linux)",
            source="203.0.113.7",
            nearby=False,
            expires_at=soon(),
        )
        self.redirect: str | None = None
        self.answers: list[tuple[str, str]] = []
        self.throttled = False

    async def pending(self, user_code: str, caller: Caller) -> DeviceRequest:
        if self.throttled:
            raise Throttled("too many wrong codes")
        if user_code.upper().replace("-", "") != "BCDFGHJK" or self.answers:
            raise NotFound("nobody asked with this code")
        return self.request

    async def approve(self, user_code: str, caller: Caller) -> Approved:
        await self.pending(user_code, caller)
        self.answers.append(("approve", str(caller.user)))
        return Approved(redirect=self.redirect)

    async def deny(self, user_code: str, caller: Caller) -> None:
        await self.pending(user_code, caller)
        self.answers.append(("deny", str(caller.user)))


class ConsentsDouble:
    """Implements `ports.consent.Consents`: one request, to ada."""

    def __init__(self) -> None:
        self.request = ConsentAsked(
            id="c-0123456789abcdef",
            agent="travel_planner",
            provider="google-calendar",
            vendor="Google",
            account_host="accounts.google.com",
            account_origin="https://accounts.google.com",
            scopes=(
                ScopeInWords("openid", "Know who you are"),
                ScopeInWords(
                    "https://www.googleapis.com/auth/calendar.events",
                    "See, add, change and delete events of your calendars",
                ),
                ScopeInWords("https://www.googleapis.com/auth/tasks.readonly", ""),
            ),
            user="ada",
            expires_at=soon(),
            status="ASKED",
        )
        self.onward = "https://accounts.google.test/authorize?state=1"
        self.answers: list[tuple[str, str]] = []

    def change(self, **fields: object) -> None:
        self.request = msgspec.structs.replace(self.request, **fields)

    async def asked(self, id: str, person: Caller) -> ConsentAsked:
        if id != self.request.id:
            raise NotFound("there is no such request")
        if person.user != self.request.user:
            raise AccessDenied("the agent asks for another user")
        return self.request

    async def approve(self, id: str, person: Caller) -> str:
        asked = await self.asked(id, person)
        if asked.status not in ("ASKED", "UNDER_WAY"):
            raise Conflict("it was answered before")
        self.answers.append(("allow", str(person.user)))
        self.change(status="UNDER_WAY")
        return self.onward

    async def deny(self, id: str, person: Caller) -> None:
        asked = await self.asked(id, person)
        if asked.status != "ASKED":
            raise Conflict("it was answered before")
        self.answers.append(("deny", str(person.user)))
        self.change(status="DENIED")


class PlatformDouble:
    """Implements `console.ports.Platform`: answers what stands in `answers` by "GET /path", with
    the path filled in. A value, a list of JSON lines or an iterator that goes on, an error to be
    raised, or a function of the body and the query. What was asked stands in `asked`."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, str, Any, dict[str, str]]] = []

    async def get(self, visit: Visit, path: str, **params: Any) -> Any:
        return self._answer("GET", path, None, params)

    async def post(self, visit: Visit, path: str, body: Any = None, **params: Any) -> Any:
        return self._answer("POST", path, body, params)

    async def put(self, visit: Visit, path: str, body: Any = None, **params: Any) -> Any:
        return self._answer("PUT", path, body, params)

    async def patch(self, visit: Visit, path: str, body: Any = None, **params: Any) -> Any:
        return self._answer("PATCH", path, body, params)

    async def delete(self, visit: Visit, path: str, **params: Any) -> Any:
        return self._answer("DELETE", path, None, params)

    async def open(
        self,
        visit: Visit,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        **params: Any,
    ) -> WebStream:
        return StreamDouble(self._answer(method, path, body, params))

    async def lines(self, visit: Visit, path: str, **params: Any) -> AsyncIterator[Any]:
        found = self._answer("GET", path, None, params)
        if isinstance(found, AsyncIterator):
            return found

        async def each() -> AsyncIterator[Any]:
            for line in found:
                yield line

        return each()

    def _answer(self, method: str, path: str, body: Any, params: Mapping[str, Any]) -> Any:
        raw_path, query = address(path, params)
        given = dict(parse_qsl(query))
        self.asked.append((method, raw_path, body, given))
        found = self.answers.get(f"{method} {raw_path}", NotFound(f"no such path: {raw_path}"))
        if callable(found):
            found = found(body, given)
        if isinstance(found, Exception):
            raise found
        return found


class StreamDouble:
    """Implements `ports.web.WebStream`. `pieces`: bytes, or a list of them."""

    def __init__(self, pieces: Any) -> None:
        self.status = 200
        self.headers: Mapping[str, str] = {"content-type": "text/plain"}
        self._pieces = [pieces] if isinstance(pieces, bytes) else list(pieces)

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece

    async def read(self, bytes_max: int) -> bytes:
        return b"".join(self._pieces)[:bytes_max]

    def close(self) -> None:
        self._pieces = []


class AuthorizerDouble:
    """Implements `ports.authorizer.Authorizer`: allows all but what stands in `denied`."""

    def __init__(self) -> None:
        self.denied: set[str] = set()
        self.asked: list[tuple[str, str]] = []

    async def authorize(self, caller: Caller, operation: str, resource_arn: str | None) -> str:
        self.asked.append((caller.principal, operation))
        if operation in self.denied:
            raise AccessDenied("your roles do not allow this")
        return caller.tenant
