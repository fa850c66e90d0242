"""Signing in and out, and acting in another account."""

from urllib.parse import quote

import msgspec

from freehold.console.answer import Answer, GoTo, Page
from freehold.console.cookies import BINDING, SESSION
from freehold.console.failures import SIGN_IN
from freehold.console.routes import Route
from freehold.console.visit import Visit, local_path
from freehold.kernel.errors import FreeholdError, Throttled, Unavailable
from freehold.ports.sign_in import SignedIn, SignIn, SignInRefused

_NAME_CHARS_MAX = 200
_PASSWORD_CHARS_MAX = 1000


class SignInForm(msgspec.Struct, frozen=True, kw_only=True):
    """`provider`: the host of the OpenID provider; None: a name and a password are asked for."""

    provider: str | None
    next: str
    name: str = ""
    problem: str = ""
    notice: str = ""
    wrong: bool = False
    """The name or the password: the fields are marked."""


class SignInPages:
    def __init__(self, sign_in: SignIn) -> None:
        self._sign_in = sign_in

    def routes(self) -> list[Route]:
        return [
            Route(method="GET", path=SIGN_IN, act=self.show, operation=None),
            Route(method="POST", path=SIGN_IN, act=self.local, operation=None),
            Route(method="GET", path=f"{SIGN_IN}/provider", act=self.begin, operation=None),
            Route(method="GET", path=BINDING.path, act=self.finish, operation=None),
            Route(method="POST", path="/console/sign-out", act=self.out, operation=None),
            Route(
                method="POST", path="/console/account", act=self.switch, operation="SwitchAccount"
            ),
        ]

    async def show(self, visit: Visit) -> Answer:
        goal = local_path(visit.query.get("next"))
        if visit.session_token and await self._sign_in.session(visit.session_token):
            return GoTo(location=goal)
        notice = "You are signed out." if visit.query.get("signed") == "out" else ""
        return self._form(goal, notice=notice)

    async def local(self, visit: Visit) -> Answer:
        goal = local_path(visit.form.get("next"))
        name = visit.form.get("name", "").strip()
        password = visit.form.get("password", "")
        if not name or not password:
            return self._form(goal, name=name, problem="Enter your name and your password.")
        if len(name) > _NAME_CHARS_MAX or len(password) > _PASSWORD_CHARS_MAX:
            return self._form(goal, problem="That name or password is longer than any we have.")
        try:
            signed_in = await self._sign_in.local(name, password, next=goal, source=visit.source)
        except (SignInRefused, Throttled, Unavailable) as error:
            return self._form(goal, name=name, refused=error)
        return await self._enter(signed_in, visit)

    async def begin(self, visit: Visit) -> Answer:
        goal = local_path(visit.query.get("next"))
        if not visit.at_public_url and self._sign_in.provider is not None:
            # The provider sends the browser back to that name, and its cookie must be there.
            start = f"{visit.public_url}{SIGN_IN}?next={quote(goal, safe='')}"
            return GoTo(location=start)
        # A link of another site must not send anybody on: only our own button does.
        if self._sign_in.provider is None or not _from_our_page(visit):
            return GoTo(location=f"{SIGN_IN}?next={quote(goal, safe='')}")
        try:
            begun = await self._sign_in.begin(goal)
        except (SignInRefused, Throttled, Unavailable) as error:
            return self._form(goal, refused=error)
        binding = BINDING.set(begun.binding, secure=visit.secure, seconds=begun.seconds_max)
        return GoTo(location=begun.url, cookies=(binding,))

    async def finish(self, visit: Visit) -> Answer:
        query = visit.scope["query_string"].decode("latin-1")
        binding = visit.cookies.get(BINDING.name(visit.secure))
        forget = BINDING.delete(secure=visit.secure)
        try:
            signed_in = await self._sign_in.finish(query, binding=binding, source=visit.source)
        except (SignInRefused, Throttled, Unavailable) as error:
            return self._form("/console", refused=error, cookies=(forget,))
        return await self._enter(signed_in, visit, forget)

    async def out(self, visit: Visit) -> Answer:
        if visit.session_token:
            await self._sign_in.end(visit.session_token)
        # The form's `next`, if any: a person who was asked for as somebody else comes back.
        goal = local_path(visit.form.get("next"))
        after = "" if goal == "/console" else f"&next={quote(goal, safe='')}"
        gone = SESSION.delete(secure=visit.secure)
        return GoTo(location=f"{SIGN_IN}?signed=out{after}", cookies=(gone,))

    async def switch(self, visit: Visit) -> Answer:
        assert visit.session_token is not None
        signed_in = await self._sign_in.switch(visit.session_token, visit.form.get("tenant", ""))
        return GoTo(location="/console", cookies=(_session(signed_in, visit),))

    async def _enter(self, signed_in: SignedIn, visit: Visit, *cookies: str) -> Answer:
        if visit.session_token and visit.session_token != signed_in.token:
            await self._sign_in.end(visit.session_token)
        return GoTo(
            location=local_path(signed_in.next), cookies=(_session(signed_in, visit), *cookies)
        )

    def _form(
        self,
        goal: str,
        *,
        name: str = "",
        problem: str = "",
        notice: str = "",
        refused: FreeholdError | None = None,
        cookies: tuple[str, ...] = (),
    ) -> Page:
        status = 400 if problem else 200
        if refused is not None:
            status, problem = refused.status, _said(refused)
        return Page(
            template="sign_in.html",
            title="Sign in",
            status=status,
            cookies=cookies,
            data=SignInForm(
                provider=self._sign_in.provider,
                next=goal,
                name=name,
                problem=problem,
                notice=notice,
                wrong=isinstance(refused, SignInRefused),
            ),
        )


def _session(signed_in: SignedIn, visit: Visit) -> str:
    return SESSION.set(signed_in.token, secure=visit.secure, seconds=signed_in.seconds_max)


def _said(error: FreeholdError) -> str:
    if isinstance(error, Throttled):
        return "Too many tries. Wait a few minutes, then try again."
    text = error.message[:1].upper() + error.message[1:]
    return text if text.endswith(".") else f"{text}."


def _from_our_page(visit: Visit) -> bool:
    return visit.headers.get("sec-fetch-site", "same-origin") == "same-origin"
