"""CloudWatch Logs' edge on loopback, over a real Postgres for answers, and stores in memory."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from log_doubles import LogsInMemory, SpansInMemory

from edge_ground import REGION, EdgeGround, OwnTenant, _listening
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.edges.logs.app import LogsEdge
from freehold.edges.pipeline import Pipeline
from freehold.edges.serving import Root
from freehold.ports.spans import SpanRecord
from freehold.services.observability.cloudwatch.api import LogsApi
from freehold.services.observability.cloudwatch.groups import LogGroups
from freehold.services.observability.cloudwatch.ports import Endpoint
from freehold.services.observability.cloudwatch.queries import Queries
from freehold.services.observability.cloudwatch.store import Answers

RUNTIME = "helper-AbCdEf1234"
GROUP = f"/aws/bedrock-agentcore/runtimes/{RUNTIME}-DEFAULT"
NOW_NS = time.time_ns()
SECOND = 1_000_000_000


class LogsGround(EdgeGround):
    answers_checked = True

    def __init__(self, database: PostgresDatabase, state: Path) -> None:
        super().__init__(database, state)
        self.spans, self.logs = SpansInMemory(), LogsInMemory()
        self.runtimes: dict[str, list[Endpoint]] = {}

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["LogsGround"]:
        async def endpoints(tenant: str) -> Sequence[Endpoint]:
            return self.runtimes.get(tenant, [])

        async def nowhere(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 418, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        self.groups = LogGroups(self.spans, self.logs, endpoints)
        api = LogsApi(
            self.groups,
            Queries(Answers(self.database), entries_max=1000),
            region=REGION,
        )
        edge = LogsEdge(
            api.handlers(),
            pipeline=Pipeline(authorizer=OwnTenant(), calls_in_flight_max=100),
            keys=self.access_keys, region=REGION, otherwise=nowhere,
        )  # fmt: skip
        async with _listening(Root({b"/": edge}, otherwise=nowhere)) as self.endpoint:
            yield self


def a_span(tenant: str, number: int = 1, **more: Any) -> SpanRecord:
    given: dict[str, Any] = {
        "trace_id": f"{tenant}{7:020x}", "span_id": f"{number:016x}", "name": f"step {number}",
        "started_ns": NOW_NS - (60 - number) * SECOND, "ended_ns": NOW_NS - (59 - number) * SECOND,
        "origin": "agent", "scope": "strands.telemetry.tracer", "scope_version": "1.2",
        "agent_id": RUNTIME, "endpoint": "DEFAULT", "session_id": f"session-of-{tenant}-1",
    }  # fmt: skip
    return SpanRecord(tenant=tenant, **{**given, **more})
