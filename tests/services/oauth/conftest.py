"""One real OpenID provider, and workers of the service beside it."""

from collections.abc import AsyncIterator, Iterator

import pytest
from oauth_ground import Ground, Worker, loopback_web

from oidc_ground import OidcProvider


@pytest.fixture(scope="session")
def oidc() -> Iterator[OidcProvider]:
    with OidcProvider() as provider:
        yield provider


@pytest.fixture
async def ground(database_dsn: str, oidc: OidcProvider) -> AsyncIterator[Ground]:
    web = loopback_web()
    await web.start()
    yield Ground(database_dsn, oidc, web)
    await web.close()


@pytest.fixture
async def worker(ground: Ground) -> AsyncIterator[Worker]:
    async with ground.worker() as worker:
        yield worker
