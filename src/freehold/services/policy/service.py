"""Policy engines: made, shown, described anew, deleted."""

import secrets
import string
from typing import Any

from freehold.kernel.errors import Conflict, ValidationFailed
from freehold.kernel.pages import Page
from freehold.ports.enforcement import GovernedGateways
from freehold.ports.resources import Document, Idempotency, Resource, Resources
from freehold.services.policy.acknowledgements import Acknowledgements
from freehold.services.policy.model import ENGINE, ENGINE_OPTIONS
from freehold.services.policy.store import PolicyStore

_ID_ALPHABET = string.ascii_lowercase + string.digits
_NAMES_SHOWN = 10


class EngineService:
    def __init__(
        self,
        *,
        resources: Resources,
        store: PolicyStore,
        gateways: GovernedGateways,
        acknowledgements: Acknowledgements,
    ) -> None:
        self._resources, self._store = resources, store
        self._gateways, self._acknowledgements = gateways, acknowledgements

    async def create(self, tenant: str, params: dict[str, Any]) -> Resource:
        if params.get("encryptionKeyArn"):
            raise ValidationFailed(
                "encryptionKeyArn: not available in Freehold: what a policy decided is sealed with "
                "the platform's own keys; leave it out"
            )
        tags = params.get("tags") or {}
        ENGINE_OPTIONS.check(tags)
        name = params["name"]
        engine, _ = await self._resources.create(
            tenant, ENGINE, id=suffixed(name), name=name, status="ACTIVE",
            document=described({}, params.get("description")), tags=tags,
            idempotency=idempotency("CreatePolicyEngine", params),
        )  # fmt: skip
        return engine

    async def get(self, tenant: str, engine_id: str) -> Resource:
        return await self._resources.get(tenant, ENGINE, engine_id)

    async def page(self, tenant: str, limit: int | None, token: str | None) -> Page[Resource]:
        return await self._resources.page(tenant, ENGINE, limit=limit, token=token)

    async def update(self, tenant: str, params: dict[str, Any]) -> Resource:
        return await self._resources.update(
            tenant, ENGINE, params["policyEngineId"],
            lambda engine: redescribed(engine.document, params),
        )  # fmt: skip

    async def delete(self, tenant: str, engine_id: str) -> Resource:
        engine = await self.get(tenant, engine_id)
        using = await self._gateways.using(tenant, engine.arn)
        if using:
            gateways = _some([gateway.id for gateway in using])
            raise Conflict(
                f"policy engine {engine_id} decides for gateways {gateways}; take it out of their "
                "policyEngineConfiguration first"
            )
        async with self._store.changing(tenant, engine_id) as connection:
            names = await self._store.names(connection, tenant, engine_id)
            if names:
                raise Conflict(
                    f"policy engine {engine_id} has {len(names)} policies ({_some(names)}); "
                    "delete those first"
                )
            await self._resources.delete(tenant, ENGINE, engine_id, connection=connection)
            await self._acknowledgements.forget(connection, tenant, engine_id)
        return engine


def suffixed(name: str) -> str:
    """`{name}-{random}`, of the alphabet that AgentCore's model has for policies' ids."""
    return f"{name}-{''.join(secrets.choice(_ID_ALPHABET) for _ in range(10))}"


def idempotency(operation: str, params: dict[str, Any]) -> Idempotency:
    request = {k: v for k, v in params.items() if k != "clientToken"}
    return Idempotency(operation, params.get("clientToken"), request)


def described(document: Document, description: str | None) -> Document:
    kept = {k: v for k, v in document.items() if k != "description"}
    return {**kept, "description": description} if description else kept


def redescribed(document: Document, params: dict[str, Any]) -> Document:
    """`description` unsaid: as it was; without an `optionalValue`: none."""
    change = params.get("description")
    return document if change is None else described(document, change.get("optionalValue"))


def _some(names: list[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
