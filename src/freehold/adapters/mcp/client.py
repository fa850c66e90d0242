"""Targets that are MCP servers, over streamable HTTP in both of MCP's eras."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress

from freehold.adapters.mcp.describing import Look
from freehold.adapters.mcp.exchange import Changed
from freehold.adapters.mcp.listening import listened
from freehold.adapters.mcp.schema import static_tools
from freehold.adapters.mcp.sessions import (
    MemorySessions,
    Turns,
    UpstreamSession,
    UpstreamSessions,
)
from freehold.adapters.mcp.transport import Transport
from freehold.adapters.mcp.upstream import Common, Upstream
from freehold.adapters.mcp.wire import (
    LEGACY,
    MODERN,
    UNSUPPORTED_VERSION,
    Numbers,
    argument_headers,
)
from freehold.ports.targets import (
    Definition,
    Described,
    Errand,
    Json,
    Place,
    RpcRefused,
    TargetFailed,
)
from freehold.ports.web import Web

_ANSWER_BYTES_MAX = 6 << 20
_FOUND_MAX = 10_000


class McpTargets:
    """`ports.targets.McpServerClient`. `close` it.

    `version` is ours, to be told to servers. `listening` has the connections of `listen`, which
    stay open: from one pool with calls, listeners would take them all. `kept` are the sessions of
    the legacy era. `changed` hears when a target says, on the stream of a call or of `listen`, that
    a list of its is another one.
    """

    def __init__(
        self,
        web: Web,
        *,
        version: str,
        listening: Web | None = None,
        kept: UpstreamSessions | None = None,
        changed: Changed = lambda place, method: None,
        answer_bytes_max: int = _ANSWER_BYTES_MAX,
    ) -> None:
        self._web, self._listening = web, listening if listening is not None else web
        self._common = Common(
            info={"name": "freehold", "version": version},
            bytes_max=answer_bytes_max,
            changed=changed,
            kept=kept if kept is not None else MemorySessions(),
            turns=Turns(),
            numbers=Numbers(),
            background=set(),
        )
        # What servers are that nobody described: those with a list of tools of the target's own.
        self._found: OrderedDict[tuple[str, str, str], Json] = OrderedDict()

    async def describe(self, place: Place, errand: Errand) -> Described:
        schema = place.configuration.get("mcpToolSchema")
        if schema is not None:
            taken = static_tools(schema)
            return Described(definitions=tuple(taken.definitions), problems=tuple(taken.problems))
        look = self._look(place, errand)
        try:
            async with asyncio.timeout(errand.seconds_max):
                return await look.described()
        except TimeoutError:
            raise _late(place, errand) from None
        finally:
            await look.close()

    async def call(
        self, place: Place, definition: Definition, arguments: Json, errand: Errand
    ) -> Json:
        params = {**errand.rest, "name": definition.name, "arguments": arguments}
        places = definition.plan.get("headers")
        headers = argument_headers(places, arguments) if places else {}
        return await self._requested(place, "tools/call", params, errand, headers)

    async def request(self, place: Place, method: str, params: Json, errand: Errand) -> Json:
        """A notification has the result {}."""
        if method.startswith("notifications/"):
            await self.tell(place, method, params, errand)
            return {}
        return await self._requested(place, method, params, errand, {})

    async def listen(
        self, place: Place, errand: Errand, *, uris: Sequence[str] = ()
    ) -> AsyncGenerator[Json, None]:
        """{"method", "params"} of what the server says outside of requests, until it ends the
        stream or has none. `uris` (else `resourceSubscriptions` of `errand.rest`): resources to be
        told of, of a server of the modern era; to one of the legacy era `resources/subscribe` says
        so. `errand.seconds_max` is for the beginning alone. Raises TargetFailed, RpcRefused."""
        uris = uris or errand.rest.get("resourceSubscriptions") or ()
        server = await self._server(place, errand)
        upstream = self._upstream(place, errand, server["versions"])
        transport = Transport(self._listening, place, errand)
        heard = listened(self._common, upstream, transport, server, uris)
        async with aclosing(heard) as notifications:
            async for notification in notifications:
                yield notification

    async def tell(self, place: Place, method: str, params: Json, errand: Errand) -> None:
        """A notification of a client's (`notifications/roots/list_changed`) to the session that is
        kept for it. Where there is none, nobody needs to know. Raises TargetFailed."""
        found = await self._of_client(place, errand)
        if found is not None:
            upstream, _, session = found
            await upstream.tell(session, method, params)

    async def end_session(self, place: Place, errand: Errand) -> None:
        """When a client's session with the gateway is over: ends what was only for it."""
        found = await self._of_client(place, errand)
        if found is not None:
            upstream, key, session = found
            await self._common.kept.forget(key, session)
            with suppress(TargetFailed):  # it ends by itself
                await upstream.end(session)

    async def close(self) -> None:
        tasks = list(self._common.background)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _of_client(
        self, place: Place, errand: Errand
    ) -> tuple[Upstream, str, UpstreamSession] | None:
        """The session that is kept for this client's alone."""
        upstream = self._upstream(place, errand, {"legacy": LEGACY[0]})
        key, _ = upstream.session_key(of_client=True)
        session = await self._common.kept.find(key)
        return None if session is None else (upstream, key, session)

    async def _requested(
        self, place: Place, method: str, params: Json, errand: Errand, headers: Mapping[str, str]
    ) -> Json:
        if errand.meta:
            params = {**params, "_meta": errand.meta}
        try:
            async with asyncio.timeout(errand.seconds_max):
                server = place.server if "versions" in place.server else None
                if server is None:
                    server = await self._server(place, errand)
                upstream = self._upstream(place, errand, server["versions"])
                return await upstream.request(method, params, headers, sessions=server["sessions"])
        except TimeoutError:
            raise _late(place, errand) from None
        except RpcRefused as refused:
            if refused.code != UNSUPPORTED_VERSION:
                raise
            raise TargetFailed(
                f"The MCP server of {place.name} speaks other versions of MCP than when it was"
                " last looked at: the target must be synchronized."
            ) from None

    async def _server(self, place: Place, errand: Errand) -> Json:
        if "versions" in place.server:
            return place.server
        key = (place.tenant, place.target_id, str(place.configuration.get("endpoint")))
        found = self._found.get(key)
        if found is None:
            look = self._look(place, errand)
            try:
                async with asyncio.timeout(errand.seconds_max):
                    found = await look.server()
            except TimeoutError:
                raise _late(place, errand) from None
            finally:
                await look.close()
            self._found[key] = found
            while len(self._found) > _FOUND_MAX:
                self._found.popitem(last=False)
        return found

    def _look(self, place: Place, errand: Errand) -> Look:
        versions = {"modern": MODERN[0], "legacy": LEGACY[0]}
        return Look(self._upstream(place, errand, versions), place.name)

    def _upstream(self, place: Place, errand: Errand, versions: Mapping[str, str]) -> Upstream:
        return Upstream(self._common, Transport(self._web, place, errand), versions)


def _late(place: Place, errand: Errand) -> TargetFailed:
    return TargetFailed(
        f"The MCP server of {place.name} did not answer within {errand.seconds_max:g} seconds.",
        timed_out=True,
    )
