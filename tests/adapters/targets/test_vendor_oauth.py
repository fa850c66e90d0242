"""What the vault knows of connectors' vendors, against stand-ins of their authorization servers."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from multidict import CIMultiDict

from connector_vendors.facts import facts_of
from connector_vendors.server import StandIn
from freehold.adapters.oauth.client import HttpOauthClient
from freehold.adapters.web.client import CheckedWeb
from freehold.ports.credentials import Oauth2Provider
from freehold.ports.oauth import Asked, OauthRefused
from freehold.services.vault.vendors import VENDORS, Vendor

_BACK = "https://platform.example/identities/oauth2/callback/x"
_VERIFIER = "a-verifier-of-enough-characters-to-be-one-of-rfc-7636"

# Vendor in the vault, stand-in, scopes, an operation that the token must be good for.
INCLUDED = [
    ("GithubOauth2", "github", ("repo",), "/repos/o/r/issues"),
    ("SlackOauth2", "slack", ("channels:read", "users:read"), "/api/users.list"),
    ("AtlassianOauth2", "jira", ("read:jira-user", "offline_access"),
     "/ex/jira/c/rest/api/3/myself"),
    ("ZoomOauth2", "zoom", ("meeting:read:list_meetings",), "/v2/users/me/meetings"),
    ("SalesforceOauth2", "salesforce", ("api", "refresh_token"), "/services/data/v60.0/limits"),
]  # fmt: skip
CUSTOM = [
    ("CustomOauth2", "asana", ("users:read",), "/api/1.0/users/me"),
    ("CustomOauth2", "zendesk", ("read",), "/api/v2/users/me"),
]


async def provider_of(name: str, standin: StandIn, client: HttpOauthClient) -> Oauth2Provider:
    """As the vault makes it, with the stand-in's address in place of the vendor's host."""
    vendor: Vendor = VENDORS[name]
    about = standin.facts.about["oauth"]
    authorize_at, exchange_at = vendor.authorize_at, vendor.exchange_at
    if vendor.discovery_url:
        found = await client.discover(standin.url + urlsplit(vendor.discovery_url).path)
        authorize_at = str(found["authorization_endpoint"])
        exchange_at = str(found["token_endpoint"])
    elif not authorize_at:
        authorize_at, exchange_at = about["authorize"], about["token"]
    return Oauth2Provider(
        tenant="t", name="p", arn="arn", vendor=name, version=1, issuer="", callback_id="x",
        client_id=standin.oauth.client_id, client_secret=standin.oauth.client_secret,
        authorization_endpoint=standin.url + urlsplit(authorize_at).path,
        token_endpoint=standin.url + urlsplit(exchange_at).path,
        auth_method=vendor.auth_method or "client_secret_post",  # type: ignore[arg-type]
        pkce=vendor.pkce, scope_separator=vendor.scope_separator, extra=vendor.extra,
        machine_grant=vendor.machine_grant,
    )  # fmt: skip


async def code_for(web: CheckedWeb, url: str) -> str:
    """A person agrees, and comes back with this."""
    answer = await web.ask("GET", url)
    assert answer.status == 302, answer.body
    came_back = parse_qs(urlsplit(answer.headers["location"]).query)
    assert came_back["state"] == ["a-state"]
    return came_back["code"][0]


async def works(web: CheckedWeb, standin: StandIn, path: str, token: str) -> bool:
    headers = CIMultiDict({"authorization": f"Bearer {token}", "user-agent": "a-test"})
    answer = await web.ask("GET", standin.url + path, headers=headers)
    return answer.status == 200 and b'"ok": false' not in answer.body


@pytest.mark.parametrize(("name", "vendor", "scopes", "path"), INCLUDED + CUSTOM)
async def test_a_persons_agreement_becomes_a_token_that_is_good_and_can_be_refreshed(
    vendor_web: CheckedWeb, name: str, vendor: str, scopes: tuple[str, ...], path: str
) -> None:
    client, asked = HttpOauthClient(vendor_web), Asked(scopes=scopes)
    async with StandIn(vendor) as standin:
        provider = await provider_of(name, standin, client)
        url = client.authorization_url(
            provider, asked, redirect_uri=_BACK, state="a-state", verifier=_VERIFIER
        )

        code = await code_for(vendor_web, url)
        first = await client.redeem(
            provider, asked, code=code, redirect_uri=_BACK, verifier=_VERIFIER
        )
        assert first.refresh_token is not None
        second = await client.refresh(provider, asked, first.refresh_token)

        assert first.scopes == scopes
        assert second.access_token != first.access_token
        for tokens in (first, second):
            assert await works(vendor_web, standin, path, tokens.access_token)


@pytest.mark.parametrize(("name", "vendor", "scopes", "path"), INCLUDED + CUSTOM)
async def test_a_code_that_was_used_is_refused_and_not_taken_for_a_token(
    vendor_web: CheckedWeb, name: str, vendor: str, scopes: tuple[str, ...], path: str
) -> None:
    client, asked = HttpOauthClient(vendor_web), Asked(scopes=scopes)
    async with StandIn(vendor) as standin:
        provider = await provider_of(name, standin, client)

        with pytest.raises(OauthRefused) as refused:
            await client.redeem(
                provider, asked, code="used", redirect_uri=_BACK, verifier=_VERIFIER
            )

        expected = {"github": "bad_verification_code", "slack": "invalid_code"}
        assert refused.value.error == expected.get(vendor, "invalid_grant")


async def test_slacks_token_of_a_person_alone_is_found_where_it_is_nested(
    vendor_web: CheckedWeb,
) -> None:
    client, asked = HttpOauthClient(vendor_web), Asked(parameters={"user_scope": "search:read"})
    async with StandIn("slack") as standin:
        provider = await provider_of("SlackOauth2", standin, client)
        url = client.authorization_url(
            provider, asked, redirect_uri=_BACK, state="a-state", verifier=_VERIFIER
        )

        code = await code_for(vendor_web, url)
        tokens = await client.redeem(
            provider, asked, code=code, redirect_uri=_BACK, verifier=_VERIFIER
        )

        assert tokens.access_token.startswith("xoxp-")
        assert tokens.refresh_token is not None
        again = await client.refresh(provider, asked, tokens.refresh_token)
        for token in (tokens.access_token, again.access_token):
            assert await works(vendor_web, standin, "/api/search.messages?query=x", token)


@pytest.mark.parametrize(
    ("name", "vendor", "parameters", "path"),
    [
        ("ZoomOauth2", "zoom", {"account_id": "the-account"}, "/v2/users/me"),
        ("SalesforceOauth2", "salesforce", {}, "/services/data/v60.0/limits"),
        ("CustomOauth2", "zendesk", {}, "/api/v2/users/me"),
    ],
)
async def test_a_client_gets_a_token_of_its_own_where_the_vendor_has_that(
    vendor_web: CheckedWeb, name: str, vendor: str, parameters: dict[str, Any], path: str
) -> None:
    scopes = {"zoom": ("user:read:user",), "zendesk": ("read",)}.get(vendor, ())
    client, asked = HttpOauthClient(vendor_web), Asked(scopes=scopes, parameters=parameters)
    async with StandIn(vendor) as standin:
        provider = await provider_of(name, standin, client)

        tokens = await client.client_credentials(provider, asked)

        assert tokens.refresh_token is None
        assert await works(vendor_web, standin, path, tokens.access_token)


@pytest.mark.parametrize(("name", "vendor"), [one[:2] for one in INCLUDED])
def test_the_addresses_in_the_vault_are_the_vendors(name: str, vendor: str) -> None:
    about, known = facts_of(vendor).about["oauth"], VENDORS[name]
    if known.discovery_url:
        assert urlsplit(known.discovery_url).netloc == about["host"]
        return

    assert known.authorize_at == f"https://{about['host']}{about['authorize']}"
    assert known.exchange_at == f"https://{about['host']}{about['token']}"
    assert known.scope_separator == about["scope_separator"]
