"""What a gateway asks before a tool is called or shown, and what is told of the gateway for it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from freehold.kernel.caller import Caller
from freehold.kernel.request import Request

Mode = Literal["ENFORCE", "LOG_ONLY"]


class GovernedTool(msgspec.Struct, frozen=True, kw_only=True):
    """`name` is what clients say, and the action's id; `target` the action group that it is in.
    `input_schema` is JSON Schema."""

    name: str
    target: str
    input_schema: Mapping[str, Any]


class GovernedGateway(msgspec.Struct, frozen=True, kw_only=True, eq=False, weakref=True):
    """One state of a gateway: another object after each change, so that what was compiled for it
    may be kept by it. `engine_arn` is "" and `mode` LOG_ONLY for a gateway without an engine.
    `authorizer` is its authorizerType: it says who can come in."""

    tenant: str
    id: str
    arn: str
    name: str
    authorizer: str
    engine_arn: str = ""
    mode: Mode = "LOG_ONLY"
    tools: Sequence[GovernedTool] = ()


class GovernedCall(msgspec.Struct, frozen=True, kw_only=True):
    """`tool` may be none of the gateway's `tools`: those of DYNAMIC targets are known at the call.
    `session` is the client's MCP session, "" where it has none."""

    gateway: GovernedGateway
    tool: GovernedTool
    arguments: Mapping[str, Any]
    caller: Caller
    request_id: str
    source: str = ""
    session: str = ""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """`text` is all that a client gets: the policies' ids and their reasons, and nothing else."""

    text: str


class Enforcement(Protocol):
    async def decide(self, call: GovernedCall) -> Refusal | None:
        """None where the call may go on. The decision is durable when this returns. Never allows
        because something went wrong; raises Unavailable where it can be neither made nor kept."""

    async def shown(self, gateway: GovernedGateway, caller: Caller) -> Callable[[str], bool]:
        """Whether this caller could be allowed a tool, with some arguments at some time. Of a
        gateway in LOG_ONLY, of one without an engine and of tools unknown to it: yes."""


class GovernedGateways(Protocol):
    async def get(self, tenant: str, gateway_arn: str) -> GovernedGateway | None:
        """As clients see it now. None for another tenant's too."""

    async def using(self, tenant: str, engine_arn: str) -> Sequence[GovernedGateway]:
        """Those that the engine decides for."""


class Attachments(Protocol):
    async def check(
        self,
        request: Request,
        gateway_arn: str | None,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None,
    ) -> None:
        """Before a gateway's `policyEngineConfiguration` changes. Raises ValidationFailed for an
        engine that is not there, AccessDenied for who may not change modes (a gateway that is made
        with one, and has no ARN yet, needs no such permission), Conflict for a loosening that
        nobody acknowledged. In the audit."""
