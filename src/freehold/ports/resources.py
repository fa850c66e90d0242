"""Control-plane resources: runtimes, gateways, memories and the rest, in one shape."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

import msgspec

from freehold.kernel.errors import Conflict
from freehold.kernel.pages import Page
from freehold.ports.database import Connection

Document = dict[str, Any]


class ResourceKind(msgspec.Struct, frozen=True, kw_only=True):
    """What the repository must know of one kind.

    `noun` stands in messages ("agent runtime"); `arn_resource` is the path in the ARN, with
    {id}, {name} and {parent} filled in; `busy` are the statuses in which an update or a delete is
    a conflict. With `parent_kind` a create needs the parent (NotFound), and only a parent of that
    kind takes its children along when it is deleted.
    """

    name: str
    noun: str
    arn_resource: str
    service: str = "bedrock-agentcore"
    name_unique: bool = True
    versioned: bool = False
    parent_kind: str = ""
    busy: frozenset[str] = frozenset({"CREATING", "UPDATING", "DELETING"})


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """`version` counts updates from 1; `document` is the kind's own content, JSON."""

    tenant: str
    kind: str
    id: str
    arn: str
    name: str
    parent: str
    version: int
    status: str
    document: Document
    tags: dict[str, str]
    created_at: datetime
    updated_at: datetime


class Idempotency(msgspec.Struct, frozen=True):
    """A client token, and what was asked with it: the same token with other input is a conflict."""

    operation: str
    token: str | None
    request: Any


class NameTaken(Conflict):
    """Another of the same kind has the name: some operations have an error of their own for it."""


class Resources(Protocol):
    """Every method is of one tenant. Absent: NotFound. A busy status: Conflict; a taken name: its
    NameTaken.

    `connection` joins a transaction of the caller's; without it the method makes its own.
    """

    async def create(
        self,
        tenant: str,
        kind: ResourceKind,
        *,
        id: str,
        name: str,
        status: str,
        document: Document,
        tags: dict[str, str] | None = None,
        parent: str = "",
        idempotency: Idempotency | None = None,
        connection: Connection | None = None,
    ) -> tuple[Resource, bool]:
        """The resource, and whether this call made it (False: an idempotent repeat)."""

    async def get(
        self,
        tenant: str,
        kind: ResourceKind,
        id: str,
        *,
        parent: str = "",
        version: int | None = None,
        connection: Connection | None = None,
    ) -> Resource: ...

    async def find_by_name(
        self, tenant: str, kind: ResourceKind, name: str, *, parent: str = ""
    ) -> Resource | None: ...

    async def find_by_arn(self, tenant: str, arn: str) -> Resource: ...

    async def page(
        self,
        tenant: str,
        kind: ResourceKind,
        *,
        parent: str | None = None,
        name: str | None = None,
        limit: int | None = None,
        token: str | None = None,
    ) -> Page[Resource]:
        """Oldest first. `name` filters exactly."""

    async def in_status(self, kind: ResourceKind, statuses: frozenset[str]) -> list[Resource]:
        """Of every tenant, oldest first: for what the platform takes up again after a crash."""

    async def list_versions(
        self,
        tenant: str,
        kind: ResourceKind,
        id: str,
        *,
        limit: int | None = None,
        token: str | None = None,
    ) -> Page[Resource]:
        """Newest first, of a versioned kind."""

    async def update(
        self,
        tenant: str,
        kind: ResourceKind,
        id: str,
        change: Callable[[Resource], Document],
        *,
        status: str | None = None,
        parent: str = "",
        new_version: bool = False,
        name: str | None = None,
        idempotency: Idempotency | None = None,
        connection: Connection | None = None,
    ) -> Resource:
        """Lock, check the status, change. With `new_version` the old one stays readable.

        The new version's row starts with `status`; older versions keep theirs. `name` renames it:
        only for kinds whose ARN has the id.
        """

    async def set_status(
        self,
        tenant: str,
        kind: ResourceKind,
        id: str,
        status: str,
        *,
        parent: str = "",
        version: int | None = None,
        document: Document | None = None,
        connection: Connection | None = None,
    ) -> Resource:
        """Progress of the platform's own work: no busy check. Of one version, or the newest."""

    async def delete(
        self,
        tenant: str,
        kind: ResourceKind,
        id: str,
        *,
        parent: str = "",
        connection: Connection | None = None,
    ) -> None:
        """Gone with its versions, tags and children."""

    async def tag(self, tenant: str, arn: str, tags: dict[str, str]) -> None: ...

    async def untag(self, tenant: str, arn: str, keys: list[str]) -> None: ...
