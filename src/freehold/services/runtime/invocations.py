"""Invocations and the sessions they run in. No HTTP, no SQL."""

import functools
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from freehold.kernel import tracing
from freehold.kernel.arns import Arn
from freehold.kernel.body import Body, BytesBody
from freehold.kernel.caller import Caller
from freehold.kernel.errors import (
    AccessDenied,
    NotFound,
    RuntimeClientFailed,
    ValidationFailed,
)
from freehold.kernel.pages import Page
from freehold.ports.agents import AgentBroke, AgentClient, AgentReply, AgentRequest
from freehold.ports.placement import (
    Launch,
    Lease,
    Placement,
    SessionKey,
    SessionLine,
    SessionRecord,
)
from freehold.ports.trace_board import TraceBoard
from freehold.ports.workloads import is_verified
from freehold.services.runtime.cards import CARD_BYTES_MAX, CARD_PATH, Card, parsed_card
from freehold.services.runtime.exceeded import explained
from freehold.services.runtime.model import DEFAULT_ENDPOINT, Deployment
from freehold.services.runtime.ports import RuntimeIdentities
from freehold.services.runtime.protocols import (
    A2A,
    MCP,
    MCP_SESSION_HEADER,
    McpSession,
    mcp_session_shown,
)
from freehold.services.runtime.service import RuntimeService
from freehold.services.runtime.store import COST_GROUPS, CostRow, SessionStore
from freehold.services.runtime.traces import Serving, acquired, tell_agent
from freehold.services.runtime.turns import AnswerStream, Turn

T = TypeVar("T")

_ERROR_BODY_BYTES_SHOWN = 2000
_WHOLE_BYTES_MAX = 64 * 1024
_KEPT_BYTES_MAX = 256 * 1024
SESSION_HEADER = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
REQUEST_HEADER = "X-Amzn-Bedrock-AgentCore-Runtime-Request-Id"
USER_HEADER = "X-Amzn-Bedrock-AgentCore-Runtime-User-Id"
TOKEN_HEADER = "x-amz-bedrock-agentcore-identity-wat"  # noqa: S105 - a header's name
CUSTOM_PREFIX = "x-amzn-bedrock-agentcore-runtime-custom-"


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """One call of an agent, from the client's side. `user` is whom the client says it is for."""

    caller: Caller
    tenant: str
    runtime_arn: str
    endpoint: str | None
    session_id: str | None
    user: str | None
    request_id: str
    content_type: str | None
    accept: str | None
    headers: dict[str, str]
    """The client's, names in lower case; what may go on is chosen here."""
    trace: dict[str, str]
    body: Body
    mcp_session: str | None = None
    """The client's Mcp-Session-Id."""


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    session_id: str
    status: int
    content_type: str
    headers: dict[str, str]
    body: bytes | AsyncIterator[bytes]
    mcp_session: str | None = None


class InvocationService:
    def __init__(
        self,
        *,
        runtimes: RuntimeService,
        placement: Placement,
        agents: AgentClient,
        store: SessionStore,
        identities: RuntimeIdentities,
        board: TraceBoard | None = None,
    ) -> None:
        self._runtimes, self._placement, self._agents = runtimes, placement, agents
        self._store, self._identities, self.board = store, identities, board

    async def invoke(self, invocation: Invocation) -> Answered:
        """Same session id, same sandbox. The answer streams; its end gives the lease back."""
        runtime_id = runtime_id_of(invocation.runtime_arn)
        deployment = await self._runtimes.resolve(
            invocation.tenant, runtime_id, invocation.endpoint or DEFAULT_ENDPOINT
        )
        mcp = McpSession(session_id=invocation.session_id, inside=invocation.mcp_session)
        if deployment.served.protocol == MCP:
            mcp = McpSession.of(invocation.mcp_session, invocation.session_id)
        session_id = mcp.session_id or str(uuid.uuid4())
        deployment = deployment.for_session(session_id)
        user, identity = await self.act_for(
            invocation.caller, deployment, session_id, invocation.user, invocation.headers
        )
        tell_agent(deployment, session_id, user)
        turn = Turn.begun(invocation.content_type)
        launch = self.launch(deployment, session_id, user)
        body = await _kept(invocation.body)
        request = AgentRequest(
            sandbox_id="",  # known once there is a lease
            headers=_headers(invocation, session_id, deployment, mcp.inside, identity),
            port=deployment.served.port,
            path=deployment.served.path,
            body=body if turn is None else await turn.asked(body),
        )
        serving = Serving(self.board, turn)
        lease, reply = await self._begin(request, launch, serving)
        try:
            if reply.status >= 400 and not (deployment.served.is_rpc and _is_rpc_error(reply)):
                raise await _client_error(reply)
            content_type = _content_type(reply)
            answer = await self._answer(reply, lease, content_type, serving, turn)
        except BaseException:
            serving.end()
            self._placement.release(lease)
            raise
        servers_session = reply.headers.get(MCP_SESSION_HEADER.lower())
        if deployment.served.protocol == MCP:
            servers_session = mcp_session_shown(session_id, servers_session)
        return Answered(
            session_id=session_id,
            mcp_session=servers_session,
            status=reply.status,
            content_type=content_type,
            headers=reply.headers,
            body=answer,
        )

    async def _answer(
        self,
        reply: AgentReply,
        lease: Lease,
        content_type: str,
        serving: Serving,
        turn: Turn | None,
    ) -> bytes | AsyncIterator[bytes]:
        """Whole, where it is said to be small."""
        if turn is not None:
            turn.answering(content_type)
        if int(reply.headers.get("content-length", _WHOLE_BYTES_MAX + 1)) > _WHOLE_BYTES_MAX:
            return AnswerStream(
                self._chunks(reply, lease, content_type),
                turn=turn,
                end=functools.partial(self._end_of_stream, reply, lease, serving),
            )
        whole = await self._whole(reply, lease)
        if turn is not None:
            turn.heard(whole)
        serving.end()
        self._placement.release(lease)
        return whole

    async def act_for(
        self,
        caller: Caller,
        deployment: Deployment,
        session_id: str,
        named: str | None,
        headers: Mapping[str, str],
    ) -> tuple[str | None, dict[str, str]]:
        """The user whom a call is for, and the headers by which the agent acts for them."""
        user, carried = await self._identities.act_for(
            caller,
            tenant=deployment.tenant,
            runtime_arn=deployment.runtime_arn,
            session_id=session_id,
            named=named,
            handed=headers.get(TOKEN_HEADER),
        )
        if user is not None and _fits_header(user):
            carried = {**carried, USER_HEADER: user}
        return user, carried

    async def card(
        self, tenant: str, arn: str, endpoint: str | None, session_id: str | None, request_id: str
    ) -> tuple[str, Card]:
        """(session id, the card as the agent's own server tells it)."""
        deployment = await self._runtimes.resolve(
            tenant, runtime_id_of(arn), endpoint or DEFAULT_ENDPOINT
        )
        if deployment.served.protocol != A2A:
            raise ValidationFailed(
                f"the agent runtime serves {deployment.served.protocol}; only one whose "
                "serverProtocol is A2A has an agent card"
            )
        session_id = session_id or str(uuid.uuid4())
        deployment = deployment.for_session(session_id)
        tell_agent(deployment, session_id, None)
        request = AgentRequest(
            sandbox_id="",
            method="GET",
            headers={
                SESSION_HEADER: session_id,
                REQUEST_HEADER: request_id,
                **tracing.headers(),
            },
            port=deployment.served.port,
            path=CARD_PATH,
            body=BytesBody(b""),
        )
        launch = self.launch(deployment, session_id, None)
        lease, reply = await self._begin(request, launch, Serving(None))
        try:
            if reply.status != 200:
                raise await _client_error(reply)
            return session_id, parsed_card(await reply.read(CARD_BYTES_MAX))
        except AgentBroke as broke:
            raise await self.failure(lease, broke) from broke
        finally:
            reply.close()
            self._placement.release(lease)

    async def _begin(
        self, request: AgentRequest, launch: Launch, serving: Serving
    ) -> tuple[Lease, AgentReply]:
        async def send(lease: Lease) -> AgentReply:
            serving.begin(lease.sandbox_id)
            return await self._agents.send(
                msgspec.structs.replace(request, sandbox_id=lease.sandbox_id)
            )

        try:
            return await self.begin(launch, send)
        except BaseException:
            serving.end()
            raise

    async def begin(self, launch: Launch, use: Callable[[Lease], Awaitable[T]]) -> tuple[Lease, T]:
        """A session that had ended before anything reached it gives way to a new one, once.

        Whoever gets the lease releases it.
        """
        for again in (True, False):
            try:
                lease = await acquired(self._placement, launch)
            except RuntimeClientFailed as failed:
                raise RuntimeClientFailed(explained(failed.message)) from failed
            try:
                _check_owner(lease, launch)
                return lease, await use(lease)
            except AgentBroke as broke:
                try:
                    reason = await self._placement.why_ended(lease.sandbox_id)
                finally:
                    self._placement.release(lease)
                if not (again and broke.unreached and reason):
                    raise _failure(lease, broke, reason) from broke
            except BaseException:
                self._placement.release(lease)
                raise
        raise AssertionError("the second try returns or raises")

    async def failure(self, lease: Lease, broke: AgentBroke) -> RuntimeClientFailed:
        return _failure(lease, broke, await self._placement.why_ended(lease.sandbox_id))

    async def _whole(self, reply: AgentReply, lease: Lease) -> bytes:
        try:
            return await reply.read(_WHOLE_BYTES_MAX)
        except AgentBroke as broke:
            raise await self.failure(lease, broke) from broke

    async def _chunks(
        self, reply: AgentReply, lease: Lease, content_type: str
    ) -> AsyncGenerator[bytes, None]:
        """The agent's bytes as they come. A death in the middle of SSE is told as an event."""
        try:
            async for chunk in reply.chunks():
                yield chunk
        except AgentBroke as broke:
            failure = await self.failure(lease, broke)
            if not content_type.startswith("text/event-stream"):
                raise failure from broke
            event = {
                "error": failure.message,
                "error_type": failure.code,
                "message": "the stream ended before its time",
            }
            yield b"\n\ndata: " + msgspec.json.encode(event) + b"\n\n"

    def _end_of_stream(self, reply: AgentReply, lease: Lease, serving: Serving) -> None:
        reply.close()
        serving.end()
        self._placement.release(lease)

    def launch(self, deployment: Deployment, session_id: str, user: str | None) -> Launch:
        return Launch(
            key=SessionKey(
                deployment.tenant, deployment.runtime_id, deployment.endpoint, session_id
            ),
            runtime_arn=deployment.runtime_arn,
            runtime_name=deployment.runtime_name,
            version=deployment.version,
            user=user,
            tier=deployment.tier,
            interpreter=deployment.prepared.interpreter,
            code=deployment.prepared.code,
            layers=deployment.prepared.layers,
            image=deployment.prepared.image,
            entry_point=deployment.entry_point,
            environment=deployment.environment,
            port=deployment.served.port,
            protocol=deployment.served.protocol,
            idle_seconds=deployment.idle_seconds,
            lifetime_seconds=deployment.lifetime_seconds,
            limits=deployment.limits,
            egress=deployment.egress,
            captures_content=deployment.captures_content,
        )

    # -- sessions

    async def stop(self, tenant: str, arn: str, endpoint: str | None, session_id: str) -> None:
        runtime_id = runtime_id_of(arn)
        await self._runtimes.get(tenant, runtime_id)
        key = SessionKey(tenant, runtime_id, endpoint or DEFAULT_ENDPOINT, session_id)
        if not await self._placement.stop(key, "StopRuntimeSession was called"):
            raise NotFound(f"no live session {session_id} of {runtime_id}")

    async def sessions(
        self,
        tenant: str,
        *,
        runtime_id: str | None = None,
        session_id: str | None = None,
        live: bool | None = None,
        limit: int = 100,
        token: str | None = None,
    ) -> Page[SessionRecord]:
        return await self._store.page(
            tenant,
            runtime_id=runtime_id,
            session_id=session_id,
            live=live,
            limit=limit,
            token=token,
        )

    def log_lines(
        self, record: SessionRecord, *, tail: int, follow: bool
    ) -> AsyncGenerator[str, None]:
        return self._placement.read_log(
            record.tenant, record.runtime_id, record.sandbox_id, tail=tail, follow=follow
        )

    def follow_logs(
        self, tenant: str, runtime_id: str, *, tail: int
    ) -> AsyncGenerator[SessionLine, None]:
        return self._placement.follow_logs(tenant, runtime_id, tail=tail)

    async def costs(self, tenant: str, *, by: str, since: datetime) -> list[CostRow]:
        if by not in COST_GROUPS:
            raise ValidationFailed(f"by={by}: expected one of {', '.join(COST_GROUPS)}")
        return await self._store.costs(tenant, by=by, since=since)


def runtime_id_of(arn: str) -> str:
    """From an agent runtime's ARN (or, as boto3 allows, its bare id)."""
    parsed = Arn.parse(arn)
    if parsed is None:
        if "/" in arn or ":" in arn:
            raise ValidationFailed(f"agentRuntimeArn: {arn!r} is not an agent runtime's ARN")
        return arn
    kind, _, rest = parsed.resource.partition("/")
    if kind != "runtime" or not rest:
        raise ValidationFailed(f"agentRuntimeArn: {arn!r} is not an agent runtime's ARN")
    return rest.partition("/")[0]


def _failure(lease: Lease, broke: AgentBroke, ended: str | None) -> RuntimeClientFailed:
    what = explained(f"the session ended during the call: {ended}" if ended else str(broke))
    return RuntimeClientFailed(f"{what}. See the log of session {lease.key.session_id}")


def _check_owner(lease: Lease, launch: Launch) -> None:
    """What a verified user's session holds is theirs: a session id alone opens it to no other.
    Users whom callers vouch for are the callers' to keep apart."""
    owner, user = lease.user, launch.user
    if user is None or owner == user:
        return
    if (owner is not None and is_verified(owner)) or is_verified(user):
        raise AccessDenied("this session was begun for somebody else; take another session id")


async def _kept(body: Body) -> Body:
    """A small body in memory can be sent twice; a large one is not read before there is a
    connection to send it on.
    """
    size = body.size_bytes
    if size is None or size > _KEPT_BYTES_MAX:
        return body
    return BytesBody(await body.read())


def _headers(
    invocation: Invocation,
    session_id: str,
    deployment: Deployment,
    mcp_session: str | None,
    identity: Mapping[str, str],
) -> dict[str, str]:
    """What the agent sees: the contract's headers, its protocol's, custom ones, and those on the
    allow-list.
    """
    headers: dict[str, Any] = {
        SESSION_HEADER: session_id,
        REQUEST_HEADER: invocation.request_id,
        "Content-Type": invocation.content_type or "application/json",
        "Accept": invocation.accept or "*/*",
        **invocation.trace,
        **tracing.headers(),
        **identity,
    }
    if mcp_session:
        headers[MCP_SESSION_HEADER] = mcp_session
    settled = {name.lower() for name in headers} | {MCP_SESSION_HEADER.lower()}
    for name, value in invocation.headers.items():
        if name not in settled and reaches_agent(deployment, name, value):
            headers[name] = value
    return headers


def reaches_agent(deployment: Deployment, name: str, value: str) -> bool:
    """Whether a header of the client's goes on to the agent."""
    return (
        name.startswith(CUSTOM_PREFIX)
        or deployment.served.is_own_header(name)
        or (name in deployment.header_allowlist and not _signs(name, value))
    )


def _fits_header(text: str) -> bool:
    """The user of a token may be called anything; the agent's own token has the name as it is."""
    try:
        return text.isprintable() and bool(text.encode("latin-1"))
    except UnicodeEncodeError:
        return False


def _signs(name: str, value: str) -> bool:
    """An AWS signature is between the client and the platform: an agent could replay it."""
    return name == "authorization" and value.startswith("AWS4-")


def _content_type(reply: AgentReply) -> str:
    said = reply.headers.get("content-type", "application/octet-stream")
    if not said.isprintable():
        reply.close()
        raise RuntimeClientFailed("the agent's answer has a Content-Type that cannot be passed on")
    return said


def _is_rpc_error(reply: AgentReply) -> bool:
    """By what can be told without reading it; a web server's own "Not Found" is text."""
    if reply.status >= 600:
        return False
    media_type = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


async def _client_error(reply: AgentReply) -> RuntimeClientFailed:
    try:
        said = (await reply.read(_ERROR_BODY_BYTES_SHOWN)).decode(errors="replace").strip()
    except AgentBroke:
        said = ""
    return RuntimeClientFailed(
        explained(f"the agent answered HTTP {reply.status}: {said or 'nothing more'}")
    )
