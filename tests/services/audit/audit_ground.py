"""An audit with its real parts on the tests' database."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from freehold.adapters.postgres.dedicated import DedicatedConnection
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.adapters.secrets.keyring import Keyring
from freehold.kernel import clock, ids
from freehold.ports.audit import AuditEvent
from freehold.services.audit.linker import Linker
from freehold.services.audit.model import Filter, Verdict
from freehold.services.audit.service import AuditTrail
from freehold.services.audit.writer import AuditWriter

ALL = Filter(intents=True)


def sealer(key: bytes = b"k" * 32) -> EnvelopeSealer:
    return EnvelopeSealer(Keyring.parse(f"1:{base64.b64encode(key).decode()}", source="a test"))


def event(tenant: str, phase: str = "outcome", **more: Any) -> AuditEvent:
    usual: dict[str, Any] = {
        "call_id": ids.request_id(),
        "at": clock.now(),
        "operation": "bedrock-agentcore:InvokeAgentRuntime",
        "principal": f"arn:aws:iam::{tenant}:access-key/FHIATEST",
        "kind": "access_key",
        "resource": f"arn:aws:bedrock-agentcore:us-east-1:{tenant}:runtime/demo",
        "outcome": "allowed" if phase == "outcome" else "",
        "status": 200 if phase == "outcome" else 0,
    }
    return AuditEvent(tenant=tenant, phase=phase, **(usual | more))


class Ground:
    def __init__(self, dsn: str, database: PostgresDatabase) -> None:
        self.database = database
        self.lane = DedicatedConnection(dsn, application_name="tests audit")
        self.writer = AuditWriter(self.lane, name="tests", patience_seconds=2)
        self.linker = Linker(database, self.writer, sealer())
        self.trail = AuditTrail(database, sealer())

    async def link(self) -> None:
        await self.linker._link_all(self.writer.id)  # now, and not a little later

    async def wrote(self, *events: AuditEvent) -> None:
        for one in events:
            await self.writer.write(one)
        await self.link()

    async def texts(self, tenant: str, what: Filter = ALL) -> list[str]:
        return [e.text for e in (await self.trail.page(tenant, what, limit=1000)).items]

    async def verdict(self, tenant: str, **more: Any) -> Verdict:
        return await verdict(self.trail, tenant, **more)

    async def tamper(self, *statements: str) -> None:
        """As a superuser can who sets out to."""
        async with self.database.transaction() as connection:
            await connection.execute("SET LOCAL session_replication_role = replica")
            for statement in statements:
                await connection.execute(statement.encode())


async def verdict(trail: AuditTrail, tenant: str, **more: Any) -> Verdict:
    steps = [step async for step in trail.verify(tenant, **more)]
    last = steps[-1]
    assert isinstance(last, Verdict)
    return last


@asynccontextmanager
async def ground(dsn: str, database: PostgresDatabase) -> AsyncIterator[Ground]:
    made = Ground(dsn, database)
    await made.writer.start()
    await made.linker.start()
    try:
        yield made
    finally:
        await made.writer.close()
        await made.linker.close()
