"""Which trace a session's sandbox works for at the moment, known to all workers of a machine.

What an agent asks of the platform without saying a trace context of its own is a part of the
invocation that it serves. Of several invocations at once in one session the last one stands there.
"""

from typing import Protocol

from freehold.kernel.tracing import Context


class TraceBoard(Protocol):
    """Each call takes microseconds, and none of them raises: it is only ever a guess."""

    def show(self, sandbox_id: str, context: Context) -> None: ...

    def clear(self, sandbox_id: str, context: Context) -> None:
        """Unless another one stands there by now."""

    def read(self, sandbox_id: str) -> Context | None: ...
