"""A log of decisions with its real parts on the tests' database."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

from freehold.adapters.postgres.dedicated import DedicatedConnection
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.secrets.envelope import EnvelopeSealer
from freehold.adapters.secrets.keyring import Keyring
from freehold.kernel import clock, ids
from freehold.services.policy.decision_lines import new_id
from freehold.services.policy.decision_store import DecisionLog, Filter, Kept
from freehold.services.policy.decisions import DecisionWriter
from freehold.services.policy.model import Decided

ARN = "arn:aws:bedrock-agentcore:us-east-1:{tenant}:{resource}"
LANE = "tests policy decisions"


def sealer(key: bytes = b"k" * 32) -> EnvelopeSealer:
    return EnvelopeSealer(Keyring.parse(f"1:{base64.b64encode(key).decode()}", source="a test"))


def gateway_arn(tenant: str, gateway_id: str) -> str:
    return ARN.format(tenant=tenant, resource=f"gateway/{gateway_id}")


def engine_arn(tenant: str, engine_id: str) -> str:
    return ARN.format(tenant=tenant, resource=f"policy-engine/{engine_id}")


def decided(tenant: str, **more: Any) -> Decided:
    gateway_id = more.pop("gateway_id", "bank-abcdefghij")
    engine_id = more.pop("engine_id", "rules-abcdefghij")
    usual: dict[str, Any] = {
        "at": clock.now(),
        "request_id": ids.request_id(),
        "engine_version": "e1",
        "schema_version": "s1",
        "mode": "ENFORCE",
        "tool": "bank___transfer",
        "target": "bank",
        "principal": "anna",
        "principal_type": "OAuthUser",
        "principal_kind": "oauth_user",
        "user": "https://login.example.com|anna",
        "claims": {"sub": "anna", "email": "anna@example.com"},
        "arguments": {"amount": 20, "to": "DE02"},
        "context": {"time": {"__extn": {"fn": "datetime", "arg": "2026-11-21T20:00:00.000Z"}}},
        "allowed": True,
        "policies": ("may-transfer",),
        "microseconds": 90,
    }
    usual |= more
    return Decided(
        tenant=tenant,
        id=str(new_id(usual["at"])),
        gateway_id=gateway_id,
        gateway_arn=gateway_arn(tenant, gateway_id),
        engine_arn=engine_arn(tenant, engine_id),
        **usual,
    )


class Ground:
    def __init__(self, dsn: str, database: PostgresDatabase) -> None:
        self.database = database
        self.lane = DedicatedConnection(dsn, application_name=LANE)
        self.writer = DecisionWriter(self.lane, sealer())
        self.log = DecisionLog(database, sealer())

    async def kept(self, tenant: str, **what: Any) -> list[Kept]:
        page = await self.log.page(tenant, Filter(**what), limit=1000, inputs=True)
        return list(page.items)

    async def requests(self, tenant: str, **what: Any) -> list[str]:
        return [each.request_id for each in await self.kept(tenant, **what)]

    async def cut(self) -> int:
        """The server ends the writer's connection, as it does when it is killed. How many it
        were."""
        async with self.database.connection() as connection:
            ended = await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = %s AND datname = current_database()",
                (LANE,),
            )
            return ended.rowcount


def days_ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)
