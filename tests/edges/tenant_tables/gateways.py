"""Gateways, with one of everything."""

import json
from typing import Any

from running import RunningPlatform, until
from tenant_tables.table import Table

_LIMIT: dict[str, Any] = {
    "dimensionKeys": ["toolName"],
    "entries": [{"dimensions": {"toolName": "*"}, "requests": [{"rate": 9, "period": "minute"}]}],
}
TABLE = Table(
    things=("gateway", "gateway_arn", "target", "target_arn", "rule", "rate_limit"),
    marks=("gateway",),
    names={
        "gatewayIdentifier": "{gateway}",
        "rateLimitId": "{rate_limit}",
        "ruleId": "{rule}",
        "targetId": "{target}",
        "CreateGatewayRateLimit.rateLimitId": "other-limit",
        "CreateGatewayTarget.name": "other",
    },
    nameless=frozenset({"authorizerType"}),
    at_home=frozenset({"CreateGateway"}),
    good={
        "BatchPutGatewayRateLimits": {"rateLimits": [{"rateLimitId": "other-limit", **_LIMIT}]},
        "CreateGatewayRateLimit": _LIMIT,
        "SynchronizeGatewayTargets": {"targetIdList": ["{target}"]},
        "UpdateGatewayRateLimit": {"entries": _LIMIT["entries"]},
    },
    paths={
        # The same for everybody.
        "connectorId": "no-such-connector",
        "gatewayId": "{gateway}",
        "targetId": "{target}",
    },
    bodies={
        "ApproveGatewayChanges": {"targetId": "{target}"},
        "PutActionGroup": {"principals": ["*"], "tools": ["*"]},
        "RejectGatewayChanges": {"targetId": "{target}"},
    },
)


def made(platform: RunningPlatform, name: str, *, engine_arn: str) -> dict[str, str]:
    """That asks this policy engine; `gateway_url` is its address."""
    control = platform.client("bedrock-agentcore-control")
    gateway = control.create_gateway(
        policyEngineConfiguration={"arn": engine_arn, "mode": "LOG_ONLY"},
        name=name, roleArn=f"arn:aws:iam::{platform.account}:role/r", authorizerType="AWS_IAM",
        protocolType="MCP",
    )  # fmt: skip
    place = {"gatewayIdentifier": gateway["gatewayId"]}
    document = {
        "openapi": "3.1.0", "info": {"title": "t", "version": "1"},
        "servers": [{"url": "http://127.0.0.1:9"}],
        "paths": {"/a": {"get": {"operationId": "a", "responses": {}}}},
    }  # fmt: skip
    schema = {"openApiSchema": {"inlinePayload": json.dumps(document)}}
    target = control.create_gateway_target(
        **place, name="theirs", targetConfiguration={"mcp": schema}
    )["targetId"]
    passthrough = {"endpoint": "http://127.0.0.1:9", "protocolType": "CUSTOM"}
    control.create_gateway_target(
        **place, name="through", targetConfiguration={"http": {"passthrough": passthrough}}
    )
    ready = control.get_gateway_target
    until(lambda: ready(**place, targetId=target)["status"] == "READY")
    rule = control.create_gateway_rule(
        **place, priority=1, conditions=[{"matchPaths": {"anyOf": ["/x/*"]}}],
        actions=[{"routeToTarget": {"staticRoute": {"targetName": "through"}}}],
    )["ruleId"]  # fmt: skip
    limit = control.create_gateway_rate_limit(**place, **_LIMIT)["rateLimitId"]
    group = {"principals": ["*"], "tools": ["*"]}
    groups = f"/gateways/{gateway['gatewayId']}/action-groups/{name}"
    platform.own(groups, method="PUT", body=group)
    arn = gateway["gatewayArn"]
    return {
        "gateway": gateway["gatewayId"], "gateway_arn": arn, "gateway_url": gateway["gatewayUrl"],
        "target": target, "target_arn": f"{arn}/target/{target}", "rule": rule,
        "rate_limit": limit,
    }  # fmt: skip


def forget(platform: RunningPlatform, values: dict[str, str]) -> None:
    control = platform.client("bedrock-agentcore-control")
    place = {"gatewayIdentifier": values["gateway"]}
    control.delete_gateway_rule(**place, ruleId=values["rule"])
    control.delete_gateway_rate_limit(**place, rateLimitId=values["rate_limit"])
    for target in control.list_gateway_targets(**place)["items"]:
        control.delete_gateway_target(**place, targetId=target["targetId"])
    control.delete_gateway(**place)
