"""Freehold as `gateway.py` measures it: a platform of its own, with everything on."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from gateway_systems import System, called, postgres_of
from gateway_upstream import LEGACY, MODERN
from platform_under_test import PlatformUnderTest, platform

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from token_issuer import TokenIssuer

AUDIENCE = "benchmark"
_READY_SECONDS_MAX = 60


@contextlib.contextmanager
def freehold(upstream: str) -> Iterator[list[System]]:
    """One gateway, in both eras."""
    os.environ["FREEHOLD_OUTBOUND_PRIVATE_HOSTS"] = "127.0.0.1"
    with TokenIssuer() as issuer, platform() as under_test:
        url = gateway(under_test, issuer, upstream)
        now = int(time.time())
        token = issuer.token(aud=AUDIENCE, exp=now + 6 * 3600)
        own = set(under_test.processes().values()) | {under_test.process.pid}
        yield [
            called(
                f"freehold, {era}",
                url,
                era=era,
                tool="echo___echo",
                headers={"Authorization": f"Bearer {token}"},
                pids=lambda: own,
                store=lambda: postgres_of(under_test.state),
            )
            for era in (LEGACY, MODERN)
        ]


def gateway(
    under_test: PlatformUnderTest, issuer: TokenIssuer, upstream: str, name: str = "benchmark"
) -> str:
    """The URL of one with a JWT authorizer, a rate limit of each user and an action group, none of
    which refuses the benchmark."""
    control = under_test.client("bedrock-agentcore-control")
    made = control.create_gateway(
        name=name,
        roleArn=f"arn:aws:iam::{under_test.connection['account']}:role/benchmark",
        protocolType="MCP",
        authorizerType="CUSTOM_JWT",
        authorizerConfiguration={
            "customJWTAuthorizer": {
                "discoveryUrl": issuer.discovery_url, "allowedAudience": [AUDIENCE],
            }
        },
    )  # fmt: skip
    id = made["gatewayId"]
    control.create_gateway_rate_limit(
        gatewayIdentifier=id,
        rateLimitId="each-user",
        dimensionKeys=["$.context.jwt.sub", "toolName"],
        entries=[{
            "dimensions": {"$.context.jwt.sub": "*", "toolName": "*"},
            "requests": [{"rate": 1_000_000, "period": "minute"}],
        }],
    )  # fmt: skip
    under_test.own_put(
        f"/gateways/{id}/action-groups/everybody",
        {"principals": ["claim:groups=staff"], "tools": ["echo___*"]},
    )
    target = control.create_gateway_target(
        gatewayIdentifier=id,
        name="echo",
        targetConfiguration={"mcp": {"mcpServer": {"endpoint": upstream}}},
    )["targetId"]
    deadline = time.monotonic() + _READY_SECONDS_MAX
    while time.monotonic() < deadline:
        seen = control.get_gateway_target(gatewayIdentifier=id, targetId=target)
        if seen["status"] == "READY":
            return str(made["gatewayUrl"])
        if seen["status"] != "CREATING":
            sys.exit(f"the target is {seen['status']}: {seen.get('statusReasons')}")
        time.sleep(0.1)
    sys.exit(f"the target was not READY in {_READY_SECONDS_MAX} s")
