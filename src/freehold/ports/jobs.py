"""Durable work: what is enqueued runs, survives a crash in the middle, and is done once."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

import msgspec


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    kind: str
    state: JobState
    attempts: int
    error: str | None
    created_at: datetime


Work = Callable[[dict[str, Any]], Awaitable[None]]
"""Gets the payload. Must be idempotent: after a crash it runs again from its start."""


class Jobs(Protocol):
    """Enqueue anywhere; work where `register` was called before `start`."""

    async def enqueue(self, kind: str, payload: dict[str, Any], *, id: str) -> None:
        """Durable when it returns. The same `id` again does nothing. Payload: JSON, no secret."""

    async def get(self, id: str) -> Job | None: ...

    def register(self, kind: str, work: Work, *, concurrency: int, attempts_max: int = 3) -> None:
        """Retry an error with back-off up to `attempts_max` runs; a crash, always."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...
