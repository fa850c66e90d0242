"""Model calls of a session: governed, passed through, and told in their spans."""

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from starlette.types import Receive, Scope, Send

from freehold.edges.doorway.limits import DoorwayLimits
from freehold.edges.doorway.passage import Passage
from freehold.edges.doorway.refusals import ProviderUnusable
from freehold.edges.doorway.replaying import Replaying
from freehold.edges.doorway.reply import Reply
from freehold.edges.doorway.request import RequestBody
from freehold.edges.doorway.upstream import Upstreams
from freehold.edges.doorway.wires import Wire, raw_path
from freehold.edges.pipeline import Authenticator, Call, Pipeline
from freehold.edges.spool import ClientDisconnected, Inbound, SpoolSpace
from freehold.kernel.errors import Conflict, FreeholdError, Throttled
from freehold.kernel.session import DoorwaySession
from freehold.ports.models import ModelProvider
from freehold.ports.replay import Replays

log = logging.getLogger("freehold.doorway")

_CLIENT_CLOSED_REQUEST = 499


class ModelPassThrough:
    """The operation that the authorizer sees is `models:{operation}` (wires.py names them)."""

    def __init__(
        self,
        *,
        providers: Mapping[str, ModelProvider],
        pipeline: Pipeline,
        authenticator: Authenticator,
        limits: DoorwayLimits,
        space: SpoolSpace,
        replays: Replays | None = None,
    ) -> None:
        self._upstreams = Upstreams(providers, limits, space)
        self._pipeline = pipeline
        self._authenticator = authenticator
        self._limits = limits
        self._replaying = Replaying(replays)
        self._in_flight: Counter[str] = Counter()

    async def close(self) -> None:
        await self._upstreams.close()

    async def serve(
        self,
        wire: Wire,
        session: DoorwaySession,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        reply, inbound = Reply(send), Inbound(scope, receive)
        body = RequestBody(inbound, bytes_max=self._limits.body_bytes_max)
        try:
            try:
                target = wire.target(scope["method"], raw_path(scope))
                with self._counted(session):
                    await self._govern(Passage(wire, target, session, scope, body), inbound, reply)
            except FreeholdError as error:
                await _refuse(wire, inbound, reply, error)
        except ClientDisconnected:
            log.debug("session %s hung up during a model call", session.session_id)

    async def _govern(self, passage: Passage, inbound: Inbound, reply: Reply) -> None:
        replays = self._replaying.concerns(passage)

        async def prepare(call: Call) -> None:
            if not replays:  # what is answered from the record needs no provider
                self._upstreams.provider(passage.wire)
            passage.body.check_declared()

        call = Call(
            edge="doorway",
            operation=f"models:{passage.target.operation}",
            scope=passage.scope,
            receive=inbound,
            authenticator=self._authenticator,
            prepare=prepare,
        )
        reply.before_end = call.acknowledge
        async with self._pipeline.governed(call):
            call.status = _CLIENT_CLOSED_REQUEST
            passage.begin()
            try:
                exchange = self._replayed if replays else self._upstreams.exchange
                await self._while_client_listens(exchange(passage, reply), passage, reply)
                call.status = reply.status
            except FreeholdError as error:
                call.status = _status(passage.wire, error)
                raise
            finally:
                passage.tell()

    async def _replayed(self, passage: Passage, reply: Reply) -> None:
        if not await self._replaying.answered(passage, reply):
            await self._upstreams.exchange(passage, reply)

    async def _while_client_listens(
        self, exchanging: Coroutine[Any, Any, None], passage: Passage, reply: Reply
    ) -> None:
        exchange = asyncio.ensure_future(exchanging)
        hung_up = asyncio.ensure_future(passage.body.hung_up())
        try:
            await asyncio.wait((exchange, hung_up), return_when=asyncio.FIRST_COMPLETED)
            # A server says "disconnected" after the last byte as well.
            if not exchange.done() and not reply.complete:
                raise ClientDisconnected
            await exchange
        finally:
            exchange.cancel()
            hung_up.cancel()
            await asyncio.gather(exchange, hung_up, return_exceptions=True)

    @contextmanager
    def _counted(self, session: DoorwaySession) -> Iterator[None]:
        id = session.sandbox_id
        if self._in_flight[id] >= self._limits.calls_per_session_max:
            raise Throttled(
                f"{self._limits.calls_per_session_max} model calls of this session are under way"
            )
        self._in_flight[id] += 1
        try:
            yield
        finally:
            self._in_flight[id] -= 1
            if not self._in_flight[id]:
                del self._in_flight[id]


def _status(wire: Wire, error: FreeholdError) -> int:
    return wire.unconfigured_status if isinstance(error, ProviderUnusable) else error.status


async def _refuse(wire: Wire, inbound: Inbound, reply: Reply, error: FreeholdError) -> None:
    if reply.begun:
        # Ended without its last chunk, the answer is seen to be cut, not taken for whole.
        log.warning("%s answer cut: %s", wire.kind.value, error.message)
        return
    status = _status(wire, error)
    body, headers = wire.error(error, status)
    if isinstance(error, ProviderUnusable | Conflict):
        headers = {**headers, "x-should-retry": "false"}  # heeded by OpenAI's and Anthropic's SDKs
    if not await inbound.drain():
        headers = {**headers, "connection": "close"}
    await reply.whole(status, body, headers=headers)
