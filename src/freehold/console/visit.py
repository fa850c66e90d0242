"""One request of a browser: what it asks for, and whether it may be what it says."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from starlette.types import Receive, Scope

from freehold.console.cookies import BINDING, FORM, SESSION, same_token, token_of_form
from freehold.kernel import ids
from freehold.kernel.caller import Caller
from freehold.kernel.errors import AccessDenied, Unauthorized, ValidationFailed

HOME = "/console"
FORM_TOKEN = "form_token"  # noqa: S105 - the field's name
_FORM_BYTES_MAX = 64 << 10
_FIELDS_MAX = 50
_LOCAL_PATH = re.compile(r"/console(?:[/?][A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?")
_FORM_TYPE = "application/x-www-form-urlencoded"
_EMBEDDED = frozenset({"iframe", "frame", "object", "embed", "fencedframe"})


@dataclass(slots=True, kw_only=True)
class Visit:
    """`path` is quoted, so that a slash within a name is none between two, and has lost its
    ".json". `new_form_key` is a cookie still to be set.
    `public_url`: where the operator says that browsers reach the platform.

    `caller` is known on pages that need a sign-in, and None on all others. What a page puts in
    `noted` stands in the audit.
    """

    scope: Scope
    receive: Receive
    public_url: str
    method: str
    path: str
    wants_json: bool
    headers: Mapping[str, str]
    cookies: Mapping[str, str]
    query: Mapping[str, str]
    params: dict[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)
    caller: Caller | None = None
    request_id: str = field(default_factory=ids.request_id)
    new_form_key: str | None = None
    noted: dict[str, str] = field(default_factory=dict)

    @property
    def person(self) -> Caller:
        if self.caller is None:
            raise Unauthorized("sign in first")
        return self.caller

    @property
    def at_public_url(self) -> bool:
        """The browser uses the name that links and callbacks have. A cookie knows one name."""
        return urlsplit(self.public_url).netloc == self.headers.get("host", "").lower()

    @property
    def secure(self) -> bool:
        """TLS up to the browser, be it ours or that of a proxy before us."""
        return bool(self.scope["scheme"] == "https") or (
            self.public_url.startswith("https://") and self.at_public_url
        )

    @property
    def source(self) -> str:
        """The client's address."""
        client = self.scope.get("client")
        return str(client[0]) if client else ""

    @property
    def session_token(self) -> str | None:
        return self.cookies.get(SESSION.name(self.secure)) or None

    @property
    def form_token(self) -> str:
        """For the hidden field of every form on the page. Makes the key that it needs."""
        key = self.new_form_key or self.cookies.get(FORM.name(self.secure))
        if not key:
            key = self.new_form_key = FORM.new()
        return token_of_form(key, self.session_token)

    @property
    def address(self) -> str:
        """This page's own path and query, to come back to."""
        if self.path == BINDING.path:
            return HOME  # what its query held was good for once
        query = self.scope["query_string"].decode("latin-1")
        return local_path(f"{self.path}?{query}" if query and self.method == "GET" else self.path)

    async def read_form(self) -> None:
        """Takes the body, and refuses a form that no page of ours made for this browser."""
        if self.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM_TYPE:
            raise ValidationFailed(f"expected a form: {_FORM_TYPE}")
        body = b""
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ValidationFailed("the form did not arrive whole")
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > _FORM_BYTES_MAX:
                raise ValidationFailed(f"the form is larger than {_FORM_BYTES_MAX} bytes")
        self.form = _fields(body.decode("utf-8", "replace"))
        key = self.cookies.get(FORM.name(self.secure))
        given = self.form.get(FORM_TOKEN, "")
        if not key or not same_token(given, token_of_form(key, self.session_token)):
            raise FormOutOfDate("this form is out of date; go back, load the page again and retry")

    def check_same_origin(self) -> None:
        """For what changes something: only from a page of ours. A browser that says nothing of
        where it comes from is refused."""
        site = self.headers.get("sec-fetch-site")
        if site == "same-origin":
            return
        # Browsers say it to https and to this machine only; elsewhere the Origin must do.
        origin = self.headers.get("origin")
        if site is not None or (
            origin is not None and not _is_origin_of(origin, self.headers.get("host", ""))
        ):
            raise CrossSite("this request came from another site")
        if origin is None:
            raise CrossSite("this request does not say from which site it came")

    def check_not_embedded(self) -> None:
        """For pages: another site may link here, and nothing else."""
        if self.headers.get("sec-fetch-site") not in ("cross-site", "same-site"):
            return
        mode, goal = self.headers.get("sec-fetch-mode"), self.headers.get("sec-fetch-dest")
        if mode != "navigate" or goal in _EMBEDDED:
            raise CrossSite("other sites may link to this page, and not embed or read it")


class CrossSite(AccessDenied):
    """A request that another site made a browser send."""


class FormOutOfDate(AccessDenied):
    """A form without the token of this browser and session."""


def visit_of(scope: Scope, receive: Receive, public_url: str) -> Visit:
    headers = {}
    for name, value in scope["headers"]:
        headers[name.decode("latin-1")] = value.decode("latin-1")
    path = _quoted_path(scope)
    accepts = headers.get("accept", "")
    wants_json = "application/json" in accepts and "text/html" not in accepts
    if path.endswith(".json"):
        path, wants_json = path.removesuffix(".json"), True
    return Visit(
        scope=scope,
        receive=receive,
        public_url=public_url,
        method="GET" if scope["method"] == "HEAD" else scope["method"],
        path=path,
        wants_json=wants_json,
        headers=headers,
        cookies=_cookies(headers.get("cookie", "")),
        query=_fields(scope["query_string"].decode("latin-1")),
    )


def _quoted_path(scope: Scope) -> str:
    """Each segment quoted in the one way that pages do it, however the browser did."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    segments = raw.decode("latin-1").split("/")
    return "/".join(quote(unquote(segment), safe="-._~:@") for segment in segments)


def local_path(text: str | None) -> str:
    """A `next` that somebody gave us: a path of the console, or else its home page."""
    if not text or not _LOCAL_PATH.fullmatch(text):
        return HOME
    path = unquote(text.partition("?")[0])
    if "//" in path or "\\" in path or ".." in path.split("/"):
        return HOME
    return text


def _is_origin_of(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    # The scheme is not compared: a proxy before us may be the one that speaks TLS.
    return parts.scheme in ("http", "https") and bool(host) and parts.netloc == host.lower()


def _fields(text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_FIELDS_MAX)
    except ValueError:
        raise ValidationFailed(f"more than {_FIELDS_MAX} fields") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise ValidationFailed("a field is given twice")
        if "\0" in value:
            raise ValidationFailed("a field must not hold a NUL character")
        found[name] = value
    return found


def _cookies(header: str) -> dict[str, str]:
    """Of a name that is given twice, neither: one of the two was planted."""
    found: dict[str, str] = {}
    twice = set()
    for pair in header.split(";"):
        name, _, value = pair.strip().partition("=")
        if name in found:
            twice.add(name)
        found[name] = value
    return {name: value for name, value in found.items() if name not in twice}
