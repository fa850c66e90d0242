"""What a page answers with; the renderer makes HTML or its JSON twin of it."""

from collections.abc import AsyncGenerator
from typing import Any

import msgspec


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """`data` is all that the template shows, and the whole of the JSON twin.

    `cookies` are values of Set-Cookie headers.
    """

    template: str
    title: str
    data: Any
    status: int = 200
    cookies: tuple[str, ...] = ()


class GoTo(msgspec.Struct, frozen=True, kw_only=True):
    """A redirect by 303, after a form or to a page that comes first. JSON: `{"location": ...}`."""

    location: str
    cookies: tuple[str, ...] = ()


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that goes on, for the page's script: JSON lines, or text as it comes.

    `chunks` is closed at its end, and when the browser goes."""

    chunks: AsyncGenerator[bytes, None]
    media_type: str = "application/x-ndjson"
    cookies: tuple[str, ...] = ()


Answer = Page | GoTo | Stream


class Leaving(msgspec.Struct, frozen=True, kw_only=True):
    """Data of `leaving.html`: after a form, the browser goes to another origin.

    A page and not a redirect, for `form-action` holds for redirects too, and nobody knows through
    which hosts a provider sends a browser."""

    location: str
    to: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Data of `outcome.html`."""

    outcome: str
    heading: str
    text: str
    good: bool = False
