"""Stand-ins of vendors, started as they are named; and connectors in front of them."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from connector_vendors.server import StandIn
from freehold.adapters.egress.addresses import denied, forbidden
from freehold.adapters.web.client import CheckedWeb
from freehold.adapters.web.destination import Destinations
from vendor_caller import At, Caller
from vendor_connector import Connector


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest_asyncio.fixture
async def at(http: aiohttp.ClientSession) -> AsyncIterator[At]:
    started: list[StandIn] = []

    async def start(vendor: str) -> Caller:
        standin = await StandIn(vendor).__aenter__()
        started.append(standin)
        return Caller(standin, http)

    yield start
    for standin in started:
        await standin.__aexit__()


@pytest_asyncio.fixture(scope="session")
async def vendor_web() -> AsyncIterator[CheckedWeb]:
    destinations = Destinations(
        denied=denied, forbidden=forbidden, listed=frozenset({"127.0.0.1"}),
        setting="FREEHOLD_OUTBOUND_PRIVATE_HOSTS",
    )  # fmt: skip
    client = CheckedWeb(destinations)
    await client.start()
    yield client
    await client.close()


@pytest_asyncio.fixture
async def connector(
    vendor_web: CheckedWeb, request: pytest.FixtureRequest
) -> AsyncIterator[Connector]:
    async with StandIn(request.param) as standin:
        found = Connector(vendor_web, standin)
        await found.describe()
        yield found
