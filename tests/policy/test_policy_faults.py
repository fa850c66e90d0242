"""Whatever dies in the middle: nothing is called whose decision is not on record."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fault_ground import FaultyPlatform
from gateway_ground import AUDIENCE, Gateway
from gateway_upstreams import McpUpstream
from policy_bank import Bank, engine_of
from running import until
from token_issuer import TokenIssuer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CUSTOMER = {"role": "customer"}


@pytest.fixture
def faulty(open_directory: Path) -> Iterator[FaultyPlatform]:
    running = FaultyPlatform(
        open_directory / "dying", allow_process_tier="true", outbound_private_hosts="127.0.0.1"
    )
    with running:
        yield running


def test_no_call_goes_on_without_its_decision_whatever_dies(
    faulty: FaultyPlatform, issuer: TokenIssuer, vault: McpUpstream
) -> None:
    """The bar: kill -9 of any process loses no acknowledged event; an error denies, and is kept."""
    rules = {"discoveryUrl": issuer.discovery_url, "allowedAudience": [AUDIENCE]}
    gateway = Gateway(
        faulty,
        authorizerType="CUSTOM_JWT",
        authorizerConfiguration={"customJWTAuthorizer": rules},
    )
    gateway.add_mcp_server("bank", vault.endpoint)
    bank = Bank(gateway, issuer, engine_of(faulty))
    bank.rule()
    before, counted = vault.count("tools/call"), len(every_decision(bank))
    ended = threading.Event()
    answered: list[bool] = []

    def call_on() -> None:
        while not ended.is_set():
            try:
                answer = bank.call("balance", {"account": "mine"}, **CUSTOMER)
                ok = answer.status == 200 and not answer.result.get("isError")
            except Exception:  # noqa: BLE001 - a worker that dies breaks connections in many ways
                ok = False
            answered.append(ok)

    threads = [threading.Thread(target=call_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    for kind in ("postgres", "api", "postgres"):
        seen = sum(answered)
        until(lambda seen=seen: sum(answered) > seen + 20)
        (old,) = faulty.pids(kind)
        faulty.kill(kind)
        faulty.replaced(kind, old)
    seen = sum(answered)
    until(lambda: sum(answered) > seen + 20)
    ended.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    allowed = [each for each in every_decision(bank)[: -counted or None] if each["allowed"]]
    called = vault.count("tools/call") - before
    assert sum(answered) <= called <= len(allowed)


def every_decision(bank: Bank) -> list[dict[str, object]]:
    """Newest first."""
    found: list[dict[str, object]] = []
    token: dict[str, str] = {}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        page = bank.gateway.platform.own(
            "/policy-decisions", gatewayId=bank.gateway.id, limit=500, **token
        )
        found += page["decisions"]
        if "nextToken" not in page:
            return found
        token = {"nextToken": page["nextToken"]}
    raise AssertionError("the list has no end")
