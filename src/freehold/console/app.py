"""Serves the console: finds the page, takes the governed path, answers in HTML or JSON."""

import logging
from collections.abc import Sequence
from http.client import SEE_OTHER

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from freehold.console import protection
from freehold.console.answer import Answer, GoTo, Page, Stream
from freehold.console.cookies import FORM
from freehold.console.failures import failure_page, goes_to_sign_in
from freehold.console.ports import Govern
from freehold.console.rendering import Renderer
from freehold.console.routes import Route, match
from freehold.console.static_files import PREFIX as STATIC
from freehold.console.static_files import StaticFiles
from freehold.console.visit import Visit, visit_of
from freehold.kernel.caller import Caller
from freehold.kernel.errors import FreeholdError, NotFound, PlatformFailed, Unauthorized
from freehold.kernel.session import doorway_session
from freehold.ports.sign_in import SignIn

log = logging.getLogger(__name__)


class Console:
    """An ASGI application for /console and everything below it."""

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        govern: Govern,
        sign_in: SignIn,
        files: StaticFiles,
        renderer: Renderer,
        public_url: str,
    ) -> None:
        self._routes, self._govern, self._sign_in = routes, govern, sign_in
        self._files, self._renderer = files, renderer
        self._public_url = public_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if doorway_session(scope) is None and (file := self._file(scope)):
            await file(scope, receive, send)
            return
        try:
            visit = visit_of(scope, receive, self._public_url)
        except FreeholdError as error:
            # What stands in the query is bad already.
            bare = visit_of({**scope, "query_string": b""}, receive, self._public_url)
            await self._respond(failure_page(error, bare), bare, send)
            return
        await self._visit(visit, send)

    def _file(self, scope: Scope) -> Response | None:
        if not scope["path"].startswith(STATIC) or scope["method"] not in ("GET", "HEAD"):
            return None
        file = self._files.find(scope["path"])
        if file is None:
            return None
        headers = {
            **protection.headers(secure=False, host=""),
            "cache-control": "public, max-age=31536000, immutable",
        }
        return Response(file.body, 200, headers, media_type=file.media_type)

    async def _visit(self, visit: Visit, send: Send) -> None:
        answered = _Once(send)
        try:
            if doorway_session(visit.scope) is not None:
                raise NotFound("the console is for people, and has no way in from a session")
            by_method, visit.params = match(self._routes, visit.path)
            if not by_method:
                raise NotFound(
                    "nothing is at this address; it may have been mistyped or have ended"
                )
            route = by_method.get(visit.method)
            if route is None:
                await self._respond_wrong_method(by_method, visit, answered)
                return
            await self._act(route, visit, answered)
        except FreeholdError as error:
            await self._refuse(error, visit, answered)
        except Exception:  # the boundary: whatever it was, it must not leak
            log.exception("%s failed (request %s)", visit.path, visit.request_id)
            failed = PlatformFailed("an error of the platform's own; its log names this request")
            await self._refuse(failed, visit, answered)

    async def _act(self, route: Route, visit: Visit, send: "_Once") -> None:
        if route.method == "POST":
            visit.check_same_origin()
        else:
            visit.check_not_embedded()
        if route.operation is None:
            await _prepare(visit)
            await self._respond(await route.act(visit), visit, send)
            return

        async def authenticate() -> Caller:
            # Known from here on: a refusal by a later step is a page in the person's frame.
            visit.caller = await self._caller(visit)
            return visit.caller

        async def prepare() -> None:
            await _prepare(visit)

        async with self._govern(
            f"console:{route.operation}", visit.scope, visit.receive,
            request_id=visit.request_id, authenticate=authenticate, prepare=prepare,
        ) as call:  # fmt: skip
            visit.caller, visit.noted = call.known_caller, call.noted
            answer = await route.act(visit)
            await call.acknowledge(_status(answer))
            await self._respond(answer, visit, send)

    async def _caller(self, visit: Visit) -> Caller:
        token = visit.session_token
        caller = None if token is None else await self._sign_in.session(token)
        if caller is None:
            raise Unauthorized("sign in first")
        return caller

    async def _refuse(self, error: FreeholdError, visit: Visit, send: "_Once") -> None:
        if send.begun:
            log.warning("%s broke off in its answer: %s", visit.path, error.message)
            return
        answer = goes_to_sign_in(error, visit) or failure_page(error, visit)
        await self._respond(answer, visit, send)

    async def _respond_wrong_method(
        self, by_method: dict[str, Route], visit: Visit, send: "_Once"
    ) -> None:
        error = FreeholdError(f"this page does not take {visit.method}")
        error.code, error.status = "MethodNotAllowed", 405
        allowed = ", ".join(sorted(by_method))
        await self._respond(failure_page(error, visit), visit, send, {"allow": allowed})

    async def _respond(
        self, answer: Answer, visit: Visit, send: Send, extra: dict[str, str] | None = None
    ) -> None:
        fixed = {
            **protection.headers(secure=visit.secure, host=visit.headers.get("host", "")),
            "cache-control": "no-store",
            "x-request-id": visit.request_id,
            "vary": "Accept, Cookie",
            **(extra or {}),
        }
        response: Response
        if isinstance(answer, Stream):
            response = StreamingResponse(answer.chunks, 200, fixed, media_type=answer.media_type)
        else:
            status, media_type, body, headers = self._content(answer, visit)
            response = Response(body, status, {**fixed, **headers}, media_type=media_type)
        for cookie in (*answer.cookies, *_new_cookies(visit)):
            response.raw_headers.append((b"set-cookie", cookie.encode("latin-1")))
        try:
            await response(visit.scope, visit.receive, send)
        except ClientDisconnect:
            log.debug("%s: the browser left before the end", visit.path)
        finally:
            if isinstance(answer, Stream):
                await answer.chunks.aclose()

    def _content(self, answer: Page | GoTo, visit: Visit) -> tuple[int, str, bytes, dict[str, str]]:
        if isinstance(answer, GoTo):
            if visit.wants_json:
                said = msgspec.json.encode({"location": answer.location})
                return 200, "application/json", said, {}
            return SEE_OTHER, "text/html", b"", {"location": answer.location}
        if visit.wants_json:
            return answer.status, "application/json", self._renderer.json(answer, visit), {}
        return answer.status, "text/html", self._renderer.html(answer, visit), {}


def _status(answer: Answer) -> int:
    if isinstance(answer, Page):
        return answer.status
    return SEE_OTHER if isinstance(answer, GoTo) else 200


class _Once:
    """Passes messages on, and knows whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send, self.begun = send, False

    async def __call__(self, message: Message) -> None:
        self.begun = True
        await self._send(message)


async def _prepare(visit: Visit) -> None:
    if visit.method == "POST":
        await visit.read_form()


def _new_cookies(visit: Visit) -> list[str]:
    if visit.new_form_key is None:
        return []
    return [FORM.set(visit.new_form_key, secure=visit.secure)]
