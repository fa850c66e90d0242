"""Governed calls as spans: which of them are, what they are a part of, and what is told of each.

All that the platform does is recorded, whatever the caller's sampling says: what is counted here is
not for the one who is counted to switch off.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from starlette.types import Scope

from freehold.kernel import tracing
from freehold.kernel.errors import FreeholdError
from freehold.kernel.session import doorway_session, session_caller
from freehold.kernel.tracing import Context, Kind, Recorder, Span, Status, Trail
from freehold.ports.content_capture import ContentCapture
from freehold.ports.mcp import INVOKE
from freehold.ports.trace_board import TraceBoard

if TYPE_CHECKING:
    from freehold.edges.pipeline import Call

_AGENTCORE = "bedrock-agentcore:"
_AGENTS = {
    f"{_AGENTCORE}InvokeAgentRuntime": "invoke_agent",
    f"{_AGENTCORE}InvokeAgentRuntimeWithWebSocketStream": "invoke_agent",
    f"{_AGENTCORE}InvokeAgentRuntimeCommand": "command",
    f"{_AGENTCORE}InvokeAgentRuntimeCommandShell": "shell",
    f"{_AGENTCORE}GetAgentCard": "agent card",
    INVOKE: "gateway",
}
_MEMORY = {
    f"{_AGENTCORE}{operation}": name
    for operation, name in {
        "RetrieveMemoryRecords": "search_memory",
        "ListMemoryRecords": "search_memory",
        "GetMemoryRecord": "search_memory",
        "CreateEvent": "create_memory",
        "BatchCreateMemoryRecords": "create_memory",
        "BatchUpdateMemoryRecords": "update_memory",
        "BatchDeleteMemoryRecords": "delete_memory",
        "DeleteMemoryRecord": "delete_memory",
    }.items()
}
_CREDENTIALS = dict.fromkeys(
    (
        f"{_AGENTCORE}GetResourceApiKey",
        f"{_AGENTCORE}GetResourceOauth2Token",
        f"{_AGENTCORE}GetWorkloadAccessToken",
        f"{_AGENTCORE}GetWorkloadAccessTokenForJWT",
        f"{_AGENTCORE}GetWorkloadAccessTokenForUserId",
    ),
    "credential",
)
_CHATS = ("ChatCompletions", "Responses", "Messages", "Converse", "ConverseStream", "InvokeModel",
          "InvokeModelStream")  # fmt: skip
_MODELS = {
    **dict.fromkeys((f"models:{operation}" for operation in _CHATS), "chat"),
    **dict.fromkeys(("models:GenerateContent", "models:StreamGenerateContent"), "generate_content"),
    "models:FimCompletions": "text_completion",
    "models:Embeddings": "embeddings",
}
TRACED: Mapping[str, tuple[str, Kind]] = {
    **{operation: (name, Kind.SERVER) for operation, name in (_AGENTS | _MEMORY).items()},
    **{operation: (name, Kind.SERVER) for operation, name in _CREDENTIALS.items()},
    **{operation: (name, Kind.CLIENT) for operation, name in _MODELS.items()},
}
"""Operation -> the span's name, until whoever carries it out knows a better one, and its kind."""

# AWS's own form: Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1
_XRAY_ROOT = re.compile(r"1-([0-9a-f]{8})-([0-9a-f]{24})")
_XRAY_PARENT = re.compile(r"[0-9a-f]{16}")
_HEADERS = frozenset({b"traceparent", b"tracestate", b"x-amzn-trace-id"})


class _Continued(Span):
    """An operation that is no step of its own: what it does belongs to the caller's."""

    __slots__ = ()

    def end(self) -> None:
        pass


class CallTracing:
    """`board` knows what a session's sandbox works for; `content` whether its texts are kept."""

    def __init__(
        self,
        recorder: Recorder,
        *,
        board: TraceBoard | None = None,
        content: ContentCapture | None = None,
    ) -> None:
        self._recorder, self._board, self._content = recorder, board, content

    @contextmanager
    def around(self, call: "Call") -> Iterator[None]:
        """To the last byte of the answer. `call.span` is None where nothing is traced."""
        span = self._begun(call)
        if span is None:
            yield
            return
        call.span = span
        code = ""
        with tracing.within(span):
            try:
                yield
            except BaseException as error:
                code = error.code if isinstance(error, FreeholdError) else type(error).__name__
                raise
            finally:
                _tell_outcome(span, call, call.noted.get("error", code))

    async def admitted(self, call: "Call") -> None:
        """From here on the call is somebody's, and so are its spans."""
        span, tenant = call.span, call.tenant
        if span is None or tenant is None:
            return
        trail, caller = span.trail, call.known_caller
        trail.tenant = tenant
        span.attributes["freehold.caller.kind"] = str(caller.kind)
        trail.user = trail.user or caller.user or ""
        session = doorway_session(call.scope)
        if session is None:
            return
        trail.agent_id, trail.agent_version = session.runtime_id, session.version
        trail.endpoint = session.endpoint
        trail.session_id, trail.user = session.session_id, session.user or ""
        if self._content is not None:
            trail.content = await self._content.captures(session.tenant, session.runtime_id)

    def _begun(self, call: "Call") -> Span | None:
        traced = TRACED.get(call.operation)
        parent = carried(call.scope) or self._of_session(call.scope)
        if parent is None and (around := tracing.current()) is not None:
            parent = around.context
        trail = Trail(self._recorder)
        if traced is not None:
            name, kind = traced
            attributes: dict[str, Any] = {
                "freehold.operation": call.operation, "freehold.request_id": call.request_id,
            }  # fmt: skip
            if parent is not None and session_caller(call.scope) is None:
                attributes["freehold.entry"] = True
            return Span(trail, name, kind=kind, parent=parent, attributes=attributes)
        if parent is None:
            return None
        span = _Continued(trail, "", kind=Kind.INTERNAL, parent=parent)
        span.context = parent
        return span

    def _of_session(self, scope: Scope) -> Context | None:
        if self._board is None:
            return None
        session = doorway_session(scope)
        return None if session is None else self._board.read(session.sandbox_id)


def carried(scope: Scope) -> Context | None:
    """What a request says that it is a part of."""
    found: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        if name in _HEADERS:
            found[name] = value.decode("latin-1")
    if not found:
        return None
    context = tracing.parse(found.get(b"traceparent", ""), found.get(b"tracestate", ""))
    if context is None:
        return _of_xray(found.get(b"x-amzn-trace-id", ""))
    return Context(context.trace_id, context.span_id, True, context.state)


def _of_xray(text: str) -> Context | None:
    fields = dict(part.strip().partition("=")[::2] for part in text.split(";"))
    root = _XRAY_ROOT.fullmatch(fields.get("Root", ""))
    if root is None or not int(root[1] + root[2], 16):
        return None
    parent = fields.get("Parent", "")
    known = _XRAY_PARENT.fullmatch(parent) is not None and int(parent, 16) > 0
    return Context(root[1] + root[2], parent if known else "")


def _tell_outcome(span: Span, call: "Call", error: str) -> None:
    span.attributes["http.response.status_code"] = call.status
    if error or call.status >= 400:
        error = error or str(call.status)
        span.attributes["error.type"] = error
        if span.status is Status.UNSET:
            span.fail(error)
