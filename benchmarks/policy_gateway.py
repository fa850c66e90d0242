"""What policies add to a tools/call over HTTP: the second part of `policy.py`."""

import os
import statistics
import time
from collections.abc import Sequence

from gateway_freehold import AUDIENCE, TokenIssuer
from gateway_freehold import gateway as a_gateway
from gateway_systems import System, called, postgres_of
from gateway_upstream import MODERN
from platform_under_test import PlatformUnderTest, free_port, platform, until_listening

from gateway import Row, measured, start

GOVERNED = (0, 10, 100, 1000)
"""Policies of the one tool that is called; 0: a gateway without an engine."""


def through_the_gateway(seconds: float, calls: int, rounds: int) -> None:
    """A tools/call over HTTP, at a gateway without an engine and with one; every policy speaks of
    the tool that is called, and each decision is on disk before the call goes on."""
    port = free_port()
    upstream = start("gateway_upstream.py", port)
    os.environ["FREEHOLD_OUTBOUND_PRIVATE_HOSTS"] = "127.0.0.1"
    try:
        until_listening(port)
        with TokenIssuer() as issuer, platform() as under_test:
            own = set(under_test.processes().values()) | {under_test.process.pid}
            token = issuer.token(aud=AUDIENCE, exp=int(time.time()) + 6 * 3600, role="role0")
            systems = []
            for policies in GOVERNED:
                url = a_gateway(under_test, issuer, f"http://127.0.0.1:{port}/mcp", f"p{policies}")
                govern(under_test, url, policies)
                systems.append(
                    called(
                        str(policies),
                        url,
                        era=MODERN,
                        tool="echo___echo",
                        headers={"Authorization": f"Bearer {token}"},
                        pids=lambda: own,
                        store=lambda: postgres_of(under_test.state),
                    )
                )
            counts = f"http://127.0.0.1:{port}/counts"
            for at_once in (1, 32):
                shown(at_once, of_rounds(systems, counts, (calls, seconds, rounds), at_once))
    finally:
        upstream.terminate()
        upstream.wait(10)


def govern(under_test: PlatformUnderTest, url: str, policies: int) -> None:
    if not policies:
        return
    control = under_test.client("bedrock-agentcore-control")
    gateway_id = url.split("/")[-2]
    found = control.get_gateway(gatewayIdentifier=gateway_id)
    engine = control.create_policy_engine(name=f"e{policies}")
    for n in range(policies):
        role = f'principal.hasTag("role") && principal.getTag("role") == "role{n}"'
        effect = "forbid" if n % 5 == 4 else "permit"
        statement = f"{effect} (principal, action, resource) when {{ {role} }};"
        control.create_policy(
            policyEngineId=engine["policyEngineId"], name=f"p{n}",
            validationMode="IGNORE_ALL_FINDINGS",
            definition={"cedar": {"statement": statement}},
        )  # fmt: skip
    deadline = time.monotonic() + 300
    pages = control.get_paginator("list_policies")
    while time.monotonic() < deadline:
        of_engine = pages.paginate(policyEngineId=engine["policyEngineId"]).search("policies[]")
        if all(policy["status"] == "ACTIVE" for policy in of_engine):
            break
        time.sleep(0.5)
    kept = ("name", "roleArn", "authorizerType", "authorizerConfiguration", "protocolType")
    control.update_gateway(
        gatewayIdentifier=gateway_id, **{name: found[name] for name in kept},
        policyEngineConfiguration={"arn": engine["policyEngineArn"], "mode": "ENFORCE"},
    )  # fmt: skip


def of_rounds(
    systems: Sequence[System], counts: str, sizes: tuple[int, float, int], at_once: int
) -> dict[str, list[Row]]:
    calls, seconds, rounds = sizes
    for system in systems:
        measured(system, counts, 50, seconds, 1)
    rows: dict[str, list[Row]] = {system.name: [] for system in systems}
    for _ in range(rounds):
        for system in systems:
            rows[system.name].append(measured(system, counts, calls, seconds, at_once))
    return rows


def shown(at_once: int, rows: dict[str, list[Row]]) -> None:
    middle = {
        name: Row(*(statistics.median(column) for column in zip(*each, strict=True)))
        for name, each in rows.items()
    }
    print(f"\na tools/call through the gateway, {at_once} at once\n")
    print("| policies on the tool | requests/s | p50 ms | CPU ms a call | Postgres ms"
          " | decision costs us | against no engine |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    base = middle["0"]
    for name, row in middle.items():
        more = (row.cpu_ms - base.cpu_ms) * 1e3
        print(
            f"| {name if name != '0' else 'no engine'} | {row.rate:,.0f} | {row.p50_ms:.2f}"
            f" | {row.cpu_ms:.2f} | {row.store_ms:.2f} | {more:,.0f} |"
            f" {row.cpu_ms / base.cpu_ms:.2f} |"
        )
