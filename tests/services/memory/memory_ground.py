"""Memory with its real parts in this process: Postgres, the AWS edge, boto3. What a test does not
bring stands in: memories by name, and a learning that only writes down what it is told."""

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from edge_ground import REGION, EdgeGround
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel import clock
from freehold.kernel.arns import Arn, agentcore_arn
from freehold.kernel.errors import NotFound
from freehold.kernel.request import Handler
from freehold.ports.database import Connection
from freehold.services.memory import events_api
from freehold.services.memory.event_expiry import EventExpiry
from freehold.services.memory.events import EventLog
from freehold.services.memory.model import Event, Memory
from freehold.services.memory.ports import Learning, Memories


class FakeMemories:
    """Those that `make` made: ACTIVE at once."""

    def __init__(self) -> None:
        self.by_id: dict[tuple[str, str], Memory] = {}

    def make(self, tenant: str, name: str = "notes", **fields: Any) -> Memory:
        id = f"{name}-{secrets.token_hex(5)}"
        memory = Memory(
            tenant=tenant, id=id, arn=agentcore_arn(REGION, tenant, f"memory/{id}"), name=name,
            **{"status": "ACTIVE", "expiry_days": 30, **fields},
        )  # fmt: skip
        self.by_id[tenant, id] = memory
        return memory

    async def get(self, tenant: str, memory_id: str) -> Memory:
        arn = Arn.parse(memory_id)
        id = memory_id if arn is None else arn.resource.removeprefix("memory/")
        memory = self.by_id.get((tenant, id))
        if memory is None or (arn is not None and arn.tenant != tenant):
            raise NotFound(f"memory {memory_id!r} does not exist")
        return memory


class FakeLearning:
    """`trouble` is raised, in the transaction, once it is set."""

    def __init__(self) -> None:
        self.heard: list[Event] = []
        self.unheard: list[Sequence[Event]] = []
        self.trouble: Exception | None = None

    async def said(self, connection: Connection, memory: Memory, event: Event) -> None:
        self._check(connection)
        self.heard.append(event)

    async def unsaid(self, connection: Connection, memory: Memory, events: Sequence[Event]) -> None:
        self._check(connection)
        self.unheard.append(events)

    def _check(self, connection: Connection) -> None:
        assert connection.info.transaction_status.name == "INTRANS", "told in the transaction"
        if self.trouble is not None:
            raise self.trouble

    @property
    def unheard_ids(self) -> list[str]:
        return sorted(event.id for batch in self.unheard for event in batch)


class Clock:
    """The wall's, and what a test adds to it."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return clock.now() + self.ahead


class MemoryGround(EdgeGround):
    """`more` gives further handlers, of a test's own parts. `memories` and `learning` may be real
    ones; the fakes' methods are then not there."""

    def __init__(
        self,
        database: PostgresDatabase,
        state: Path,
        *,
        memories: Memories | None = None,
        learning: Learning | None = None,
        more: Callable[["MemoryGround"], Mapping[str, Handler]] = lambda _: {},
    ) -> None:
        super().__init__(database, state)
        self.clock = Clock()
        self.memories: Any = memories or FakeMemories()
        self.learning: Any = learning or FakeLearning()
        self.events = EventLog(
            database, memories=self.memories, learning=self.learning, now=self.clock
        )
        self.expiry = EventExpiry(database, now=self.clock)
        self.handlers = {**events_api.handlers(self.events), **more(self)}

    @asynccontextmanager
    async def open(self) -> AsyncIterator["MemoryGround"]:
        async with self.served(self.handlers, document_bytes_max=16 << 20):
            yield self
