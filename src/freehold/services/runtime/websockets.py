"""WebSockets between clients and the `/ws` of agents. The session is in use while one is open."""

import re
import uuid
from collections.abc import Mapping

import msgspec

from freehold.kernel import tracing
from freehold.kernel.caller import Caller
from freehold.kernel.errors import ValidationFailed
from freehold.kernel.sockets import ClientSocket, Conversation
from freehold.ports.agents import AgentSocket, AgentSockets
from freehold.ports.placement import Lease, Placement
from freehold.services.runtime.invocations import (
    REQUEST_HEADER,
    SESSION_HEADER,
    USER_HEADER,
    InvocationService,
    reaches_agent,
    runtime_id_of,
)
from freehold.services.runtime.model import DEFAULT_ENDPOINT, Deployment
from freehold.services.runtime.protocols import AGUI, HTTP
from freehold.services.runtime.service import RuntimeService
from freehold.services.runtime.splice import AGENT_FAILED, GOING_AWAY, closed, splice
from freehold.services.runtime.traces import Serving, tell_agent

PATH = "/ws"
_HANDSHAKE = ("sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions")
_ANSWERED = ("sec-websocket-accept", "sec-websocket-protocol", "sec-websocket-extensions")
_TOKEN_PROTOCOL = "base64urlbearerauthorization"  # noqa: S105 - the name of a scheme
_NEVER_IN_QUERY = ("x-amz-", "sec-", "authorization")
_HEADER_NAME = re.compile(r"[a-z0-9_-]{1,256}")
_TRACE = ("traceparent", "tracestate", "baggage", "x-amzn-trace-id")


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """A client's wish to talk to an agent. `query` stands in for headers where a client (a
    browser, a presigned URL) can send none.
    """

    caller: Caller
    tenant: str
    runtime_arn: str
    endpoint: str | None
    session_id: str | None
    request_id: str
    headers: Mapping[str, str]
    query: Mapping[str, str]


class WebSocketService:
    def __init__(
        self,
        *,
        runtimes: RuntimeService,
        invocations: InvocationService,
        placement: Placement,
        agents: AgentSockets,
        seconds_max: float,
    ) -> None:
        self._runtimes, self._invocations = runtimes, invocations
        self._placement, self._agents = placement, agents
        self._seconds_max = seconds_max

    async def open(self, opening: Opening) -> Conversation:
        """The agent has agreed. Raises RuntimeClientFailed where it has not."""
        deployment = await self._runtimes.resolve(
            opening.tenant, runtime_id_of(opening.runtime_arn), opening.endpoint or DEFAULT_ENDPOINT
        )
        if deployment.served.protocol not in (HTTP, AGUI):
            raise ValidationFailed(
                f"the agent runtime serves {deployment.served.protocol}; WebSockets reach agents "
                f"whose serverProtocol is {HTTP} or {AGUI}"
            )
        session_id = opening.session_id or str(uuid.uuid4())
        deployment = deployment.for_session(session_id)
        said = {**_of_query(opening.query), **opening.headers}
        user, identity = await self._invocations.act_for(
            opening.caller, deployment, session_id, said.get(USER_HEADER.lower()), opening.headers
        )
        tell_agent(deployment, session_id, user)
        headers = _headers(opening, said, session_id, deployment, identity)
        port = deployment.served.port
        lease, socket = await self._invocations.begin(
            self._invocations.launch(deployment, session_id, user),
            lambda lease: self._agents.open(lease.sandbox_id, port, PATH, headers),
        )
        serving = Serving(self._invocations.board)
        serving.begin(lease.sandbox_id)
        return _Joined(
            lease, socket, session_id,
            placement=self._placement,
            serving=serving,
            seconds_max=self._seconds_max,
            idle_seconds_max=deployment.idle_seconds,
        )  # fmt: skip


class _Joined:
    """A client's WebSocket and its agent's. Implements kernel.sockets.Conversation."""

    def __init__(
        self,
        lease: Lease,
        agent: AgentSocket,
        session_id: str,
        *,
        placement: Placement,
        serving: Serving,
        seconds_max: float,
        idle_seconds_max: float,
    ) -> None:
        self._lease, self._agent, self._placement = lease, agent, placement
        self._serving = serving
        self._seconds_max, self._idle_seconds_max = seconds_max, idle_seconds_max
        answered = {name: agent.headers[name] for name in _ANSWERED if name in agent.headers}
        self.headers: Mapping[str, str] = {SESSION_HEADER: session_id, **answered}

    async def run(self, client: ClientSocket) -> None:
        try:
            await splice(
                client,
                self._agent,
                seconds_max=self._seconds_max,
                idle_seconds_max=self._idle_seconds_max,
                why_agent_left=self._why_agent_left,
            )
        finally:
            await self.close()
            await closed(client.writer)

    async def close(self) -> None:
        self._agent.writer.close()
        self._serving.end()
        self._placement.release(self._lease)

    async def _why_agent_left(self) -> tuple[int, str]:
        reason = await self._placement.why_ended(self._lease.sandbox_id)
        if reason is None:
            return AGENT_FAILED, "the agent broke the connection off"
        return GOING_AWAY, f"the session ended: {reason}"


def _headers(
    opening: Opening,
    said: Mapping[str, str],
    session_id: str,
    deployment: Deployment,
    identity: Mapping[str, str],
) -> dict[str, str]:
    """The whole request's: the handshake as the client sent it, and what invocations get."""
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        **{name: said[name] for name in (*_HANDSHAKE, *_TRACE) if name in said},
        **tracing.headers(),
        SESSION_HEADER: session_id,
        REQUEST_HEADER: opening.request_id,
        **identity,
    }
    if offered := _protocols(said.get("sec-websocket-protocol", "")):
        headers["Sec-WebSocket-Protocol"] = offered
    settled = {name.lower() for name in headers}
    for name, value in said.items():
        if name not in settled and reaches_agent(deployment, name, value):
            headers[name] = value
    return headers


def _of_query(query: Mapping[str, str]) -> dict[str, str]:
    """Parameters that stand for headers: under the same names, and the same allow-list."""
    found = {}
    for name, value in query.items():
        header = name.lower()
        if header.startswith(_NEVER_IN_QUERY) or not _HEADER_NAME.fullmatch(header):
            continue
        if not value.isprintable():
            raise ValidationFailed(f"{header}: the value cannot stand in a header")
        found[header] = value
    return found


def _protocols(offered: str) -> str:
    """Without those that carry a token: it is the client's and the platform's alone."""
    kept = (
        name.strip()
        for name in offered.split(",")
        if not name.strip().lower().startswith(_TOKEN_PROTOCOL)
    )
    return ", ".join(name for name in kept if name)
