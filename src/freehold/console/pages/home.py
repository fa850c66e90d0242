"""Your account: who is here, and what they may do."""

import msgspec

from freehold.console.answer import Answer, GoTo, Page
from freehold.console.cookies import THEME
from freehold.console.rendering import THEMES
from freehold.console.routes import Route
from freehold.console.viewer import Viewer, viewer_of
from freehold.console.visit import HOME, Visit, local_path
from freehold.kernel.errors import ValidationFailed
from freehold.ports.sign_in import Account, SignIn

_THEME_SECONDS = 365 * 24 * 3600


class Home(msgspec.Struct, frozen=True, kw_only=True):
    you: Viewer
    accounts: list[Account]
    """All that the person may act in, this one too."""
    version: str
    region: str


class HomePages:
    def __init__(self, sign_in: SignIn, *, version: str, region: str) -> None:
        self._sign_in, self._version, self._region = sign_in, version, region

    def routes(self) -> list[Route]:
        return [
            Route(method="GET", path=f"{HOME}/home", act=self.show, operation="GetHome"),
            Route(method="POST", path="/console/theme", act=self.set_theme, operation=None),
        ]

    async def show(self, visit: Visit) -> Answer:
        assert visit.session_token is not None
        home = Home(
            you=viewer_of(visit.person),
            accounts=await self._sign_in.accounts(visit.session_token),
            version=self._version,
            region=self._region,
        )
        return Page(template="home.html", title="Your account", data=home)

    async def set_theme(self, visit: Visit) -> Answer:
        theme = visit.form.get("theme")
        if theme not in THEMES:
            raise ValidationFailed(f"a theme is one of {', '.join(THEMES)}")
        kept = THEME.set(theme, secure=visit.secure, seconds=_THEME_SECONDS)
        return GoTo(location=local_path(visit.form.get("back")), cookies=(kept,))
