"""What an MCP server says outside of requests: the GET stream, or subscriptions/listen."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from freehold.adapters.mcp.events import Event, Events, TooLong
from freehold.adapters.mcp.exchange import LIST_CHANGED
from freehold.adapters.mcp.failures import failure, parsed, refusal
from freehold.adapters.mcp.questions import SessionAnswering
from freehold.adapters.mcp.sessions import UpstreamSession
from freehold.adapters.mcp.transport import NotReached, Transport
from freehold.adapters.mcp.upstream import Common, Upstream
from freehold.adapters.mcp.wire import (
    SUBSCRIPTION_KEY,
    Message,
    legacy_headers,
    modern_headers,
    modern_meta,
    request_body,
)
from freehold.ports.targets import Json, TargetFailed
from freehold.ports.web import Unreachable, WebStream

_IDLE_SECONDS_MAX = 3600.0
_RESUMED_MAX = 10  # in a row, without anything said in between
_PAUSE_SECONDS, _PAUSE_SECONDS_MIN, _PAUSE_SECONDS_MAX = 1.0, 0.05, 30.0
_ACKNOWLEDGED = "notifications/subscriptions/acknowledged"


async def listened(
    common: Common, upstream: Upstream, transport: Transport, server: Json, uris: Sequence[str]
) -> AsyncGenerator[Json, None]:
    if upstream.era() == "modern":
        heard = _subscribed(common, transport, server["versions"]["modern"], uris)
    elif server["sessions"]:
        key, capabilities = upstream.session_key(of_client=True)
        async with asyncio.timeout(transport.errand.seconds_max):
            session = await upstream.session(key, capabilities)
        heard = _stream_of(common, transport, session)
    else:
        return  # without a session there is nobody to tell
    async with aclosing(heard) as notifications:
        async for notification in notifications:
            if notification["method"] in LIST_CHANGED:
                common.changed(transport.place, notification["method"])
            yield notification


async def _subscribed(
    common: Common, transport: Transport, version: str, uris: Sequence[str]
) -> AsyncGenerator[Json, None]:
    wanted: Json = {
        "toolsListChanged": True,
        "promptsListChanged": True,
        "resourcesListChanged": True,
    }
    if uris:
        wanted["resourceSubscriptions"] = list(uris)
    method, number = "subscriptions/listen", common.numbers.next()
    params = {
        "notifications": wanted,
        "_meta": modern_meta(transport.errand.meta, version, common.info, {}),
    }
    headers = modern_headers(version, method, params)
    body = request_body(number, method, params)
    stream = await _opened(transport, "POST", headers, body)
    try:
        await _check(common, transport, stream, in_session=False)
        async with aclosing(_events(common, transport, stream)) as events:
            async for event in events:
                message = _message(transport, event)
                if message is None:
                    continue
                if message.method is None:
                    if message.error is not None:
                        raise refusal(message.error)
                    return  # the server ends it, in good order
                if message.id is None and message.method != _ACKNOWLEDGED:
                    yield _notification(message)
    finally:
        stream.close()


async def _stream_of(
    common: Common, transport: Transport, session: UpstreamSession
) -> AsyncGenerator[Json, None]:
    standing = _Standing(common, transport, session)
    try:
        while standing.silent <= _RESUMED_MAX:
            async with aclosing(standing.heard()) as heard:
                async for notification in heard:
                    yield notification
            if standing.absent:
                return
            await asyncio.sleep(standing.pause)
    finally:
        standing.answering.close()


class _Standing:
    """The GET stream of a session, taken up again where it ended."""

    def __init__(self, common: Common, transport: Transport, session: UpstreamSession) -> None:
        self._common, self._transport = common, transport
        self._headers = legacy_headers(session.version, session.id)
        del self._headers["content-type"]
        self._headers["accept"] = "text/event-stream"
        self.answering = SessionAnswering(
            transport, session.version, session.id, session.capabilities
        )
        self.pause, self.silent, self.absent = _PAUSE_SECONDS, 0, False
        self._begun = False

    async def heard(self) -> AsyncGenerator[Json, None]:
        stream: WebStream | None = None
        try:
            stream = await _opened(self._transport, "GET", self._headers)
            self.absent = stream.status == 405  # as it may be
            if self.absent:
                return
            await _check(self._common, self._transport, stream, in_session=True)
            self._begun = True
            self.silent += 1
            async with aclosing(_events(self._common, self._transport, stream)) as events:
                async for event in events:
                    message = self._taken(event)
                    if message is not None:
                        yield _notification(message)
        except NotReached:
            if not self._begun:
                raise
            self.silent += 1
        finally:
            if stream is not None:
                stream.close()

    def _taken(self, event: Event) -> Message | None:
        """The notification, if it is one for the client."""
        if event.id:
            self._headers["last-event-id"] = event.id
        if event.retry_ms is not None:
            self.pause = min(max(event.retry_ms / 1000, _PAUSE_SECONDS_MIN), _PAUSE_SECONDS_MAX)
        message = _message(self._transport, event)
        if message is None or message.method is None:
            return None
        self.silent = 0
        params = message.params or {}
        if message.id is not None:
            self.answering.begin(message.id, message.method, params)
        elif message.method == "notifications/cancelled":
            self.answering.cancel(params.get("requestId"))
        else:
            return message
        return None


async def _opened(
    transport: Transport, method: str, headers: Mapping[str, str], body: bytes | None = None
) -> WebStream:
    return await transport.open(
        method,
        headers,
        body,
        seconds_max=transport.errand.seconds_max,
        idle_seconds_max=_IDLE_SECONDS_MAX,
    )


async def _check(
    common: Common, transport: Transport, stream: WebStream, *, in_session: bool
) -> None:
    kind = stream.headers.get("content-type", "").partition(";")[0].strip().lower()
    if stream.status == 200 and kind == "text/event-stream":
        return
    name = transport.place.name
    try:
        content = await stream.read(common.bytes_max)
    except Unreachable as error:
        raise transport.unreachable(error) from None
    if in_session and stream.status in (400, 404):
        raise TargetFailed(f"The MCP server of {name} ended the session.", status=stream.status)
    raise failure(name, stream.status, stream.headers, content, in_session=False)


async def _events(
    common: Common, transport: Transport, stream: WebStream
) -> AsyncGenerator[Event, None]:
    events = Events(common.bytes_max)
    try:
        async with aclosing(stream.chunks()) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                for event in events.feed(chunk):
                    yield event
    except Unreachable as error:
        raise transport.unreachable(error) from None
    except TooLong:
        raise TargetFailed(
            f"The MCP server of {transport.place.name} sent more than {common.bytes_max} bytes."
        ) from None


def _message(transport: Transport, event: Event) -> Message | None:
    if not event.data:
        return None
    message = parsed(event.data)
    if message is None:
        raise TargetFailed(f"The MCP server of {transport.place.name} sent what is no JSON-RPC.")
    return message


def _notification(message: Message) -> Json:
    params: Mapping[str, object] = message.params or {}
    meta = params.get("_meta")
    if isinstance(meta, dict) and SUBSCRIPTION_KEY in meta:
        # The number of our subscription, not of whoever we tell.
        rest = {key: value for key, value in meta.items() if key != SUBSCRIPTION_KEY}
        params = {key: value for key, value in params.items() if key != "_meta"}
        if rest:
            params["_meta"] = rest
    return {"method": message.method, "params": params}
