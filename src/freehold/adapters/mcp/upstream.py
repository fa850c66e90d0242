"""One MCP server for one errand: the era that is spoken, its session, and requests in it."""

import asyncio
from collections.abc import Mapping

import msgspec

from freehold.adapters.mcp.exchange import Changed, Exchange
from freehold.adapters.mcp.failures import SessionOver
from freehold.adapters.mcp.questions import ASKABLE, NoQuestions, SessionAnswering, all_answered
from freehold.adapters.mcp.sessions import Turns, UpstreamSession, UpstreamSessions, session_key
from freehold.adapters.mcp.transport import Transport
from freehold.adapters.mcp.wire import (
    LEGACY,
    Era,
    Numbers,
    legacy_headers,
    legacy_meta,
    modern_headers,
    modern_meta,
    notification_body,
)
from freehold.ports.targets import Json, TargetFailed

_ROUNDS_MAX = 10
_PAUSE_SECONDS, _PAUSE_SECONDS_MAX = 0.05, 0.5
_SESSION_ID_LENGTH_MAX = 1024

# What these change, or get, is for the session of the client that asked.
_OF_CLIENT = frozenset({"resources/subscribe", "resources/unsubscribe", "logging/setLevel"})


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """What all requests to MCP servers of a worker have in common."""

    info: Json
    """Who we are: MCP's Implementation."""
    bytes_max: int
    changed: Changed
    kept: UpstreamSessions
    turns: Turns
    numbers: Numbers
    background: set[asyncio.Task[None]]


class Upstream:
    """`versions` by era, as `describe` found them."""

    def __init__(self, common: Common, transport: Transport, versions: Mapping[str, str]) -> None:
        self._common, self._transport, self._errand = common, transport, transport.errand
        self._versions = versions

    def era(self) -> Era:
        """The client's own where the server has it."""
        other: Era = "legacy" if self._errand.era == "modern" else "modern"
        return self._errand.era if self._errand.era in self._versions else other

    async def request(
        self, method: str, params: Json, headers: Mapping[str, str], *, sessions: bool
    ) -> Json:
        """`sessions` False: the server is known to keep none. `headers` are those of arguments."""
        if self.era() == "legacy":
            return await self._in_session(method, params, sessions=sessions)
        if self._errand.era == "modern":
            return await self.modern(method, params, headers, self._errand.client)
        return await self._bridged(method, params, headers)

    async def modern(
        self, method: str, params: Json, headers: Mapping[str, str], capabilities: Json
    ) -> Json:
        version = self._versions["modern"]
        meta = params.get("_meta") or {}
        stamped = {**params, "_meta": modern_meta(meta, version, self._common.info, capabilities)}
        exchange = self._exchange("modern", version)
        own = modern_headers(version, method, params)
        return await exchange.run(method, stamped, {**own, **headers} if headers else own)

    async def _bridged(self, method: str, params: Json, headers: Mapping[str, str]) -> Json:
        """For a client of the legacy era, whom we ask what the server wants to know first."""
        capabilities = _askable(self._errand.client)
        pause = _PAUSE_SECONDS
        extra: Json = {}
        for _ in range(_ROUNDS_MAX):
            result = await self.modern(method, {**params, **extra}, headers, capabilities)
            if result.get("resultType") != "input_required":
                return _as_legacy(result)
            extra = {}
            requests = result.get("inputRequests")
            if isinstance(requests, dict) and requests:
                name = self._transport.place.name
                extra["inputResponses"] = await all_answered(name, self._errand.talk, requests)
            else:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _PAUSE_SECONDS_MAX)
            if result.get("requestState") is not None:
                extra["requestState"] = result["requestState"]
        raise TargetFailed(
            f"The MCP server of {self._transport.place.name} still asks after"
            f" {_ROUNDS_MAX} rounds of answers."
        )

    async def _in_session(self, method: str, params: Json, *, sessions: bool) -> Json:
        if "_meta" in params:
            params = {**params, "_meta": legacy_meta(params["_meta"])}
        if not sessions:
            session = UpstreamSession(id="", version=self._versions["legacy"])
            return await self.legacy(session, method, params)
        key, capabilities = self.session_key(of_client=method in _OF_CLIENT)
        session = await self.session(key, capabilities)
        try:
            return await self.legacy(session, method, params)
        except SessionOver:
            await self._common.kept.forget(key, session)
        try:
            return await self.legacy(await self.session(key, capabilities), method, params)
        except SessionOver as over:
            raise over.else_ or self.sessionless() from None

    async def legacy(self, session: UpstreamSession, method: str, params: Json) -> Json:
        """Raises SessionOver too."""
        exchange = self._exchange("legacy", session.version, session)
        headers = legacy_headers(session.version, session.id)
        return await exchange.run(method, params, headers)

    def session_key(self, *, of_client: bool) -> tuple[str, Json]:
        """And the capabilities that it is opened with: none for a client that cannot be asked."""
        capabilities = _askable(self._errand.client) if self._errand.era == "legacy" else {}
        of_client = of_client or bool(capabilities)
        return session_key(self._transport.place, self._errand, of_client=of_client), capabilities

    async def session(self, key: str, capabilities: Json) -> UpstreamSession:
        found = await self._common.kept.find(key)
        if found is not None:
            return found
        async with self._common.turns.of(key):
            found = await self._common.kept.find(key)  # who was before us may have opened it
            if found is None:
                found, _ = await self.initialized(capabilities)
                await self._common.kept.keep(key, found)
            return found

    async def initialized(self, capabilities: Json) -> tuple[UpstreamSession, Json]:
        """A new session, and MCP's InitializeResult."""
        name = self._transport.place.name
        exchange = self._exchange("legacy", "")
        params = {
            "protocolVersion": self._versions.get("legacy", LEGACY[0]),
            "capabilities": capabilities,
            "clientInfo": self._common.info,
        }
        result = await exchange.run("initialize", params, legacy_headers("", ""))
        version, id = result.get("protocolVersion"), exchange.headers.get("mcp-session-id", "")
        if version not in LEGACY:
            raise TargetFailed(f"The MCP server of {name} speaks no version of MCP that we do.")
        if len(id) > _SESSION_ID_LENGTH_MAX or not id.isascii() or not (id.isprintable() or not id):
            raise TargetFailed(f"The MCP server of {name} gave what is no session id.")
        session = UpstreamSession(id=id, version=version, capabilities=capabilities)
        headers = legacy_headers(version, id)
        status = await self._transport.tell(headers, notification_body("notifications/initialized"))
        if not 200 <= status < 300:
            raise TargetFailed(
                f"The MCP server of {name} did not take up a session ({status}).", status=status
            )
        return session, result

    async def tell(self, session: UpstreamSession, method: str, params: Json) -> None:
        headers = legacy_headers(session.version, session.id)
        await self._transport.tell(headers, notification_body(method, params))

    async def end(self, session: UpstreamSession) -> None:
        if session.id:
            headers = legacy_headers(session.version, session.id)
            await self._transport.tell(headers, None, "DELETE")

    def sessionless(self) -> TargetFailed:
        name = self._transport.place.name
        return TargetFailed(f"The MCP server of {name} ends its sessions as soon as they begin.")

    def _exchange(self, era: Era, version: str, session: UpstreamSession | None = None) -> Exchange:
        common, id = self._common, session.id if session is not None else ""
        return Exchange(
            self._transport,
            common.numbers.next(),
            era=era,
            version=version,
            session_id=id,
            bytes_max=common.bytes_max,
            changed=common.changed,
            answering=SessionAnswering(self._transport, version, id, session.capabilities)
            if session is not None
            else NoQuestions(),
            background=common.background,
        )


def _askable(client: Json) -> Json:
    return {name: value for name, value in client.items() if name in ASKABLE}


def _as_legacy(result: Json) -> Json:
    for name in ("resultType", "ttlMs", "cacheScope"):
        result.pop(name, None)
    return result
