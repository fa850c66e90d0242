"""A recorded session, read out of the store of spans."""

import asyncio
from collections.abc import Sequence

from freehold.kernel.errors import NotFound
from freehold.ports.spans import SpanRecord, SpanStore, Wanted
from freehold.services.forks.keeping import CannotFork
from freehold.services.forks.model import SESSION_DAYS, SESSION_TRACES_MAX
from freehold.services.forks.record import Record, is_turn

_DAY_NS = 86_400 * 10**9
_BYTES_MAX = 512 << 20
"""Of attributes that are held at a time."""


class Sessions:
    def __init__(self, spans: SpanStore) -> None:
        self._spans = spans

    async def of_span(self, tenant: str, trace_id: str, span_id: str) -> tuple[Record, SpanRecord]:
        """Raises NotFound, and CannotFork for a span that is of no session."""
        span = await self._spans.span(tenant, trace_id, span_id)
        if span is None:
            raise NotFound(f"no span {span_id} in a trace {trace_id}")
        if not span.session_id or not span.agent_id:
            raise CannotFork(
                f"{span.name} is of no session of an agent: only those can be run again. Take the "
                "invocation of an agent, or a call that it made"
            )
        record = await self.read(tenant, span.agent_id, span.session_id, around_ns=span.started_ns)
        return record, span

    async def read(
        self, tenant: str, agent_id: str, session_id: str, *, around_ns: int, open_turn: int = 0
    ) -> Record:
        """Empty where there is nothing of it. Raises CannotFork for one that is too long."""
        wanted = Wanted(
            since_ns=max(0, around_ns - SESSION_DAYS * _DAY_NS),
            until_ns=around_ns + SESSION_DAYS * _DAY_NS,
            session_id=session_id,
            agent_id=agent_id,
        )
        page = await self._spans.traces(tenant, wanted, limit=SESSION_TRACES_MAX)
        if page.next_token is not None:
            raise CannotFork(
                f"the session has more than {SESSION_TRACES_MAX} traces, which is more than a fork "
                "can be made of. Fork a shorter one"
            )
        found: list[SpanRecord] = []
        size = 0
        for trace in page.items:
            spans = await self._spans.trace(tenant, trace.trace_id)
            # Of other sessions in the same trace only how they hang together is of interest.
            spans = [each for each in spans if each.session_id == session_id or is_turn(each)]
            size += await asyncio.to_thread(_size, spans)
            if size > _BYTES_MAX:
                raise CannotFork(
                    f"more than {_BYTES_MAX >> 20} MiB were recorded of the session, which is more "
                    "than a fork can be made of. Fork a shorter one"
                )
            found += spans
        return await asyncio.to_thread(
            Record, found, agent_id=agent_id, session_id=session_id, open_turn=open_turn
        )


def _size(spans: Sequence[SpanRecord]) -> int:
    return sum(
        len(value) for span in spans for value in span.attributes.values() if isinstance(value, str)
    )
