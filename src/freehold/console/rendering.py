"""HTML from templates, and the JSON twin of the same data."""

import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from freehold.console import cedar_text, charts, navigation, spans, words
from freehold.console.answer import Page
from freehold.console.cookies import THEME
from freehold.console.differences import difference
from freehold.console.failures import Failure
from freehold.console.filters import with_query
from freehold.console.static_files import StaticFiles
from freehold.console.viewer import viewer_of
from freehold.console.visit import FORM_TOKEN, Visit
from freehold.ports.replay import is_fork

THEMES = ("auto", "light", "dark")


class Renderer:
    def __init__(
        self, files: StaticFiles, *, menu: Sequence[navigation.Item] = navigation.ITEMS
    ) -> None:
        self._menu = menu
        self._templates = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_plain,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.globals.update(
            asset=files.path, charts=charts, tone=words.tone, with_query=with_query,
            difference=difference, is_fork=is_fork, may_fork=spans.may_fork,
        )  # fmt: skip
        self._templates.filters.update(
            minutes_left=_minutes_left, moment=words.moment, absolute=words.absolute,
            clock=words.clock, ago=words.ago, duration=words.duration, number=words.number,
            whole=words.whole, dollars=words.dollars, size=words.size, pretty=words.pretty,
            cedar=cedar_text.coloured, urlencode=_quoted,
        )  # fmt: skip

    def html(self, page: Page, visit: Visit) -> bytes:
        context = self._context(page, visit)
        return self._templates.get_template(page.template).render(context).encode()

    def fragment(self, template: str, data: Any, visit: Visit) -> str:
        """A piece of a page, for its script to put in. `template` does not extend base.html."""
        page = Page(template=template, title="", data=data)
        return self._templates.get_template(template).render(self._context(page, visit))

    def _context(self, page: Page, visit: Visit) -> dict[str, Any]:
        caller, path = visit.caller, visit.path

        def link(changes: Mapping[str, str | int | None]) -> str:
            """This page's address with changes to its query; None takes a parameter out."""
            query = visit.query if visit.method == "GET" else {}
            return with_query(path, query, **changes)

        return {
            "page": page,
            "data": page.data,
            "viewer": None if caller is None else viewer_of(caller),
            "places": [] if caller is None else navigation.places(caller, visit.path, self._menu),
            "here": path,
            "query": visit.query,
            "link": link,
            "address": visit.address,
            "form_token": visit.form_token,
            "theme": theme_of(visit),
            "themes": THEMES,
            "request_id": visit.request_id,
        }

    def json(self, page: Page, visit: Visit) -> bytes:
        """The page's data as it is, and the token that a form sent by a program needs."""
        if isinstance(page.data, Failure):
            return msgspec.json.encode({"error": page.data})
        return msgspec.json.encode({"page": page.data, FORM_TOKEN: visit.form_token})


def theme_of(visit: Visit) -> str:
    chosen = visit.cookies.get(THEME.name(visit.secure), "")
    return chosen if chosen in THEMES else "auto"


def _plain(value: Any) -> Any:
    """Names come from tenants: what is invisible in them, or turns text around, is shown to be."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isascii():
        return value
    return "".join("\ufffd" if _hides(c) else c for c in value)


def _hides(character: str) -> bool:
    # Format characters, but for the joiners that some scripts are written with.
    category = unicodedata.category(character)
    return category in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") and character not in "\n\u200c\u200d"


def _quoted(value: Any) -> str:
    """One segment of a path, or one value of a query: Jinja's own leaves a slash as it is."""
    return quote(str(value), safe="")


def _minutes_left(moment: datetime) -> str:
    left = (moment - datetime.now(UTC)).total_seconds()
    if left <= 0:
        return "now"
    minutes = max(1, round(left / 60))
    return "in 1 minute" if minutes == 1 else f"in {minutes} minutes"
