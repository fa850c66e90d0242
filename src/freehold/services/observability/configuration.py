"""What a tenant says about its own telemetry: which rules redact it, and whether clients' content
is kept. Read for every batch, so kept in memory; a change is heard at once."""

import asyncio
from typing import Any

import msgspec

from freehold.kernel.operation import Operation, Params
from freehold.kernel.request import Request
from freehold.ports.database import Database
from freehold.services.observability.redaction import BUILT_IN, SECRETS, Redactor, Rule

CHANNEL = "freehold_telemetry_configuration"
_KNOWN_MAX = 10_000


class Redaction(msgspec.Struct, frozen=True, kw_only=True, rename="camel",
                forbid_unknown_fields=True):  # fmt: skip
    """`builtIn`: names of rules that are there already; by default those for secrets."""

    built_in: list[str] = msgspec.field(default_factory=lambda: list(SECRETS))
    rules: list[Rule] = []


class TelemetryConfiguration(msgspec.Struct, frozen=True, kw_only=True, rename="camel",
                             forbid_unknown_fields=True):  # fmt: skip
    """`captureClients`: keep what prompts, answers and tools' arguments clients outside send. Of
    agents that run here each runtime's own option decides."""

    redaction: Redaction = msgspec.field(default_factory=Redaction)
    capture_clients: bool = False


class Compiled(msgspec.Struct, frozen=True):
    configuration: TelemetryConfiguration
    redactor: Redactor

    @property
    def capture_clients(self) -> bool:
        return self.configuration.capture_clients


class TelemetryConfigurations:
    """Implements `content.Choices`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, Compiled] = {}
        self._changes = 0
        self._reading = asyncio.Lock()
        self._default = _compiled(TelemetryConfiguration())
        database.listen(CHANNEL, self._heard)

    async def of(self, tenant: str) -> Compiled:
        known = self._known.get(tenant)
        if known is None:
            async with self._reading:
                known = self._known.get(tenant) or await self._read(tenant)
        return known

    async def put(self, tenant: str, configuration: TelemetryConfiguration) -> None:
        """Raises ValidationFailed."""
        _compiled(configuration)
        document = msgspec.json.encode(configuration).decode()
        async with self._database.transaction() as connection:
            await connection.execute(
                "INSERT INTO telemetry_configurations (tenant, document) VALUES (%s, %s) "
                "ON CONFLICT (tenant) DO UPDATE "
                "SET document = excluded.document, changed_at = now()",
                (tenant, document),
            )
            await self._database.notify(connection, CHANNEL, tenant)
        self._heard(tenant)

    async def _read(self, tenant: str) -> Compiled:
        changes = self._changes
        async with self._database.connection() as connection:
            found = await connection.execute(
                "SELECT document::text FROM telemetry_configurations WHERE tenant = %s", (tenant,)
            )
            row = await found.fetchone()
        compiled = self._default
        if row is not None:
            compiled = _compiled(msgspec.json.decode(row[0], type=TelemetryConfiguration))
        # What was read may be old by now: of a change in the meantime we have heard.
        if changes == self._changes:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[tenant] = compiled
        return compiled

    def _heard(self, tenant: str) -> None:
        """ "" when any may have changed."""
        self._changes += 1
        if tenant:
            self._known.pop(tenant, None)
        else:
            self._known.clear()


def configuration_operations(configurations: TelemetryConfigurations) -> list[Operation]:
    async def get(request: Request, params: Params, body: Any) -> TelemetryConfiguration:
        return (await configurations.of(request.tenant)).configuration

    async def put(
        request: Request, params: Params, body: TelemetryConfiguration
    ) -> TelemetryConfiguration:
        await configurations.put(request.tenant, body)
        return body

    rules = ", ".join(BUILT_IN)
    return [
        Operation(
            name="GetTelemetryConfiguration", method="GET", path="/telemetry-configuration",
            summary="What is redacted from this account's telemetry, and whether content that "
            "clients outside send is kept",
            act=get, answer=TelemetryConfiguration,
        ),
        Operation(
            name="PutTelemetryConfiguration", method="PUT", path="/telemetry-configuration",
            summary="Sets what is redacted from telemetry that comes in from now on. Built-in "
            f"rules: {rules}. Rules of your own are RE2 patterns",
            act=put, body=TelemetryConfiguration, answer=TelemetryConfiguration,
        ),
    ]  # fmt: skip


def _compiled(configuration: TelemetryConfiguration) -> Compiled:
    redaction = configuration.redaction
    return Compiled(configuration, Redactor(redaction.built_in, redaction.rules))
