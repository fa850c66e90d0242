"""A first run of a session, and a second one that is answered from what its spans hold."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from served_doorway import SESSION, open_doorway

from freehold.kernel.errors import FreeholdError
from freehold.kernel.session import DoorwaySession
from freehold.kernel.tracing import Span
from freehold.ports.exchanges import recorded_bytes
from freehold.ports.replay import LiveModel, ModelAnswer, ToolAnswer

FORK_SESSION = msgspec.structs.replace(SESSION, session_id="fork-" + "0123456789abcdef" * 2)
USER = "which weather has Oslo?"
SAID: Any = [{"role": "user", "content": USER}]
BLOCKS: Any = [{"role": "user", "content": [{"text": USER}]}]
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": USER}]}]}
STREAM = {"stream": True}
USAGE = {"stream_options": {"include_usage": True}}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("openai/v1/chat/completions", {"model": "m", "messages": SAID}),
    ("openai/v1/chat/completions", {"model": "m", "messages": SAID, **STREAM, **USAGE}),
    ("openai/v1/responses", {"model": "m", "input": USER}),
    ("openai/v1/responses", {"model": "m", "input": USER, **STREAM}),
    ("anthropic/v1/messages", {"model": "m", "max_tokens": 9, "messages": SAID}),
    ("anthropic/v1/messages", {"model": "m", "max_tokens": 9, "messages": SAID, **STREAM}),
    ("bedrock/model/m/converse", {"messages": BLOCKS}),
    ("bedrock/model/m/converse-stream", {"messages": BLOCKS}),
    ("bedrock/model/m/invoke-with-response-stream", {"max_tokens": 9, "messages": SAID}),
    ("gemini/v1/models/m:generateContent", CONTENTS),
    ("gemini/v1beta/models/m:streamGenerateContent?alt=sse", CONTENTS),
    ("bedrock/model/m/invoke", {"max_tokens": 9, "messages": SAID}),
    ("mistral/v1/chat/completions", {"model": "m", "messages": SAID, **STREAM}),
]
"""One of each wire, whole and streamed: (path below /model/, what is asked)."""


class Always:
    """Implements ports.content_capture.ContentCapture."""

    async def captures(self, tenant: str, runtime_id: str) -> bool:
        return True


class Record:
    """Implements ports.replay.Replays: the calls of the first run in their order, and `then` for
    those after them. `asked` is (operation, model, body) of each."""

    def __init__(
        self, calls: Sequence[Span] = (), then: LiveModel | FreeholdError | None = None
    ) -> None:
        said = [call.attributes for call in sorted(calls, key=lambda call: call.started_ns)]
        self._left = [told for told in said if "freehold.exchange.response" in told]
        self._then = then
        self.asked: list[tuple[str, str, bytes]] = []

    async def model(
        self, session: DoorwaySession, *, operation: str, model: str, body: bytes
    ) -> ModelAnswer | LiveModel | None:
        assert session == FORK_SESSION
        self.asked.append((operation, model, body))
        if not self._left:
            if isinstance(self._then, FreeholdError):
                raise self._then
            return self._then
        told = self._left.pop(0)
        assert told["freehold.operation"] == f"models:{operation}"
        return ModelAnswer(
            body=recorded_bytes(told["freehold.exchange.response"]),
            content_type=told["freehold.exchange.content_type"],
            differs=json.loads(told["freehold.exchange.request"]) != json.loads(body),
        )

    async def tool(
        self, *, tenant: str, session_id: str, gateway_id: str, name: str, arguments: object
    ) -> ToolAnswer | None:
        raise AssertionError("the doorway calls no tools")


def doorway(providers: Any, replays: Record | None = None, **options: Any) -> Any:
    """Of a fork where it is given a record; what is said is kept."""
    if replays is not None:
        options = {"session": FORK_SESSION, "replays": replays, **options}
    return open_doorway(providers, tracing={"content": Always()}, **options)
