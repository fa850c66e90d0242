"""A discovery document speaks for its own issuer, and for nobody else's."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from freehold.adapters.oidc.issuer import speaks_for
from freehold.adapters.oidc.verifier import OidcVerifier
from freehold.adapters.web.client import CheckedWeb
from freehold.kernel.errors import Unavailable
from freehold.ports.tokens import TokenRules
from token_issuer import TokenIssuer

GUID = "72f988bf-86f1-41af-91ab-2d7cd011db47"
OTHER = "00000000-86f1-41af-91ab-2d7cd011db47"
ENTRA = "https://login.microsoftonline.com"


@pytest.fixture
async def verifier(loopback: CheckedWeb) -> AsyncIterator[OidcVerifier]:
    verifier = OidcVerifier(loopback)
    yield verifier
    await verifier.close()


@pytest.mark.parametrize(
    ("url", "issuer"),
    [
        ("https://a.test/.well-known/openid-configuration", "https://a.test"),
        ("https://a.test/.well-known/openid-configuration", "https://a.test/"),
        ("https://a.test/realms/x/.well-known/openid-configuration", "https://a.test/realms/x"),
        ("https://a.test/.well-known/oauth-authorization-server", "https://a.test"),
        ("https://a.test/.well-known/oauth-authorization-server/x/y", "https://a.test/x/y"),
        ("https://a.test/.well-known/openid-configuration/x", "https://a.test/x"),
        (
            "https://d.okta.com/oauth2/default/.well-known/oauth-authorization-server",
            "https://d.okta.com/oauth2/default",
        ),
        (f"{ENTRA}/{GUID}/v2.0/.well-known/openid-configuration", f"{ENTRA}/{GUID}/v2.0"),
        (f"{ENTRA}/a.test/v2.0/.well-known/openid-configuration", f"{ENTRA}/{GUID}/v2.0"),
        (f"{ENTRA}/{GUID}/.well-known/openid-configuration", f"https://sts.windows.net/{GUID}/"),
        (f"{ENTRA}/a.test/.well-known/openid-configuration", f"https://sts.windows.net/{GUID}/"),
        (
            "https://a.b2clogin.com/a.test/B2C_1_x/v2.0/.well-known/openid-configuration",
            f"https://a.b2clogin.com/{GUID}/v2.0/",
        ),
        (
            f"https://a.ciamlogin.com/{GUID}/v2.0/.well-known/openid-configuration",
            f"https://{GUID}.ciamlogin.com/{GUID}/v2.0",
        ),
    ],
)
def test_a_document_speaks_for_the_issuer_that_it_stands_below(url: str, issuer: str) -> None:
    assert speaks_for(url, issuer)


@pytest.mark.parametrize(
    ("url", "issuer"),
    [
        ("https://a.test/.well-known/openid-configuration", "https://b.test"),
        ("https://a.test/.well-known/openid-configuration", "http://a.test"),
        ("https://a.test/.well-known/openid-configuration", "https://a.test//"),
        ("https://a.test/.well-known/openid-configuration", "https://A.test"),
        ("https://a.test/.well-known/openid-configuration", "https://a.test/x"),
        ("https://a.test/.well-known/openid-configuration", ""),
        ("https://a.test/realms/x/.well-known/openid-configuration", "https://a.test/realms/y"),
        ("https://a.test/realms/x/.well-known/openid-configuration", "https://a.test"),
        ("https://a.test/openid-configuration", "https://a.test"),
        ("https://a.test/.well-known/openid-configuration?x=y", "https://a.test"),
        (f"{ENTRA}/common/v2.0/.well-known/openid-configuration", f"{ENTRA}/{GUID}/v2.0"),
        (f"{ENTRA}/common/v2.0/.well-known/openid-configuration", ENTRA + "/{tenantid}/v2.0"),
        (f"{ENTRA}/{OTHER}/v2.0/.well-known/openid-configuration", f"{ENTRA}/{GUID}/v2.0"),
        (f"{ENTRA}/{OTHER}/.well-known/openid-configuration", f"https://sts.windows.net/{GUID}/"),
        (
            "https://login.microsoftonline.com.evil.test/a/.well-known/openid-configuration",
            f"https://sts.windows.net/{GUID}/",
        ),
        (
            f"https://evil.test/{ENTRA}/{GUID}/.well-known/openid-configuration",
            f"https://sts.windows.net/{GUID}/",
        ),
        (
            "https://a.b2clogin.com/a.test/B2C_1_x/v2.0/.well-known/openid-configuration",
            f"https://b.b2clogin.com/{GUID}/v2.0/",
        ),
    ],
)
def test_a_document_does_not_speak_for_another_issuer(url: str, issuer: str) -> None:
    assert not speaks_for(url, issuer)


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://accounts.example.test", "jwks_uri": "{}/jwks"},  # mix-up
        {"issuer": "{}", "jwks_uri": "file:///etc/passwd"},
        {"issuer": "{}", "jwks_uri": "https://169.254.169.254/jwks"},
        {"issuer": "{}", "jwks_uri": "http://10.0.0.1/jwks"},
        {"issuer": "{}", "jwks_uri": ["{}/jwks"]},
        {"issuer": "{}"},
        {"jwks_uri": "{}/jwks"},
        {"issuer": 1, "jwks_uri": "{}/jwks"},
        ["{}"],
        b"no JSON",
    ],
)
async def test_a_document_that_says_otherwise_leads_to_no_keys(
    issuer: TokenIssuer, verifier: OidcVerifier, document: Any
) -> None:
    if isinstance(document, dict):
        document = {
            name: value.format(issuer.issuer) if isinstance(value, str) else value
            for name, value in document.items()
        }
    issuer.documents["/.well-known/openid-configuration"] = document
    with pytest.raises(Unavailable):
        await verifier.verify(issuer.token(), TokenRules(discovery_url=issuer.discovery_url))
    assert issuer.count() == 0


async def test_both_well_known_forms_are_understood(
    issuer: TokenIssuer, verifier: OidcVerifier
) -> None:
    url = f"{issuer.issuer}/.well-known/oauth-authorization-server"
    found = await verifier.verify(issuer.token(), TokenRules(discovery_url=url))
    assert found.issuer == issuer.issuer


async def test_an_issuer_with_a_path_has_its_document_before_or_behind_it(
    issuer: TokenIssuer, verifier: OidcVerifier
) -> None:
    realm = {"issuer": f"{issuer.issuer}/realms/x", "jwks_uri": f"{issuer.issuer}/jwks"}
    issuer.documents["/realms/x/.well-known/openid-configuration"] = realm
    issuer.documents["/.well-known/oauth-authorization-server/realms/x"] = realm
    for path in issuer.documents:
        rules = TokenRules(discovery_url=issuer.issuer + path)
        found = await verifier.verify(issuer.token(iss=realm["issuer"]), rules)
        assert found.issuer == realm["issuer"]
