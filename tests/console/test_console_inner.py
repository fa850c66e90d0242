"""How pages get their data: requests of the platform's own, as the person who looks at them."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from console_doubles import person
from starlette.types import Receive, Scope, Send

from freehold.adapters.web.inner import Inside, Tickets
from freehold.console.platform import InnerPlatform, address
from freehold.console.visit import Visit, visit_of
from freehold.kernel.errors import (
    AccessDenied,
    Conflict,
    FreeholdError,
    NotFound,
    PlatformFailed,
    Throttled,
    Unavailable,
    ValidationFailed,
)
from freehold.kernel.own_addresses import OwnAddresses
from freehold.kernel.session import session_caller


class Application:
    """The worker's own application, as far as a page sees it."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]
        self.pieces: list[bytes] = [b'{"ok": true}']
        self.scope: Scope = {}
        self.body = b""
        self.broken = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.body = (await receive()).get("body", b"")
        start = {"type": "http.response.start", "status": self.status, "headers": self.headers}
        await send(start)
        for piece in self.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if self.broken:
            raise RuntimeError("the database is gone")
        await send({"type": "http.response.body"})


@pytest.fixture
def app() -> Application:
    return Application()


@pytest.fixture
async def platform(app: Application) -> AsyncIterator[InnerPlatform]:
    inside = Inside(OwnAddresses("https://agents.example.com"), Tickets())
    inside.app = app
    yield InnerPlatform(inside.begun)
    await inside.close()


@pytest.fixture
def visit() -> Visit:
    scope = {
        "type": "http", "method": "GET", "scheme": "https", "path": "/console/traces",
        "query_string": b"", "client": ("203.0.113.9", 4711), "server": None,
        "headers": [(b"host", b"agents.example.com"), (b"cookie", b"freehold_session=s3cret"),
                    (b"x-freehold-inner", b"forged"), (b"authorization", b"Bearer forged")],
    }  # fmt: skip

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    made = visit_of(scope, receive, "https://agents.example.com")
    made.caller = person("ada")
    return made


async def test_it_asks_as_the_person_and_with_nothing_else_of_theirs(
    platform: InnerPlatform, app: Application, visit: Visit
) -> None:
    assert await platform.get(visit, "/freehold/v1/keys", limit=5) == {"ok": True}
    assert session_caller(app.scope) == visit.caller
    assert app.scope["client"] == ("203.0.113.9", 4711), "the audit says from where"
    names = {name for name, _ in app.scope["headers"]}
    assert names == {b"host", b"accept"}
    assert (app.scope["raw_path"], app.scope["query_string"]) == (b"/freehold/v1/keys", b"limit=5")


async def test_nobody_asks_without_a_sign_in(
    platform: InnerPlatform, app: Application, visit: Visit
) -> None:
    visit.caller = None
    with pytest.raises(FreeholdError) as failed:
        await platform.get(visit, "/freehold/v1/keys")
    assert failed.value.status == 401
    assert app.scope == {}


async def test_bodies_are_json_both_ways(
    platform: InnerPlatform, app: Application, visit: Visit
) -> None:
    for ask, method in ((platform.post, "POST"), (platform.put, "PUT"), (platform.patch, "PATCH")):
        await ask(visit, "/freehold/v1/keys", {"name": "ci"})
        assert (app.scope["method"], msgspec.json.decode(app.body)) == (method, {"name": "ci"})
        assert (b"content-length", b"13") in app.scope["headers"]
    app.status, app.pieces = 204, []
    assert await platform.delete(visit, "/freehold/v1/keys/{id}", id="AKIA1") is None
    assert app.scope["method"] == "DELETE"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, ValidationFailed), (401, AccessDenied), (403, AccessDenied), (404, NotFound),
     (409, Conflict), (429, Throttled), (503, Unavailable), (500, PlatformFailed),
     (418, ValidationFailed)],
)  # fmt: skip
async def test_a_refusal_is_the_error_that_it_was(
    platform: InnerPlatform, app: Application, visit: Visit, status: int, kind: type[FreeholdError]
) -> None:
    app.status = status
    app.pieces = [b'{"error": {"code": "TheCode", "message": "why not", "requestId": "r"}}']
    with pytest.raises(kind) as failed:
        await platform.get(visit, "/freehold/v1/traces")
    assert (failed.value.code, failed.value.message) == ("TheCode", "why not")
    app.pieces, app.headers = [b'{"message": "AWS says"}'], [(b"x-amzn-errortype", b"AwsCode:x")]
    with pytest.raises(kind) as failed:
        await platform.open(visit, "POST", "/runtimes/{arn}/invocations", arn="arn:x")
    assert (failed.value.code, failed.value.message) == ("AwsCode", "AWS says")


async def test_an_answer_that_is_no_answer_is_unavailable(
    platform: InnerPlatform, app: Application, visit: Visit
) -> None:
    app.broken = True
    with pytest.raises(Unavailable):
        await platform.get(visit, "/freehold/v1/traces")


async def test_lines_come_whole_whatever_the_pieces(
    platform: InnerPlatform, app: Application, visit: Visit
) -> None:
    app.pieces = [b'{"a": 1}\n{"a"', b": 2}", b"\n\n", b'{"a": 3}\n']
    lines = await platform.lines(visit, "/freehold/v1/traces/live")
    assert [line async for line in lines] == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_what_is_put_into_a_path_stays_in_its_place() -> None:
    arn = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/a b"
    path, query = address("/runtimes/{arn}/invocations", {"arn": arn, "qualifier": "prod&x=1"})
    assert path == (
        "/runtimes/arn%3Aaws%3Abedrock-agentcore%3Aus-west-2%3A123456789012%3Aruntime%2Fa%20b"
        "/invocations"
    )
    assert query == "qualifier=prod%26x%3D1"
    assert address("/x", {"a": None, "b": "", "c": True, "d": 0}) == ("/x", "c=true&d=0")


@pytest.mark.parametrize("value", ["", ".", "..", "a/b", "../people/ada"])
def test_no_value_leads_to_another_operation(value: str) -> None:
    """Our own edge routes on the decoded path."""
    with pytest.raises(NotFound):
        address("/freehold/v1/keys/{id}", {"id": value})
