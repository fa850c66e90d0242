"""The audit: what was done and decided, and whether its chain holds."""

import asyncio
from contextlib import aclosing
from typing import Any, cast

import msgspec

from freehold.console import filters
from freehold.console.answer import Answer, Page
from freehold.console.filters import Field, Filter
from freehold.console.ports import Platform
from freehold.console.routes import Route
from freehold.console.visit import Visit

_PATH = "/console/audit"
_OWN = "/freehold/v1/audit"
_PAGE = 100
_VERIFY_SECONDS = 20.0
_FILTERS = (
    filters.since("24h"),
    Filter(
        name="outcome", label="Outcome", kind="choice",
        choices=(
            ("", "Any"), ("allowed", "Allowed"), ("denied", "Denied"), ("failed", "Failed"),
            ("unknown", "Unknown"),
        ),
    ),
    Filter(name="operation", label="Operation", placeholder="InvokeAgentRuntime"),
    Filter(name="user", label="User"),
    Filter(name="principal", label="Principal", more=True, placeholder="arn:aws:iam::..."),
    Filter(name="resource", label="Resource", more=True, placeholder="arn:..."),
    Filter(name="callId", label="Request id", more=True),
    Filter(
        name="intents", label="Before the act", kind="choice", more=True,
        choices=(("", "Left out"), ("true", "Shown too")),
    ),
)  # fmt: skip


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    fields: list[Field]
    lines: list[dict[str, Any]]
    next_token: str | None


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """`verdict` None: it was not finished in the time that a page has; `checked` links hold."""

    checked: int
    verdict: dict[str, Any] | None
    seconds_max: float = _VERIFY_SECONDS


class AuditPages:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        return [
            Route(method="GET", path=_PATH, act=self.listing, operation="ReadAudit"),
            Route(method="GET", path=f"{_PATH}/chain", act=self.chain, operation="VerifyAudit"),
        ]

    async def listing(self, visit: Visit) -> Answer:
        fields = filters.read(visit, _FILTERS)
        found = await self._platform.get(
            visit, _OWN, limit=_PAGE, nextToken=visit.query.get("nextToken"),
            **filters.values(fields),
        )  # fmt: skip
        data = Audit(fields=fields, lines=found["lines"], next_token=found.get("nextToken"))
        return Page(template="audit.html", title="Audit", data=data)

    async def chain(self, visit: Visit) -> Answer:
        checked, verdict = 0, None
        # The generator of platform.lines; closing it ends the work.
        lines = cast(Any, await self._platform.lines(visit, f"{_OWN}/verify"))
        async with aclosing(lines):
            try:
                async with asyncio.timeout(_VERIFY_SECONDS):
                    async for line in lines:
                        checked, verdict = line["checked"], line.get("verdict")
            except TimeoutError:
                pass  # The page says how far it came.
        data = Chain(checked=checked, verdict=verdict)
        return Page(template="audit_chain.html", title="The audit's chain", data=data)
