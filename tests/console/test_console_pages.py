"""Each page: what it says, what its forms do, and its JSON twin."""

import json

import pytest
from console_doubles import FIRST, PASSWORD, SECOND, person
from served_console import Client, ServedConsole

from freehold.console.navigation import Item, seen_by
from freehold.kernel.caller import CallerKind
from freehold.kernel.errors import Throttled, Unavailable

CONSENT = "/console/consent/c-0123456789abcdef"


async def test_the_root_sends_a_browser_here_and_nobody_else(client: Client) -> None:
    answer = await client.get("/")
    assert (answer.status, answer.headers["location"]) == (303, "/console")
    assert (await client.get("/", accept="*/*")).status == 404


async def test_without_a_sign_in_every_page_leads_to_it(client: Client) -> None:
    assert (await client.get("/console")).headers["location"] == "/console/sign-in"
    answer = await client.get(CONSENT)
    assert answer.headers["location"] == (
        "/console/sign-in?next=%2Fconsole%2Fconsent%2Fc-0123456789abcdef"
    )


# -- signing in


@pytest.mark.parametrize(
    ("name", "password", "status", "said"),
    [
        ("ada", "wrong", 401, "That name or password is not right."),
        ("nobody", "wrong", 401, "That name or password is not right."),
        ("", "", 400, "Enter your name and your password."),
        ("a" * 300, "x", 400, "longer than any we have"),
        ("ada", "x" * 2000, 400, "longer than any we have"),
    ],
)
async def test_a_sign_in_that_fails_says_kindly_why(
    client: Client, name: str, password: str, status: int, said: str
) -> None:
    await client.get("/console/sign-in")
    fields = {"name": name, "password": password, "next": "/console/device"}
    answer = await client.post("/console/sign-in", fields)
    assert answer.status == status
    assert said in answer.text
    assert 'value="/console/device"' in answer.text, "what came next is kept"
    assert "wrong" not in answer.text.replace("not right", ""), "a password is never shown again"


async def test_guesses_and_outages_are_told_apart(console: ServedConsole, client: Client) -> None:
    await client.get("/console/sign-in")
    fields = {"name": "ada", "password": PASSWORD}
    console.sign_in.failing = Throttled("too many")
    answer = await client.post("/console/sign-in", fields)
    assert answer.status == 429
    assert "Wait a few minutes" in answer.text
    console.sign_in.failing = Unavailable("the provider does not answer")
    answer = await client.post("/console/sign-in", fields)
    assert answer.status == 503
    assert "The provider does not answer." in answer.text


async def test_with_a_provider_there_is_one_button_that_leads_there(
    console: ServedConsole, client: Client
) -> None:
    console.sign_in.provider = "login.example.test"
    page = await client.get("/console/sign-in?next=/console/device")
    assert "Continue with <bdi>login.example.test</bdi>" in page.text
    assert 'type="password"' not in page.text
    begun = await client.get("/console/sign-in/provider?next=/console/device")
    assert begun.headers["location"] == "https://login.example.test/authorize?x=1"
    assert console.sign_in.begun == ["/console/device"]
    back = await client.get("/console/callback?code=c&state=s")
    assert back.headers["location"] == "/console/device"
    assert console.sign_in.finished == [("code=c&state=s", "b1")]
    assert "freehold_sign_in" not in client.cookies, "used once"
    assert (await client.get("/console")).status == 200


async def test_a_callback_in_another_browser_is_refused(
    console: ServedConsole, client: Client
) -> None:
    console.sign_in.provider = "login.example.test"
    answer = await client.get("/console/callback?code=c&state=s")
    assert answer.status == 401
    assert "not begun in this browser" in answer.text
    assert "Continue with" in answer.text
    assert "freehold_session" not in client.cookies


async def test_a_sign_in_with_the_provider_begins_at_the_address_that_it_comes_back_to() -> None:
    import aiohttp

    async with (
        ServedConsole(public_url="https://agents.example.com") as console,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        console.sign_in.provider = "login.example.test"
        answer = await Client(console, http).get("/console/sign-in/provider")
        assert answer.headers["location"] == (
            "https://agents.example.com/console/sign-in?next=%2Fconsole"
        )


async def test_signed_in_the_sign_in_page_leads_on(client: Client) -> None:
    await client.signed_in()
    answer = await client.get("/console/sign-in?next=/console/device")
    assert (answer.status, answer.headers["location"]) == (303, "/console/device")


async def test_signing_out_ends_the_session(console: ServedConsole, client: Client) -> None:
    await client.signed_in()
    answer = await client.post("/console/sign-out", {})
    assert not console.sign_in.sessions
    page = await client.get(answer.headers["location"])
    assert "You are signed out." in page.text


# -- home


async def test_home_says_who_and_where_you_are(client: Client) -> None:
    await client.signed_in()
    text = (await client.get("/console/home")).text
    for said in ("Hello, <bdi>ada</bdi>", FIRST, "admin", f"arn:aws:iam::{FIRST}:user/ada"):
        assert said in text


async def test_a_person_of_several_accounts_can_switch(
    console: ServedConsole, client: Client
) -> None:
    await client.signed_in()
    before = client.cookies["freehold_session"]
    assert "&lt;b&gt;Laboratory&lt;/b&gt;" in (await client.get("/console/home")).text
    answer = await client.post("/console/account", {"tenant": SECOND})
    assert answer.headers["location"] == "/console"
    assert client.cookies["freehold_session"] != before
    assert list(console.sign_in.sessions) == [client.cookies["freehold_session"]]
    twin = json.loads((await client.get("/console/home.json")).text)
    assert twin["page"]["you"]["tenant"] == SECOND
    assert (await client.post("/console/account", {"tenant": "999999999999"})).status == 403


def test_the_menu_hides_what_a_role_may_not_see() -> None:
    items = (
        Item(name="Home", path="/console", icon="home"),
        Item(name="Audit", path="/console/audit", icon="x", roles=frozenset({"auditor", "admin"})),
    )
    assert [i.name for i in seen_by(person("ada", FIRST, "invoker"), items)] == ["Home"]
    assert [i.name for i in seen_by(person("ada", FIRST, "auditor"), items)] == ["Home", "Audit"]
    assert person().kind is CallerKind.PERSON


# -- a device


async def test_a_device_s_code_is_asked_for_and_then_confirmed(
    console: ServedConsole, client: Client
) -> None:
    await client.signed_in()
    assert 'name="code"' in (await client.get("/console/device")).text
    text = (await client.post("/console/device/code", {"code": "bcdfghjk"})).text
    for said in (
        "BCDF-GHJK", "freehold login on ada-laptop (Linux)", "203.0.113.7", FIRST,
        "Only go on if you started", "in 10 minutes",
    ):  # fmt: skip
        assert said in text
    assert "the address of this browser" not in text
    assert console.devices.answers == [], "looking approves nothing"
    answer = await client.post("/console/device", {"code": "BCDF-GHJK", "answer": "approve"})
    assert answer.status == 200
    assert "The device is signed in as you." in answer.text
    assert console.devices.answers == [("approve", "ada")]


async def test_a_link_with_a_code_is_not_enough_for_a_device_elsewhere(
    console: ServedConsole, client: Client
) -> None:
    """Else a stranger's link and one careless click would sign the stranger in."""
    await client.signed_in()
    text = (await client.get("/console/device?code=BCDF-GHJK")).text
    assert 'name="code" value=""' in text
    assert "Approve" not in text
    answer = await client.get("/console/device/code")
    assert answer.headers["location"] == "/console/device"


async def test_a_device_on_this_machine_needs_no_warning(
    console: ServedConsole, client: Client
) -> None:
    await client.signed_in()
    request = console.devices.request
    console.devices.request = type(request)(
        user_code="BCDF-GHJK", description="freehold login", source="127.0.0.1", nearby=True,
        expires_at=request.expires_at,
    )  # fmt: skip
    text = (await client.get("/console/device?code=BCDF-GHJK")).text
    assert "the address of this browser" in text
    assert "Only go on if" not in text
    console.devices.redirect = "http://127.0.0.1:5123/?code=a&state=b"
    answer = await client.post("/console/device", {"code": "BCDF-GHJK", "answer": "approve"})
    assert 'content="0; url=http://127.0.0.1:5123/?code=a&amp;state=b"' in answer.text


async def test_a_device_is_denied(console: ServedConsole, client: Client) -> None:
    await client.signed_in()
    answer = await client.post("/console/device", {"code": "BCDF-GHJK", "answer": "deny"})
    assert "gets nothing" in answer.text
    assert console.devices.answers == [("deny", "ada")]
    answer = await client.post("/console/device", {"code": "BCDF-GHJK", "answer": "approve"})
    assert answer.status == 404
    assert (await client.post("/console/device", {"code": "BCDF-GHJK"})).status == 400


async def test_an_unknown_code_can_be_corrected(console: ServedConsole, client: Client) -> None:
    await client.signed_in()
    answer = await client.get("/console/device?code=WRNG-CODE")
    assert answer.status == 404
    assert 'value="WRNG-CODE"' in answer.text and "Nobody asked with this code" in answer.text
    assert (await client.get("/console/device?code=" + "x" * 500)).status == 404
    console.devices.throttled = True
    assert (await client.get("/console/device?code=WRNG-CODE")).status == 429


# -- consent


async def test_consent_says_who_asks_for_what_at_whom_for_whom(
    console: ServedConsole, client: Client
) -> None:
    await client.signed_in()
    text = (await client.get(CONSENT)).text
    for said in (
        "travel_planner", "google-calendar", "Google", "accounts.google.com",
        "See, add, change and delete events of your calendars",
        "https://www.googleapis.com/auth/tasks.readonly", "never sees your password", "ada", FIRST,
    ):  # fmt: skip
        assert said in text
    assert console.consents.answers == [], "looking allows nothing"


async def test_allowing_leads_to_the_provider_and_the_page_says_how_it_ended(
    console: ServedConsole, client: Client
) -> None:
    await client.signed_in()
    answer = await client.post(CONSENT, {"answer": "allow"})
    assert "https://accounts.google.test/authorize?state=1" in answer.text
    assert console.consents.answers == [("allow", "ada")]
    console.consents.change(status="GRANTED")
    assert "Access given" in (await client.get(CONSENT)).text
    console.consents.change(status="FAILED", failure="The provider said access_denied.")
    text = (await client.get(CONSENT)).text
    assert "That did not work" in text and "The provider said access_denied." in text
    console.consents.change(status="EXPIRED")
    assert "This request has expired" in (await client.get(CONSENT)).text


async def test_denying_gives_nothing(console: ServedConsole, client: Client) -> None:
    await client.signed_in()
    answer = await client.post(CONSENT, {"answer": "deny"})
    assert answer.headers["location"] == CONSENT
    assert "Access denied" in (await client.get(CONSENT)).text
    answer = await client.post(CONSENT, {"answer": "allow"})
    assert answer.headers["location"] == CONSENT, "it was answered; the page says how"
    assert console.consents.answers == [("deny", "ada")]
    assert (await client.post(CONSENT, {"answer": "perhaps"})).status == 400


async def test_another_person_is_told_nothing_of_the_request(
    console: ServedConsole, client: Client
) -> None:
    await client.signed_in("bob")
    for answer in (await client.get(CONSENT), await client.post(CONSENT, {"answer": "allow"})):
        assert answer.status == 403
        assert "This request is for somebody else" in answer.text
        assert "travel_planner" not in answer.text and "google" not in answer.text
        assert "bob" in answer.text and "ada" not in answer.text
    assert console.consents.answers == []
    answer = await client.post("/console/sign-out", {"next": CONSENT})
    assert answer.headers["location"] == (
        "/console/sign-in?signed=out&next=%2Fconsole%2Fconsent%2Fc-0123456789abcdef"
    )


async def test_an_unknown_request_does_not_exist(client: Client) -> None:
    await client.signed_in()
    assert (await client.get("/console/consent/c-other")).status == 404


# -- twins and themes


async def test_every_page_has_a_json_twin_of_what_it_shows(client: Client) -> None:
    await client.signed_in()
    home = json.loads((await client.get("/console/home", accept="application/json")).text)
    assert home["page"]["you"] == {
        "name": "ada", "initial": "A", "tenant": FIRST, "roles": ["admin"],
        "principal": f"arn:aws:iam::{FIRST}:user/ada",
    }  # fmt: skip
    assert home["form_token"] == client.form_token
    consent = json.loads((await client.get(f"{CONSENT}.json")).text)
    assert consent["page"]["agent"] == "travel_planner"
    typed = await client.post("/console/device/code.json", {"code": "BCDF-GHJK"})
    device = json.loads(typed.text)
    assert device["page"]["source"] == "203.0.113.7"
    answer = await client.post(f"{CONSENT}.json", {"answer": "deny"})
    assert json.loads(answer.text) == {"location": CONSENT}
    failed = await client.get("/console/nothing.json")
    assert failed.status == 404
    assert failed.headers["content-type"] == "application/json"
    error = json.loads(failed.text)["error"]
    assert error["code"] == "ResourceNotFoundException"
    assert error["request_id"] == failed.headers["x-request-id"]


async def test_a_theme_is_kept_and_comes_back_to_the_page(client: Client) -> None:
    page = await client.get("/console/sign-in?next=/console/device")
    assert 'data-theme="auto"' in page.text
    fields = {"theme": "dark", "back": "/console/sign-in?next=/console/device"}
    answer = await client.post("/console/theme", fields)
    assert answer.headers["location"] == "/console/sign-in?next=/console/device"
    assert 'data-theme="dark"' in (await client.get("/console/sign-in")).text
    assert (await client.post("/console/theme", {"theme": "<pink>"})).status == 400
    client.cookies["freehold_theme"] = '"><script>'
    assert 'data-theme="auto"' in (await client.get("/console/sign-in")).text


async def test_methods_and_slashes_that_a_page_does_not_know(client: Client) -> None:
    answer = await client.post("/console/callback", {})
    assert (answer.status, answer.headers["allow"]) == (405, "GET")
    assert (await client.get("/console/device/")).status == 404
    assert (await client.get("/console/consent//")).status == 404
