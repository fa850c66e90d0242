"""`calls.Governing`: action groups, rate limits and, where a gateway has an engine, policies."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from freehold.kernel.request import Request
from freehold.ports.enforcement import Enforcement, GovernedCall, GovernedTool
from freehold.ports.limits import RateLimiter
from freehold.ports.targets import Json
from freehold.services.gateway import limits
from freehold.services.gateway.catalog import Catalog
from freehold.services.gateway.limits import Facts


class Governance:
    def __init__(self, limiter: RateLimiter, enforcement: Enforcement) -> None:
        self._limiter, self._enforcement = limiter, enforcement

    def grouped(self, catalog: Catalog, request: Request) -> Callable[[str], bool]:
        return catalog.access.of(request.caller)

    async def may_use(self, catalog: Catalog, request: Request) -> Callable[[str], bool]:
        grouped = self.grouped(catalog, request)
        if not catalog.governed.engine_arn:
            return grouped
        possible = await self._enforcement.shown(catalog.governed, request.caller)
        return lambda name: grouped(name) and possible(name)

    def admitted(
        self, catalog: Catalog, request: Request, *, target: str, tool: str, body: Json
    ) -> AbstractAsyncContextManager[object]:
        if not catalog.limits:
            return nullcontext()
        facts = Facts(
            caller=request.caller, target=target, tool=tool, headers=request.headers, body=body
        )
        return limits.Admitted(self._limiter, catalog.limits, facts)

    async def decide(
        self,
        catalog: Catalog,
        request: Request,
        tool: GovernedTool | None,
        arguments: Json,
        session: str = "",
    ) -> str | None:
        """Of what has no name for policies nothing can be permitted."""
        gateway = catalog.governed
        if not gateway.engine_arn:
            return None
        if tool is None:
            return "No policy can permit this." if gateway.mode == "ENFORCE" else None
        call = GovernedCall(
            gateway=gateway,
            tool=tool,
            arguments=arguments,
            caller=request.caller,
            request_id=request.request_id,
            source=request.source,
            session=session,
        )
        refusal = await self._enforcement.decide(call)
        return None if refusal is None else refusal.text
