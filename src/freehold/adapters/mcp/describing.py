"""What an MCP server is, and all that it has."""

import asyncio
from contextlib import suppress
from typing import Any

from freehold.adapters.mcp.failures import SessionOver
from freehold.adapters.mcp.schema import Taken
from freehold.adapters.mcp.sessions import UpstreamSession
from freehold.adapters.mcp.transport import NotReached
from freehold.adapters.mcp.upstream import Upstream
from freehold.adapters.mcp.wire import METHOD_NOT_FOUND, MODERN, UNSUPPORTED_VERSION
from freehold.ports.targets import Described, Json, Kind, RpcRefused, TargetFailed

_DISCOVERY_SECONDS_MAX = 10.0  # for servers that let what they do not know wait
_PAGES_MAX = 1000
_DEFINITIONS_MAX = 10_000
_BYTES_MAX = 64 << 20  # of all definitions
_INSTRUCTIONS_LENGTH_MAX = 64 << 10

# Kind, method, member of the result, capability.
_LISTS: tuple[tuple[Kind, str, str, str], ...] = (
    ("tool", "tools/list", "tools", "tools"),
    ("resource", "resources/list", "resources", "resources"),
    ("resource_template", "resources/templates/list", "resourceTemplates", "resources"),
    ("prompt", "prompts/list", "prompts", "prompts"),
)


class Look:
    """`upstream` speaks both eras at their newest; which of them is there is what is found out."""

    def __init__(self, upstream: Upstream, name: str) -> None:
        self._upstream, self._name = upstream, name
        self._session: UpstreamSession | None = None
        self._modern = False

    async def server(self) -> Json:
        """To be stored. Both eras are tried: a client is best served in its own."""
        discovered = await self._discovered()
        failed: TargetFailed | RpcRefused | None = None
        initialized: Json | None = None
        try:
            self._session, initialized = await self._upstream.initialized({})
        except (TargetFailed, RpcRefused) as error:
            failed = error
        if discovered is None and initialized is None:
            assert failed is not None
            raise _of_no_era(self._name, failed)
        versions: Json = {}
        self._modern = discovered is not None
        if self._modern:
            versions["modern"] = MODERN[0]
        if self._session is not None:
            versions["legacy"] = self._session.version
        said = discovered if discovered is not None else initialized
        assert said is not None
        instructions = said.get("instructions")
        by_era = {
            "modern": _object((discovered or {}).get("capabilities")),
            "legacy": _object((initialized or {}).get("capabilities")),
        }
        info = (initialized or {}).get("serverInfo") or (said.get("_meta") or {}).get(
            "io.modelcontextprotocol/serverInfo"
        )
        return {
            "versions": versions,
            "sessions": self._session is not None and self._session.id != "",
            # What is in one era alone (`logging`, `resources.subscribe`) is there all the same.
            "capabilities": _union(by_era["legacy"], by_era["modern"]),
            "eraCapabilities": {era: by_era[era] for era in versions},
            "instructions": instructions[:_INSTRUCTIONS_LENGTH_MAX]
            if isinstance(instructions, str)
            else "",
            "info": info if isinstance(info, dict) else {},
        }

    async def described(self) -> Described:
        server = await self.server()
        taken = Taken()
        for kind, method, member, capability in _LISTS:
            if capability in server["capabilities"]:
                await self._listed(taken, kind, method, member)
        return Described(
            definitions=tuple(taken.definitions), problems=tuple(taken.problems), server=server
        )

    async def close(self) -> None:
        """Ends the session that was only for looking."""
        if self._session is not None:
            with suppress(TargetFailed):  # it ends by itself
                await self._upstream.end(self._session)

    async def _discovered(self) -> Json | None:
        """None where the server is not of the modern era."""
        try:
            async with asyncio.timeout(_DISCOVERY_SECONDS_MAX):
                result = await self._upstream.modern("server/discover", {}, {}, {})
        except (RpcRefused, TimeoutError):
            return None
        except NotReached:
            raise
        except TargetFailed as failed:
            # Servers of the legacy era refuse it in many ways. Who cannot be reached, or does not
            # let us in, has said nothing about eras.
            if failed.unauthorized or failed.status in (429, 503):
                raise
            return None
        supported = result.get("supportedVersions")
        known = isinstance(supported, list) and MODERN[0] in supported
        return result if known else None

    async def _listed(self, taken: Taken, kind: Kind, method: str, member: str) -> None:
        cursor: str | None = None
        seen: set[str] = set()
        for page in range(_PAGES_MAX):
            try:
                result = await self._page(method, {"cursor": cursor} if cursor is not None else {})
            except RpcRefused as refused:
                # Not every server that has resources has templates.
                if refused.code == METHOD_NOT_FOUND and page == 0:
                    return
                raise TargetFailed(
                    f"The MCP server of {self._name} refuses {method}: {refused.message}"
                ) from None
            items = result.get(member)
            if not isinstance(items, list):
                raise TargetFailed(f"The MCP server of {self._name} lists no {member}.")
            for index, item in enumerate(items):
                taken.take(kind, item, f"{method} page {page + 1}, {member}/{index}")
            if len(taken.definitions) > _DEFINITIONS_MAX or taken.bytes > _BYTES_MAX:
                break
            cursor = result.get("nextCursor")
            if not cursor or not isinstance(cursor, str):
                return
            if cursor in seen:
                raise TargetFailed(f"The MCP server of {self._name} repeats a page of {method}.")
            seen.add(cursor)
        raise TargetFailed(
            f"The MCP server of {self._name} lists more than {_DEFINITIONS_MAX} definitions, or"
            f" {_BYTES_MAX >> 20} MB of them."
        )

    async def _page(self, method: str, params: Json) -> Json:
        if self._modern:
            return await self._upstream.modern(method, params, {}, {})
        assert self._session is not None
        try:
            return await self._upstream.legacy(self._session, method, params)
        except SessionOver:
            raise self._upstream.sessionless() from None


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _union(one: Json, other: Json) -> Json:
    found = {**one, **other}
    for name in one.keys() & other.keys():
        if isinstance(one[name], dict) and isinstance(other[name], dict):
            found[name] = {**one[name], **other[name]}
    return found


def _of_no_era(name: str, failed: TargetFailed | RpcRefused) -> TargetFailed:
    if isinstance(failed, TargetFailed):
        return failed
    if failed.code == UNSUPPORTED_VERSION:
        return TargetFailed(f"The MCP server of {name} speaks none of MCP's versions that we do.")
    return TargetFailed(f"The MCP server of {name} refused to begin: {failed.message}")
