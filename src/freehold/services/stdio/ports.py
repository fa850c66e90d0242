"""What stdio servers need from others."""

from typing import Protocol

import msgspec


class ServerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """An agent runtime to be made or changed. The bundle is in the tenant's own object storage;
    `digest` is of all that it is made from."""

    name: str
    runtime: str
    entry_point: tuple[str, ...]
    bucket: str
    key: str
    digest: str
    environment: dict[str, str]
    tags: dict[str, str]
    description: str

    def __repr__(self) -> str:
        return f"ServerSpec({self.name})"


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """`status` is a runtime's: CREATING, READY, UPDATE_FAILED, ...; `reason` where it failed.
    `answers`: there is a version that takes calls, be it an older one."""

    arn: str
    digest: str
    status: str
    answers: bool
    reason: str = ""


class ServerRuntimes(Protocol):
    """Agent runtimes, as stdio servers use them."""

    async def find(self, tenant: str, name: str) -> Running | None: ...

    async def create(self, tenant: str, spec: ServerSpec) -> None:
        """Its build goes on. Raises Conflict where there is one of this name."""

    async def update(self, tenant: str, spec: ServerSpec) -> None:
        """The one of this name; it answers as before until the new version is built."""
