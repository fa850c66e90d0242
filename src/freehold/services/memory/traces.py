"""What a span says of an operation on a memory: which records, never what is in them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from freehold.kernel import tracing
from freehold.ports.content_capture import CONTENT_BYTES_MAX
from freehold.services.memory.extraction_store import Claim
from freehold.services.memory.model import Strategy

SEARCH, CREATE, UPDATE, DELETE = (
    "search_memory", "create_memory", "update_memory", "delete_memory",
)  # fmt: skip


def told(
    operation: str,
    memory_id: str,
    *,
    record_ids: Sequence[str],
    namespace: str = "",
    scores: Sequence[float | None] = (),
    query: str = "",
    **more: Any,
) -> None:
    """`query` is kept only where texts are captured."""
    if tracing.current() is None:
        return
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "freehold.memory.id": memory_id,
        "freehold.memory.record_ids": list(record_ids),
    }
    if namespace:
        attributes["freehold.memory.namespace"] = namespace
    if scores:
        attributes["freehold.memory.scores"] = list(scores)
    if query and tracing.captures():
        attributes["freehold.memory.query"] = query[:CONTENT_BYTES_MAX]
    attributes |= {f"freehold.memory.{name}": value for name, value in more.items()}
    tracing.describe(f"{operation} {memory_id}", attributes)


def extraction(
    recorder: tracing.Recorder | None, claim: Claim, strategy: Strategy
) -> AbstractContextManager[tracing.Span]:
    """The trace of one batch that is learned from: no request waits for it."""
    attributes = {
        "freehold.memory.id": claim.place.memory_id,
        "freehold.memory.strategy_id": strategy.id,
        "freehold.job.id": claim.job_id,
    }
    return tracing.background(
        recorder, "memory_extraction", tenant=claim.place.tenant, attributes=attributes
    )
