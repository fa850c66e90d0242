"""Which session of an agent runtime a gateway's caller gets: never one that another caller has.

A runtime that a gateway calls as itself sees one principal, whoever calls the gateway; and whoever
knows a session's id is in that session. So a caller's ids are ids among that caller's own: what the
runtime gets has the caller's mark at its end, and what the caller gets back has not.
"""

import hashlib
import uuid
from collections.abc import Mapping

from freehold.kernel.caller import Caller
from freehold.ports.targets import Json, Place

SESSION_HEADER = "x-amzn-bedrock-agentcore-runtime-session-id"
USER_HEADER = "x-amzn-bedrock-agentcore-runtime-user-id"
MCP_SESSION_HEADER = "mcp-session-id"
_JOINT = "~"  # between the platform's session and the server's own, in an Mcp-Session-Id
_SESSION_ID_LENGTHS = range(33, 257)
_AS_THE_GATEWAY = ("GATEWAY_IAM_ROLE", "OAUTH")


def session_for(place: Place, caller: Caller | None) -> str:
    """Of a target that is an MCP server: one session a caller."""
    return f"gateway-{_digest(place, caller)}"


class AgentSession:
    """Of one request: `id` and `mcp` are what the runtime gets, `shown` what the caller does."""

    def __init__(
        self, place: Place, caller: Caller, credential: Json, headers: Mapping[str, str]
    ) -> None:
        asked, mcp = headers.get(SESSION_HEADER), headers.get(MCP_SESSION_HEADER)
        self._marked = credential.get("credentialProviderType") in _AS_THE_GATEWAY
        self.id, self.mcp = asked, mcp
        self.user = headers.get(USER_HEADER)
        if not self._marked:
            return
        self.user = None  # the gateway vouches for nobody
        first, joint, rest = (mcp or "").partition(_JOINT)
        ours = bool(first) and (bool(joint) or asked is None) and len(first) in _SESSION_ID_LENGTHS
        self._asked = first if ours else asked or str(uuid.uuid4())
        mark = _digest(place, caller)[:16]
        self.id = f"{self._asked}.{mark}"
        if len(self.id) not in _SESSION_ID_LENGTHS:
            self.id = f"{hashlib.sha256(self._asked.encode()).hexdigest()}.{mark}"
        if first and first == self._asked:
            self.mcp = f"{self.id}{joint}{rest}"

    def shown(self, id: str) -> str:
        """A session id, or an Mcp-Session-Id, as the caller knows it."""
        if self._marked and self.id and id.startswith(self.id):
            return self._asked + id[len(self.id) :]
        return id


def _digest(place: Place, caller: Caller | None) -> str:
    owner = "" if caller is None else f"{caller.tenant}|{caller.kind}|{caller.user}|" + (
        caller.principal
    )  # fmt: skip
    parts = "\0".join((place.gateway_arn, place.target_id, owner))
    return hashlib.sha256(parts.encode()).hexdigest()
