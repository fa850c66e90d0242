"""Invocations and the sessions they run in. No HTTP, no SQL."""

import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import msgspec

from freehold.kernel.arns import Arn
from freehold.kernel.body import Body
from freehold.kernel.errors import NotFound, RuntimeClientFailed, ValidationFailed
from freehold.kernel.pages import Page
from freehold.ports.agents import AgentBroke, AgentClient, AgentReply, AgentRequest
from freehold.ports.placement import Launch, Lease, Placement, SessionKey, SessionRecord
from freehold.ports.sandbox import Limits
from freehold.services.runtime.model import AGENT_PORT, DEFAULT_ENDPOINT, Deployment
from freehold.services.runtime.service import RuntimeService
from freehold.services.runtime.store import COST_GROUPS, CostRow, SessionStore

_ERROR_BODY_BYTES_SHOWN = 2000
_WHOLE_BYTES_MAX = 64 * 1024
SESSION_HEADER = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
REQUEST_HEADER = "X-Amzn-Bedrock-AgentCore-Runtime-Request-Id"
USER_HEADER = "X-Amzn-Bedrock-AgentCore-Runtime-User-Id"
CUSTOM_PREFIX = "x-amzn-bedrock-agentcore-runtime-custom-"


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """One call of an agent, from the client's side."""

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


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    session_id: str
    status: int
    content_type: str
    headers: dict[str, str]
    body: bytes | AsyncIterator[bytes]


class InvocationService:
    def __init__(
        self,
        *,
        runtimes: RuntimeService,
        placement: Placement,
        agents: AgentClient,
        store: SessionStore,
        limits: Limits,
    ) -> None:
        self._runtimes, self._placement, self._agents = runtimes, placement, agents
        self._store, self._limits = store, limits

    async def invoke(self, invocation: Invocation) -> Answered:
        """Same session id, same sandbox. The answer streams; its end gives the lease back."""
        runtime_id = runtime_id_of(invocation.runtime_arn)
        deployment = await self._runtimes.resolve(
            invocation.tenant, runtime_id, invocation.endpoint or DEFAULT_ENDPOINT
        )
        session_id = invocation.session_id or str(uuid.uuid4())
        launch = self._launch(deployment, session_id, invocation.user)
        lease = await self._placement.acquire(launch)
        try:
            reply = await self._call(invocation, deployment, lease)
            if reply.status >= 400:
                raise await _client_error(reply)
            content_type = reply.headers.get("content-type", "application/octet-stream")
            body: bytes | AsyncIterator[bytes]
            if int(reply.headers.get("content-length", _WHOLE_BYTES_MAX + 1)) <= _WHOLE_BYTES_MAX:
                body = await self._whole(reply, lease)
                self._placement.release(lease)
            else:
                body = self._stream(reply, lease, content_type)
        except BaseException:
            self._placement.release(lease)
            raise
        return Answered(
            session_id=session_id,
            status=reply.status,
            content_type=content_type,
            headers=reply.headers,
            body=body,
        )

    async def _call(
        self, invocation: Invocation, deployment: Deployment, lease: Lease
    ) -> AgentReply:
        request = AgentRequest(
            sandbox_id=lease.sandbox_id,
            port=AGENT_PORT,
            path="/invocations",
            headers=_headers(invocation, lease.key.session_id, deployment.header_allowlist),
            body=invocation.body,
        )
        try:
            return await self._agents.post(request)
        except AgentBroke as broke:
            raise await self._failure(lease, broke) from broke

    async def _failure(self, lease: Lease, broke: AgentBroke) -> RuntimeClientFailed:
        reason = await self._placement.why_ended(lease.sandbox_id)
        if reason is not None:
            return RuntimeClientFailed(
                f"the session ended during the call: {reason}. See its log: session "
                f"{lease.key.session_id}"
            )
        return RuntimeClientFailed(f"{broke}. See the log of session {lease.key.session_id}")

    async def _whole(self, reply: AgentReply, lease: Lease) -> bytes:
        try:
            return await reply.read(_WHOLE_BYTES_MAX)
        except AgentBroke as broke:
            raise await self._failure(lease, broke) from broke

    async def _stream(
        self, reply: AgentReply, lease: Lease, content_type: str
    ) -> AsyncIterator[bytes]:
        """The agent's bytes as they come. A death in the middle of SSE is told as an event."""
        try:
            async for chunk in reply.chunks():
                yield chunk
        except AgentBroke as broke:
            failure = await self._failure(lease, broke)
            if not content_type.startswith("text/event-stream"):
                raise failure from broke
            event = {
                "error": failure.message,
                "error_type": failure.code,
                "message": "the stream ended before its time",
            }
            yield b"\n\ndata: " + msgspec.json.encode(event) + b"\n\n"
        finally:
            reply.close()
            self._placement.release(lease)

    def _launch(self, deployment: Deployment, session_id: str, user: str | None) -> Launch:
        memory = max(self._limits.memory_bytes_max, deployment.memory_mib_min << 20)
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
            entry_point=deployment.entry_point,
            environment=deployment.environment,
            port=AGENT_PORT,
            idle_seconds=deployment.idle_seconds,
            lifetime_seconds=deployment.lifetime_seconds,
            limits=msgspec.structs.replace(self._limits, memory_bytes_max=memory),
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

    def log_lines(self, record: SessionRecord, *, tail: int, follow: bool) -> AsyncIterator[str]:
        return self._placement.read_log(
            record.tenant, record.runtime_id, record.sandbox_id, tail=tail, follow=follow
        )

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


def _headers(invocation: Invocation, session_id: str, allowlist: frozenset[str]) -> dict[str, str]:
    """What the agent sees: the contract's headers, custom ones, and those on the allow-list."""
    headers: dict[str, Any] = {
        SESSION_HEADER: session_id,
        REQUEST_HEADER: invocation.request_id,
        "Content-Type": invocation.content_type or "application/json",
        "Accept": invocation.accept or "*/*",
        **invocation.trace,
    }
    if invocation.user:
        headers[USER_HEADER] = invocation.user
    for name, value in invocation.headers.items():
        if name.startswith(CUSTOM_PREFIX) or name in allowlist:
            headers[name] = value
    return headers


async def _client_error(reply: AgentReply) -> RuntimeClientFailed:
    try:
        said = (await reply.read(_ERROR_BODY_BYTES_SHOWN)).decode(errors="replace").strip()
    except AgentBroke:
        said = ""
    return RuntimeClientFailed(f"the agent answered HTTP {reply.status}: {said or 'nothing more'}")
