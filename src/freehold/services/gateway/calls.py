"""MCP's methods behind a gateway: who may, what of, with which credential, and one request out.

The order for a tool: found, allowed, not in quarantine, within its limits, arguments fit, then the
interceptor and the policy, and only then a credential and the call.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol
from urllib.parse import parse_qsl

import msgspec

from freehold.kernel import tracing
from freehold.kernel.errors import (
    AccessDenied,
    NotFound,
    Throttled,
    Unauthorized,
    Unavailable,
    ValidationFailed,
)
from freehold.kernel.request import Request
from freehold.ports.enforcement import GovernedTool
from freehold.ports.mcp import Client, Message
from freehold.ports.targets import (
    Errand,
    Json,
    McpServerClient,
    RpcRefused,
    TargetClient,
    TargetFailed,
)
from freehold.services.gateway import results
from freehold.services.gateway.breaker import Breakers, Open
from freehold.services.gateway.catalog import Behind, Catalog, Offer
from freehold.services.gateway.interceptors import (
    Answer,
    Interception,
    InterceptorFailed,
    Interceptors,
    rpc_result,
)
from freehold.services.gateway.param_headers import HEADER_MISMATCH
from freehold.services.gateway.ports import ConsentNeeded, Outbound

log = logging.getLogger("freehold.gateway")

INVALID_PARAMS, METHOD_NOT_FOUND = -32602, -32601
_REFUSED = -32000
_TRACE_HEADERS = ("traceparent", "tracestate")
_REST = ("inputResponses", "requestState", "task")


class Governing(Protocol):
    """Who may use what, and how much of it: `services/gateway/governing.py`."""

    def grouped(self, catalog: Catalog, request: Request) -> Callable[[str], bool]:
        """Which tools the action groups let the caller use, by the names that clients see."""

    async def may_use(self, catalog: Catalog, request: Request) -> Callable[[str], bool]:
        """Which tools, so far as can be told before a call. To be asked once for a request."""

    def admitted(
        self, catalog: Catalog, request: Request, *, target: str, tool: str, body: Json
    ) -> AbstractAsyncContextManager[object]:
        """Raises Throttled, with `retry_after` in its fields; Unavailable."""

    async def decide(
        self,
        catalog: Catalog,
        request: Request,
        tool: GovernedTool | None,
        arguments: Json,
        session: str = "",
    ) -> str | None:
        """The policy's refusal, in the words that a model gets; None where it allows. Unavailable
        where it can be neither made nor kept."""


class Consents(Protocol):
    def __call__(self, client: Client, needed: ConsentNeeded, target: str) -> Json:
        """The result that sends a person to a provider. Raises RpcRefused in the eras that have an
        error for it."""


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a client's, on its way."""

    request: Request
    catalog: Catalog
    client: Client
    message: Message


class ToolCalls:
    def __init__(
        self,
        *,
        clients: Mapping[str, TargetClient],
        outbound: Outbound,
        governing: Governing,
        interceptors: Interceptors,
        breakers: Breakers,
        consent: Consents,
    ) -> None:
        self._clients, self._outbound, self.governing = clients, outbound, governing
        self._interceptors, self._breakers, self.consent = interceptors, breakers, consent

    async def call(self, asking: Asking, offer: Offer | None, name: str) -> Json:
        """MCP's CallToolResult, whatever went wrong on the way to it."""
        params = asking.message.params
        arguments = params.get("arguments")
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, dict):
            raise RpcRefused(INVALID_PARAMS, "arguments: must be an object")
        if offer is None:
            raise RpcRefused(INVALID_PARAMS, f"Unknown tool: {name}")
        if asking.client.era == "modern":
            mismatch = offer.header_mismatch(arguments, asking.request.headers)
            if mismatch is not None:
                raise RpcRefused(HEADER_MISMATCH, mismatch)
        refusal = self._refusal(asking, offer, arguments)
        if refusal is not None:
            return refusal
        try:
            async with self.governing.admitted(
                asking.catalog,
                asking.request,
                target=offer.behind.name,
                tool=offer.name,
                body=params,
            ):
                if asking.catalog.interceptors:
                    return await self._intercepted(asking, offer, arguments)
                return await self._decided(asking, offer, arguments, {})
        except Throttled as error:
            return results.refused(f"{name}: {error.message}", "rate limit")

    def _refusal(self, asking: Asking, offer: Offer, arguments: Json) -> Json | None:
        if not self.governing.grouped(asking.catalog, asking.request)(offer.name):
            text = f"{offer.name} is not among the tools that this caller may use."
            return results.refused(text, "action groups")
        if offer.quarantined:
            text = (
                f"{offer.name} is in quarantine: {offer.quarantined}. Nobody can use it until an "
                "administrator of the gateway approves it."
            )
            return results.refused(text, "quarantine")
        try:
            problem = offer.problem_with(arguments)
        except ValueError as error:
            problem = f"{offer.name} cannot be called: its input schema is of no use ({error})."
        return None if problem is None else results.refused(problem, "arguments")

    async def _decided(
        self, asking: Asking, offer: Offer, arguments: Json, headers: Mapping[str, str]
    ) -> Json:
        denied = await self.governing.decide(
            asking.catalog, asking.request, offer.governed, arguments, asking.client.session or ""
        )
        if denied is not None:
            return results.refused(denied, "policy")
        return await self._sent(asking, offer, arguments, headers)

    async def _sent(
        self, asking: Asking, offer: Offer, arguments: Json, headers: Mapping[str, str]
    ) -> Json:
        behind = offer.behind
        client = self._clients[behind.place.kind]
        try:
            with self._breakers.of(behind.place.target_id, behind.breaker_seconds) as breaker:
                errand = await self.errand(asking, behind, offer.seconds, headers)
                async with asyncio.timeout(offer.seconds):
                    answer = await client.call(behind.place, offer.definition, arguments, errand)
                if results.is_away(answer):
                    breaker.failed()
                else:
                    breaker.went_well()
        except ConsentNeeded as needed:
            return self.consent(asking.client, needed, behind.name)
        except Open as error:
            return results.refused(f"{behind.name}: {error}", "circuit breaker")
        except TimeoutError:
            late = TargetFailed(
                f"no answer within {offer.seconds:g} seconds; it may still be at work on it",
                timed_out=True,
            )
            return results.failed(behind.name, late)
        except TargetFailed as error:
            return results.failed(behind.name, error)
        except (AccessDenied, Unauthorized, Unavailable, ValidationFailed, NotFound) as error:
            text = f"{behind.name}: no credential for it: {error.message}"
            return results.refused(text, "credential")
        if asking.catalog.alone is None:
            results.named_task(answer, behind.name)
        return results.labelled(answer, behind.name)

    async def errand(
        self, asking: Asking, behind: Behind, seconds: float, headers: Mapping[str, str] = {}
    ) -> Errand:
        """With the credential that the target wants. Raises what `Outbound.credential` does."""
        request, client = asking.request, asking.client
        credential = await self._outbound.credential(
            behind.place,
            behind.credential,
            caller=request.caller,
            request_id=request.request_id,
        )
        sent = {k: v for k, v in headers.items() if k in behind.headers}
        for name in (*_TRACE_HEADERS, *behind.headers):
            if name not in sent and (value := request.headers.get(name)) is not None:
                sent[name] = value
        sent |= tracing.headers()  # it is a part of our step, which is one of the client's
        params = asking.message.params
        meta = params.get("_meta")
        return Errand(
            request_id=request.request_id,
            message_id=asking.message.id,
            owner=owner_of(request),
            credential=credential,
            headers=sent,
            query=_allowed_query(request.query, behind.query),
            session=client.session,
            era=client.era,
            client=client.capabilities,
            meta=meta if isinstance(meta, dict) else {},
            rest={name: params[name] for name in _REST if name in params},
            talk=client.talk,
            seconds_max=seconds,
        )

    # -- interceptors

    async def _intercepted(self, asking: Asking, offer: Offer, arguments: Json) -> Json:
        """The request that comes back is judged like the one that came: it may name another tool
        or other arguments."""

        async def act(params: Json, headers: Mapping[str, str]) -> Json:
            changed = params.get("arguments") or {}
            called = offer
            if params.get("name") != asking.message.params.get("name") or changed != arguments:
                found = asking.catalog.find("tool", str(params.get("name")))
                if found is None or not isinstance(changed, dict):
                    raise RpcRefused(INVALID_PARAMS, f"Unknown tool: {params.get('name')}")
                called = found
                refusal = self._refusal(asking, called, changed)
                if refusal is not None:
                    return refusal
            return await self._decided(asking, called, changed, headers)

        return await self.intercepted(asking, act)

    async def intercepted(
        self, asking: Asking, act: Callable[[Json, Mapping[str, str]], Awaitable[Json]]
    ) -> Json:
        catalog, request, message = asking.catalog, asking.request, asking.message
        body: Json = {
            "jsonrpc": "2.0", "id": message.id, "method": message.method, "params": message.params,
        }  # fmt: skip
        interception = Interception(
            tenant=catalog.door.tenant,
            gateway_arn=catalog.door.arn,
            role=catalog.role_arn,
            configurations=catalog.interceptors,
            request_id=request.request_id,
            headers=request.headers,
            raw=msgspec.json.encode(body),
            source=request.source,
            debug=catalog.door.debug,
        )
        try:
            passed = await self._interceptors.before(interception, body)
            if passed.answer is not None:
                answer = passed.answer
            else:
                answer = await self._answered(act, passed.body, passed.headers)
            return rpc_result(await self._interceptors.after(interception, passed.body, answer))
        except InterceptorFailed as error:
            log.warning("%s: %s", catalog.door.arn, error.message)
            raise RpcRefused(_REFUSED, error.message) from error

    async def _answered(
        self,
        act: Callable[[Json, Mapping[str, str]], Awaitable[Json]],
        body: Json,
        headers: Mapping[str, str],
    ) -> Answer:
        answer: Json = {"jsonrpc": "2.0", "id": body.get("id")}
        try:
            answer["result"] = await act(body.get("params") or {}, headers)
        except RpcRefused as error:
            answer["error"] = {"code": error.code, "message": error.message}
            if error.data is not None:
                answer["error"]["data"] = error.data
        return Answer(body=answer)


def _allowed_query(query: str, allowed: frozenset[str]) -> Mapping[str, str]:
    if not allowed or not query:
        return {}
    return {name: value for name, value in parse_qsl(query) if name in allowed}


def owner_of(request: Request) -> str:
    """Whose what is kept for a target is: never two callers'."""
    caller = request.caller
    return f"{caller.tenant}|{caller.user or caller.principal}"


def mcp_client(clients: Mapping[str, TargetClient], behind: Behind) -> McpServerClient:
    client: Any = clients[behind.place.kind]
    assert behind.speaks_mcp, "asked of MCP servers only"
    found: McpServerClient = client
    return found
