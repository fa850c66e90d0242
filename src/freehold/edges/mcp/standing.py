"""Streams that stand: GET of the era with sessions, and `subscriptions/listen` of the one after.

They are governed as calls when they begin, and stand outside of the governed path: there they
would be counted among the calls in flight.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, cast

from freehold.edges.mcp.interruption import Interruption
from freehold.edges.mcp.talk import ClientTalk
from freehold.edges.mcp.wire import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    META_SUBSCRIPTION,
    Incoming,
    Json,
    Refused,
    result_message,
    sent_message,
)
from freehold.edges.pipeline import Call
from freehold.kernel.errors import FreeholdError, Throttled
from freehold.ports.mcp import Client, Session

if TYPE_CHECKING:
    from freehold.edges.mcp.app import Visit

log = logging.getLogger(__name__)

SECONDS_MAX = 3600.0
"""A stream ends then, or with its caller's token, and the client opens another: whoever may no
longer call, hears nothing any more either."""
EACH_MAX = 64
"""Of one caller's at one gateway."""
URIS_MAX = 1000
_LISTS = {
    "toolsListChanged": ("tools", "notifications/tools/list_changed"),
    "promptsListChanged": ("prompts", "notifications/prompts/list_changed"),
    "resourcesListChanged": ("resources", "notifications/resources/list_changed"),
}
_UPDATED = "notifications/resources/updated"


class StandingStreams:
    """How many there are in this worker."""

    def __init__(self, *, streams_max: int) -> None:
        self._max = streams_max
        self._by_caller: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def one_more(self, gateway_id: str, principal: str) -> Iterator[None]:
        key = (gateway_id, principal)
        self._by_caller[key] += 1
        try:
            yield
        finally:
            self._by_caller[key] -= 1
            if not self._by_caller[key]:
                del self._by_caller[key]

    def check(self, gateway_id: str, principal: str) -> None:
        total = self._by_caller.total()
        if total >= self._max or self._by_caller[gateway_id, principal] >= EACH_MAX:
            raise Throttled("Too many streams are open. Close one first.")


class Standing:
    """A GET: what concerns no request of the client's, or the rest of a stream that broke off."""

    def __init__(self, visit: "Visit") -> None:
        self._visit = visit
        self._session: Session | None = None

    async def prepare(self, call: Call) -> None:
        visit = self._visit
        await visit.answer.inbound.drain()  # its end is to be seen, or the client's leaving is not
        if not visit.accepts.events:
            raise Refused(406, INVALID_REQUEST, "Accept must allow text/event-stream.")
        self._session = await visit.session()
        if self._session is None:
            raise Refused(400, INVALID_REQUEST, "mcp-session-id is missing.")
        visit.edge.standing.check(visit.door.gateway_id, visit.caller.principal)

    async def act(self) -> None:
        session = self._session
        assert session is not None, "prepared"
        await self._visit.begin_standing()
        self._visit.after = lambda: self._stand(session)

    async def _stand(self, session: Session) -> None:
        visit = self._visit
        client = Client(
            era="legacy", version=session.version, session=session.id,
            capabilities=session.capabilities, info=session.info, log_level=session.log_level,
            talk=ClientTalk(None, log_level="", logs_unasked=False),
        )  # fmt: skip
        level = ClientTalk(None, log_level=session.log_level, logs_unasked=True)
        stand = _Stand(visit, session.id)
        last_event = visit.headers.get("last-event-id")
        async with stand.lasting():
            if last_event is not None and await self._resumed(session, last_event):
                return

            def shaped(change: Json) -> bytes | None:
                method, params = change["method"], change.get("params") or {}
                if method == "notifications/message" and not level.logs(params):
                    return None
                return sent_message(method, params)

            await stand.pass_on(
                visit.edge.gateways.changes(visit.request(), visit.door, client), shaped
            )
        await stand.end(b"")

    async def _resumed(self, session: Session, last_event: str) -> bool:
        visit = self._visit
        resumed = await visit.edge.underway.resume(session.id, last_event, visit.answer.sink)
        if resumed is None:
            return False
        try:
            await resumed.end()
        finally:
            resumed.leave()
        return True


class Listening:
    """A `subscriptions/listen`: what is asked for, and nothing else."""

    def __init__(self, visit: "Visit", message: Incoming, client: Client) -> None:
        self._visit, self._message, self._client = visit, message, client
        self._methods: set[str] = set()
        self._uris: tuple[str, ...] = ()

    async def act(self) -> None:
        visit = self._visit
        visit.edge.standing.check(visit.door.gateway_id, visit.caller.principal)
        honored = await self._honored()
        stream = await visit.begin_standing()
        await stream.event(self._told("notifications/subscriptions/acknowledged",
                                      {"notifications": honored}))  # fmt: skip
        visit.after = self._stand

    async def _honored(self) -> Json:
        """What of it the gateway has to tell."""
        wanted = self._message.params.get("notifications")
        if type(wanted) is not dict:
            text = "params.notifications says what to listen to."
            raise Refused(400, INVALID_PARAMS, text, id=self._message.id)
        offered = await self._visit.edge.gateways.capabilities(self._visit.door)
        honored: Json = {}
        for name, (capability, method) in _LISTS.items():
            if wanted.get(name) is True and (offered.get(capability) or {}).get("listChanged"):
                honored[name] = True
                self._methods.add(method)
        uris = wanted.get("resourceSubscriptions") or []
        if type(uris) is not list or not all(type(uri) is str for uri in uris[: URIS_MAX + 1]):
            text = "resourceSubscriptions is a list of URIs."
            raise Refused(400, INVALID_PARAMS, text, id=self._message.id)
        if len(uris) > URIS_MAX:
            text = f"resourceSubscriptions has at most {URIS_MAX} URIs."
            raise Refused(400, INVALID_PARAMS, text, id=self._message.id)
        if uris and (offered.get("resources") or {}).get("subscribe"):
            honored["resourceSubscriptions"] = uris
            self._methods.add(_UPDATED)
            self._uris = tuple(uris)
        return honored

    async def _stand(self) -> None:
        visit, stand = self._visit, _Stand(self._visit, "")
        async with stand.lasting():
            changes = visit.edge.gateways.changes(
                visit.request(), visit.door, self._client, self._uris
            )
            await stand.pass_on(changes, self._shaped)
        meta = {META_SUBSCRIPTION: self._message.id}
        result = {"resultType": "complete", "_meta": meta}
        await stand.end(result_message(self._message.id, result))

    def _shaped(self, change: Json) -> bytes | None:
        method, params = change["method"], change.get("params") or {}
        if method not in self._methods:
            return None
        if method == _UPDATED and params.get("uri") not in self._uris:
            return None
        return self._told(method, params)

    def _told(self, method: str, params: Json) -> bytes:
        meta = {**(params.get("_meta") or {}), META_SUBSCRIPTION: self._message.id}
        return sent_message(method, {**params, "_meta": meta})


class _Stand:
    """One stream, until its client leaves, its session ends, its time is over or the worker is."""

    def __init__(self, visit: "Visit", session: str) -> None:
        self._visit, self._session = visit, session
        self._stop = Interruption()

    @asynccontextmanager
    async def lasting(self) -> AsyncIterator[None]:
        visit, underway = self._visit, self._visit.edge.underway
        expires = visit.caller.claims.get("exp")
        seconds = SECONDS_MAX
        if isinstance(expires, int | float):
            seconds = min(seconds, max(0.0, expires - time.time()))
        timer = asyncio.get_running_loop().call_later(seconds, self._stop.interrupt, "over")
        watch = asyncio.create_task(self._watch())
        try:
            with visit.edge.standing.one_more(visit.door.gateway_id, visit.caller.principal):
                async with self._stop:
                    underway.stands(self._session, self._stop)
                    yield
        finally:
            timer.cancel()
            watch.cancel()
            underway.stood(self._session, self._stop)

    async def pass_on(
        self, changes: AsyncIterator[Json], shaped: Callable[[Json], bytes | None]
    ) -> None:
        stream = self._visit.answer.stream
        assert stream is not None, "begun before"
        try:
            async with aclosing(cast("AsyncGenerator[Json, None]", changes)):
                async for change in changes:
                    message = shaped(change)
                    if message is not None:
                        await stream.event(message)
        except FreeholdError as error:
            log.warning("a stream of %s broke off: %s", self._visit.door.arn, error)

    async def end(self, last: bytes) -> None:
        stream = self._visit.answer.stream
        if self._stop.why != "left" and stream is not None:
            if last:
                await stream.event(last)
            await stream.end()

    async def _watch(self) -> None:
        await self._visit.answer.inbound.disconnected()
        self._stop.interrupt("left")
