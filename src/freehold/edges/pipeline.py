"""The governed path: what happens to every request, whichever edge it came through.

One list, in order: STEPS. A step raises a FreeholdError to refuse; the edge gives it its shape.
"""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from starlette.types import Receive, Scope

from freehold.kernel import ids
from freehold.kernel.body import Body
from freehold.kernel.caller import Caller
from freehold.kernel.errors import AccessDenied, FreeholdError, Throttled
from freehold.ports.authorizer import Authorizer

log = logging.getLogger("freehold.requests")


class Authenticator(Protocol):
    async def __call__(self, call: "Call") -> Caller:
        """The caller, or AccessDenied. May take the body (a signature covers it)."""


@dataclass(slots=True, kw_only=True)
class Call:
    """One request on its way. The edge fills it in; steps read it and add to it.

    `operation` is "{service}:{Operation}". `prepare` parses and validates, and sets
    `resource_arn` where the request names what it acts on.
    """

    edge: str
    operation: str
    scope: Scope
    receive: Receive
    authenticator: Authenticator
    prepare: Callable[["Call"], Awaitable[None]]
    request_id: str = field(default_factory=ids.request_id)
    started: float = field(default_factory=time.perf_counter)
    caller: Caller | None = None
    body: Body | None = None
    resource_arn: str | None = None
    status: int = 0

    @property
    def known_caller(self) -> Caller:
        if self.caller is None:
            raise AccessDenied("the request is not authenticated")
        return self.caller


class Pipeline:
    """One for each API worker; every edge acts and answers inside `governed`."""

    def __init__(self, *, authorizer: Authorizer, calls_in_flight_max: int) -> None:
        self._authorizer = authorizer
        self._calls_in_flight_max = calls_in_flight_max
        self._in_flight = 0
        self.steps = (self._limit, self._authenticate, self._prepare, self._authorize)

    @asynccontextmanager
    async def governed(self, call: Call) -> AsyncIterator[None]:
        """The steps, then the body of the `with`: act, and answer to the last byte."""
        self._in_flight += 1
        try:
            for step in self.steps:
                await step(call)
            yield
        except FreeholdError as error:
            call.status = call.status or error.status
            raise
        finally:
            self._in_flight -= 1
            self._record(call)

    async def _limit(self, call: Call) -> None:
        if self._in_flight > self._calls_in_flight_max:
            raise Throttled("too many requests at once; try again shortly")

    async def _authenticate(self, call: Call) -> None:
        call.caller = await call.authenticator(call)

    async def _prepare(self, call: Call) -> None:
        await call.prepare(call)

    async def _authorize(self, call: Call) -> None:
        await self._authorizer.authorize(call.known_caller, call.operation, call.resource_arn)

    def _record(self, call: Call) -> None:
        if log.isEnabledFor(logging.INFO):
            log.info(
                "%s %s %s %d %.1f ms",
                call.request_id,
                call.caller.principal if call.caller else "-",
                call.operation,
                call.status,
                (time.perf_counter() - call.started) * 1e3,
            )
