"""The bar: a forged JWT is refused, every one of a long table."""

from collections.abc import AsyncIterator

import pytest

from forged_tokens import FORGED, HONEST, prepare, rules_of
from freehold.adapters.oidc.verifier import OidcVerifier
from freehold.adapters.web.client import CheckedWeb
from freehold.ports.tokens import TokenRefused
from token_issuer import TokenIssuer


@pytest.fixture(scope="module")
def honest() -> AsyncIterator[TokenIssuer]:
    with TokenIssuer() as issuer:
        prepare(issuer)
        yield issuer


@pytest.fixture(scope="module")
async def verifier(loopback: CheckedWeb) -> AsyncIterator[OidcVerifier]:
    verifier = OidcVerifier(loopback)
    yield verifier
    await verifier.close()


def test_the_table_is_as_long_as_the_bar_asks() -> None:
    assert len(FORGED) >= 43


@pytest.mark.parametrize("name", HONEST)
async def test_an_honest_token_is_taken(
    honest: TokenIssuer, verifier: OidcVerifier, name: str
) -> None:
    """Else the refusals below would prove nothing."""
    found = await verifier.verify(HONEST[name](honest), rules_of(honest))
    assert (found.issuer, found.subject) == (honest.issuer, "ada")


@pytest.mark.parametrize("name", FORGED)
async def test_a_forged_token_is_refused(
    honest: TokenIssuer, verifier: OidcVerifier, name: str
) -> None:
    token = FORGED[name](honest)
    for _ in range(2):  # whatever the first time left behind
        with pytest.raises(TokenRefused) as raised:
            await verifier.verify(token, rules_of(honest))
        assert raised.value.status == 401
        assert not token or token not in raised.value.message
    assert "/strangers-jwks" not in honest.asked
    assert "/strangers.pem" not in honest.asked
