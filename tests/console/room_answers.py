"""What the platform's own API and AWS's answer, made up for the rooms of governance."""

from typing import Any

import msgspec
from console_doubles import FIRST, PlatformDouble

GATEWAY, ENGINE, MEMORY = "support-a1b2c3d4e5", "rules-f6g7h8i9j0", "support-K1L2M3N4O5"
TARGET, DECISION, RECORD = "T1", "01a20187-a036-724d-99cc-13ec2c7439c9", "mem-0001"
ERASURE, GRANT, PERSON = "erasure-1", "g-1", "p-1"
KEY, DISABLED = "FHIAAAAABBBBCCCCDDDD", "FHIADISABLEDDISABLED"
AT = "2026-09-01T12:00:00Z"
SOMEBODY = f"arn:aws:iam::{FIRST}:user/ada"
ARN = f"arn:aws:bedrock-agentcore:us-west-2:{FIRST}"
REFUND = {
    "name": "refund",
    "description": "Give money back.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "note": {"type": "string"},
            "amount": {"type": "integer", "description": "In whole euros."},
            "status": {"type": "string", "enum": ["open", "closed"]},
            "urgent": {"type": "boolean"},
            "items": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["amount"],
    },
}
CEDAR = '// Small ones alone.\n@reason("Too much.")\nforbid (principal, action, resource)\nwhen {}'
_OWN, _AWS = "GET /freehold/v1", "GET /gateways"

ROOMS = (
    "/console/gateways",
    f"/console/gateways/{GATEWAY}",
    f"/console/gateways/{GATEWAY}/tools",
    f"/console/gateways/{GATEWAY}/changes",
    f"/console/gateways/{GATEWAY}/limits",
    f"/console/gateways/{GATEWAY}/targets/{TARGET}",
    f"/console/gateways/{GATEWAY}/try?tool=orders___refund",
    "/console/policies",
    f"/console/policies/{ENGINE}?check=1",
    "/console/decisions",
    f"/console/decisions/{DECISION}",
    "/console/memory",
    f"/console/memory/{MEMORY}",
    f"/console/memory/{MEMORY}/records",
    f"/console/memory/{MEMORY}/records?query=city&kept=current",
    f"/console/memory/{MEMORY}/records/{RECORD}",
    f"/console/memory/{MEMORY}/said",
    f"/console/memory/{MEMORY}/said?actor=anna",
    f"/console/memory/{MEMORY}/said?actor=anna&session=s1",
    f"/console/memory/{MEMORY}/retrievals",
    f"/console/memory/{MEMORY}/erasures",
    f"/console/memory/{MEMORY}/erasures/{ERASURE}",
    "/console/identities",
    "/console/identities/workloads/travel",
    "/console/identities/providers",
    "/console/identities/providers/oauth2/calendar",
    "/console/identities/grants",
    "/console/identities/vault",
    "/console/keys",
    "/console/keys/people",
    "/console/audit",
    "/console/audit/chain",
    "/console/costs",
)
"""Every page of them."""


def fill_rooms(platform: PlatformDouble) -> None:
    for fill in (_gateways, _policies, _memories, _said, _identities, _account):
        platform.answers.update(fill())


def answer_of_tool(text: str, **more: Any) -> list[bytes]:
    """As a gateway answers tools/call."""
    result = {"content": [{"type": "text", "text": text}], **more}
    return [msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "result": result})]


def _gateways() -> dict[str, Any]:
    one = {
        "gatewayId": GATEWAY, "name": "support", "status": "READY", "authorizerType": "AWS_IAM",
        "protocolType": "MCP", "createdAt": AT, "updatedAt": AT, "gatewayArn": f"{ARN}:gateway/g",
        "policyEngineConfiguration": {"arn": f"{ARN}:policy-engine/{ENGINE}", "mode": "ENFORCE"},
    }  # fmt: skip
    health = {
        "targetId": TARGET, "name": "orders", "type": "mcp.mcpServer", "status": "FAILED",
        "reasons": ["It was not reached."], "inForce": 1, "waiting": 1, "problems": 1,
        "synchronizedAt": AT, "refreshSeconds": 3600, "refreshFailure": "refused",
    }  # fmt: skip
    tool = {
        "name": "orders___refund", "own": "refund", "kind": "tool", "target": "orders",
        "targetId": TARGET, "state": "in force", "hash": "h1", "approvedBy": SOMEBODY,
        "approvedAt": AT, "title": None, "description": "Give money back.", "why": None,
        "definition": REFUND,
    }  # fmt: skip
    change = {
        **tool, "name": "orders___find", "own": "find", "state": "changed", "hash": "h2",
        "why": "it is not what was approved", "seenAt": AT, "rejectedBy": None,
        "difference": [{"where": "/description", "old": '"Old"', "new": '"New"'}],
        "old": {"name": "find"}, "new": {"name": "find", "description": "New"},
    }  # fmt: skip
    here, own = f"{_AWS}/{GATEWAY}", f"{_OWN}/gateways/{GATEWAY}"
    return {
        f"{_AWS}/": {"items": [one], "nextToken": "more"},
        f"{here}/": one,
        f"{own}/status": {
            "gatewayId": GATEWAY, "name": "support", "status": "READY", "toolNames": "prefixed",
            "url": "https://p/gateway/g/mcp", "targets": [health],
        },
        f"{own}/tools": {"tools": [tool, {**change, "definition": None}]},
        f"{own}/changes": {"changes": [change]},
        f"{own}/action-groups": {
            "groups": [{"name": "all", "principals": ["*"], "tools": ["orders___*"]}],
            "default": "deny",
        },
        f"{own}/targets/{TARGET}/problems": {
            "problems": [{"where": "/paths/x", "why": "it has no id", "skipped": True}]
        },
        f"{here}/rate-limits": {"rateLimits": [{"rateLimitId": "r1", "entries": []}]},
        f"{here}/rules": {"gatewayRules": [{"ruleId": "u1", "priority": 1}]},
        f"{here}/targets/{TARGET}/": {
            "targetId": TARGET, "name": "orders", "status": "READY", "createdAt": AT,
            "updatedAt": AT,
            "targetConfiguration": {"mcp": {"mcpServer": {"endpoint": "https://orders"}}},
        },
    }  # fmt: skip


def _policies() -> dict[str, Any]:
    engine = {
        "policyEngineId": ENGINE, "name": "rules", "status": "ACTIVE", "updatedAt": AT,
        "createdAt": AT, "description": "What is refused",
    }  # fmt: skip
    policy = {
        "policyId": "large-1", "name": "large", "status": "ACTIVE", "updatedAt": AT,
        "statusReasons": [], "definition": {"cedar": {"statement": CEDAR}},
    }  # fmt: skip
    finding = {
        "property": "ALLOW_ALL", "policy": "large-1", "counts": True, "by": [], "example": None,
        "actions": ["orders___refund"], "description": "it permits every request",
    }  # fmt: skip
    decision = {
        "id": DECISION, "at": AT, "requestId": "r-1", "gatewayId": GATEWAY, "engineId": ENGINE,
        "engineVersion": "v1", "mode": "LOG_ONLY", "tool": "orders___refund",
        "principal": SOMEBODY, "principalType": "AgentCore::IamEntity", "user": "ada",
        "allowed": False, "policies": ["large-1"], "errors": 0, "shadowAllowed": True,
        "shadowPolicies": ["trial-2"], "microseconds": 640,
    }  # fmt: skip
    inputs: dict[str, Any] = {
        "input": {"amount": "(number)"}, "claims": {}, "context": {}, "errors": [], "note": None,
    }  # fmt: skip
    outcome = {
        "id": "large-1", "name": "large", "effect": "forbid", "mode": "ACTIVE",
        "outcome": "fulfilled", "decided": True, "reason": "Too much.", "problem": "",
    }  # fmt: skip
    return {
        "GET /policy-engines": {"policyEngines": [engine]},
        f"GET /policy-engines/{ENGINE}": engine,
        f"GET /policy-engines/{ENGINE}/policies": {"policies": [policy]},
        f"GET /policy-engines/{ENGINE}/policies/large-1": policy,
        "POST /freehold/v1/policies/check": {
            "fails": True,
            "gateways": [{"name": "support", "policies": 1, "actions": 2, "seconds": 0.1,
                          "findings": [finding]}],
        },
        f"{_OWN}/policy-decisions": {"decisions": [decision], "nextToken": "more"},
        f"{_OWN}/policy-decisions/{DECISION}": {**decision, "inputs": inputs},
        f"{_OWN}/policy-decisions/{DECISION}/explanation": {
            "why": "It is denied: a policy forbids it.", "mismatch": "", "policies": [outcome],
            "recorded": {"changed": True},
        },
    }  # fmt: skip


def _memories() -> dict[str, Any]:
    memory = {
        "id": MEMORY, "name": "support", "arn": f"{ARN}:memory/m", "status": "ACTIVE",
        "createdAt": 1795321995.4, "updatedAt": 1795321995.4, "eventExpiryDuration": 30,
        "strategies": [{"strategyId": "s-1", "namespaces": ["/facts/{actorId}/"]}],
    }  # fmt: skip
    oslo = {
        "recordId": RECORD, "text": "city is Oslo", "namespaces": ["/facts/anna/"],
        "strategyId": "s-1", "at": AT, "createdAt": AT, "updatedAt": AT, "metadata": {},
    }  # fmt: skip
    rome = {**oslo, "recordId": "mem-0000", "text": "city is Rome", "validUntil": AT}
    given = {
        "retrievalId": "r1", "at": AT, "by": SOMEBODY, "operation": "RetrieveMemoryRecords",
        "namespace": "/", "query": "Which city?", "sessionId": "s-9",
        "records": [{"recordId": RECORD, "score": 0.93}],
    }  # fmt: skip
    source = {
        "eventId": "1#a", "index": 0, "actorId": "anna", "sessionId": "s1", "gone": False,
        "at": AT, "role": "USER", "text": "I moved to Oslo",
    }  # fmt: skip
    own = f"{_OWN}/memories/{MEMORY}"
    return {
        "POST /memories/": {"memories": [memory]},
        f"GET /memories/{MEMORY}/details": {"memory": memory},
        f"{own}/status": {
            "turns": True, "waiting": ["no model is configured"],
            "strategies": [{"strategyId": "s-1", "name": "facts", "status": "ACTIVE",
                            "learns": "SEMANTIC"}],
        },
        f"{own}/history": {"records": [oslo, rome], "nextToken": "more"},
        f"POST /memories/{MEMORY}/retrieve": {
            "memoryRecordSummaries": [{
                "memoryRecordId": RECORD, "content": {"text": "city is Oslo"}, "score": 0.93,
                "namespaces": ["/facts/anna/"], "createdAt": 1795321995.4,
            }]
        },
        f"{own}/records/{RECORD}/provenance": {
            "record": oslo, "sources": [source, {**source, "gone": True}], "supersedes": [rome],
            "supersededBy": None, "retrievals": [given], "nextToken": None,
        },
        f"{own}/retrievals": {"retrievals": [given]},
    }  # fmt: skip


def _said() -> dict[str, Any]:
    turn = {"role": "USER", "content": {"text": "I moved to Oslo"}}
    event = {
        "eventId": "1#a", "eventTimestamp": 1772366520.0,
        "payload": [{"conversational": turn}, {"blob": {"order": 7}}],
    }  # fmt: skip
    counted = {"events": 2, "sessions": 1, "records": 3}
    erasure = {
        "erasureId": ERASURE, "state": "DONE", "dryRun": False, "actorDigest": "ab" * 32,
        "startedAt": AT, "endedAt": AT, "by": SOMEBODY, "erased": counted,
        "left": dict.fromkeys(counted, 0), "digest": "cd" * 32, "digests": {},
    }  # fmt: skip
    own = f"freehold/v1/memories/{MEMORY}/erasures"

    def erase(body: Any, _: Any) -> Any:
        return {**erasure, "dryRun": body["dryRun"], "digest": ""}

    return {
        f"POST /memories/{MEMORY}/actors": {"actorSummaries": [{"actorId": "anna"}]},
        f"POST /memories/{MEMORY}/actor/anna/sessions": {
            "sessionSummaries": [{"sessionId": "s1", "createdAt": 1795321995.7}]
        },
        f"POST /memories/{MEMORY}/actor/anna/sessions/s1": {"events": [event]},
        f"GET /{own}": {"erasures": [erasure]},
        f"GET /{own}/{ERASURE}": erasure,
        f"POST /{own}": erase,
    }


def _identities() -> dict[str, Any]:
    provider = {
        "name": "calendar", "credentialProviderArn": f"{ARN}:token-vault/default/x",
        "createdTime": 1795321996.1, "lastUpdatedTime": 1795321996.1,
        "credentialProviderVendor": "GoogleOauth2",
    }  # fmt: skip
    grant = {
        "grantId": GRANT, "provider": "calendar", "agent": "travel", "user": "anna",
        "scopes": ["events.read"], "resources": [], "renewable": False, "expiresAt": AT,
        "grantedAt": AT, "updatedAt": AT,
    }  # fmt: skip
    workload = {"name": "travel", "workloadIdentityArn": f"{ARN}:workload-identity/travel"}
    key = {"keptBy": "platform", "newestVersion": 2, "values": {"1": 3}, "underOlderVersions": 3}
    due = {
        "providerType": "oauth2", "name": "calendar", "way": "reminder", "everyDays": 90,
        "dueAt": AT, "due": True, "failure": "",
    }  # fmt: skip
    return {
        "POST /identities/ListWorkloadIdentities": {"workloadIdentities": [workload]},
        "POST /identities/GetWorkloadIdentity": {
            **workload, "allowedResourceOauth2ReturnUrls": ["https://app/done"],
            "createdTime": 1795321996.1, "lastUpdatedTime": 1795321996.1,
        },
        "POST /identities/ListApiKeyCredentialProviders": {"credentialProviders": [provider]},
        "POST /identities/ListOauth2CredentialProviders": {"credentialProviders": [provider]},
        "POST /identities/GetOauth2CredentialProvider": {
            **provider, "callbackUrl": "https://p/callback",
            "oauth2ProviderConfigOutput": {"googleOauth2ProviderConfig": {"clientId": "abc"}},
        },
        "POST /identities/get-token-vault": {
            "tokenVaultId": "default", "kmsConfiguration": {"keyType": "ServiceManagedKey"},
            "lastModifiedDate": 1795321993.4,
        },
        f"{_OWN}/vault": {
            "key": key, "platformKey": None, "schedules": [due], "nextSecrets": [],
        },
        f"{_OWN}/oauth/grants": {"grants": [grant]},
        f"DELETE /freehold/v1/oauth/grants/{GRANT}": lambda *_: None,
    }  # fmt: skip


def _account() -> dict[str, Any]:
    key = {
        "accessKeyId": KEY, "description": "the build server", "status": "Active",
        "roles": ["developer"], "createdAt": AT, "lastUsedAt": None,
    }  # fmt: skip
    person = {
        "personId": PERSON, "name": "grace", "email": None, "provider": None, "home": FIRST,
        "roles": ["auditor"], "claimedRoles": [], "status": "Active", "createdAt": AT,
        "lastSignInAt": None,
    }  # fmt: skip
    line = {
        "at": AT, "callId": "c-1", "phase": "outcome", "outcome": "denied", "status": 403,
        "operation": "freehold:ListAudit", "principal": SOMEBODY, "kind": "person", "user": "ada",
        "resource": "/freehold/v1/audit", "source": "127.0.0.1", "detail": {"edge": "native"},
    }  # fmt: skip
    used = {
        "key": "a-1", "name": "travel", "sessions": 3, "unmeasured": 1, "invocations": 9,
        "cpuSeconds": 1.5, "memoryGbSeconds": None, "cost": 0.02,
    }  # fmt: skip
    tokens = {
        "key": "travel", "modelCalls": 4, "inputTokens": 12000, "outputTokens": 300, "cost": 0.4,
    }  # fmt: skip
    verdict = {
        "holds": True, "checked": 9, "sequence": 9, "hash": "ef" * 32, "anchor": 0,
        "checkpoints": 1, "waiting": 0, "faults": [],
    }  # fmt: skip

    def made(body: Any, _: Any) -> Any:
        return {**key, **body, "secretAccessKey": "the-secret-of-a-key"}

    return {
        f"{_OWN}/keys": {"keys": [key, {**key, "accessKeyId": DISABLED, "status": "Inactive"}]},
        "POST /freehold/v1/keys": made,
        f"PATCH /freehold/v1/keys/{KEY}": key,
        f"DELETE /freehold/v1/keys/{DISABLED}": lambda *_: None,
        f"{_OWN}/people": {"people": [person]},
        "POST /freehold/v1/people": {"person": person, "password": "a-password-made-up"},
        f"PUT /freehold/v1/people/{PERSON}/roles": person,
        f"{_OWN}/audit": {"lines": [line], "nextToken": "more"},
        f"{_OWN}/audit/verify": [{"checked": 9}, {"checked": 9, "verdict": verdict}],
        f"{_OWN}/costs": {
            "currency": "USD", "rows": [used], "total": 0.02, "unmeasured": 1,
            "prices": {"vcpuHour": 0.09, "gbHour": 0.01},
        },
        f"{_OWN}/model-costs": {
            "rows": [tokens], "total": 0.4, "unpriced": ["a-model"], "partial": False,
        },
    }  # fmt: skip
