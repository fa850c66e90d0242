"""The AgentCore SDK's identity flows, unmodified, on a real platform with a real OpenID provider,
calling an API that lets nobody in without the right token."""

import asyncio
import html
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from oauth_ground import Browser, asked_of
from playwright.async_api import async_playwright, expect

from oidc_ground import OidcProvider
from oidc_visitor import _Form
from running import Agent, RunningPlatform, new_session, refusal, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

HERE = Path(__file__).parent
BACK = "https://app.example.test/back"
RESOURCE = "https://tools.example.test"
QUIET = [
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    # Nothing of a test leaves the machine.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
]  # fmt: skip


class ProtectedApi(ThreadingHTTPServer):
    """Says who is called for: `sub` of a token of this provider, for this resource and scope."""

    daemon_threads = True

    def __init__(self, oidc: OidcProvider) -> None:
        super().__init__(("127.0.0.1", 0), _Guarded)
        self.oidc = oidc

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_address[1]}/"

    def judge(self, authorization: str) -> tuple[int, str]:
        try:
            token = authorization.removeprefix("Bearer ")
            claims = jwt.decode(token, self.oidc.key("RS256"), algorithms=["RS256"]).claims
        except (JoseError, ValueError):
            return 401, "no token"
        if claims.get("aud") != RESOURCE or "tools:read" not in claims.get("scope", "").split():
            return 403, "not for this"
        return 200, f"hello {claims.get('sub') or claims['client_id']}"


class _Guarded(BaseHTTPRequestHandler):
    server: ProtectedApi

    def do_GET(self) -> None:
        status, words = self.server.judge(self.headers.get("Authorization", ""))
        self.send_response(status)
        self.send_header("Content-Length", str(len(words)))
        self.end_headers()
        self.wfile.write(words.encode())

    def log_message(self, *_: Any) -> None:
        pass


class End(NamedTuple):
    """People reach the platform by the name `localhost`, and the provider by 127.0.0.1: two sites,
    for a browser."""

    platform: RunningPlatform
    public_url: str
    oidc: OidcProvider
    api: ProtectedApi

    @property
    def control(self) -> Any:
        return self.platform.client("bedrock-agentcore-control")

    def provider(self, client: str) -> str:
        """Made through AWS's API; its callback is registered with the provider."""
        name = f"tools-{uuid.uuid4().hex[:8]}"
        made = self.control.create_oauth2_credential_provider(
            name=name,
            credentialProviderVendor="CustomOauth2",
            oauth2ProviderConfigInput={
                "customOauth2ProviderConfig": {
                    "oauthDiscovery": {"discoveryUrl": self.oidc.discovery_url},
                    "clientId": client,
                    "clientSecret": self.oidc.secret(client),
                }
            },
        )
        if client == "web":
            at = urlsplit(made["callbackUrl"])
            known = next(c for c in self.oidc.clients if c["client_id"] == client)
            known["redirect_uris"].append(f"http://localhost{at.path}")
            self.oidc._serve()
        return name

    def sign_in(self, url: str, user: str) -> dict[str, str]:
        """What the application gets to know."""

        async def visit() -> str:
            async with Browser(self.oidc) as browser:
                return await browser.go(url, user=user)

        back = asyncio.run(visit())
        assert back.startswith(BACK), back
        return asked_of(back)


@pytest.fixture(scope="module")
def end(open_directory: Path, platform: RunningPlatform, oidc: OidcProvider) -> Iterator[End]:
    state = open_directory / "oauth"
    state.mkdir()
    (state / "builds").symlink_to(platform.state / "builds")
    api = ProtectedApi(oidc)
    serving = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.05})
    serving.start()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    public_url = f"http://localhost:{port}"
    running = RunningPlatform(
        state, "--port", str(port), public_url=public_url, outbound_private_hosts="127.0.0.1",
        egress_private_hosts=f"localhost:{urlsplit(api.url).port}",
    )  # fmt: skip
    try:
        with running:
            yield End(running, public_url, oidc, api)
    finally:
        api.shutdown()
        serving.join(10)
        api.server_close()


@pytest.fixture(scope="module")
def agent(end: End) -> Agent:
    return end.platform.deploy(
        {
            "main.py": (HERE / "calling_agent.py").read_text(),
            "requirements.txt": "bedrock-agentcore==1.25.0\n",
        },
        tags={"freehold:egress-hosts": urlsplit(end.api.url).netloc},
        # The API is on this very machine; clients ask a proxy for no such name of themselves.
        environmentVariables={"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
    )


def script(end: End, directory: Path, provider: str, flow: str, back: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(HERE / "calling_script.py"), provider, RESOURCE, end.api.url, back,
         flow],
        cwd=directory, stdout=subprocess.PIPE, text=True,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(directory),
            "PYTHONPATH": str(HERE),
            "PYTHONWARNINGS": "ignore",
            "AWS_ACCESS_KEY_ID": end.platform.access_key_id,
            "AWS_SECRET_ACCESS_KEY": end.platform.secret_access_key,
            "AWS_REGION": end.platform.region,
            "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE": end.platform.endpoint,
            "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL": end.platform.endpoint,
        },
    )  # fmt: skip


def said(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"{word} "):
            return line.removeprefix(f"{word} ").strip()
    raise AssertionError(f"the script ended without {word}")


def test_a_script_on_a_developers_machine_calls_for_itself(end: End, tmp_path: Path) -> None:
    with script(end, tmp_path, end.provider("machine"), "M2M", "") as process:
        assert said(process, "ANSWER") == "hello machine"
        assert process.wait(30) == 0


def test_a_script_on_a_developers_machine_calls_for_a_user(end: End, tmp_path: Path) -> None:
    name = f"script-{uuid.uuid4().hex[:8]}"
    end.control.create_workload_identity(name=name, allowedResourceOauth2ReturnUrls=[BACK])
    known = {"workload_identity_name": name, "user_id": "ada"}
    (tmp_path / ".agentcore.json").write_text(json.dumps(known))
    provider = end.provider("web")
    with script(end, tmp_path, provider, "USER_FEDERATION", BACK) as process:
        back = end.sign_in(said(process, "OPEN"), "ada")
        end.platform.client("bedrock-agentcore").complete_resource_token_auth(
            userIdentifier={"userId": "ada"}, sessionUri=back["session_id"]
        )
        assert said(process, "ANSWER") == "hello ada"
        assert process.wait(30) == 0
    # The next time nobody is asked.
    with script(end, tmp_path, provider, "USER_FEDERATION", BACK) as process:
        assert said(process, "ANSWER") == "hello ada"
        assert process.wait(30) == 0


def payload(end: End, do: str, provider: str) -> dict[str, str]:
    return {
        "do": do, "provider": provider, "resource": RESOURCE, "url": end.api.url, "back": BACK,
    }  # fmt: skip


def test_an_agent_in_a_sandbox_calls_for_itself(end: End, agent: Agent) -> None:
    answer = agent.invoke(payload(end, "machine", end.provider("machine")), runtimeUserId="ada")
    assert answer == {"answer": "hello machine"}


def test_an_agent_in_a_sandbox_calls_for_its_user(end: End, agent: Agent) -> None:
    end.control.update_workload_identity(name=agent.id, allowedResourceOauth2ReturnUrls=[BACK])
    session, provider = new_session(), end.provider("web")
    begun = agent.invoke(payload(end, "begin", provider), session, runtimeUserId="ada")
    assert begun["answer"] is None, begun
    assert begun["url"].startswith(f"{end.public_url}/identities/oauth2/authorize?")
    back = end.sign_in(begun["url"], "ada")
    end.platform.client("bedrock-agentcore").complete_resource_token_auth(
        userIdentifier={"userId": "ada"}, sessionUri=back["session_id"]
    )
    answer = agent.invoke(payload(end, "end", provider), session, runtimeUserId="ada")
    assert answer == {"answer": "hello ada"}
    # What the user granted is theirs: nobody else's call has it.
    asked = agent.invoke(payload(end, "begin", provider), new_session(), runtimeUserId="eve")
    assert (asked["answer"], bool(asked["url"])) == (None, True)


def test_3lo_phishing_is_refused_over_the_api_and_in_the_audit(end: End, agent: Agent) -> None:
    end.control.update_workload_identity(name=agent.id, allowedResourceOauth2ReturnUrls=[BACK])
    session, provider = new_session(), end.provider("web")
    begun = agent.invoke(payload(end, "begin", provider), session, runtimeUserId="mallory")
    back = end.sign_in(begun["url"], "ada")
    data = end.platform.client("bedrock-agentcore")

    def complete(user: str) -> Any:
        return lambda: data.complete_resource_token_auth(
            userIdentifier={"userId": user}, sessionUri=back["session_id"]
        )

    assert refusal(complete("ada")).kind == "AccessDeniedException"
    assert refusal(complete("mallory")).kind == "ValidationException"
    assert end.platform.own("/oauth/grants", user="mallory")["grants"] == []
    other = end.platform.as_tenant("111122223333").client("bedrock-agentcore")
    gone = refusal(
        lambda: other.complete_resource_token_auth(
            userIdentifier={"userId": "ada"}, sessionUri=back["session_id"]
        )
    )
    assert gone.kind == "ResourceNotFoundException"


class Console:
    """A person's browser at the console: the forms of its pages, filled in."""

    def __init__(self, end: End, browser: Browser) -> None:
        self._end, self._browser = end, browser

    async def form(self, page: str, base: str, kind: str, **fields: str) -> tuple[int, str]:
        form = _Form(page[page.index(f'<form class="{kind}"') :])
        assert form.action is not None, page
        return await self._browser.open(
            urljoin(base, form.action),
            {**form.fields, **fields},
            origin=self._end.public_url,
        )

    async def page(self, url: str) -> str:
        """After the redirects of our own."""
        for _ in range(5):
            status, found = await self._browser.open(url)
            if status not in (302, 303):
                return found
            url = urljoin(url, found)
        raise AssertionError(f"it goes round at {url}")

    async def consent(self, url: str, name: str, password: str) -> str:
        """Sign in, allow, sign in at the provider; what the console says in the end."""
        sign_in = await self.page(url)
        status, location = await self.form(sign_in, url, "fields", name=name, password=password)
        assert status == 303, location
        asked = await self.page(urljoin(url, location))
        if "Allow and go on" not in asked:
            return asked
        status, leaving = await self.form(asked, url, "answers", answer="allow")
        assert status == 200, leaving
        found = re.search(r'<a href="([^"]+/identities/oauth2/authorize[^"]+)"', leaving)
        assert found is not None, leaving
        at = await self._browser.leave(html.unescape(found[1]))
        callback = await self._browser.sign_in(at, user=name)
        return await self.page(callback)


class Question(NamedTuple):
    """An agent that asks for a user of the console."""

    data: Any
    wanted: dict[str, Any]
    workload: str
    url: str
    session_uri: str

    def token(self) -> str:
        given = self.data.get_resource_oauth2_token(**self.wanted, sessionUri=self.session_uri)
        return str(given["accessToken"])


def ask(end: End, user: str) -> Question:
    workload, provider = f"planner-{uuid.uuid4().hex[:8]}", end.provider("web")
    end.control.create_workload_identity(name=workload)
    data = end.platform.client("bedrock-agentcore")
    token = data.get_workload_access_token_for_user_id(workloadName=workload, userId=user)
    wanted: dict[str, Any] = {
        "workloadIdentityToken": token["workloadAccessToken"],
        "resourceCredentialProviderName": provider,
        "scopes": ["openid", "offline_access", "tools:read"],
        "resources": [RESOURCE],
        "oauth2Flow": "USER_FEDERATION",
    }
    asked = data.get_resource_oauth2_token(**wanted)
    assert asked["sessionStatus"] == "IN_PROGRESS"
    assert asked["authorizationUrl"].startswith(f"{end.public_url}/console/consent/")
    return Question(data, wanted, workload, asked["authorizationUrl"], asked["sessionUri"])


@pytest.fixture(scope="module")
def people(end: End) -> dict[str, str]:
    """Their passwords."""

    def add(name: str) -> str:
        body = {"name": name, "roles": ["invoker"]}
        return str(end.platform.own("/people", method="POST", body=body)["password"])

    return {name: add(name) for name in ("ada", "eve")}


def test_a_person_who_is_signed_in_at_the_console_consents_there_and_nobody_else(
    end: End, people: dict[str, str]
) -> None:
    question = ask(end, "ada")

    async def visit(name: str) -> str:
        async with Browser(end.oidc) as browser:
            return await Console(end, browser).consent(question.url, name, people[name])

    refused = asyncio.run(visit("eve"))
    assert "somebody else" in refused
    assert question.workload not in refused
    assert "Access given" in asyncio.run(visit("ada"))
    token = question.token()
    assert end.api.judge(f"Bearer {token}") == (200, "hello ada")
    provider = question.wanted["resourceCredentialProviderName"]
    grant = end.platform.own("/oauth/grants", user="ada")["grants"][0]
    assert (grant["agent"], grant["provider"]) == (question.workload, provider)
    assert grant["renewable"]
    end.control.delete_oauth2_credential_provider(name=provider)
    until(
        lambda: provider not in repr(end.platform.own("/oauth/grants", user="ada")), seconds_max=10
    )
    log = end.platform.log.read_text()
    for secret in (token, end.oidc.secret("web"), "code=", "state=", "ticket="):
        assert secret not in log


def test_a_person_consents_with_a_real_browser_across_two_sites(
    end: End, people: dict[str, str]
) -> None:
    """Cookies, redirects and content security policies as Chromium has them."""
    program = shutil.which("chromium")
    if program is None:
        why = "chromium is not installed"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    question = ask(end, "ada")

    async def visit() -> None:
        expect.set_options(timeout=60_000)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=program, chromium_sandbox=os.geteuid() != 0, args=QUIET
            )
            page = await browser.new_page()
            page.set_default_timeout(60_000)
            await page.goto(question.url)
            await page.get_by_label("Name").fill("ada")
            await page.get_by_label("Password").fill(people["ada"])
            await page.get_by_role("button", name="Sign in").click()
            await expect(page.get_by_text(question.workload).first).to_be_visible()
            await page.get_by_role("button", name="Allow and go on").click()
            await page.wait_for_url(f"{end.oidc.issuer}/**")
            await page.locator("input[name=login]").fill("ada")
            await page.locator("input[name=password]").fill("any")
            await page.locator("button[type=submit]").click()
            await page.locator("input[name=prompt][value=consent]").wait_for(state="attached")
            await page.locator("button[type=submit]").click()
            await page.wait_for_url(question.url)
            await expect(page.get_by_role("heading", name="Access given")).to_be_visible()
            await browser.close()

    asyncio.run(visit())
    assert end.api.judge(f"Bearer {question.token()}") == (200, "hello ada")
