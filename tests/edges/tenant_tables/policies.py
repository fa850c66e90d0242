"""Policy engines, their policies, generations and decisions."""

import json
from typing import Any

import urllib3

from gateway_ground import signature
from running import RunningPlatform, until
from tenant_tables.table import Table

_EVERYTHING = "permit (principal, action, resource);"
_CEDAR: dict[str, Any] = {"definition": {"cedar": {"statement": _EVERYTHING}}}
TABLE = Table(
    things=("engine", "engine_arn", "generation", "policy_id", "decision"),
    marks=("engine", "decision"),
    names={
        "policyEngineId": "{engine}",
        "policyGenerationId": "{generation}",
        "policyId": "{policy_id}",
        "CreatePolicy.name": "other",
        "CreatePolicyEngine.name": "other",
        "StartPolicyGeneration.name": "other",
    },
    at_home=frozenset({"CreatePolicyEngine"}),
    good={
        "CreatePolicy": _CEDAR,
        "StartPolicyGeneration": {
            "resource": {"arn": "{gateway_arn}"}, "content": {"rawText": "Everybody may."},
        },
    },
    paths={"decisionId": "{decision}", "engineId": "{engine}"},
    bodies={
        "AcknowledgePolicyChange": {"engineId": "{engine}", "digest": "0" * 64},
        "CheckPolicies": {"policies": _EVERYTHING, "gatewayId": "{gateway}"},
        "DiffPolicies": {"old": _EVERYTHING, "new": _EVERYTHING, "gatewayId": "{gateway}"},
        "ExplainPolicyCall": {"gatewayId": "{gateway}", "tool": "theirs___a", "arguments": {}},
        "PutDecisionView": {"show": "masked"},
        "TryPolicies": {"policies": _EVERYTHING, "since": "24h"},
    },
    filters={"ListPolicyDecisions": [{"gatewayId": "{gateway}"}, {"engineId": "{engine}"}]},
)  # fmt: skip


def engine(platform: RunningPlatform, name: str) -> dict[str, str]:
    made = platform.client("bedrock-agentcore-control").create_policy_engine(
        name=name.replace("-", "_")
    )
    return {"engine": made["policyEngineId"], "engine_arn": made["policyEngineArn"]}


def made(platform: RunningPlatform, values: dict[str, str]) -> dict[str, str]:
    """Of that engine a policy, a generation that may come to nothing, and a decision, which a call
    of a tool of that gateway leads to."""
    control, id = platform.client("bedrock-agentcore-control"), values["engine"]
    policy = control.create_policy(
        policyEngineId=id, name="theirs", validationMode="IGNORE_ALL_FINDINGS", **_CEDAR
    )
    of_policy = {"policyEngineId": id, "policyId": policy["policyId"]}
    until(lambda: control.get_policy(**of_policy)["status"] == "ACTIVE")
    generation = control.start_policy_generation(
        policyEngineId=id, name="theirs", resource={"arn": values["gateway_arn"]},
        content={"rawText": "Everybody may."},
    )["policyGenerationId"]  # fmt: skip
    call = {
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "theirs___a", "arguments": {}},
    }  # fmt: skip
    url, body = values["gateway_url"], json.dumps(call).encode()
    headers = {
        "content-type": "application/json", "accept": "application/json, text/event-stream",
        **signature(platform, "POST", url, body),
    }  # fmt: skip
    with urllib3.PoolManager() as pool:
        assert pool.request("POST", url, body=body, headers=headers).status == 200
    [decision] = platform.own("/policy-decisions", gatewayId=values["gateway"])["decisions"]
    return {
        "generation": generation, "policy_id": policy["policyId"], "decision": decision["id"],
    }  # fmt: skip


def forget(platform: RunningPlatform, values: dict[str, str]) -> None:
    """Once no gateway asks the engine."""
    control = platform.client("bedrock-agentcore-control")
    control.delete_policy(policyEngineId=values["engine"], policyId=values["policy_id"])
    control.delete_policy_engine(policyEngineId=values["engine"])
