"""Whose telemetry it is: of an agent's by its connection, of a client's by what it says.

Only a runtime's ARN of the sender's own tenant is taken for one; ids are otherwise as they came.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from freehold.kernel.arns import Arn
from freehold.ports.exports import Source

_CHARACTERS_MAX = 256
_RESOURCE_IDS = ("cloud.resource_id", "aws.bedrock.agentcore.runtime.arn", "aws.resource.arn")
_AGENTS = ("aws.bedrock.agentcore.runtime.id", "aws.agent.id", "gen_ai.agent.id")
_ENDPOINTS = ("aws.bedrock.agentcore.endpoint.name", "aws.endpoint.name")
_SESSIONS = ("session.id", "gen_ai.conversation.id", "aws.bedrock.agentcore.session.id")
_USERS = ("enduser.id", "user.id")
_SAID = frozenset((*_RESOURCE_IDS, *_AGENTS, *_ENDPOINTS, *_SESSIONS, *_USERS))
_RUNTIME = "runtime"


class Whose(NamedTuple):
    agent_id: str = ""
    endpoint: str = ""
    session_id: str = ""
    user: str = ""


def known(source: Source) -> Whose:
    return Whose(source.agent_id, source.endpoint, source.session_id, source.user or "")


def told(source: Source, attributes: Mapping[str, Any], otherwise: Whose) -> Whose:
    """What the attributes say, else `otherwise`; of whoever is known by a connection, that."""
    if source.origin != "client" or _SAID.isdisjoint(attributes):
        return otherwise
    agent_id, endpoint = _runtime(attributes, source.tenant)
    return Whose(
        agent_id or _first(attributes, _AGENTS) or otherwise.agent_id,
        endpoint or _first(attributes, _ENDPOINTS) or otherwise.endpoint,
        _first(attributes, _SESSIONS) or otherwise.session_id,
        _first(attributes, _USERS) or otherwise.user,
    )


def _runtime(attributes: Mapping[str, Any], tenant: str) -> tuple[str, str]:
    """A runtime's id and its endpoint's name, of .../runtime/{id} or what AgentCore makes of it:
    .../runtime/{id}/runtime-endpoint/{name}:{name}."""
    for name in _RESOURCE_IDS:
        said = attributes.get(name)
        arn = Arn.parse(said) if isinstance(said, str) and len(said) < 1024 else None
        if arn is None or arn.tenant != tenant:
            continue
        kind, _, rest = arn.resource.partition("/")
        if kind == _RUNTIME and rest:
            id, _, endpoint = rest.partition("/runtime-endpoint/")
            return id.partition("/")[0][:_CHARACTERS_MAX], endpoint.partition(":")[0]
    return "", ""


def _first(attributes: Mapping[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        value = attributes.get(name)
        if value is not None and value != "" and isinstance(value, str | int):
            return str(value)[:_CHARACTERS_MAX]
    return ""
