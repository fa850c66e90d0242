"""MCP's own conformance suite through a gateway that shows names as they are.

The suite's other half is for clients: it starts servers of its own and watches who calls them. A
gateway shows those servers its own way of talking, not that of the client before it, so they do not
apply; how it talks to servers is in tests/adapters/mcp.
"""

from collections.abc import Iterator

import pytest
from conformance_suite import SUITE, run

from gateway_ground import Gateway
from gateway_upstreams import Everything
from running import RunningPlatform

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

# How many scenarios of servers the frozen set of a revision requires.
REQUIRED = {"2025-11-25": 30, "2026-07-28": 37}


@pytest.fixture(scope="module")
def gateway(platform: RunningPlatform) -> Iterator[Gateway]:
    SUITE.needed()
    with Everything() as everything:
        gateway = Gateway(platform, tags={"freehold:tool-names": "plain"})
        gateway.add_mcp_server("everything", everything.url)
        yield gateway
        gateway.delete()


@pytest.mark.parametrize("revision", REQUIRED)
def test_all_that_a_revision_requires_of_servers_passes(gateway: Gateway, revision: str) -> None:
    score = run(gateway.url, revision)
    failed = {name: checks for name, checks in score.scenarios.items() if checks[1]}
    assert not failed, score.text[-8000:]
    assert len(score.passed) == REQUIRED[revision]
    assert score.exit_code == 0
