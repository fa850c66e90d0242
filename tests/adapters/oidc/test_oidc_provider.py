"""Against a certified provider: npm's oidc-provider, in a process of its own."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from joserfc import jwt

import oidc_ground
from freehold.adapters.oidc.verifier import OidcVerifier
from freehold.adapters.web.client import CheckedWeb
from freehold.kernel.errors import Unavailable
from freehold.ports.tokens import ClaimRule, TokenRefused, TokenRules
from oidc_ground import DEVICE_CODE, JWT_BEARER, TOKEN_EXCHANGE, OidcProvider

API = "https://api.example.test"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture(scope="module")
def provider() -> Iterator[OidcProvider]:
    with OidcProvider() as provider:
        yield provider
        assert not [line for line in provider.log if "server_error" in line]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def verifier(loopback: CheckedWeb, clock: Clock) -> AsyncIterator[OidcVerifier]:
    verifier = OidcVerifier(loopback, clock=clock)
    yield verifier
    await verifier.close()


def rules(provider: OidcProvider, audience: str, *clients: str, scope: str = "") -> TokenRules:
    return TokenRules(
        discovery_url=provider.discovery_url,
        audiences=frozenset({audience}),
        clients=frozenset(clients),
        scopes=frozenset({scope} if scope else ()),
    )


def test_the_lock_names_versions_and_hashes_and_no_registry() -> None:
    lock = (Path(oidc_ground.__file__).parent / "oidc_provider" / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    packages = json.loads(lock)["packages"]
    assert all("integrity" in found for name, found in packages.items() if name)


@pytest.mark.parametrize("resource", [API, f"{API}/es256", f"{API}/eddsa"])
async def test_client_credentials_in_every_algorithm_it_signs_with(
    provider: OidcProvider, verifier: OidcVerifier, resource: str
) -> None:
    token = await provider.machine_token(resource)
    asked = rules(provider, resource, "machine", scope="tools:read")
    found = await verifier.verify(token, asked)
    assert (found.subject, found.claims["client_id"]) == ("machine", "machine")


async def test_a_user_who_signed_in_by_the_providers_own_forms(
    provider: OidcProvider, verifier: OidcVerifier
) -> None:
    scope = "openid offline_access profile tools:read"
    tokens = await provider.user_tokens("ada", scope=scope, resource=API)
    asked = rules(provider, API, "web", scope="tools:read")
    assert (await verifier.verify(tokens["access_token"], asked)).subject == "ada"

    staff = ClaimRule(name="groups", is_list=True, operator="CONTAINS", wanted=("staff",))
    identity = TokenRules(
        discovery_url=provider.discovery_url, audiences=frozenset({"web"}), claims=(staff,)
    )
    assert (await verifier.verify(tokens["id_token"], identity)).claims["name"] == "ada"


async def test_refresh_tokens_are_rotated_and_a_used_one_ends_the_grant(
    provider: OidcProvider, verifier: OidcVerifier
) -> None:
    first = await provider.user_tokens("ada", resource=API, scope="offline_access tools:read")
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = await provider.token(form, client="web")
    assert second["refresh_token"] != first["refresh_token"]
    found = await verifier.verify(second["access_token"], rules(provider, API))
    assert found.subject == "ada"
    assert (await provider.token(form, client="web"))["error"] == "invalid_grant"
    form["refresh_token"] = second["refresh_token"]
    assert (await provider.token(form, client="web"))["error"] == "invalid_grant"


async def test_a_user_who_does_not_consent(provider: OidcProvider) -> None:
    url = (
        f"{provider.issuer}/auth?client_id=web&response_type=code&scope=openid&state=s"
        "&redirect_uri=http%3A%2F%2F127.0.0.1%2Fcallback&prompt=consent"
        "&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"
    )
    assert "error=access_denied" in await provider.sign_in(url, "ada", agree=False)
    without = url.replace("code_challenge", "x")
    assert "error=invalid_request" in await provider.sign_in(without, "ada")


async def test_the_device_flow(provider: OidcProvider, verifier: OidcVerifier) -> None:
    async with aiohttp.ClientSession() as session:
        asked = {"client_id": "public", "scope": "openid"}
        async with session.post(f"{provider.issuer}/device/auth", data=asked) as answer:
            device = await answer.json()
        form = {
            "client_id": "public", "grant_type": DEVICE_CODE, "device_code": device["device_code"],
        }  # fmt: skip
        async with session.post(provider.token_url, data=form) as answer:
            assert (await answer.json())["error"] == "authorization_pending"
        await provider.approve_device(device["verification_uri_complete"], "bob")
        async with session.post(provider.token_url, data=form) as answer:
            token = (await answer.json())["id_token"]
    assert (await verifier.verify(token, rules(provider, "public"))).subject == "bob"


async def test_a_client_that_signs_in_place_of_a_secret(
    provider: OidcProvider, verifier: OidcVerifier
) -> None:
    now = int(time.time())
    claims = {
        "iss": "machine-key", "sub": "machine-key", "aud": provider.issuer, "jti": f"{now}-1",
        "iat": now, "exp": now + 60,
    }  # fmt: skip
    header = {"alg": "ES256", "kid": provider.client_key.kid}
    form = {
        "grant_type": "client_credentials", "resource": API, "scope": "tools:read",
        "client_assertion_type": JWT_ASSERTION,
        "client_assertion": jwt.encode(header, claims, provider.client_key),
    }  # fmt: skip
    async with aiohttp.ClientSession() as session:
        async with session.post(provider.token_url, data=form) as answer:
            token = (await answer.json())["access_token"]
        found = await verifier.verify(token, rules(provider, API, "machine-key"))
        assert found.subject == "machine-key"
        async with session.post(provider.token_url, data=form) as answer:  # its jti was used
            assert answer.status == 401


@pytest.mark.parametrize("grant", ["token exchange", "JWT bearer"])
async def test_token_exchange_and_jwt_bearer_by_custom_grants_of_this_provider(
    provider: OidcProvider, verifier: OidcVerifier, grant: str
) -> None:
    """Not certified: the provider has neither grant, they are written for these tests."""
    theirs = await provider.user_tokens("ada", resource=API, scope="offline_access tools:read")
    token = theirs["access_token"]
    downstream = f"{API}/es256"
    form = (
        {"grant_type": TOKEN_EXCHANGE, "subject_token": token, "subject_token_type": ACCESS_TOKEN}
        if grant == "token exchange"
        else {"grant_type": JWT_BEARER, "assertion": token}
    )
    answer = await provider.token({**form, "audience": downstream})
    asked = rules(provider, downstream, "machine")
    found = await verifier.verify(answer["access_token"], asked)
    assert (found.subject, found.claims["act"]) == ("ada", {"sub": "machine"})
    with pytest.raises(TokenRefused):
        await verifier.verify(token, asked)  # for another audience
    refused = await provider.token({**{k: v.replace(token, "x") for k, v in form.items()}})
    assert refused["error"] == "invalid_grant"


async def test_an_opaque_token_is_refused_without_a_question(
    provider: OidcProvider, verifier: OidcVerifier
) -> None:
    opaque = (await provider.token({"grant_type": "client_credentials"}))["access_token"]
    asked = provider.count("/jwks")
    with pytest.raises(TokenRefused):
        await verifier.verify(opaque, rules(provider, API))
    assert provider.count("/jwks") == asked


async def test_tokens_for_elsewhere_are_refused(
    provider: OidcProvider, verifier: OidcVerifier
) -> None:
    token = await provider.machine_token(API)
    for asked in (
        rules(provider, f"{API}/other"),
        rules(provider, API, "web"),
        rules(provider, API, scope="tools:write"),
    ):
        with pytest.raises(TokenRefused):
            await verifier.verify(token, asked)


async def test_its_keys_are_rotated_and_it_goes_away_and_comes_back(
    loopback: CheckedWeb, clock: Clock
) -> None:
    with OidcProvider() as provider:
        verifier = OidcVerifier(loopback, clock=clock)
        asked = rules(provider, API)
        old = await provider.machine_token(API)
        await verifier.verify(old, asked)

        provider.rotate_keys()
        new = await provider.machine_token(API)
        with pytest.raises(TokenRefused):
            await verifier.verify(new, asked)  # it was asked a moment ago
        clock.seconds += 30
        await verifier.verify(new, asked)
        with pytest.raises(TokenRefused):
            await verifier.verify(old, asked)
        assert provider.count("/jwks") == 2

        provider.stop()
        clock.seconds += 3599
        await verifier.verify(new, asked)
        clock.seconds += 1
        with pytest.raises(TokenRefused):
            await verifier.verify(new, asked)
        with pytest.raises(Unavailable):
            await OidcVerifier(loopback).verify(new, asked)

        provider.start()
        clock.seconds += 5
        await verifier.verify(new, asked)
        await verifier.close()
