"""What a hostile page, link, name or network gets from the console: nothing."""

import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from console_answers import AGENT, SESSION, TRACE, fill
from console_doubles import PASSWORD
from served_console import Client, ServedConsole

from freehold import tls
from freehold.console.visit import local_path
from freehold.kernel.errors import Unavailable

HOSTILE = "<script>alert(1)</script>\"onload='x'"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
CONSENT = "/console/consent/c-0123456789abcdef"


# -- headers


@pytest.mark.parametrize(
    "path", ["/console/sign-in", "/console", "/console/nothing", "/console/sign-in.json"]
)
async def test_every_answer_forbids_scripts_frames_and_caches(client: Client, path: str) -> None:
    headers = (await client.get(path)).headers
    assert headers["content-security-policy"] == CSP
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]
    assert headers["cache-control"] == "no-store"
    assert "strict-transport-security" not in headers


async def test_a_failure_of_the_platform_says_its_request_and_nothing_else(
    console: ServedConsole, client: Client
) -> None:
    console.sign_in.failing = RuntimeError("the password of the database is hunter2")
    client.cookies["freehold_session"] = "x"
    answer = await client.get("/console")
    assert answer.status == 500
    assert answer.headers["x-request-id"] in answer.text
    assert "hunter2" not in answer.text
    assert answer.headers["content-security-policy"] == CSP


_OWN_SCRIPT = re.compile(r'<script src="/console/static/[0-9a-f]{16}/\w+\.js" defer></script>')


def beside_our_script(text: str) -> str:
    """The page without the one tag that it may have."""
    return _OWN_SCRIPT.sub("", text)


async def test_no_page_holds_a_script_of_its_own_or_a_style(
    console: ServedConsole, client: Client
) -> None:
    fill(console.platform)
    await client.signed_in()
    own = ("/console/agents", f"/console/agents/{AGENT}", "/console/traces",
           f"/console/traces/{TRACE}", f"/console/sessions/{SESSION}")  # fmt: skip
    for path in ("/console", "/console/device", CONSENT, "/console/nothing", *own):
        text = beside_our_script((await client.get(path)).text)
        assert "<script" not in text and "style=" not in text and "<style" not in text, path
        assert "http://" not in text.replace("http-equiv", "").replace("http://www.w3.org", ""), (
            f"{path} loads or links to somewhere else"
        )


async def test_static_files_are_kept_for_good_under_the_hash_of_their_content(
    client: Client,
) -> None:
    page = (await client.get("/console/sign-in")).text
    path = page.partition('rel="stylesheet" href="')[2].partition('"')[0]
    answer = await client.get(path)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await client.get("/console/static/0000000000000000/console.css")).status == 404
    assert (await client.get("/console/static/../app.py")).status == 404


# -- forms that another site sends


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"origin": "https://evil.example"}, "another origin"),
        ({"origin": "null"}, "an opaque origin"),
        ({"origin": "http://127.0.0.1:1"}, "another port of this machine"),
        ({"origin": ""}, "no origin"),
        ({"sec_fetch_site": "cross-site"}, "another site, says the browser"),
        ({"sec_fetch_site": "same-site"}, "a sibling host, says the browser"),
        ({"sec_fetch_site": "none"}, "not from a page"),
    ],
)
@pytest.mark.parametrize(
    "path",
    ["/console/sign-out", "/console/device", "/console/device/code", CONSENT, "/console/theme"],
)
async def test_a_form_of_another_site_is_refused(
    console: ServedConsole, client: Client, path: str, said: dict[str, str], why: str
) -> None:
    await client.signed_in()
    fields = {"answer": "allow", "code": "BCDF-GHJK", "theme": "dark"}
    answer = await client.post(path, fields, **said)
    assert answer.status == 403, why
    assert not console.consents.answers and not console.devices.answers
    assert len(console.sign_in.sessions) == 1, "still signed in"


async def test_a_form_without_this_session_s_token_is_refused(
    console: ServedConsole, client: Client
) -> None:
    await client.signed_in()
    of_ada = client.form_token
    for token in ("", "0" * 64, of_ada[:-1], of_ada.upper() + "é"):
        answer = await client.post(CONSENT, {"answer": "allow", "form_token": token})
        assert answer.status == 403, token
        assert "out of date" in answer.text
    await client.post("/console/sign-out", {})
    await client.signed_in("bob")
    answer = await client.post("/console/device", {"answer": "approve", "form_token": of_ada})
    assert answer.status == 403, "the token of a session that ended"
    assert not console.consents.answers and not console.devices.answers


async def test_a_planted_form_cookie_opens_nothing(console: ServedConsole, client: Client) -> None:
    """Another host of the domain can set cookies here; what it cannot know is the session."""
    await client.get("/console/sign-in")
    key, token = client.cookies["freehold_form"], client.form_token
    await client.signed_in()
    client.cookies["freehold_form"] = key
    answer = await client.post(CONSENT, {"answer": "allow", "form_token": token})
    assert answer.status == 403
    assert not console.consents.answers


async def test_a_sign_in_that_another_site_fills_in_is_refused(
    console: ServedConsole, client: Client
) -> None:
    """Else people would work, unknowing, in the account of an attacker."""
    fields = {"name": "mallory", "password": PASSWORD, "form_token": "0" * 64}
    assert (await client.post("/console/sign-in", fields)).status == 403
    assert not console.sign_in.sessions


async def test_other_sites_may_link_here_and_nothing_else(client: Client) -> None:
    await client.signed_in()
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    assert (await client.get("/console", **link, sec_fetch_dest="document")).status == 200
    assert (await client.get("/console", **link, sec_fetch_dest="iframe")).status == 403
    read = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}
    assert (await client.get("/console/home.json", **read)).status == 403


async def test_what_is_no_form_is_refused(client: Client) -> None:
    await client.signed_in()
    answer = await client.post("/console/theme", {}, content_type="text/plain")
    assert answer.status == 400
    answer = await client.post("/console/theme", {"theme": "x" * 70_000})
    assert answer.status == 400
    assert (await client.post("/console/theme", {f"f{n}": "" for n in range(60)})).status == 400
    assert (await client.get("/console/device?code=a&code=b")).status == 400
    assert (await client.get("/console/device?code=%00")).status == 400


# -- where a browser is sent


@pytest.mark.parametrize(
    "goal",
    [
        "https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example",
        "/console\\..", "javascript:alert(1)", "/console/../freehold/v1", "/console/%2e%2e/x",
        "/console//evil.example",
        "/consoles", "/console@evil.example", "/console\r\nSet-Cookie: x=y", "/other", "", "/",
        " /console", "/console/%5cevil", "/console:80@evil.example",
    ],
)  # fmt: skip
async def test_no_next_leads_out_of_the_console(
    console: ServedConsole, client: Client, goal: str
) -> None:
    await client.get("/console/sign-in")
    fields = {"name": "ada", "password": PASSWORD, "next": goal}
    answer = await client.post("/console/sign-in", fields)
    assert (answer.status, answer.headers["location"]) == (303, "/console")
    assert local_path(goal) == "/console"


async def test_a_page_is_come_back_to_after_the_sign_in(client: Client) -> None:
    answer = await client.get("/console/device?code=BCDF-GHJK")
    assert answer.headers["location"] == (
        "/console/sign-in?next=%2Fconsole%2Fdevice%3Fcode%3DBCDF-GHJK"
    )
    page = await client.get(answer.headers["location"])
    assert 'name="next" value="/console/device?code=BCDF-GHJK"' in page.text
    fields = {"name": "ada", "password": PASSWORD, "next": "/console/device?code=BCDF-GHJK"}
    answer = await client.post("/console/sign-in", fields)
    assert answer.headers["location"] == "/console/device?code=BCDF-GHJK"


async def test_what_the_sign_in_says_is_next_is_checked_once_more(
    console: ServedConsole, client: Client
) -> None:
    console.sign_in.provider = "login.example.test"
    console.sign_in.next = "https://evil.example"
    client.cookies["freehold_sign_in"] = "b1"
    answer = await client.get("/console/callback?code=c&state=s")
    assert answer.headers["location"] == "/console"


async def test_another_site_sends_nobody_on_to_the_provider(
    console: ServedConsole, client: Client
) -> None:
    console.sign_in.provider = "login.example.test"
    answer = await client.get(
        "/console/sign-in/provider?next=/console", sec_fetch_site="cross-site",
        sec_fetch_mode="navigate", sec_fetch_dest="document",
    )  # fmt: skip
    assert answer.headers["location"].startswith("/console/sign-in?")
    assert console.sign_in.begun == []


# -- cookies


def _parts(cookie: str) -> set[str]:
    return set(cookie.split("; ")[1:])


async def test_cookies_are_for_the_browser_and_this_site_alone(
    console: ServedConsole, client: Client
) -> None:
    first = await client.get("/console/sign-in")
    (form,) = first.set_cookies
    assert form.startswith("freehold_form=")
    assert _parts(form) == {"Path=/console", "HttpOnly", "SameSite=Lax"}
    answer = await client.post("/console/sign-in", {"name": "ada", "password": PASSWORD})
    (session,) = answer.set_cookies
    assert session.startswith("freehold_session=session-1-of-ada;")
    assert _parts(session) == {"Path=/console", "HttpOnly", "SameSite=Lax", "Max-Age=3600"}

    answer = await client.post("/console/sign-out", {})
    assert answer.status == 403, "the token of before the sign-in"
    await client.get("/console")
    answer = await client.post("/console/sign-out", {})
    assert answer.set_cookies == [
        "freehold_session=; Path=/console; Max-Age=0; HttpOnly; SameSite=Lax"
    ]
    assert not console.sign_in.sessions


async def test_a_new_sign_in_has_a_new_token_and_the_old_one_ends(
    console: ServedConsole, client: Client
) -> None:
    await client.signed_in()
    before = client.cookies["freehold_session"]
    await client.post("/console/sign-in", {"name": "ada", "password": PASSWORD})
    assert client.cookies["freehold_session"] != before
    assert list(console.sign_in.sessions) == [client.cookies["freehold_session"]]


async def test_a_cookie_that_comes_twice_counts_for_nothing(client: Client) -> None:
    await client.signed_in()
    session = client.cookies.pop("freehold_session")
    client.cookies["freehold_session"] = f"planted; freehold_session={session}"
    assert (await client.get("/console")).status == 303


@pytest.fixture
async def encrypted(tmp_path: Path) -> AsyncIterator[Client]:
    """Under TLS by a certificate of our own authority."""
    files = tls.ensure(tmp_path, ["127.0.0.1", "console.example.test"])
    async with (
        ServedConsole(tls=tls.server_context(files)) as console,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        yield Client(console, http)


async def test_under_tls_cookies_are_secure_and_bound_to_this_host(encrypted: Client) -> None:
    first = await encrypted.get("/console/sign-in")
    (form,) = first.set_cookies
    assert form.startswith("__Host-freehold_form=")
    assert _parts(form) == {"Path=/", "HttpOnly", "SameSite=Lax", "Secure"}
    answer = await encrypted.post("/console/sign-in", {"name": "ada", "password": PASSWORD})
    (session,) = answer.set_cookies
    assert session.startswith("__Host-freehold_session=")
    assert _parts(session) == {"Path=/", "HttpOnly", "SameSite=Lax", "Max-Age=3600", "Secure"}
    assert (await encrypted.get("/console")).status == 200
    encrypted.console.sign_in.provider = "login.example.test"
    begun = await encrypted.get("/console/sign-in/provider")
    (binding,) = begun.set_cookies
    assert binding.startswith("__Secure-freehold_sign_in=b1;")
    assert _parts(binding) == {
        "Path=/console/callback", "HttpOnly", "SameSite=Lax", "Max-Age=600", "Secure",
    }  # fmt: skip


async def test_under_tls_browsers_are_told_to_stay_with_it_but_not_on_their_own_machine(
    encrypted: Client,
) -> None:
    name = "strict-transport-security"
    answer = await encrypted.get("/console/sign-in", host="console.example.test")
    assert answer.headers[name] == f"max-age={int(timedelta(days=365).total_seconds())}"
    for host in ("localhost:8400", "127.0.0.1:8400", "[::1]:8400", "x.localhost"):
        assert name not in (await encrypted.get("/console/sign-in", host=host)).headers, host


async def test_behind_a_proxy_that_speaks_tls_cookies_are_secure_too() -> None:
    async with (
        ServedConsole(public_url="https://agents.example.com") as console,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        client = Client(console, http)
        answer = await client.get("/console/sign-in", host="agents.example.com")
        assert answer.set_cookies[0].startswith("__Host-freehold_form=")
        assert "strict-transport-security" in answer.headers
        answer = await client.post(
            "/console/sign-in", {"name": "ada", "password": PASSWORD},
            host="agents.example.com", origin="https://agents.example.com",
        )  # fmt: skip
        assert answer.set_cookies[0].startswith("__Host-freehold_session=")


# -- names that tenants chose


async def test_hostile_names_are_text(console: ServedConsole, client: Client) -> None:
    await client.signed_in()
    console.consents.change(
        agent=HOSTILE, provider=HOSTILE, vendor=HOSTILE, account_host=HOSTILE,
        scopes=(type(console.consents.request.scopes[0])(HOSTILE, HOSTILE),),
    )  # fmt: skip
    for status in ("ASKED", "GRANTED", "DENIED", "FAILED", "EXPIRED"):
        console.consents.change(status=status, failure=HOSTILE)
        text = beside_our_script((await client.get(CONSENT)).text)
        assert "&lt;script&gt;alert(1)" in text
        assert "<script" not in text and '"onload' not in text


async def test_invisible_and_turning_characters_are_shown_as_such(
    console: ServedConsole, client: Client
) -> None:
    await client.signed_in()
    console.consents.change(agent="plan\u202eren\u200bner\u2066", provider="наш-агент")
    text = (await client.get(CONSENT)).text
    assert "plan\ufffdren\ufffdner\ufffd" in text
    assert "наш-агент" in text
    for hidden in "\u202e\u200b\u2066":
        assert hidden not in text


async def test_a_hostile_device_is_text(console: ServedConsole, client: Client) -> None:
    await client.signed_in()
    request = console.devices.request
    console.devices.request = type(request)(
        user_code=request.user_code, description=HOSTILE, source=HOSTILE, nearby=False,
        expires_at=request.expires_at,
    )  # fmt: skip
    text = beside_our_script(
        (await client.post("/console/device/code", {"code": "BCDF-GHJK"})).text
    )
    assert "&lt;script&gt;" in text and "<script" not in text
    text = beside_our_script((await client.get("/console/device?code=%3Cscript%3Ealert(1)")).text)
    assert "<script" not in text


# -- the governed path


async def test_an_error_in_authentication_is_no_identity(
    console: ServedConsole, client: Client
) -> None:
    await client.signed_in()
    console.sign_in.failing = Unavailable("the store does not answer")
    answer = await client.get("/console")
    assert answer.status == 503
    assert re.search(r"\bada\b", answer.text, re.IGNORECASE) is None  # not within a random token
    answer = await client.get("/console/nothing")
    assert answer.status == 404


async def test_the_authorizer_is_asked_and_its_no_is_a_page(
    console: ServedConsole, client: Client
) -> None:
    await client.signed_in()
    console.authorizer.denied.add("console:AnswerConsent")
    answer = await client.post(CONSENT, {"answer": "allow"})
    assert answer.status == 403
    assert "Your roles do not allow this." in answer.text
    assert not console.consents.answers
    principal = "arn:aws:iam::123456789012:user/ada"
    assert (principal, "console:AnswerConsent") in console.authorizer.asked


async def test_a_session_that_ended_gets_nothing(console: ServedConsole, client: Client) -> None:
    await client.signed_in()
    console.sign_in.sessions.clear()
    for path in ("/console/home", CONSENT, "/console/device"):
        assert (await client.get(path)).status == 303
        assert (await client.post(path, {"answer": "allow"})).status in (303, 405)
        answer = await client.get(f"{path}.json")
        assert answer.status == 401
        error = json.loads(answer.text)["error"]
        del error["request_id"]  # which may have those letters
        assert "ada" not in str(error)
    assert not console.consents.answers


async def test_code_in_a_sandbox_has_no_way_in(console: ServedConsole, client: Client) -> None:
    """Not even with somebody's cookie: it is known by its connection."""
    await client.signed_in()
    cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    for path in ("/console", "/console/sign-in", "/console/static/0/console.css"):
        answer = await console.from_inside(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: {cookies}\r\n\r\n"
            .encode()
        )  # fmt: skip
        assert answer.startswith(b"HTTP/1.1 404 "), path
        assert b"ada" not in answer
