"""`ports.mcp.Gateways`: each of MCP's methods, of many targets as of one server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from freehold.kernel.errors import FreeholdError, NotFound, Throttled
from freehold.kernel.request import Request
from freehold.kernel.tracing import Span
from freehold.ports.mcp import Client, Door, Message
from freehold.ports.replay import Replays
from freehold.ports.targets import Json, RpcRefused, TargetClient, TargetFailed
from freehold.services.gateway import results, traces
from freehold.services.gateway.calls import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    Asking,
    ToolCalls,
    mcp_client,
)
from freehold.services.gateway.catalog import URI_LENGTH_MAX, Behind, Catalog, Offer
from freehold.services.gateway.forks import NAME_LENGTH_MAX, Forks
from freehold.services.gateway.lists import MEMBERS, Lists, is_search
from freehold.services.gateway.model import SEARCH_TOOL, SEPARATOR
from freehold.services.gateway.ports import ConsentNeeded

_RESOURCE_NOT_FOUND, _FAILED = -32002, -32603
_SEARCH_LIMIT = 10
_CHANGES_WAITING_MAX = 100

_LIST_CHANGED = (
    "notifications/tools/list_changed",
    "notifications/resources/list_changed",
    "notifications/prompts/list_changed",
)


class Catalogs(Protocol):
    async def get(self, gateway_id: str) -> Catalog | None: ...

    def watch(self, gateway_id: str, heard: Callable[[], None]) -> Callable[[], None]:
        """`heard` at each change of the gateway, until what this returns is called."""


class Search(Protocol):
    async def __call__(
        self, asking: Asking, offers: Sequence[Offer], query: str, limit: int
    ) -> tuple[Sequence[Offer], str]:
        """The best first, and how it was searched."""


class McpGateways:
    def __init__(
        self,
        *,
        catalogs: Catalogs,
        clients: Mapping[str, TargetClient],
        calls: ToolCalls,
        lists: Lists,
        search: Search,
        versions: Sequence[str] = (),
        replays: Replays | None = None,
    ) -> None:
        self._catalogs, self._clients, self._forks = catalogs, clients, Forks(replays)
        self._calls, self._lists, self._search = calls, lists, search
        self._methods: dict[str, Callable[[Asking], Awaitable[Json]]] = {
            **dict.fromkeys(MEMBERS, lists.page),
            "tools/call": self._call,
            "resources/read": self._of_resource,
            "resources/subscribe": self._of_resource,
            "resources/unsubscribe": self._of_resource,
            "prompts/get": self._prompt,
            "completion/complete": self._complete,
            "tasks/get": self._task,
            "tasks/result": self._task,
            "tasks/cancel": self._task,
            "tasks/update": self._task,
            "tasks/list": self._tasks,
        }

    async def door(self, gateway_id: str) -> Door | None:
        catalog = await self._catalogs.get(gateway_id)
        return None if catalog is None else catalog.door

    async def capabilities(self, door: Door) -> Json:
        catalog = await self._catalog(door)
        found: Json = {"tools": {"listChanged": True}}
        for behind in catalog.mcp_servers:
            offered = behind.place.server.get("capabilities")
            for name, value in offered.items() if isinstance(offered, dict) else ():
                if name not in ("tools", "experimental", "extensions"):
                    there = found.setdefault(name, {})
                    if isinstance(value, dict) and isinstance(there, dict):
                        found[name] = {**there, **value}
        for name in ("resources", "prompts"):
            if name in found:
                found[name]["listChanged"] = True
        alone = catalog.alone
        if alone is not None:
            offered = alone.place.server.get("capabilities")
            for name in ("experimental", "extensions"):
                if isinstance(offered, dict) and name in offered:
                    found[name] = offered[name]
        return found

    async def answer(
        self, request: Request, door: Door, client: Client, message: Message
    ) -> dict[str, Any]:
        catalog = await self._catalog(door)
        asking = Asking(request=request, catalog=catalog, client=client, message=message)
        handler = self._methods.get(message.method)
        if handler is None:
            if catalog.alone is None:
                raise RpcRefused(METHOD_NOT_FOUND, f"Method not found: {message.method}")
            return await self._passed(asking, catalog.alone)
        if catalog.interceptors and message.method != "tools/call":

            async def act(params: Json, _: Mapping[str, str]) -> Json:
                changed = msgspec.structs.replace(message, params=params)
                return await handler(msgspec.structs.replace(asking, message=changed))

            return await self._calls.intercepted(asking, act)
        return await handler(asking)

    async def tell(self, request: Request, door: Door, client: Client, message: Message) -> None:
        """What a client tells is for the server that it is relayed to, where there is one."""
        catalog = await self._catalog(door)
        alone = catalog.alone
        if alone is None or not message.method.startswith("notifications/roots/"):
            return
        asking = Asking(request=request, catalog=catalog, client=client, message=message)
        try:
            await self._passed(asking, alone)
        except (RpcRefused, FreeholdError):
            return

    async def changes(
        self, request: Request, door: Door, client: Client, uris: tuple[str, ...] = ()
    ) -> AsyncIterator[Json]:
        queue: asyncio.Queue[Json] = asyncio.Queue(_CHANGES_WAITING_MAX)

        def changed() -> None:
            for method in _LIST_CHANGED:
                _put(queue, {"method": method, "params": {}})

        unwatch = self._catalogs.watch(door.gateway_id, changed)
        catalog = await self._catalog(door)
        message = Message(method="subscriptions/listen", params={"resourceSubscriptions": uris})
        asking = Asking(request=request, catalog=catalog, client=client, message=message)
        relaying = [
            asyncio.create_task(self._relay(asking, behind, uris, queue))
            for behind in catalog.mcp_servers
            if uris or client.session
        ]
        try:
            while True:
                yield await queue.get()
        finally:
            unwatch()
            for task in relaying:
                task.cancel()
            await asyncio.gather(*relaying, return_exceptions=True)

    async def _relay(
        self, asking: Asking, behind: Behind, uris: tuple[str, ...], queue: "asyncio.Queue[Json]"
    ) -> None:
        """What an upstream says of its own accord, but for changes of its lists: those come when
        the gateway has looked at them."""
        listening: Any = mcp_client(self._clients, behind)
        try:
            await self._decided(asking, behind, {})
            errand = await self._calls.errand(asking, behind, behind.seconds)
            async for told in listening.listen(behind.place, errand, uris=uris):
                if told.get("method") not in _LIST_CHANGED:
                    _put(queue, told)
        except (TargetFailed, RpcRefused, ConsentNeeded, FreeholdError):
            return

    # -- the methods

    async def _call(self, asking: Asking) -> Json:
        name = asking.message.params.get("name")
        if not isinstance(name, str):
            raise RpcRefused(INVALID_PARAMS, "name: must be a string")
        door, arguments = asking.catalog.door, asking.message.params.get("arguments")
        with traces.tool_call(door.gateway_id, name[:NAME_LENGTH_MAX], arguments) as span:
            found = await self._forks.tool(asking, name, span)
            result = await self._made(found, name, span) if isinstance(found, Asking) else found
            traces.tell_result(span, result)
        return result

    async def _made(self, asking: Asking, name: str, span: Span) -> Json:
        if is_search(asking, name):
            return await self._search_call(asking)
        offer = await self._lists.find(asking, "tool", name)
        if offer is not None:
            span.attributes["freehold.target"] = offer.behind.name
        return await self._calls.call(asking, offer, name)

    async def _search_call(self, asking: Asking) -> Json:
        """Governed as any tool is."""

        async def act(params: Json, _: Mapping[str, str]) -> Json:
            if params.get("name") != SEARCH_TOOL:
                raise RpcRefused(INVALID_PARAMS, f"Unknown tool: {params.get('name')}")
            message = msgspec.structs.replace(asking.message, params=params)
            changed = msgspec.structs.replace(asking, message=message)
            try:
                async with self._calls.governing.admitted(
                    asking.catalog, asking.request, target="", tool=SEARCH_TOOL, body=params
                ):
                    return await self._searched(changed)
            except Throttled as error:
                return results.refused(f"{SEARCH_TOOL}: {error.message}", "rate limit")

        if asking.catalog.interceptors:
            return await self._calls.intercepted(asking, act)
        return await act(asking.message.params, {})

    async def _searched(self, asking: Asking) -> Json:
        arguments = asking.message.params.get("arguments")
        query = arguments.get("query") if isinstance(arguments, dict) else None
        if not isinstance(query, str) or not query.strip():
            return results.wrong("query: must be a text that says what is to be done")
        usable = await self._lists.usable(asking, "tool", asking.catalog.offers("tool"))
        found, how = await self._search(asking, usable, query, _SEARCH_LIMIT)
        tools = [msgspec.json.decode(each.listed) for each in found]
        text = msgspec.json.encode({"tools": tools}).decode()
        return {
            "content": [{"type": "text", "text": text}],
            "structuredContent": {"tools": tools},
            "_meta": {"freehold/search": how},
        }

    async def _of_resource(self, asking: Asking) -> Json:
        uri = asking.message.params.get("uri")
        if not isinstance(uri, str):
            raise RpcRefused(INVALID_PARAMS, "uri: must be a string")
        return await self._passed(asking, await self._resource(asking, uri))

    async def _resource(self, asking: Asking, uri: str) -> Behind:
        catalog = asking.catalog
        found = await self._lists.find(asking, "resource", uri)
        if found is not None and not found.quarantined:
            return found.behind
        if found is None and len(uri) <= URI_LENGTH_MAX:
            for pattern, template in catalog.templates:
                if not template.quarantined and pattern.fullmatch(uri):
                    return template.behind
        # A server may have resources that it does not list.
        if found is None and catalog.alone is not None:
            return catalog.alone
        legacy = asking.client.era == "legacy"
        code = _RESOURCE_NOT_FOUND if legacy else INVALID_PARAMS
        raise RpcRefused(code, "Resource not found", {"uri": uri})

    async def _prompt(self, asking: Asking) -> Json:
        name = asking.message.params.get("name")
        found = await self._offer(asking, "prompt", name)
        params = {**asking.message.params, "name": found.definition.name}
        return await self._passed(asking, found.behind, params)

    async def _complete(self, asking: Asking) -> Json:
        params = asking.message.params
        reference = params.get("ref")
        if not isinstance(reference, dict):
            raise RpcRefused(INVALID_PARAMS, "ref: must be an object")
        if reference.get("type") == "ref/prompt":
            found = await self._offer(asking, "prompt", reference.get("name"))
            params = {**params, "ref": {**reference, "name": found.definition.name}}
            return await self._passed(asking, found.behind, params)
        uri = str(reference.get("uri"))
        template = await self._lists.find(asking, "resource_template", uri)
        behind = template.behind if template else await self._resource(asking, uri)
        return await self._passed(asking, behind)

    async def _offer(self, asking: Asking, kind: Any, name: object) -> Offer:
        found = await self._lists.find(asking, kind, name) if isinstance(name, str) else None
        if found is None or found.quarantined:
            raise RpcRefused(INVALID_PARAMS, f"Unknown {kind}: {name}")
        return found

    # -- tasks: their ids say whose they are, where there are several servers

    async def _task(self, asking: Asking) -> Json:
        id = asking.message.params.get("taskId")
        if not isinstance(id, str):
            raise RpcRefused(INVALID_PARAMS, "taskId: must be a string")
        alone = asking.catalog.alone
        if alone is not None:
            return await self._passed(asking, alone)
        name, _, own = id.partition(SEPARATOR)
        behind = asking.catalog.targets.get(name)
        if behind is None or not behind.speaks_mcp:
            raise RpcRefused(INVALID_PARAMS, "Failed to retrieve task: Task not found")
        answer = await self._passed(asking, behind, {**asking.message.params, "taskId": own})
        if isinstance(answer.get("taskId"), str):
            answer["taskId"] = f"{name}{SEPARATOR}{answer['taskId']}"
        return answer

    async def _tasks(self, asking: Asking) -> Json:
        if asking.catalog.alone is None:
            raise RpcRefused(METHOD_NOT_FOUND, "tasks/list: ask for a task by its id")
        return await self._passed(asking, asking.catalog.alone)

    # -- to a target as it is

    async def _passed(self, asking: Asking, behind: Behind, params: Json | None = None) -> Json:
        params = asking.message.params if params is None else params
        try:
            async with self._calls.governing.admitted(
                asking.catalog, asking.request, target=behind.name, tool="", body=params
            ):
                await self._decided(asking, behind, params)
                errand = await self._calls.errand(asking, behind, behind.seconds)
                client = mcp_client(self._clients, behind)
                return await client.request(behind.place, asking.message.method, params, errand)
        except ConsentNeeded as needed:
            return self._calls.consent(asking.client, needed, behind.name)
        except TargetFailed as error:
            raise RpcRefused(_FAILED, f"{behind.name}: {error.message}") from error

    async def _decided(self, asking: Asking, behind: Behind, params: Json) -> None:
        """Of what is no call of a tool."""
        told = {"method": asking.message.method}
        told |= {k: v for k in ("uri", "name") if isinstance(v := params.get(k), str)}
        denied = await self._calls.governing.decide(
            asking.catalog, asking.request, behind.as_tool, told, asking.client.session or ""
        )
        if denied is not None:
            raise RpcRefused(_FAILED, denied)

    async def _catalog(self, door: Door) -> Catalog:
        catalog = await self._catalogs.get(door.gateway_id)
        if catalog is None:
            raise NotFound("the gateway is gone")
        return catalog


def _put(queue: "asyncio.Queue[Json]", told: Json) -> None:
    """A client that reads too slowly misses some: each is only a reason to look again."""
    if not queue.full():
        queue.put_nowait(told)
