"""A verifier over real HTTP, and clocks that tests turn."""

from collections.abc import AsyncIterator, Iterator

import pytest

from freehold.adapters.egress.addresses import denied, forbidden
from freehold.adapters.web.client import CheckedWeb
from freehold.adapters.web.destination import Destinations
from token_issuer import TokenIssuer


@pytest.fixture
def issuer() -> Iterator[TokenIssuer]:
    with TokenIssuer() as issuer:
        yield issuer


@pytest.fixture(scope="session")
async def loopback() -> AsyncIterator[CheckedWeb]:
    web = CheckedWeb(
        Destinations(
            denied=denied, forbidden=forbidden, listed=frozenset({"127.0.0.1"}), setting="-"
        )
    )
    await web.start()
    yield web
    await web.close()
