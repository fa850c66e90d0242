"""What an MCP server asks while it works: of a client of the same era, and of one of the other."""

import asyncio
from typing import Any, Protocol

from freehold.adapters.mcp.transport import Transport
from freehold.adapters.mcp.wire import METHOD_NOT_FOUND, answer_body, legacy_headers
from freehold.ports.targets import CannotAsk, Json, RpcRefused, Talk, TargetFailed

_QUESTIONS_MAX = 32  # under way at a time, of one request
_CAPABILITY = {
    "elicitation/create": "elicitation",
    "sampling/createMessage": "sampling",
    "roots/list": "roots",
}
ASKABLE = frozenset(_CAPABILITY.values())


class Answering(Protocol):
    def begin(self, id: str | int, method: str, params: Json) -> None: ...

    def cancel(self, id: Any) -> None:
        """The server takes its question back."""

    def close(self) -> None: ...


class NoQuestions:
    """Servers of the modern era send none: they answer `input_required`."""

    def begin(self, id: str | int, method: str, params: Json) -> None:
        pass

    def cancel(self, id: Any) -> None:
        pass

    def close(self) -> None:
        pass


class SessionAnswering:
    """Asks the client beside the reading of the stream, and posts what it says into the session.

    `capabilities` are those that this session was opened with: what they do not have is refused,
    whatever the client could do.
    """

    def __init__(
        self, transport: Transport, version: str, session_id: str, capabilities: Json
    ) -> None:
        self._transport, self._capabilities = transport, capabilities
        self._headers = legacy_headers(version, session_id)
        self._tasks: dict[str | int, asyncio.Task[None]] = {}

    def begin(self, id: str | int, method: str, params: Json) -> None:
        if id not in self._tasks and len(self._tasks) < _QUESTIONS_MAX:
            self._tasks[id] = asyncio.create_task(self._answer(id, method, params))

    def cancel(self, id: Any) -> None:
        task = self._tasks.get(id) if isinstance(id, str | int) else None
        if task is not None:
            task.cancel()

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    async def _answer(self, id: str | int, method: str, params: Json) -> None:
        try:
            body = await self._said(id, method, params)
            await self._transport.tell(self._headers, body)
        except TargetFailed:
            pass  # the server goes without, and says so in its answer, or is too late with it
        finally:
            self._tasks.pop(id, None)

    async def _said(self, id: str | int, method: str, params: Json) -> bytes:
        if method == "ping":
            return answer_body(id, {})
        why = "This client was not offered to be asked that."
        if _CAPABILITY.get(method) in self._capabilities:
            try:
                return answer_body(id, await self._transport.errand.talk.ask(method, params))
            except CannotAsk as error:
                why = str(error)
            except RpcRefused as refused:
                refusal: Json = {"code": refused.code, "message": refused.message}
                if refused.data is not None:
                    refusal["data"] = refused.data
                return answer_body(id, None, refusal)
        return answer_body(id, None, {"code": METHOD_NOT_FOUND, "message": why})


async def all_answered(name: str, talk: Talk, requests: Json) -> Json:
    """`inputResponses` to a modern server's `inputRequests`, by a client of the legacy era."""
    if len(requests) > _QUESTIONS_MAX:
        raise TargetFailed(f"The MCP server of {name} asks more than {_QUESTIONS_MAX} questions.")

    async def one(request: Any) -> Json:
        method = request.get("method") if isinstance(request, dict) else None
        if method not in _CAPABILITY:
            raise TargetFailed(f"The MCP server of {name} asks what MCP does not have.")
        params = request.get("params")
        try:
            return await talk.ask(method, params if isinstance(params, dict) else {})
        except CannotAsk as error:
            raise TargetFailed(
                f"The MCP server of {name} needs an answer ({method}) that this client cannot"
                f" give: {error}"
            ) from None

    tasks = [asyncio.create_task(one(request)) for request in requests.values()]
    try:
        answers = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return dict(zip(requests, answers, strict=True))
