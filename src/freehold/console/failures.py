"""What goes wrong, said so that a person knows what to do next."""

from urllib.parse import quote

import msgspec

from freehold.console.answer import GoTo, Page
from freehold.console.visit import HOME, CrossSite, FormOutOfDate, Visit
from freehold.kernel.errors import FreeholdError, Unauthorized

SIGN_IN = "/console/sign-in"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Data of `failure.html`; as JSON the error shape of our own API."""

    status: int
    code: str
    heading: str
    message: str
    request_id: str


_HEADINGS = {
    400: "That request is not right",
    401: "Sign in first",
    403: "You may not do this",
    404: "This page does not exist",
    405: "That is not what this page is for",
    409: "That has been settled already",
    429: "Too many tries",
    503: "Not just now",
}


def failure_page(error: FreeholdError, visit: Visit) -> Page:
    status = error.status if error.status in _HEADINGS else 500
    heading = _HEADINGS.get(status, "Something went wrong here")
    if isinstance(error, CrossSite | FormOutOfDate):
        heading = "This came from somewhere else"
    if isinstance(error, FormOutOfDate):
        heading = "This page is out of date"
    return Page(
        template="failure.html",
        title=heading,
        status=status,
        data=Failure(
            status=status,
            code=error.code,
            heading=heading,
            message=_sentence(error.message),
            request_id=visit.request_id,
        ),
    )


def goes_to_sign_in(error: FreeholdError, visit: Visit) -> GoTo | None:
    """Where a browser goes that has no session; a program gets the error."""
    if not isinstance(error, Unauthorized) or visit.wants_json or visit.path == SIGN_IN:
        return None
    if visit.address == HOME:
        return GoTo(location=SIGN_IN)
    return GoTo(location=f"{SIGN_IN}?next={quote(visit.address, safe='')}")


def _sentence(message: str) -> str:
    text = message[:1].upper() + message[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
