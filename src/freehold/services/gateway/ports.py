"""What the gateway needs from others."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from freehold.kernel.body import Body
from freehold.kernel.caller import Caller
from freehold.ports.connectors import Connector
from freehold.ports.targets import Credential, Json, Place


class ConsentNeeded(Exception):
    """A person has to agree at a provider first: `url` is where, `session` what to ask again with.
    Their browser comes back to us, and must be theirs."""

    def __init__(self, url: str, session: str) -> None:
        super().__init__("a person's consent is needed")
        self.url, self.session = url, session


class Outbound(Protocol):
    async def credential(
        self, place: Place, configuration: Json, *, caller: Caller | None, request_id: str
    ) -> Credential:
        """By a member of `credentialProviderConfigurations` ({} for none at all). `caller` is None
        where the platform itself asks, to describe a target.

        Raises ConsentNeeded; AccessDenied, Unavailable, ValidationFailed with words that hold no
        secret. Each use is in the audit."""


class Documents(Protocol):
    async def read(self, tenant: str, uri: str, *, bytes_max: int) -> bytes:
        """An object of the tenant's own by its s3:// URI. Raises ValidationFailed, which says what
        is wrong with it."""


class GatewayIdentities(Protocol):
    """A gateway has a workload identity, like a runtime."""

    def arn(self, gateway_arn: str) -> str: ...

    async def ensure(self, tenant: str, gateway_id: str) -> None: ...

    async def forget(self, tenant: str, gateway_id: str) -> None: ...


class Connectors(Protocol):
    """Curated sets of operations of well-known services, each with its authorization filled in."""

    def ids(self, family: Literal["mcp", "http", "inference"]) -> Sequence[str]:
        """Those that a target of this family can name."""

    async def settled(self, configuration: Json, credentials: list[Json]) -> list[Json]:
        """`credentialProviderConfigurations` of an mcp.connector target, with what its connector
        knows filled in. Raises ValidationFailed, also for a configuration that is of no use."""

    async def all(self) -> Sequence[Connector]:
        """Of the family mcp."""


class RuntimeCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call of an agent of this platform's, through a target that names it. `headers`: lower-case
    names, those alone that may go on. `credential` says as whom it is called. `card`: its agent
    card is asked for."""

    caller: Caller
    credential: Credential = Credential()
    tenant: str
    arn: str
    qualifier: str | None
    session_id: str | None
    user: str | None
    request_id: str
    headers: Mapping[str, str]
    body: Body
    mcp_session: str | None = None
    card: bool = False


class RuntimeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`body` may have an `aclose`, which gives the agent's session back."""

    status: int
    session_id: str
    content_type: str
    headers: Mapping[str, str]
    body: bytes | AsyncIterator[bytes]
    mcp_session: str | None = None


class Runtimes(Protocol):
    async def invoke(self, call: RuntimeCall) -> RuntimeAnswer:
        """Answered as a call from outside is: what is not allowed is its status 403, and what the
        credential's owner may not know of is 404. Raises Unreachable."""
