"""Which engine decides for a gateway, and whether what it says counts: who may change that."""

from collections.abc import Mapping
from typing import Any

from freehold.kernel.errors import NotFound, ValidationFailed
from freehold.kernel.request import Request
from freehold.ports.database import Database
from freehold.ports.enforcement import GovernedGateway, GovernedGateways
from freehold.ports.resources import Resource
from freehold.services.policy.loosening import Loosened, Loosening, digest_of, refuses
from freehold.services.policy.model import EngineRow
from freehold.services.policy.modes import PolicyDecisions
from freehold.services.policy.store import PolicyStore
from freehold.services.policy.validation import rules_of

Configuration = Mapping[str, Any]
"""A gateway's `policyEngineConfiguration`: arn, mode."""


class GatewayAttachments:
    """Implements `ports.enforcement.Attachments`."""

    def __init__(
        self,
        *,
        database: Database,
        store: PolicyStore,
        gateways: GovernedGateways,
        loosening: Loosening,
        decisions: PolicyDecisions,
    ) -> None:
        self._database, self._store, self._gateways = database, store, gateways
        self._loosening, self._decisions = loosening, decisions

    async def check(
        self,
        request: Request,
        gateway_arn: str | None,
        before: Configuration | None,
        after: Configuration | None,
    ) -> None:
        before, after = _settled(before), _settled(after)
        if before == after:
            return
        coming = None if after is None else await self._engine(request.tenant, after["arn"])
        if gateway_arn is None:
            return
        await self._decisions.mode_change(
            request, gateway_arn, {"from": _shown(before), "to": _shown(after)}
        )
        if before is not None and before["mode"] == "ENFORCE":
            await self._guard(request, gateway_arn, before, after, coming)

    async def _engine(self, tenant: str, engine_arn: str) -> Resource:
        engine = await self._store.find(tenant, engine_arn)
        if engine is None:
            raise ValidationFailed(
                f"policyEngineConfiguration: there is no such policy engine: {engine_arn}"
            )
        if engine.status != "ACTIVE":
            raise ValidationFailed(
                f"policyEngineConfiguration: policy engine {engine.id} is {engine.status}"
            )
        return engine

    async def _guard(
        self,
        request: Request,
        gateway_arn: str,
        before: Configuration,
        after: Configuration | None,
        coming: Resource | None,
    ) -> None:
        """What an engine denied may pass only as its own tag says. One that is gone has none."""
        guarding = await self._store.find(request.tenant, before["arn"])
        if guarding is None or not refuses(guarding):
            return
        old = await self._store.load(request.tenant, guarding.id)
        about = ["UpdateGateway", gateway_arn, old.id, old.version, _shown(after)]
        if after is None or after["mode"] != "ENFORCE" or coming is None:
            line = f"all that the engine denies at {gateway_arn} would pass"
            loosened: Loosened | None = Loosened(digest=digest_of(about), lines=(line,))
        else:
            new = await self._store.load(request.tenant, coming.id)
            gateway = await self._gateways.get(request.tenant, gateway_arn)
            loosened = await self._swapped(gateway, old, new, about)
        passage = await self._loosening.passage(
            request, guarding, old.version, loosened, operation="UpdateGateway"
        )
        async with self._database.transaction() as connection:
            await self._loosening.use(connection, request.tenant, passage)

    async def _swapped(
        self, gateway: GovernedGateway | None, old: EngineRow, new: EngineRow, about: list[str]
    ) -> Loosened | None:
        if gateway is None:
            raise NotFound("there is no such gateway")
        compared = [(gateway, rules_of(old, gateway.arn), rules_of(new, gateway.arn))]
        names = {each.id: each.name for each in (*old.policies, *new.policies)}
        return await self._loosening.compared(compared, names, about=[*about, new.version])


def _settled(configuration: Configuration | None) -> Configuration | None:
    """None for a gateway without an engine, however that is said."""
    return configuration if configuration and configuration.get("arn") else None


def _shown(configuration: Configuration | None) -> str:
    if configuration is None:
        return "no engine"
    return f"{configuration['mode']} {configuration['arn']}"
