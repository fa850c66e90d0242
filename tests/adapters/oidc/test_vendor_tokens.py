"""Tokens as Cognito, Okta, Entra ID and Auth0 document them: where each has its audience, client,
scopes and groups. The vendors' names lead to documents of this test; the signatures are real.
"""

import time
from collections.abc import Mapping
from typing import Any

import pytest

from freehold.adapters.oidc.verifier import OidcVerifier
from freehold.ports.tokens import ClaimRule, TokenRefused, TokenRules
from freehold.ports.web import Unreachable, WebAnswer
from token_issuer import TokenIssuer, as_json

WELL_KNOWN = "/.well-known/openid-configuration"

COGNITO = "https://cognito-idp.us-west-2.amazonaws.com/us-west-2_example"
COGNITO_USER = {
    "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    "device_key": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    "cognito:groups": ["admin"],
    "iss": COGNITO,
    "version": 2,
    "client_id": "xxxxxxxxxxxxexample",
    "origin_jti": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    "event_id": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    "token_use": "access",
    "scope": "phone openid profile resourceserver.1/appclient2 email",
    "auth_time": 1676313851,
    "jti": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    "username": "my-test-user",
}
COGNITO_MACHINE = {
    "sub": "xxxxxxxxxxxxexample",
    "token_use": "access",
    "scope": "solar-system-data/asteroids.add",
    "auth_time": 1676313851,
    "iss": COGNITO,
    "version": 2,
    "jti": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    "client_id": "xxxxxxxxxxxxexample",
}
COGNITO_ID = {
    "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    "cognito:groups": ["test-group-a", "test-group-b"],
    "email_verified": True,
    "cognito:preferred_role": "arn:aws:iam::111122223333:role/my-test-role",
    "iss": COGNITO,
    "cognito:username": "my-test-user",
    "aud": "xxxxxxxxxxxxexample",
    "identities": [{"userId": "amzn1.account.EXAMPLE", "providerName": "LoginWithAmazon"}],
    "event_id": "64f513be-32db-42b0-b78e-b02127b4f463",
    "token_use": "id",
    "auth_time": 1676312777,
    "email": "my-test-user@example.com",
}

OKTA = "https://dev-1234.okta.com/oauth2/default"
OKTA_USER = {
    "ver": 1,
    "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE",
    "iss": OKTA,
    "aud": "https://api.example.com",
    "sub": "00ujmkLgagxeRrAg20g3",
    "cid": "nmdP1fcyvdVO11AL7ECm",
    "uid": "00ujmkLgagxeRrAg20g3",
    "scp": ["openid", "email", "flights", "custom"],
    "custom_claim": "CustomValue",
}

TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
ENTRA_V2 = f"https://login.microsoftonline.com/{TENANT}/v2.0"
ENTRA_V2_USER = {
    "aud": "6e74172b-be56-4843-9ff4-e66a39bb12e3",
    "iss": ENTRA_V2,
    "aio": "AXQAi/8IAAAA",
    "azp": "6e74172b-be56-4843-9ff4-e66a39bb12e3",
    "azpacr": "0",
    "name": "Abe Lincoln",
    "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474",
    "preferred_username": "abeli@microsoft.com",
    "rh": "I",
    "scp": "access_as_user files.read",
    "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ",
    "tid": TENANT,
    "uti": "fqiBqXLPj0eQa82S-IYFAA",
    "ver": "2.0",
}
ENTRA_V2_MACHINE = {
    "aud": "6e74172b-be56-4843-9ff4-e66a39bb12e3",
    "iss": ENTRA_V2,
    "azp": "0b6e74172-0000-4843-9ff4-e66a39bb12e3",
    "azpacr": "1",
    "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474",
    "roles": ["Agents.Invoke.All"],
    "sub": "690222be-ff1a-4d56-abd1-7e4f7d38e474",
    "tid": TENANT,
    "ver": "2.0",
}
ENTRA_V1 = f"https://sts.windows.net/{TENANT}/"
ENTRA_V1_USER = {
    "aud": "api://ef1da9d4-ff77-4c3e-a005-840c3f830745",
    "iss": ENTRA_V1,
    "acr": "1",
    "amr": ["rsa"],
    "appid": "75dbe77f-10a3-4e59-85fd-8c127544f17c",
    "appidacr": "0",
    "family_name": "Lincoln",
    "idp": "https://sts.windows.net/fa15d692-e9c7-4460-a743-29f29522229e/",
    "ipaddr": "222.222.222.22",
    "oid": "02223b6b-aa1d-42d4-9ec0-1b2bb9194438",
    "scp": "user_impersonation",
    "sub": "l3_roISQU222bULS9yi2k0XpqpOiMz5H3ZACo1GeXA",
    "tid": TENANT,
    "unique_name": "abeli@microsoft.com",
    "ver": "1.0",
}

AUTH0 = "https://my-domain.auth0.com/"
AUTH0_USER = {
    "iss": AUTH0,
    "sub": "auth0|123456",
    "aud": ["https://example.com/health-api", "https://my-domain.auth0.com/userinfo"],
    "azp": "my_client_id",
    "scope": "openid profile read:patients read:admin",
    "https://example.com/roles": ["doctor"],
}
AUTH0_MACHINE = {
    "iss": AUTH0,
    "sub": "my_client_id@clients",
    "aud": "https://example.com/health-api",
    "azp": "my_client_id",
    "scope": "read:patients",
    "gty": "client-credentials",
}
AUTH0_RFC9068 = {
    "iss": AUTH0,
    "sub": "auth0|123456",
    "aud": "https://example.com/health-api",
    "client_id": "my_client_id",
    "jti": "73WakrfVbNJBaAmhQtEeDv",
    "scope": "read:patients",
}


class VendorsWeb:
    """`ports.web.Web` where the vendors' documents are, with an issuer's own keys."""

    def __init__(self, keys: TokenIssuer) -> None:
        documents = {
            f"{COGNITO}{WELL_KNOWN}": COGNITO,
            f"{OKTA}{WELL_KNOWN}": OKTA,
            f"{OKTA}/.well-known/oauth-authorization-server": OKTA,
            f"{ENTRA_V2}{WELL_KNOWN}": ENTRA_V2,
            f"https://login.microsoftonline.com/{TENANT}{WELL_KNOWN}": ENTRA_V1,
            f"https://my-domain.auth0.com{WELL_KNOWN}": AUTH0,
        }
        self._answers: dict[str, Any] = {
            url: {"issuer": issuer, "jwks_uri": "https://keys.test"}
            for url, issuer in documents.items()
        }
        self._answers["https://keys.test"] = keys.jwks

    async def ask(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None,
        body: bytes | None = None, bytes_max: int = 0, seconds_max: float = 0,
    ) -> WebAnswer:  # fmt: skip
        if url not in self._answers:
            raise Unreachable(f"nobody is at {url}")
        return WebAnswer(status=200, headers={}, body=as_json(self._answers[url]))


V1_URL = f"https://login.microsoftonline.com/{TENANT}{WELL_KNOWN}"
AUTH0_URL = f"https://my-domain.auth0.com{WELL_KNOWN}"


def has(name: str, *wanted: str) -> tuple[ClaimRule, ...]:
    operator = "CONTAINS" if len(wanted) == 1 else "CONTAINS_ANY"
    return (ClaimRule(name=name, is_list=True, operator=operator, wanted=wanted),)


def equals(name: str, wanted: str) -> tuple[ClaimRule, ...]:
    return (ClaimRule(name=name, wanted=(wanted,)),)


Case = tuple[str, dict[str, Any], str, dict[str, Any]]
TAKEN: dict[str, Case] = {
    "Cognito, a user": (
        "", COGNITO_USER, COGNITO + WELL_KNOWN,
        {"clients": {"xxxxxxxxxxxxexample"}, "scopes": {"resourceserver.1/appclient2"},
         "claims": has("cognito:groups", "admin") + equals("token_use", "access")},
    ),
    "Cognito, a machine": (
        "", COGNITO_MACHINE, COGNITO + WELL_KNOWN,
        {"clients": {"xxxxxxxxxxxxexample"}, "scopes": {"solar-system-data/asteroids.add"}},
    ),
    "Cognito, an ID token": (
        "", COGNITO_ID, COGNITO + WELL_KNOWN,
        {"audiences": {"xxxxxxxxxxxxexample"},
         "claims": has("cognito:groups", "nobody", "test-group-b")},
    ),
    "Okta, a user": (
        "", OKTA_USER, OKTA + WELL_KNOWN,
        {"audiences": {"https://api.example.com"}, "clients": {"nmdP1fcyvdVO11AL7ECm"},
         "scopes": {"flights"}, "claims": equals("custom_claim", "CustomValue")},
    ),
    "Okta, by its other document": (
        "", OKTA_USER, f"{OKTA}/.well-known/oauth-authorization-server", {"scopes": {"custom"}},
    ),
    "Entra ID version 2, a user": (
        "JWT", ENTRA_V2_USER, ENTRA_V2 + WELL_KNOWN,
        {"audiences": {"6e74172b-be56-4843-9ff4-e66a39bb12e3"},
         "clients": {"6e74172b-be56-4843-9ff4-e66a39bb12e3"}, "scopes": {"files.read"},
         "claims": equals("tid", TENANT)},
    ),
    "Entra ID version 2, a machine": (
        "JWT", ENTRA_V2_MACHINE, ENTRA_V2 + WELL_KNOWN,
        {"clients": {"0b6e74172-0000-4843-9ff4-e66a39bb12e3"},
         "claims": has("roles", "Agents.Invoke.All")},
    ),
    "Entra ID version 1, a user": (
        "JWT", ENTRA_V1_USER, V1_URL,
        {"audiences": {"api://ef1da9d4-ff77-4c3e-a005-840c3f830745"},
         "clients": {"75dbe77f-10a3-4e59-85fd-8c127544f17c"}, "scopes": {"user_impersonation"}},
    ),
    "Auth0, a user": (
        "JWT", AUTH0_USER, AUTH0_URL,
        {"audiences": {"https://example.com/health-api"}, "clients": {"my_client_id"},
         "scopes": {"read:patients"}, "claims": has("https://example.com/roles", "doctor")},
    ),
    "Auth0, a machine": (
        "JWT", AUTH0_MACHINE, AUTH0_URL,
        {"audiences": {"https://example.com/health-api"}, "clients": {"my_client_id"}},
    ),
    "Auth0, the RFC 9068 profile": (
        "at+jwt", AUTH0_RFC9068, AUTH0_URL,
        {"audiences": {"https://example.com/health-api"}, "clients": {"my_client_id"},
         "scopes": {"read:patients"}},
    ),
}  # fmt: skip
REFUSED: dict[str, Case] = {
    "Cognito's access token where an audience is asked for: it has none": (
        "", COGNITO_USER, COGNITO + WELL_KNOWN, {"audiences": {"xxxxxxxxxxxxexample"}},
    ),
    "Cognito's ID token where a client is asked for: it has an audience": (
        "", COGNITO_ID, COGNITO + WELL_KNOWN, {"clients": {"xxxxxxxxxxxxexample"}},
    ),
    "Cognito's ID token where an access token is asked for": (
        "", COGNITO_ID, COGNITO + WELL_KNOWN, {"claims": equals("token_use", "access")},
    ),
    "Cognito's token of another user pool": (
        "", {**COGNITO_USER, "iss": COGNITO + "2"}, COGNITO + WELL_KNOWN, {},
    ),
    "Okta's token of the organization's own server": (
        "", {**OKTA_USER, "iss": "https://dev-1234.okta.com"}, OKTA + WELL_KNOWN, {},
    ),
    "Entra ID's version 1 token at version 2's address": (
        "JWT", ENTRA_V1_USER, ENTRA_V2 + WELL_KNOWN, {},
    ),
    "Entra ID's token of another tenant": (
        "JWT", {**ENTRA_V2_USER, "iss": ENTRA_V2.replace("72f9", "0000")},
        ENTRA_V2 + WELL_KNOWN, {},
    ),
    "Entra ID's machine, whose roles are no scopes": (
        "JWT", ENTRA_V2_MACHINE, ENTRA_V2 + WELL_KNOWN, {"scopes": {"Agents.Invoke.All"}},
    ),
    "Auth0's issuer without its slash": (
        "JWT", {**AUTH0_USER, "iss": AUTH0[:-1]}, AUTH0_URL, {},
    ),
    "Auth0's token for userinfo alone": (
        "JWT", {**AUTH0_USER, "aud": "https://my-domain.auth0.com/userinfo"}, AUTH0_URL,
        {"audiences": {"https://example.com/health-api"}},
    ),
}  # fmt: skip


async def verified(issuer: TokenIssuer, case: Case) -> Any:
    kind, claims, url, asked = case
    now = int(time.time())
    header = {"typ": kind or None, "x5t": "a-thumbprint", "kid": "RS256"}
    token = issuer.bare_token(
        {name: value for name, value in header.items() if value is not None},
        {**claims, "iat": now, "nbf": now, "exp": now + 3600},
    )
    verifier = OidcVerifier(VendorsWeb(issuer))
    sets = {name: frozenset(value) for name, value in asked.items() if name != "claims"}
    rules = TokenRules(discovery_url=url, claims=asked.get("claims", ()), **sets)
    return await verifier.verify(token, rules)


@pytest.mark.parametrize("name", TAKEN)
async def test_a_vendors_token_is_taken(issuer: TokenIssuer, name: str) -> None:
    claims = TAKEN[name][1]
    found = await verified(issuer, TAKEN[name])
    assert (found.issuer, found.subject) == (claims["iss"], claims["sub"])
    assert {key: found.claims[key] for key in claims} == claims


@pytest.mark.parametrize("name", REFUSED)
async def test_a_vendors_token_is_refused(issuer: TokenIssuer, name: str) -> None:
    with pytest.raises(TokenRefused):
        await verified(issuer, REFUSED[name])
