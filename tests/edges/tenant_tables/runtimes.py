"""Runtimes, their endpoints and sessions."""

import json

from running import Agent, RunningPlatform, new_session
from tenant_tables.table import STRANGER, Table

TABLE = Table(
    things=("runtime_id", "runtime_arn", "session"),
    marks=("runtime_id", "session"),
    names={
        "agentRuntimeArn": "{runtime_arn}",
        "agentRuntimeId": "{runtime_id}",
        "endpointName": "blue",
        "resourceArn": "{runtime_arn}",
        "runtimeSessionId": "{session}",
        "CreateAgentRuntimeEndpoint.name": "other",
    },
    nameless=frozenset({
        "accountId", "agentRuntimeName", "agentRuntimeVersion", "baggage", "mcpName",
        "mcpSessionId", "qualifier", "runtimeUserId", "traceId", "contentType", "accept", "policy",
        "platformVersion", "mcpMethod", "mcpProtocolVersion", "traceParent", "traceState",
    }),
    at_home=frozenset({"CreateAgentRuntime"}),
    good={
        "InvokeAgentRuntime": {"payload": b"{}"},
        "InvokeAgentRuntimeCommand": {"body": {"command": "id"}},
        "PutResourcePolicy": {"policy": "{policy}"},
        "TagResource": {"tags": {"a": "b"}},
        "UntagResource": {"tagKeys": ["a"]},
        "UpdateAgentRuntime": {
            "agentRuntimeArtifact": {"containerConfiguration": {"containerUri": "r.example/a/b:1"}},
            "roleArn": f"arn:aws:iam::{STRANGER}:role/r",
            "networkConfiguration": {"networkMode": "PUBLIC"},
        },
    },
    paths={"runtimeId": "{runtime_id}"},
    filters={"ListSessions": [{"runtimeId": "{runtime_id}"}, {"sessionId": "{session}"}]},
)  # fmt: skip


def made(platform: RunningPlatform, agent: Agent) -> dict[str, str]:
    """A session, a resource policy and an endpoint of the agent."""
    session = new_session()
    agent.invoke({}, session)
    policy = json.dumps({
        "Version": "2012-10-17",
        "Statement": {
            "Effect": "Allow", "Principal": {"AWS": "111122223333"},
            "Action": "bedrock-agentcore:*", "Resource": agent.arn,
        },
    })  # fmt: skip
    agent.control.put_resource_policy(resourceArn=agent.arn, policy=policy)
    agent.control.create_agent_runtime_endpoint(agentRuntimeId=agent.id, name="blue")
    return {
        "runtime_id": agent.id, "runtime_arn": agent.arn, "session": session, "policy": policy,
    }  # fmt: skip
