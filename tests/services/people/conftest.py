from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from people_ground import CLIENT, Ground, Rewriting

from freehold.adapters.egress.addresses import denied, forbidden
from freehold.adapters.oidc.verifier import OidcVerifier
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.web.client import CheckedWeb
from freehold.adapters.web.destination import Destinations
from oidc_ground import OidcProvider


@pytest.fixture
def ground(database: PostgresDatabase, tenant: str) -> Ground:
    return Ground(database, tenant)


@pytest.fixture(scope="session")
def oidc() -> Iterator[OidcProvider]:
    """npm's oidc-provider, which knows this platform as a client."""
    with OidcProvider(clients=[CLIENT]) as provider:
        yield provider


@pytest.fixture
async def web() -> AsyncIterator[Rewriting]:
    """Real requests; a test may put its own answer in place of one."""
    web = CheckedWeb(
        Destinations(
            denied=denied, forbidden=forbidden, listed=frozenset({"127.0.0.1"}), setting="-"
        )
    )
    await web.start()
    yield Rewriting(web)
    await web.close()


@pytest.fixture
async def with_provider(
    database: PostgresDatabase, tenant: str, oidc: OidcProvider, web: Rewriting
) -> AsyncIterator[Callable[..., Ground]]:
    """Makes a platform whose people sign in with the provider."""
    verifier = OidcVerifier(web)

    def make(**more: Any) -> Ground:
        settings = {"first": tenant, "rules": "staff=developer", **more}
        return Ground(database, issuer=oidc.issuer, web=web, verifier=verifier, **settings)

    yield make
    await verifier.close()
