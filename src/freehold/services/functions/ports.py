"""What functions need from others."""

from typing import Any, Protocol

import msgspec

from freehold.ports.functions import Invoked


class InstanceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A runtime to be made or changed. The bundle is in the tenant's own object storage."""

    name: str
    runtime: str
    entry_point: tuple[str, ...]
    bucket: str
    key: str
    environment: dict[str, str]
    tags: dict[str, str]
    description: str

    def __repr__(self) -> str:
        return f"InstanceSpec({self.name})"


class InstanceState(msgspec.Struct, frozen=True):
    """As a runtime's: CREATING, READY, CREATE_FAILED, ...; `reason` where it failed."""

    status: str
    reason: str = ""


class InstanceBroke(Exception):
    """It died, or did not answer as the bootstrap does. `unreached`: no event got to it."""

    def __init__(self, message: str, *, unreached: bool = False) -> None:
        super().__init__(message)
        self.message, self.unreached = message, unreached


class Instances(Protocol):
    """Agent runtimes, as functions use them. Every method raises NotFound for one that is gone."""

    async def create(self, tenant: str, spec: InstanceSpec) -> str:
        """The runtime's id. Its build goes on."""

    async def update(self, tenant: str, runtime_id: str, spec: InstanceSpec) -> None: ...

    async def delete(self, tenant: str, runtime_id: str) -> None: ...

    async def state(self, tenant: str, runtime_id: str) -> InstanceState: ...

    async def version(self, tenant: str, runtime_id: str) -> int:
        """Which one answers now: cheap, it is asked for every event. Raises Conflict while there is
        none."""

    async def send(
        self, tenant: str, runtime_id: str, session_id: str, body: bytes, *, request_id: str
    ) -> bytes:
        """One request to one session, which is begun where there is none. Raises InstanceBroke."""

    async def stop(self, tenant: str, runtime_id: str, session_id: str) -> None:
        """Does nothing where there is no such session."""


class RemoteFunctions(Protocol):
    """AWS Lambda."""

    def may_call(self, tenant: str, role: str) -> bool:
        """Whether the operator gave this tenant's role any keys."""

    async def invoke(self, invoked: Invoked) -> Any:
        """As `ports.functions.Functions`."""
