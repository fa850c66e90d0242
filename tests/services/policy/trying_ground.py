"""Decisions made by the real enforcement, in the real log, and our own API over them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from decision_ground import Ground
from policy_ground import TOOLS, TRANSFER, Gateways, engine_arn

from edge_ground import REGION, EdgeGround
from freehold.adapters.cedar.engine import CedarEngine
from freehold.adapters.cedar.statements import CedarStatements
from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel import clock, ids
from freehold.kernel.caller import Caller, CallerKind
from freehold.ports.enforcement import GovernedCall, GovernedTool
from freehold.services.policy.decisions_native import operations
from freehold.services.policy.enforcement import PolicyEnforcement
from freehold.services.policy.model import EnforcementMode, EngineRow, PolicyRow
from freehold.services.policy.trying import Trying

ENGINE_ID = "rules-abcdefghij"


class SaidEngines:
    """`services.policy.ports.Engines`, in memory."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], EngineRow] = {}

    async def load(self, tenant: str, engine_arn: str) -> EngineRow | None:
        return self.rows.get((tenant, engine_arn))


class TryGround(EdgeGround):
    """Of one tenant: an engine, a bank behind a gateway, and a clock."""

    def __init__(self, dsn: str, database: PostgresDatabase, state: Path, tenant: str) -> None:
        super().__init__(database, state)
        self.tenant = tenant
        self.decisions = Ground(dsn, database)
        self.engines, self.gateways = SaidEngines(), Gateways()
        self.at: datetime | None = None
        cedar, statements = CedarEngine(), CedarStatements()
        self.enforcement = PolicyEnforcement(
            self.engines, cedar, statements, self.decisions.writer,
            now=lambda: self.at or clock.now(),
        )  # fmt: skip
        trying = Trying(self.decisions.log, self.gateways, cedar, statements)
        self._operations = operations(self.decisions.log, trying, self.engines, region=REGION)
        self.arn = self.gateway()

    @asynccontextmanager
    async def open(self) -> AsyncIterator["TryGround"]:
        await self.decisions.writer.start()
        async with self.served({}, self._operations):
            yield self
        await self.decisions.writer.close()

    # -- what there is

    def gateway(self, name: str = "bank", tools: Sequence[GovernedTool] = TOOLS) -> str:
        arn = engine_arn(self.tenant, ENGINE_ID)
        return self.gateways.put(self.tenant, name, engine=arn, tools=tools)

    def policies(
        self, *statements: str, names: Sequence[str] = (), log_only: Sequence[str] = ()
    ) -> None:
        """The engine's, `p0`, `p1` and so on; their names are others."""
        rows = []
        for number, statement in enumerate(statements):
            mode: EnforcementMode = "LOG_ONLY" if f"p{number}" in log_only else "ACTIVE"
            name = names[number] if names else f"name{number}"
            rows.append(
                PolicyRow(id=f"p{number}", name=name, version=1, mode=mode, statement=statement)
            )
        arn = engine_arn(self.tenant, ENGINE_ID)
        self.engines.rows[self.tenant, arn] = EngineRow(
            tenant=self.tenant, id=ENGINE_ID, arn=arn, name="rules", version=ids.request_id(),
            policies=rows,
        )  # fmt: skip

    # -- what happens

    async def call(
        self,
        arguments: Mapping[str, Any],
        *,
        tool: str = TRANSFER,
        claims: Mapping[str, Any] | None = None,
        gateway: str | None = None,
        **more: Any,
    ) -> bool:
        """By the real enforcement; whether it went on."""
        governed = await self.gateways.get(self.tenant, gateway or self.arn)
        assert governed is not None
        said = {"sub": "anna", **(claims or {})}
        caller = Caller(
            tenant=self.tenant, principal="anna", kind=CallerKind.OAUTH_USER, claims=said,
            user="https://login.example.com|anna",
        )  # fmt: skip
        described = next(each for each in governed.tools if each.name == tool)
        call = GovernedCall(
            gateway=governed, tool=described, arguments=arguments, caller=caller,
            request_id=ids.request_id(), **more,
        )  # fmt: skip
        return await self.enforcement.decide(call) is None

    async def asks(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return await self.own(self.tenant, method, path, body)

    async def tried(self, **given: Any) -> "Tried":
        status, lines = await self.own(
            self.tenant, "POST", f"/policy-engines/{ENGINE_ID}/try", given
        )
        assert status == 200, lines
        return Tried(lines)


class Tried:
    """The lines of a try, in order."""

    def __init__(self, lines: list[dict[str, Any]]) -> None:
        assert all(len(line) == 1 for line in lines)
        self.changes = [line["change"] for line in lines if "change" in line]
        self.progress = [line["progress"] for line in lines if "progress" in line]
        self.summary = lines[-1]["summary"]

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Looked at, the same, newly allowed, newly denied."""
        found = self.summary
        return found["lookedAt"], found["same"], found["newlyAllowed"], found["newlyDenied"]
