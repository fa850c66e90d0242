"""Records and retrievals as our own API shows them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from freehold.services.memory.model import Record


class RecordView(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """`at` is when it was so; `validUntil` since when it is so no more, and `supersededBy` what
    took its place. `score`, between 0 and 1, is of a search."""

    record_id: str
    text: str
    namespaces: Sequence[str]
    strategy_id: str
    at: datetime
    created_at: datetime
    updated_at: datetime
    metadata: dict[str, Any]
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    superseded_by: str | None = None
    expires_at: datetime | None = None
    score: float | None = None


class RecordPage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    records: list[RecordView]
    next_token: str | None = None


class UsedView(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """`score` is null where nothing was searched for: a record that was asked for by its id."""

    record_id: str
    score: float | None


class RetrievalView(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """`namespace` is what was asked for: one namespace, or a path and all below it; empty where a
    record was asked for by its id alone."""

    retrieval_id: str
    at: datetime
    by: str
    operation: str
    namespace: str
    query: str
    records: list[UsedView]
    session_id: str | None = None


class RetrievalPage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    retrievals: list[RetrievalView]
    next_token: str | None = None


def record_view(record: Record, score: float | None = None) -> RecordView:
    return RecordView(
        record_id=record.id, text=record.text, namespaces=record.namespaces,
        strategy_id=record.strategy_id, at=record.at, created_at=record.created_at,
        updated_at=record.updated_at or record.created_at, metadata=dict(record.metadata),
        valid_from=record.valid_from, valid_until=record.valid_until,
        superseded_by=record.superseded_by or None, expires_at=record.expires_at, score=score,
    )  # fmt: skip
