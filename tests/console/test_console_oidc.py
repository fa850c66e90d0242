"""The console on a real platform with a real OpenID provider: people sign in there, and an agent
is let into their account there."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from oidc_ground import OidcProvider
from running import RunningPlatform

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

RESOURCE = "https://tools.example.test"


class Place(NamedTuple):
    platform: RunningPlatform
    oidc: OidcProvider


@pytest.fixture(scope="module")
def place(open_directory: Path) -> Iterator[Place]:
    # Any port of the loopback address, as RFC 8252 has it: the platform takes a free one.
    with OidcProvider(redirect_uris=["http://127.0.0.1/console/callback"]) as oidc:
        platform = RunningPlatform(
            open_directory / "console-oidc",
            outbound_private_hosts="127.0.0.1",
            sign_in_issuer=oidc.issuer,
            sign_in_client_id="web",
            sign_in_client_secret=oidc.secret("web"),
            sign_in_roles_claim="role",
            sign_in_roles="admin=admin,*=developer",
            user_token_issuers=f"{oidc.discovery_url} {RESOURCE}",
        )
        with platform:
            yield Place(platform, oidc)


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    made = await browser.new_context()
    made.set_default_timeout(60_000)
    yield made
    await made.close()


async def log_in_there(page: Page, user: str) -> None:
    """At the provider: its login form, then its consent form."""
    await page.locator("input[name=login]").fill(user)
    await page.locator("input[name=password]").fill("any")
    await page.locator("button[type=submit]").click()
    await page.locator("button[type=submit]").click()


async def signed_in(context: BrowserContext, place: Place, user: str) -> tuple[Page, str]:
    """Its page, and what the person is called here."""
    page = await context.new_page()
    await page.goto(place.platform.endpoint + "/")
    await page.get_by_role("link", name="Continue with").click()
    await log_in_there(page, user)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    home = await page.request.get(place.platform.endpoint + "/console/home.json")
    return page, str((await home.json())["page"]["you"]["principal"]).rpartition("/")[2]


def ask(place: Place, user: str, *, jwt: str | None = None) -> tuple[str, Any]:
    """An agent that asks for a token of a user, whose own JWT it may have: its name, and how it
    asks."""
    control = place.platform.client("bedrock-agentcore-control")
    data = place.platform.client("bedrock-agentcore")
    name = f"calendar-{uuid.uuid4().hex[:8]}"
    made = control.create_oauth2_credential_provider(
        name=name,
        credentialProviderVendor="CustomOauth2",
        oauth2ProviderConfigInput={
            "customOauth2ProviderConfig": {
                "oauthDiscovery": {"discoveryUrl": place.oidc.discovery_url},
                "clientId": "web",
                "clientSecret": place.oidc.secret("web"),
            }
        },
    )
    web = next(client for client in place.oidc.clients if client["client_id"] == "web")
    web["redirect_uris"].append(f"http://127.0.0.1{urlsplit(made['callbackUrl']).path}")
    place.oidc.add_client({**web, "client_id": f"again-{name}"})
    control.create_workload_identity(name=name)
    if jwt is None:
        token = data.get_workload_access_token_for_user_id(workloadName=name, userId=user)
    else:
        token = data.get_workload_access_token_for_jwt(workloadName=name, userToken=jwt)

    def again(**more: Any) -> dict[str, Any]:
        answer: dict[str, Any] = data.get_resource_oauth2_token(
            workloadIdentityToken=token["workloadAccessToken"],
            resourceCredentialProviderName=name,
            scopes=["openid", "offline_access", "tools:read"],
            resources=[RESOURCE],
            oauth2Flow="USER_FEDERATION",
            **more,
        )
        return answer

    return name, again


async def test_a_person_signs_in_with_the_provider_and_has_the_roles_of_their_claims(
    place: Place, context: BrowserContext
) -> None:
    page, _ = await signed_in(context, place, "root")
    home = await page.request.get(place.platform.endpoint + "/console/home.json")
    assert "admin" in (await home.json())["page"]["you"]["roles"]


async def test_an_agent_gets_a_token_once_its_user_allowed_it_here_and_there(
    place: Place, context: BrowserContext
) -> None:
    page, user = await signed_in(context, place, "ada")
    name, again = await asyncio.to_thread(ask, place, user)
    asked = await asyncio.to_thread(again)
    await page.goto(asked["authorizationUrl"])
    await expect(page.get_by_role("heading", level=1)).to_contain_text(f"{name} asks for access")
    await expect(page.get_by_role("list", name="It wants to")).to_contain_text("tools:read")
    await page.get_by_role("button", name="Allow").click()
    # The person has a session with the provider already: its consent is all that is missing.
    await page.wait_for_url(f"{place.oidc.issuer}/**")
    await page.locator("button[type=submit]").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Access given")
    answer = await asyncio.to_thread(again, sessionUri=asked["sessionUri"])
    assert answer["accessToken"]


async def test_a_user_whom_an_agent_knows_by_a_token_is_the_person_who_signed_in_there(
    place: Place, context: BrowserContext
) -> None:
    page, user = await signed_in(context, place, "grace")
    tokens = await place.oidc.user_tokens("grace", resource=RESOURCE)
    name, again = await asyncio.to_thread(ask, place, user, jwt=tokens["access_token"])
    asked = await asyncio.to_thread(again)
    await page.goto(asked["authorizationUrl"])
    await expect(page.get_by_role("heading", level=1)).to_contain_text(f"{name} asks for access")
    strangers = await place.oidc.user_tokens("mallory", resource=RESOURCE)
    _, again = await asyncio.to_thread(ask, place, user, jwt=strangers["access_token"])
    asked = await asyncio.to_thread(again)
    await page.goto(asked["authorizationUrl"])
    await expect(page.get_by_role("heading", level=1)).to_have_text(
        "This request is for somebody else"
    )


async def test_an_agent_gets_nothing_when_its_user_denies(
    place: Place, context: BrowserContext
) -> None:
    page, user = await signed_in(context, place, "ada")
    _, again = await asyncio.to_thread(ask, place, user)
    asked = await asyncio.to_thread(again)
    await page.goto(asked["authorizationUrl"])
    await page.get_by_role("button", name="Deny").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Access denied")
    answer = await asyncio.to_thread(again, sessionUri=asked["sessionUri"])
    assert (answer.get("accessToken"), answer["sessionStatus"]) == (None, "FAILED")


async def test_another_person_than_the_one_asked_sees_and_gives_nothing(
    place: Place, context: BrowserContext
) -> None:
    page, _ = await signed_in(context, place, "mallory")
    name, again = await asyncio.to_thread(ask, place, "somebody-else")
    asked = await asyncio.to_thread(again)
    await page.goto(asked["authorizationUrl"])
    await expect(page.get_by_role("heading", level=1)).to_have_text(
        "This request is for somebody else"
    )
    assert name not in await page.content()
