"""The audit of one process: its writer on a connection of its own, its chainer, its readers."""

from typing import Self

from freehold.adapters.postgres.dedicated import DedicatedConnection
from freehold.kernel.sweep import DAY_SECONDS, Sweep
from freehold.ports.database import Database
from freehold.ports.secrets import Sealer
from freehold.services.audit.linker import Linker
from freehold.services.audit.service import AuditTrail, Retention
from freehold.services.audit.writer import AuditWriter
from freehold.settings import Settings


class ProcessAudit:
    """`writer` is the `ports.audit.CallAudit` that the pipeline and the services get.

    Entered after the database has started and before the first request; left after the last one.
    """

    def __init__(
        self, settings: Settings, database: Database, sealer: Sealer, *, name: str
    ) -> None:
        assert settings.database_url is not None, "the supervisor says where the database is"
        lane = DedicatedConnection(settings.database_url, application_name=f"freehold {name} audit")
        self.writer = AuditWriter(lane, name=name)
        self.trail = AuditTrail(database, sealer)
        self._linker = Linker(database, self.writer, sealer)
        self._retention = Sweep(
            "old lines of the audit",
            Retention(database, self.writer, days=settings.audit_days).expire,
            every_seconds=DAY_SECONDS,
        )

    async def __aenter__(self) -> Self:
        await self.writer.start()
        await self._linker.start()
        await self._retention.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._retention.close()
        await self.writer.close()
        await self._linker.close()
