"""Redirects and a cookie. Open to everybody: what makes a request good is in its state and cookie.

GET /identities/oauth2/authorize?request_uri=...      -> the provider, or the console's page
GET /identities/oauth2/callback/{id}?state=...&code=  -> the application, or the console's page
"""

import html
import logging
from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from freehold.kernel.errors import FreeholdError, NotFound, ValidationFailed
from freehold.kernel.session import doorway_session
from freehold.ports.consent import AUTHORIZE_PATH, BrowserSteps, Departure
from freehold.ports.credentials import CALLBACK_PATH

log = logging.getLogger(__name__)

_QUERY_BYTES_MAX = 16 << 10
_COOKIE_PATH = "/identities/oauth2"
_HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "frame-ancestors 'none'",
}
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Sign-in not completed</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body{{font:16px/1.6 system-ui,sans-serif;max-width:34rem;margin:16vh auto;padding:0 1.5rem}}
@media(prefers-color-scheme:dark){{body{{background:#111;color:#ddd}}}}</style>
<h1>Sign-in not completed</h1><p>{words}</p></html>"""


class OauthEdge:
    """An ASGI application; what is not a browser's step goes to `otherwise`."""

    def __init__(self, steps: BrowserSteps, *, secure: bool, otherwise: ASGIApp) -> None:
        """`secure`: browsers reach us by https, and send the cookie by that alone."""
        self._steps, self._secure, self._otherwise = steps, secure, otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        authorize, callback = path == AUTHORIZE_PATH, path.startswith(CALLBACK_PATH)
        if not (authorize or callback) or scope["method"] != "GET":
            await self._otherwise(scope, receive, send)
            return
        request = HttpRequest(scope, receive)
        try:
            if doorway_session(scope) is not None:
                raise NotFound("This address is for browsers.")
            query = _query(scope["query_string"])
            answer = await (self._leave(query) if authorize else self._come_back(request, query))
        except FreeholdError as error:
            words = html.escape(error.message)
            answer = HTMLResponse(_PAGE.format(words=words), error.status, _HEADERS)
        except Exception:  # the boundary: whatever it was, it must not leak
            log.exception("a browser's step failed: %s", path.partition("?")[0])
            words = "An error of the platform's own. Ask the agent again."
            answer = HTMLResponse(_PAGE.format(words=words), 500, _HEADERS)
        await answer(scope, receive, send)

    async def _leave(self, query: Mapping[str, str]) -> Response:
        left = await self._steps.leave(query.get("request_uri", ""), query.get("ticket"))
        if not isinstance(left, Departure):
            return _redirect(left)
        answer = _redirect(left.url)
        answer.set_cookie(
            left.name, left.value, max_age=left.seconds, path=_COOKIE_PATH,
            secure=self._secure, httponly=True, samesite="lax",
        )  # fmt: skip
        return answer

    async def _come_back(self, request: HttpRequest, query: Mapping[str, str]) -> Response:
        callback_id = request.url.path.removeprefix(CALLBACK_PATH)
        return _redirect(await self._steps.come_back(callback_id, query, request.cookies))


def _redirect(url: str) -> Response:
    return RedirectResponse(url, 302, _HEADERS)


def _query(raw: bytes) -> dict[str, str]:
    """A parameter that comes twice is an attack or an error: nobody has to guess which counts."""
    if len(raw) > _QUERY_BYTES_MAX:
        raise ValidationFailed("The address is too long.")
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, max_num_fields=30)
    except ValueError as error:
        raise ValidationFailed("The address cannot be read.") from error
    found = dict(pairs)
    if len(found) != len(pairs) or any("\0" in value for value in found.values()):
        raise ValidationFailed("The address cannot be read.")
    return found
