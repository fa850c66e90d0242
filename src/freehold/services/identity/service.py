"""Workload identities: made, listed, changed, deleted; and looked up for every token."""

import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from freehold.kernel.errors import Conflict, NotFound, ValidationFailed
from freehold.kernel.pages import Page
from freehold.ports.resources import Resource, Resources
from freehold.services.identity.model import (
    OF_GATEWAY,
    OF_RUNTIME,
    WORKLOAD_IDENTITY,
    checked_return_urls,
    identity_arn,
)

_CACHED_MAX = 10_000
_URLS = "allowedResourceOauth2ReturnUrls"


class WorkloadIdentities:
    """`get` is cached until something of the tenant's identities changes."""

    forget: Callable[[str, str], Awaitable[None]]
    """Told of a name (tenant, name) that is new, and of one that is gone: what was given to a
    former bearer of the name goes."""

    def __init__(self, resources: Resources, *, region: str) -> None:
        self.forget = _nothing_was_given
        self._resources, self._region = resources, region
        self._known: OrderedDict[tuple[str, str], Resource] = OrderedDict()
        self._changes = 0

    async def create(self, tenant: str, params: dict[str, Any]) -> Resource:
        name, tags = params["name"], params.get("tags") or {}
        for key in tags:
            if key.startswith("freehold:"):
                raise ValidationFailed(f"tag {key}: this kind of resource has no such setting")
        identity, made = await self._resources.create(
            tenant, WORKLOAD_IDENTITY, id=_own_id(name), name=name, status="READY",
            document={_URLS: checked_return_urls(params.get(_URLS) or [])}, tags=tags,
        )  # fmt: skip
        if made:
            await self.forget(tenant, name)
        return identity

    async def ensure_of_runtime(self, tenant: str, runtime_id: str) -> None:
        """The runtime's own, which has its id for a name. NotFound once the runtime is gone."""
        with contextlib.suppress(Conflict):  # it is there already
            await self._resources.create(
                tenant, OF_RUNTIME, id=runtime_id, name=runtime_id, status="READY",
                parent=runtime_id, document={_URLS: []},
            )  # fmt: skip

    async def ensure_of_gateway(self, tenant: str, gateway_id: str) -> None:
        """As a runtime's."""
        with contextlib.suppress(Conflict):
            await self._resources.create(
                tenant, OF_GATEWAY, id=gateway_id, name=gateway_id, status="READY",
                parent=gateway_id, document={_URLS: []},
            )  # fmt: skip

    async def get(self, tenant: str, name: str) -> Resource:
        key = (tenant, name)
        found = self._known.get(key)
        if found is None:
            changes = self._changes
            found = await self._read(tenant, name)
            if changes == self._changes:  # else what was read may be old by now
                self._known[key] = found
                if len(self._known) > _CACHED_MAX:
                    self._known.popitem(last=False)
        return found

    async def page(self, tenant: str, limit: int | None, token: str | None) -> Page[Resource]:
        return await self._resources.page(tenant, WORKLOAD_IDENTITY, limit=limit, token=token)

    async def update(self, tenant: str, params: dict[str, Any]) -> Resource:
        """Without URLs in the request, those that are there stay."""
        identity = await self._read(tenant, params["name"])
        urls = params.get(_URLS)
        changes = {} if urls is None else {_URLS: checked_return_urls(urls)}
        updated = await self._resources.update(
            tenant, WORKLOAD_IDENTITY, identity.id, lambda old: {**old.document, **changes},
            parent=identity.parent,
        )  # fmt: skip
        self._forget(tenant)
        return updated

    async def delete(self, tenant: str, name: str) -> None:
        identity = await self._read(tenant, name)
        if identity.parent:
            raise Conflict(f"the workload identity {name} goes with the resource that it is of")
        await self._resources.delete(tenant, WORKLOAD_IDENTITY, identity.id)
        self._forget(tenant)
        await self.forget(tenant, name)

    async def _read(self, tenant: str, name: str) -> Resource:
        try:
            return await self._resources.find_by_arn(
                tenant, identity_arn(self._region, tenant, name)
            )
        except NotFound:
            raise NotFound(f"workload identity {name!r} does not exist") from None

    def heard_change(self, payload: str) -> None:
        """A resource changed ("{tenant}/{kind}/{id}"), or anything may have ("")."""
        tenant, _, kind = payload.partition("/")
        if not payload or kind.startswith(WORKLOAD_IDENTITY.name + "/"):
            self._forget(tenant)

    def _forget(self, tenant: str) -> None:
        self._changes += 1
        for key in list(self._known):
            if not tenant or key[0] == tenant:
                del self._known[key]


def return_urls(identity: Resource) -> list[str]:
    return list(identity.document.get(_URLS, ()))


def _own_id(name: str) -> str:
    """Never the id of a resource of another kind, whose children would go with it."""
    return f"default:{name}"


async def _nothing_was_given(tenant: str, name: str) -> None:
    pass
