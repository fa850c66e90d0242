"""What an agent serves inside its sandbox: HTTP, MCP, A2A or AG-UI; and what each asks of us.

Sources: AWS's developer guide, "HTTP", "MCP", "A2A" and "AG-UI protocol contract"; of MCP the
chapter "Transports" and of A2A "Protocol binding: JSON-RPC".
"""

import msgspec

from freehold.kernel.errors import ValidationFailed
from freehold.ports.resources import Document

HTTP, MCP, A2A, AGUI = "HTTP", "MCP", "A2A", "AGUI"

_DEFAULTS = {
    HTTP: (8080, "/invocations"),
    MCP: (8000, "/mcp"),
    A2A: (9000, "/"),
    AGUI: (8080, "/invocations"),
}
_PORT_RESERVED = 8443

# Headers of the protocols themselves. The AWS model names four of MCP's; the rest (Mcp-Param-*,
# A2A-Version, A2A-Extensions) reach an agent only as headers.
_PREFIXES: dict[str, tuple[str, ...]] = {MCP: ("mcp-",), A2A: ("a2a-", "x-a2a-")}

MCP_SESSION_HEADER = "Mcp-Session-Id"
_SESSION_ID_LENGTHS = range(33, 257)
_JOINT = "~"


class Served(msgspec.Struct, frozen=True, kw_only=True):
    protocol: str
    port: int
    path: str

    @property
    def is_rpc(self) -> bool:
        """Its own HTTP errors are words of its protocol, and for the client to read."""
        return self.protocol in (MCP, A2A)

    def is_own_header(self, name: str) -> bool:
        """`name` in lower case."""
        return name.startswith(_PREFIXES.get(self.protocol, ()))


def served_by(document: Document) -> Served:
    """From a version's document."""
    protocol = document["protocolConfiguration"]
    port, path = _DEFAULTS[protocol["serverProtocol"]]
    return Served(
        protocol=protocol["serverProtocol"],
        port=protocol.get("port", port),
        path=protocol.get("path", path),
    )


def checked_protocol(protocol: Document) -> None:
    """What the model cannot say: it has the range of ports and the pattern of paths."""
    if protocol.get("port") == _PORT_RESERVED:
        raise ValidationFailed(f"protocolConfiguration: port {_PORT_RESERVED} is reserved")


class McpSession(msgspec.Struct, frozen=True, kw_only=True):
    """One header, two sessions: the platform's (which sandbox) and the MCP server's own.

    A stateless server has none, and the client gets the sandbox's id for Mcp-Session-Id. A stateful
    one makes its own: the client gets `{sandbox's}~{server's}`, and any worker can tell them apart.
    Thus a client that knows MCP alone, and nothing of AgentCore, stays in its session.

    `session_id` None: a new one. `inside`: what the server is sent.
    """

    session_id: str | None
    inside: str | None

    @classmethod
    def of(cls, said: str | None, session_id: str | None) -> "McpSession":
        """From the client's Mcp-Session-Id and its runtime session header."""
        if said is None:
            return cls(session_id=session_id, inside=None)
        first, joint, rest = said.partition(_JOINT)
        if joint and rest and len(first) in _SESSION_ID_LENGTHS:
            # Ours, and anywhere else the server would not know it; SDKs of AWS fill in the
            # runtime session header with a new id when they are given none.
            return cls(session_id=first, inside=rest)
        if session_id is None and len(said) in _SESSION_ID_LENGTHS:
            session_id = said
        return cls(session_id=session_id, inside=said)


def mcp_session_shown(session_id: str, servers: str | None) -> str:
    """The Mcp-Session-Id that the client gets; `servers` is the one that the server answered."""
    if servers is None:
        return session_id
    if _JOINT in session_id:
        return servers  # chosen by a client, who sends it with each call
    return f"{session_id}{_JOINT}{servers}"
