"""What the parts of the policy service need from one another and from others."""

from collections.abc import Sequence
from typing import Protocol

from freehold.services.policy.model import Decided, EngineRow


class Engines(Protocol):
    async def load(self, tenant: str, engine_arn: str) -> EngineRow | None:
        """From memory, until the engine changes. None for one that is not there."""


class Decisions(Protocol):
    async def record(self, decided: Decided) -> None:
        """Durable when it returns, what comes together is committed together; or Unavailable."""


class GeneratedStatements(Protocol):
    async def statement(
        self, tenant: str, engine_id: str, generation_id: str, asset_id: str
    ) -> str:
        """Of an asset that a generation made. NotFound; ValidationFailed for one without."""


class Lane(Protocol):
    """A connection of one's own to Postgres: no other statement comes between two of ours."""

    async def open(self) -> None:
        """Again after a loss. Raises Unavailable."""

    async def close(self) -> None: ...

    async def run(
        self, statement: str, *values: bytes | None
    ) -> Sequence[tuple[bytes | None, ...]]:
        """In Postgres' text format. Unavailable: it may have been done or not."""
