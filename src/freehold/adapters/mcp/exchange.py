"""One request to an MCP server, and all that comes before its answer."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing

from freehold.adapters.mcp.events import Event, Events, TooLong
from freehold.adapters.mcp.failures import SessionOver, failure, parsed, refusal, shown
from freehold.adapters.mcp.questions import Answering
from freehold.adapters.mcp.transport import Transport
from freehold.adapters.mcp.wire import (
    Era,
    Message,
    legacy_headers,
    notification_body,
    request_body,
)
from freehold.ports.targets import Json, Place, TargetFailed
from freehold.ports.web import Unreachable, WebStream

_RESUMED_MAX = 200  # an answer's stream may end and be taken up again so often
_RETRY_SECONDS_MIN, _RETRY_SECONDS_MAX = 0.01, 10.0
_GIVE_UP_SECONDS_MAX = 5.0

Changed = Callable[[Place, str], None]
"""(target, method of the notification): a list of the target's is another one now."""

LIST_CHANGED = frozenset(
    {
        "notifications/tools/list_changed",
        "notifications/resources/list_changed",
        "notifications/prompts/list_changed",
    }
)


class Exchange:
    """`number` is the request's id. `answering` is for what a server of the legacy era asks;
    `background` keeps what outlives this: that the server hears of a request being given up."""

    def __init__(
        self,
        transport: Transport,
        number: int,
        *,
        era: Era,
        version: str,
        session_id: str,
        bytes_max: int,
        changed: Changed,
        answering: Answering,
        background: set[asyncio.Task[None]],
    ) -> None:
        self._transport, self._number = transport, number
        self._era, self._version, self._session_id = era, version, session_id
        self._bytes_max, self._changed = bytes_max, changed
        self._answering, self._background = answering, background
        self._stream: WebStream | None = None
        self._last_event_id, self._retry_seconds = "", 1.0
        self.headers: Mapping[str, str] = {}

    async def run(self, method: str, params: Json, headers: Mapping[str, str]) -> Json:
        """The result. Raises TargetFailed, RpcRefused, SessionOver. Cancelled, the server hears."""
        body = request_body(self._number, method, params)
        try:
            self._stream = await self._transport.open("POST", headers, body)
            self.headers = self._stream.headers
            return await self._result(self._stream)
        except asyncio.CancelledError:
            if self._era == "legacy" and method != "initialize":
                self._give_up()
            raise
        finally:
            if self._stream is not None:
                self._stream.close()
            self._answering.close()

    async def _result(self, stream: WebStream) -> Json:
        kind = stream.headers.get("content-type", "").partition(";")[0].strip().lower()
        good = 200 <= stream.status < 300
        if good and kind == "text/event-stream":
            return await self._streamed()
        try:
            content = await stream.read(self._bytes_max)
        except Unreachable as error:
            raise self._transport.unreachable(error) from None
        if good and kind == "application/json":
            message = parsed(content)
            if message is None:
                raise TargetFailed(
                    f"The MCP server of {self._name} answered with what is no JSON-RPC:"
                    f" {shown(content)}",
                    status=stream.status,
                )
            return self._outcome(message)
        if stream.status == 202:
            raise TargetFailed(
                f"The MCP server of {self._name} took the request and gave no answer (202).",
                status=202,
            )
        in_session = self._session_id != ""
        raise failure(self._name, stream.status, stream.headers, content, in_session=in_session)

    def _outcome(self, message: Message) -> Json:
        # Some give no id, or null, to an error about a request that they could not read.
        if message.id != self._number and not (message.error is not None and message.id is None):
            raise TargetFailed(f"The MCP server of {self._name} answered another request.")
        if message.error is not None:
            raise refusal(message.error)
        if message.result is None:
            raise TargetFailed(f"The MCP server of {self._name} answered with no result.")
        return message.result

    async def _streamed(self) -> Json:
        for _ in range(_RESUMED_MAX):
            assert self._stream is not None
            found, broken = await self._heard(self._stream)
            if found is not None:
                return self._outcome(found)
            self._stream.close()
            if self._era == "modern" or not self._last_event_id:
                raise broken or TargetFailed(
                    f"The MCP server of {self._name} ended its stream without an answer."
                )
            await asyncio.sleep(self._retry_seconds)
            self._stream = await self._resumed()
        raise TargetFailed(f"The MCP server of {self._name} ends its streams without an answer.")

    async def _heard(self, stream: WebStream) -> tuple[Message | None, TargetFailed | None]:
        """The answer, if this stream had it; else why it broke off, if it did."""
        events = Events(self._bytes_max)
        try:
            async with aclosing(stream.chunks()) as chunks:  # type: ignore[type-var]
                async for chunk in chunks:
                    for event in events.feed(chunk):
                        message = await self._event(event)
                        if message is not None:
                            return message, None
        except Unreachable as error:
            return None, self._transport.unreachable(error)
        except TooLong:
            raise TargetFailed(
                f"The MCP server of {self._name} answers more than {self._bytes_max} bytes."
            ) from None
        return None, None

    async def _event(self, event: Event) -> Message | None:
        """The answer, if this is it."""
        if event.id is not None:
            self._last_event_id = event.id
        if event.retry_ms is not None:
            wanted = event.retry_ms / 1000
            self._retry_seconds = min(max(wanted, _RETRY_SECONDS_MIN), _RETRY_SECONDS_MAX)
        if not event.data:
            return None
        message = parsed(event.data)
        if message is None:
            raise TargetFailed(
                f"The MCP server of {self._name} sent what is no JSON-RPC: {shown(event.data)}"
            )
        if message.method is None:
            # An answer to something else is none of ours: the next one may be.
            ours = message.id == self._number or (message.id is None and message.error is not None)
            return message if ours else None
        params = message.params if message.params is not None else {}
        if message.id is not None:
            self._answering.begin(message.id, message.method, params)
        elif message.method in LIST_CHANGED:
            self._changed(self._transport.place, message.method)
        elif message.method == "notifications/cancelled":
            self._answering.cancel(params.get("requestId"))
        else:
            await self._transport.errand.talk.notify(message.method, params)
        return None

    async def _resumed(self) -> WebStream:
        headers = legacy_headers(self._version, self._session_id)
        del headers["content-type"]
        headers["accept"], headers["last-event-id"] = "text/event-stream", self._last_event_id
        stream = await self._transport.open("GET", headers)
        if stream.status != 200:
            stream.close()
            if stream.status == 404 and self._session_id:
                raise TargetFailed(f"The MCP server of {self._name} lost the session meanwhile.")
            raise TargetFailed(
                f"The MCP server of {self._name} ended its stream without an answer, and did not"
                f" take it up again ({stream.status}).",
                status=stream.status,
            )
        return stream

    def _give_up(self) -> None:
        body = notification_body(
            "notifications/cancelled",
            {"requestId": self._number, "reason": "The client gave up."},
        )
        headers = legacy_headers(self._version, self._session_id)

        async def tell() -> None:
            try:
                async with asyncio.timeout(_GIVE_UP_SECONDS_MAX):
                    await self._transport.tell(headers, body)
            except (TargetFailed, TimeoutError):
                pass  # nobody waits for it any more

        task = asyncio.create_task(tell())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    @property
    def _name(self) -> str:
        return self._transport.place.name


__all__ = ["LIST_CHANGED", "Changed", "Exchange", "SessionOver"]
