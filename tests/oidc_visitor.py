"""A person with a browser, as far as an OpenID provider's login and consent pages need one."""

from html.parser import HTMLParser
from typing import Self
from urllib.parse import urljoin

import aiohttp


class Visitor:
    """A browser as far as forms need one: cookies, redirects, and the first form of a page."""

    _PAGES_MAX = 20

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def go_through(self, url: str, user: str, *, agree: bool = True) -> str:
        """Until a page has no form (then its text), or leads elsewhere (then its address)."""
        method, fields = "GET", None
        for _ in range(self._PAGES_MAX):
            if not url.startswith(f"{self._issuer}/"):
                return url
            status, location, page = await self._open(method, url, fields)
            if location is not None:
                method, url, fields = "GET", urljoin(url, location), None
                continue
            if status >= 400:
                raise AssertionError(f"{status} at {url}: {page}")
            form = _Form(page)
            if form.action is None:
                return page
            fields = form.fields
            if "login" in fields:
                fields.update(login=user, password="any")
            elif fields.get("prompt") == "consent" and not agree:
                method, url, fields = "GET", f"{urljoin(url, form.action)}/abort", None
                continue
            method, url = "POST", urljoin(url, form.action)
        raise AssertionError(f"no end after {self._PAGES_MAX} pages, at {url}")

    async def _open(
        self, method: str, url: str, fields: dict[str, str] | None
    ) -> tuple[int, str | None, str]:
        assert self._session is not None
        async with self._session.request(method, url, data=fields, allow_redirects=False) as answer:
            return answer.status, answer.headers.get("Location"), await answer.text()


class _Form(HTMLParser):
    """The first form of a page. `action`: None where there is none."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self._ended = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if tag == "form" and self.action is None:
            self.action = said.get("action") or ""
        elif tag == "input" and self.action is not None and not self._ended and said.get("name"):
            self.fields[str(said["name"])] = said.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        self._ended = self._ended or tag == "form"
