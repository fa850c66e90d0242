"""`freehold login` where people sign in with an OpenID provider: the whole way, nothing faked.

The command opens a browser, the console sends it to npm's oidc-provider, its login forms are filled
in, the answer goes back over the console to a port of the command's own; boto3 uses the result.
"""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import urllib3
from login_ground import Person

from oidc_ground import OidcProvider
from running import RunningPlatform

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def provider() -> Iterator[OidcProvider]:
    with OidcProvider() as provider:
        yield provider


@pytest.fixture(scope="module")
def with_provider(open_directory: Path, provider: OidcProvider) -> Iterator[RunningPlatform]:
    running = RunningPlatform(
        open_directory / "with-provider",
        allow_process_tier="true",
        outbound_private_hosts="127.0.0.1",
        sign_in_issuer=provider.issuer,
        sign_in_client_id="freehold",
        sign_in_client_secret="secret-of-freehold",
        sign_in_roles_claim="role",
        sign_in_roles="admin=admin,user=invoker",
        workers=2,
        log_level="debug",
    )
    with running:
        # Only now is its address known.
        provider.add_client(
            {
                "client_id": "freehold", "client_secret": "secret-of-freehold",
                "grant_types": ["authorization_code"], "response_types": ["code"],
                "application_type": "native",
                "redirect_uris": [f"{running.endpoint}/console/callback"],
            }
        )  # fmt: skip
        yield running


def sign_in(person: Person, provider: OidcProvider, user: str) -> str:
    """The console's way to the provider and back; the page after it."""
    away = person.browser.leads_to("/console/sign-in/provider?next=/console")
    assert away.startswith(f"{provider.issuer}/auth?"), away
    back = asyncio.run(provider.sign_in(away, user))
    assert back.startswith(f"{person.platform.endpoint}/console/callback?"), back
    return person.browser.get(back)


def test_a_person_of_the_provider_logs_in_and_boto3_acts_as_them(
    with_provider: RunningPlatform, provider: OidcProvider, tmp_path: Path
) -> None:
    person = Person(with_provider, tmp_path)
    sign_in(person, provider, "root")
    assert person.log_in().code == 0
    who = person.command("whoami", "--json").document
    assert (who["user"], who["roles"]) == ("root@example.test", ["admin"])
    assert person.client("bedrock-agentcore-control").list_agent_runtimes() is not None
    [row] = [
        p for p in person.command("people", "list", "--json").document["people"]
        if p["name"] == "root@example.test"
    ]  # fmt: skip
    assert (row["provider"], row["claimedRoles"]) == (provider.issuer, ["admin"])


def test_no_local_admin_is_made_and_no_password_taken(
    with_provider: RunningPlatform, tmp_path: Path
) -> None:
    assert not (with_provider.state / "admin-password").exists()
    page = Person(with_provider, tmp_path).browser.get("/console/sign-in")
    assert 'name="password"' not in page


def test_an_answer_opened_in_another_browser_signs_nobody_in(
    with_provider: RunningPlatform, provider: OidcProvider, tmp_path: Path
) -> None:
    """Login CSRF, over HTTP; and the code is not spent for the one who began."""
    attacker, victim = Person(with_provider, tmp_path), Person(with_provider, tmp_path)
    away = attacker.browser.leads_to("/console/sign-in/provider?next=/console")
    back = asyncio.run(provider.sign_in(away, "mallory"))
    victim.browser.leads_to("/console/sign-in/provider?next=/console")
    victim.browser.get(back)
    assert not any("session" in name for name in victim.browser.cookies)
    attacker.browser.get(back)
    assert any("session" in name for name in attacker.browser.cookies)
    second = attacker.browser.get(back)
    assert "begin again" in second or "sign in" in second.lower()


def test_no_secret_of_a_sign_in_is_in_the_log(
    with_provider: RunningPlatform, provider: OidcProvider, tmp_path: Path
) -> None:
    person = Person(with_provider, tmp_path)
    sign_in(person, provider, "root")
    assert person.log_in().code == 0
    log = with_provider.log.read_text(errors="replace")
    secrets = [*person.browser.cookies.values(), "secret-of-freehold"]
    secrets += [person.kept["secret_access_key"], person.kept["session_token"]]
    assert log
    for secret in secrets:
        assert secret not in log
    assert not re.search(r"[?&](code|state)=", log)


def test_the_redirect_is_the_registered_one_whatever_host_is_claimed(
    with_provider: RunningPlatform,
) -> None:
    answer = urllib3.request(
        "GET", f"{with_provider.endpoint}/console/sign-in/provider?next=//evil.example",
        headers={"Host": "evil.example", "Sec-Fetch-Site": "same-origin"}, redirect=False,
    )  # fmt: skip
    assert "evil.example" not in urlsplit(answer.headers.get("Location", "")).query
