"""Agents that gateways of the same platform call."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from running import Agent, RunningPlatform

ROLE = {"credentialProviderType": "GATEWAY_IAM_ROLE"}
CALLERS = {"credentialProviderType": "CALLER_IAM_CREDENTIALS"}
OTHER = "222233334444"
_AGENT = Path(__file__).with_name("inner_agent.py")


def deployed(
    platform: RunningPlatform,
    protocol: str = "MCP",
    *,
    customJWTAuthorizer: Any = None,
    **environment: str,
) -> Agent:
    more = {}
    if customJWTAuthorizer is not None:
        more["authorizerConfiguration"] = {"customJWTAuthorizer": customJWTAuthorizer}
    return platform.deploy(
        {"main.py": _AGENT.read_text()},
        protocolConfiguration={"serverProtocol": protocol},
        environmentVariables={"PROTOCOL": protocol, **environment},
        **more,
    )


def url_of(agent: Agent, qualifier: str = "DEFAULT") -> str:
    """As AWS's customers write it."""
    arn = quote(agent.arn, safe="")
    return f"{agent.platform.endpoint}/runtimes/{arn}/invocations?qualifier={qualifier}"


def policy(arn: str, effect: str, principal: str) -> str:
    statement = {
        "Effect": effect,
        "Principal": {"AWS": principal},
        "Action": "bedrock-agentcore:*",
        "Resource": arn,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": statement})
