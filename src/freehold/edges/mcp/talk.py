"""Back to the client while its call is under way: `ports.targets.Talk`, for either era."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from freehold.edges.mcp.streams import Stream
from freehold.edges.mcp.wire import INTERNAL_ERROR, LEVELS, Json, sent_message
from freehold.ports.mcp import Handover, Letter, Session
from freehold.ports.targets import CannotAsk, RpcRefused

ANSWER_SECONDS_MAX = 600.0
"""How long a person may take to answer a question; the call's own limit may be shorter."""
_NEEDS = {
    "elicitation/create": "elicitation",
    "sampling/createMessage": "sampling",
    "roots/list": "roots",
}
_PREFIX = "fh-"
Begin = Callable[[], Awaitable[Stream | None]]


class Questions:
    """Requests of ours that clients have not answered yet. An answer may come to another worker:
    that one hands it over."""

    def __init__(self, handover: Handover | None) -> None:
        self._handover = handover
        # Ids that no other worker gives, so that a letter finds its one.
        self._prefix, self._number = f"{_PREFIX}{secrets.token_hex(6)}", 0
        self._open: dict[tuple[str, str], asyncio.Future[Json]] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def ask(self, session: str) -> tuple[str, "asyncio.Future[Json]"]:
        self._number += 1
        id = f"{self._prefix}-{self._number}"
        future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._open[session, id] = future
        return id, future

    def close(self, session: str, id: str) -> None:
        self._open.pop((session, id), None)

    def withdraw(self, stream: Stream, id: str) -> None:
        """To tell the client that nobody waits for its answer any more."""
        params = {"requestId": id, "reason": "The call that asked has ended."}
        message = sent_message("notifications/cancelled", params)
        task = asyncio.create_task(stream.event(message))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def waits(self, session: str, id: str) -> bool:
        return (session, id) in self._open

    def settle(self, session: str, id: str, outcome: Json) -> bool:
        future = self._open.get((session, id))
        if future is None:
            return False
        if not future.done():
            future.set_result(outcome)
        return True

    async def answered(self, session: str, outcome: Json) -> None:
        """A response of the client's, wherever the question is."""
        id = outcome["id"]
        if not isinstance(id, str) or self.settle(session, id, outcome):
            return
        if self._handover is not None and id.startswith(_PREFIX):
            await self._handover.send(Letter(session=session, kind="reply", key=id, body=outcome))


class ClientTalk:
    """Of one call. `begin` makes a stream of its answer; without one nothing can be sent.

    `log_level` is what the client wants to hear from: "" is nothing in the modern era, and all of
    it in the legacy one. Without a `session` no question can be asked: nobody could answer it.
    """

    def __init__(
        self,
        begin: Begin | None,
        *,
        log_level: str,
        logs_unasked: bool,
        session: Session | None = None,
        questions: Questions | None = None,
    ) -> None:
        self._begin, self._session, self._questions = begin, session, questions
        self._least = LEVELS.index(log_level) if log_level in LEVELS else None
        self._logs_unasked = logs_unasked

    async def notify(self, method: str, params: Json) -> None:
        if self._begin is None or (method == "notifications/message" and not self.logs(params)):
            return
        stream = await self._begin()
        if stream is not None:
            await stream.event(sent_message(method, params))

    async def ask(self, method: str, params: Json) -> Json:
        """Raises RpcRefused where the client answers with an error of its own."""
        session, questions = self._session, self._questions
        if self._begin is None or session is None or questions is None:
            raise CannotAsk("this client takes no questions during a call")
        needed = _NEEDS.get(method)
        if needed is not None and not can_be_asked(session.capabilities, method, params):
            raise CannotAsk(f"the client has not declared the capability {needed}")
        stream = await self._begin()
        if stream is None:
            raise CannotAsk("the call is answered already")
        id, answer = questions.ask(session.id)
        try:
            await stream.event(sent_message(method, params, id))
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                outcome = await answer
        except TimeoutError:
            raise CannotAsk("the client did not answer in time") from None
        except asyncio.CancelledError:
            questions.withdraw(stream, id)
            raise
        finally:
            questions.close(session.id, id)
        return _result(outcome)

    def logs(self, params: Json) -> bool:
        level = params.get("level")
        if self._least is None:
            return self._logs_unasked
        return level not in LEVELS or LEVELS.index(level) >= self._least


def can_be_asked(capabilities: Json, method: str, params: Json) -> bool:
    capability = _NEEDS.get(method)
    declared = capabilities.get(capability) if capability is not None else {}
    if method != "elicitation/create" or not isinstance(declared, dict):
        return isinstance(declared, dict)
    # {} is a form: before 2025-11-25 there was nothing else.
    mode = params.get("mode", "form")
    return mode in declared or (mode == "form" and not declared)


def _result(outcome: Json) -> Json:
    error: Any = outcome.get("error")
    if error is None:
        result: Json = outcome["result"]
        return result
    code, message = error.get("code"), error.get("message")
    raise RpcRefused(
        code if type(code) is int else INTERNAL_ERROR,
        message[:1000] if isinstance(message, str) else "The client refused.",
        error.get("data"),
    )
