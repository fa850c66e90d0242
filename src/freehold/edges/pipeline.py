"""The governed path: what happens to every request, whichever edge it came through.

One list, in order: STEPS. A step raises a FreeholdError to refuse; the edge gives it its shape.
"""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from starlette.types import Receive, Scope

from freehold.edges.auditing import Auditing
from freehold.edges.tracing import CallTracing
from freehold.kernel import ids, tracing
from freehold.kernel.body import Body
from freehold.kernel.caller import Caller
from freehold.kernel.errors import AccessDenied, FreeholdError, Throttled
from freehold.ports.audit import CallAudit
from freehold.ports.authorizer import Authorizer
from freehold.ports.content_capture import ContentCapture
from freehold.ports.signals import NoSignals, Signals
from freehold.ports.trace_board import TraceBoard

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
    tenant: str | None = None
    """In which it acts, once it is authorized."""
    status: int = 0
    noted: dict[str, str] = field(default_factory=dict)
    """What the audit's last line says besides: small, no secret, no payload."""
    stage: str = ""
    """The step that it has come to; "act" after the last one."""
    settled: bool = False
    auditing: Auditing | None = None
    span: tracing.Span | None = None
    """What it is in its trace; None where nobody records."""

    async def acknowledge(self, status: int) -> None:
        """Before the caller is told the end of it: the outcome is durable then, or Unavailable."""
        if self.auditing is not None and not self.settled:
            self.status = status
            await self.auditing.settle(self)

    @property
    def known_caller(self) -> Caller:
        if self.caller is None:
            raise AccessDenied("the request is not authenticated")
        return self.caller


def _from_where(caller: Caller, scope: Scope) -> Caller:
    """A connection over the network has an address and a port; one through a socket file none."""
    host, port = scope.get("client") or ("", 0)
    if not port:
        return caller
    encrypted = scope.get("scheme") in ("https", "wss")
    return msgspec.structs.replace(caller, source=host, encrypted=encrypted)


class Pipeline:
    """One for each API worker; every edge acts and answers inside `governed`.

    Without `audit` nothing is written, and nothing waits for it; without `recorder` nothing is
    traced. `board` and `content`: see `CallTracing`.
    """

    def __init__(
        self,
        *,
        authorizer: Authorizer,
        calls_in_flight_max: int,
        audit: CallAudit | None = None,
        recorder: tracing.Recorder | None = None,
        board: TraceBoard | None = None,
        content: ContentCapture | None = None,
        signals: Signals | None = None,
    ) -> None:
        self._authorizer = authorizer
        self._auditing = None if audit is None else Auditing(audit)
        self._tracing = (
            None if recorder is None else CallTracing(recorder, board=board, content=content)
        )
        self._signals: Signals = signals or NoSignals()
        self._calls_in_flight_max = calls_in_flight_max
        self._in_flight = 0
        self.steps = {
            "limit": self._limit,
            "authenticate": self._authenticate,
            "prepare": self._prepare,
            "authorize": self._authorize,
            "audit": self._audit,
        }

    @asynccontextmanager
    async def governed(self, call: Call) -> AsyncIterator[None]:
        """The steps, then the body of the `with`: act, and answer to the last byte.

        Before that byte, the edge calls `call.acknowledge`.
        """
        with nullcontext() if self._tracing is None else self._tracing.around(call):
            self._in_flight += 1
            service = call.operation.partition(":")[0]
            self._signals.in_flight(service, 1)
            call.auditing = self._auditing
            try:
                for name, step in self.steps.items():
                    call.stage = name
                    await step(call)
                yield
                await call.acknowledge(call.status)
            except BaseException as error:
                if isinstance(error, FreeholdError):
                    call.status = call.status or error.status
                if self._auditing is not None:
                    await self._auditing.broke_off(call, error)
                raise
            finally:
                self._in_flight -= 1
                self._signals.in_flight(service, -1)
                self._record(call)

    async def _limit(self, call: Call) -> None:
        if self._in_flight > self._calls_in_flight_max:
            raise Throttled("too many requests at once; try again shortly")

    async def _authenticate(self, call: Call) -> None:
        call.caller = _from_where(await call.authenticator(call), call.scope)

    async def _prepare(self, call: Call) -> None:
        await call.prepare(call)

    async def _authorize(self, call: Call) -> None:
        call.tenant = await self._authorizer.authorize(
            call.known_caller, call.operation, call.resource_arn
        )
        if self._tracing is not None:
            await self._tracing.admitted(call)

    async def _audit(self, call: Call) -> None:
        if self._auditing is not None:
            await self._auditing.intend(call)

    def _record(self, call: Call) -> None:
        service, _, operation = call.operation.partition(":")
        seconds = time.perf_counter() - call.started
        self._signals.observe(service, operation, call.status, seconds)
        if log.isEnabledFor(logging.INFO):
            log.info(
                "%s %s %s %d %.1f ms",
                call.request_id,
                call.caller.principal if call.caller else "-",
                call.operation,
                call.status,
                seconds * 1e3,
            )
