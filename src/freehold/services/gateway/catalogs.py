"""Catalogs in a worker's memory: loaded once, dropped when something of their gateway changes."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Protocol

from freehold.ports.mcp import Door
from freehold.ports.resources import Resource
from freehold.ports.targets import Definition, Json, Place
from freehold.ports.tokens import TokenRules, token_rules
from freehold.services.gateway import limits, rules
from freehold.services.gateway.catalog import Behind, Catalog
from freehold.services.gateway.exposure import exposure
from freehold.services.gateway.model import (
    SECONDS_DEFAULT,
    SECONDS_MAX,
    TAG_SECONDS_OPEN,
    TAG_TIMEOUT,
    GatewayRow,
    TargetRow,
    changed_gateway,
)

_KEPT_MAX = 1000
_SESSION_SECONDS = 3600
_BREAKER_SECONDS = 30.0
_PRIORITY = 1000
_CLOSED = frozenset({"CREATING", "DELETING", "FAILED"})


class Rows(Protocol):
    async def load(self, gateway_id: str) -> GatewayRow | None: ...


class LoadedCatalogs:
    """Implements `mcp.Catalogs`. That there is no such gateway is not kept: anybody may ask."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._kept: OrderedDict[str, Catalog] = OrderedDict()
        self._loading: dict[str, asyncio.Task[Catalog | None]] = {}
        self._changes = 0
        self._watching: dict[str, list[Callable[[], None]]] = {}
        self.forget: Callable[[str], None] = lambda _: None
        """Told the gateway that changed; "" for any."""

    async def get(self, gateway_id: str) -> Catalog | None:
        kept = self._kept.get(gateway_id)
        if kept is not None:
            return kept
        task = self._loading.get(gateway_id)
        if task is None:
            task = asyncio.create_task(self._load(gateway_id))
            self._loading[gateway_id] = task
            task.add_done_callback(lambda _: self._loading.pop(gateway_id, None))
        return await asyncio.shield(task)

    async def token_rules(self, tenant: str, id: str, endpoint: str) -> TokenRules | None:
        """Implements `services.access.ports.Authorizers`."""
        catalog = await self.get(id)
        if catalog is None or catalog.door.tenant != tenant:
            return None
        return catalog.door.token_rules

    def watch(self, gateway_id: str, heard: Callable[[], None]) -> Callable[[], None]:
        self._watching.setdefault(gateway_id, []).append(heard)

        def end() -> None:
            watching = self._watching.get(gateway_id, [])
            with contextlib.suppress(ValueError):
                watching.remove(heard)
            if not watching:
                self._watching.pop(gateway_id, None)

        return end

    def heard_change(self, payload: str) -> None:
        """Of the resources' channel."""
        gateway_id = changed_gateway(payload)
        if gateway_id is not None:
            self._drop(gateway_id)

    def heard_gateway(self, payload: str) -> None:
        """Of the gateways' own: "{tenant}/{gateway_id}", or anything may have changed ("")."""
        self._drop(payload.partition("/")[2])

    def _drop(self, gateway_id: str) -> None:
        self._changes += 1
        if gateway_id:
            self._kept.pop(gateway_id, None)
        else:
            self._kept.clear()
        self.forget(gateway_id)
        watched = [gateway_id] if gateway_id else list(self._watching)
        for id in watched:
            for heard in list(self._watching.get(id, ())):
                heard()

    async def _load(self, gateway_id: str) -> Catalog | None:
        while True:
            changes = self._changes
            row = await self._rows.load(gateway_id)
            if row is None:
                return None
            if changes == self._changes:
                break
        catalog = catalog_of(row)
        self._kept[gateway_id] = catalog
        if len(self._kept) > _KEPT_MAX:
            self._kept.popitem(last=False)
        return catalog


def catalog_of(row: GatewayRow) -> Catalog:
    gateway = row.resource
    mcp = (gateway.document.get("protocolConfiguration") or {}).get("mcp") or {}
    return Catalog(
        door_of(gateway),
        [behind_of(row, target) for target in row.targets],
        _definitions(row),
        naming=row.naming,
        searches=mcp.get("searchType") == "SEMANTIC",
        pages=not mcp.get("disableMcpListToolsPagination"),
        interceptors=tuple(gateway.document.get("interceptorConfigurations") or ()),
        role_arn=gateway.document.get("roleArn", ""),
        limits=limits.compiled(
            f"{row.tenant}|{gateway.id}",
            [(each.id, each.document) for each in row.rate_limits],
            gateway.tags,
        ),
        action_groups=row.groups,
        rules=rules.compiled([(rule.id, rule.document) for rule in row.rules]),
        tool_access=row.tool_access,
        policies=gateway.document.get("policyEngineConfiguration"),
    )


def door_of(gateway: Resource) -> Door:
    document = gateway.document
    mcp = (document.get("protocolConfiguration") or {}).get("mcp") or {}
    session = mcp.get("sessionConfiguration") or {}
    streaming = mcp.get("streamingConfiguration") or {}
    tokens = token_rules(document)
    return Door(
        tenant=gateway.tenant,
        gateway_id=gateway.id,
        arn=gateway.arn,
        name=gateway.name,
        authorizer=document["authorizerType"],
        token_rules=tokens,
        scopes=tuple(sorted(tokens.scopes)) if tokens else (),
        versions=tuple(mcp.get("supportedVersions") or ()),
        instructions=mcp.get("instructions", ""),
        session_seconds=session.get("sessionTimeoutInSeconds", _SESSION_SECONDS),
        streaming=streaming.get("enableResponseStreaming", True),
        debug=document.get("exceptionLevel") == "DEBUG",
        ready=gateway.status not in _CLOSED,
    )


def behind_of(row: GatewayRow, target: TargetRow) -> Behind:
    resource = target.resource
    metadata = resource.document.get("metadataConfiguration") or {}
    tags = resource.tags
    per_tool = TAG_TIMEOUT + ":"
    return Behind(
        place=Place(
            tenant=row.tenant,
            gateway_id=row.resource.id,
            gateway_arn=row.resource.arn,
            target_id=target.id,
            name=target.name,
            kind=target.kind,
            configuration=target.configuration,
            server=target.server,
            role_arn=row.resource.document.get("roleArn", ""),
        ),
        status="READY" if target.serves else resource.status,
        why=_why(target),
        credential=target.credentials,
        dynamic=target.dynamic,
        priority=_priority(target.configuration),
        headers=frozenset(n.lower() for n in metadata.get("allowedRequestHeaders") or ()),
        query=frozenset(metadata.get("allowedQueryParameters") or ()),
        answer_headers=frozenset(n.lower() for n in metadata.get("allowedResponseHeaders") or ()),
        seconds=float(tags.get(TAG_TIMEOUT, _seconds(target.kind))),
        tool_seconds={
            name.removeprefix(per_tool): float(value)
            for name, value in tags.items()
            if name.startswith(per_tool)
        },
        breaker_seconds=float(tags.get(TAG_SECONDS_OPEN, _BREAKER_SECONDS)),
    )


def _seconds(kind: str) -> float:
    """A model or an agent thinks longer than a tool."""
    return SECONDS_MAX if kind.startswith(("http.", "inference.")) else SECONDS_DEFAULT


def _why(target: TargetRow) -> str:
    reasons = target.resource.document.get("_reasons") or ()
    return "; ".join(reasons) or target.resource.status.replace("_", " ").lower()


def _priority(configuration: Json) -> int:
    priority = configuration.get("resourcePriority")
    return _PRIORITY if priority is None else int(priority)


def _definitions(row: GatewayRow) -> Iterator[tuple[str, Definition, str]]:
    """In force; and, so that who calls one learns why it is gone, those in quarantine. A name that
    two want belongs to who had it first."""
    shadowed = {
        (shadow.target_id, shadow.kind, shadow.name)
        for kind in ("tool", "prompt")
        for shadow in exposure(row, kind).shadows
    }
    for target in row.targets:
        for pinned in target.pinned:
            definition = pinned.definition
            if (target.id, pinned.kind, pinned.name) in shadowed:
                continue
            if definition is not None:
                yield target.id, definition, ""
            elif pinned.state != "removed" and pinned.pending_document is not None:
                shown = Definition(
                    kind=pinned.kind, name=pinned.name, document=pinned.pending_document
                )
                why = "rejected" if pinned.state == "rejected" else pinned.pending_why
                yield target.id, shown, why or pinned.state
