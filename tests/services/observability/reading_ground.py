"""Our own API over the real store, as its edge calls it."""

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.adapters.spans.logs import PostgresLogs
from freehold.adapters.spans.postgres import PostgresSpans
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.operation import Operation
from freehold.kernel.request import Request
from freehold.ports.spans import SpanRecord
from freehold.services.observability.native import operations
from freehold.services.observability.news import DatabaseNews, TellingWriter
from freehold.services.observability.queries import Queries


@dataclass
class Reading:
    tenant: str
    store: PostgresSpans
    logs: PostgresLogs
    writer: TellingWriter
    operations: dict[str, Operation]

    async def write(self, *spans: Sequence[SpanRecord]) -> None:
        await self.writer.write([span for some in spans for span in some])

    async def ask(self, name: str, *, tenant: str | None = None, **given: Any) -> Any:
        """The answer as it goes over the wire."""
        return json.loads(msgspec.json.encode(await self._act(name, tenant, given)))

    async def lines(self, name: str, **given: Any) -> AsyncGenerator[dict[str, Any], None]:
        async for line in await self._act(name, None, given):
            assert line.endswith(b"\n")
            yield json.loads(line)

    async def _act(self, name: str, tenant: str | None, given: dict[str, Any]) -> Any:
        operation = self.operations[name]
        params = {each.name: each.default for each in operation.parameters}
        assert given.keys() <= params.keys(), "a parameter that the operation does not have"
        caller = Caller(tenant=tenant or self.tenant, principal="tests", kind=CallerKind.ACCESS_KEY)
        request = Request(caller=caller, request_id="r")
        return await operation.act(request, {**params, **given}, None)


def reading(database: PostgresDatabase, tenant: str) -> Reading:
    store, logs, news = PostgresSpans(database), PostgresLogs(database), DatabaseNews(database)
    queries = Queries(store, logs=logs, news=news)
    return Reading(
        tenant, store, logs, TellingWriter(store, news),
        {each.name: each for each in operations(queries)},
    )  # fmt: skip
