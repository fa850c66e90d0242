"""Gateways, as the MCP edge sees them."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Literal, Protocol

import msgspec

from freehold.kernel.caller import Caller
from freehold.kernel.request import Request
from freehold.ports.targets import Json, Talk
from freehold.ports.tokens import TokenRules

INVOKE = "bedrock-agentcore:InvokeGateway"
"""The operation that every call through a gateway is authorized as; AWS's name of it."""

REFUSED = "freehold/refused"
"""In a result's `_meta`: nothing was called, and what of the gateway's did not let it."""

AuthorizerType = Literal["CUSTOM_JWT", "AWS_IAM", "NONE", "AUTHENTICATE_ONLY"]


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """How a gateway is entered, and what it says of itself. `versions`: MCP's that it speaks, all
    of ours where it names none. `ready` is False while it is being made or deleted."""

    tenant: str
    gateway_id: str
    arn: str
    name: str
    authorizer: AuthorizerType
    token_rules: TokenRules | None = None
    scopes: tuple[str, ...] = ()
    """To be advertised: what a token should have."""
    versions: tuple[str, ...] = ()
    instructions: str = ""
    session_seconds: int = 3600
    streaming: bool = True
    debug: bool = False
    ready: bool = True


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """Who speaks MCP, for one request. `session` is "" in the stateless era."""

    era: Literal["legacy", "modern"]
    version: str
    talk: Talk
    session: str = ""
    capabilities: Json = {}
    info: Json = {}
    log_level: str = ""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON-RPC request, or a notification (no `id`). `params` has its `_meta`."""

    method: str
    params: Json = {}
    id: str | int | None = None


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Of the era with sessions: what `initialize` settled. Kept in the store, so that any worker
    knows it, and a restart does not lose it. `id` opens nothing without its `principal`."""

    id: str
    tenant: str
    gateway_id: str
    principal: str
    version: str
    capabilities: Json
    info: Json
    log_level: str = ""


class Sessions(Protocol):
    async def begin(
        self, door: Door, caller: Caller, *, version: str, capabilities: Json, info: Json
    ) -> Session: ...

    async def find(self, id: str, door: Door, caller: Caller) -> Session | None:
        """None where it is over, never was, or belongs to another principal or gateway."""

    async def set_log_level(self, session: Session, level: str) -> None: ...

    async def end(self, session: Session) -> None: ...


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """About a session, from the worker that a request came to, for the one that has what it is
    about: `key` says what. "ended" is for all."""

    session: str
    kind: Literal["reply", "cancel", "resume", "events", "ended"]
    key: str = ""
    body: Json = {}


class Handover(Protocol):
    """Between the workers of one installation. A letter that nobody waits for is lost."""

    async def send(self, letter: Letter) -> None: ...

    def listen(self, wanted: Callable[[Letter], bool], heard: Callable[[Letter], None]) -> None:
        """`heard` gets every letter that `wanted`, shown it without its body, says yes to; those
        that this worker sent itself too."""


class Gateways(Protocol):
    """What MCP's methods mean behind a gateway. `answer` raises `ports.targets.RpcRefused`."""

    async def door(self, gateway_id: str) -> Door | None:
        """Of any tenant: it opens nothing. Cached."""

    async def capabilities(self, door: Door) -> Json:
        """MCP's ServerCapabilities, for initialize and server/discover."""

    async def answer(
        self, request: Request, door: Door, client: Client, message: Message
    ) -> dict[str, Any]:
        """The `result` of every method but initialize, ping, server/discover, logging/setLevel and
        subscriptions/listen, which are the edge's own."""

    async def tell(self, request: Request, door: Door, client: Client, message: Message) -> None:
        """A notification of the client's, such as notifications/roots/list_changed."""

    def changes(
        self, request: Request, door: Door, client: Client, uris: tuple[str, ...] = ()
    ) -> AsyncIterator[Json]:
        """Notifications of the gateway's own and its targets', until it is closed: {"method",
        "params"} of list_changed, resources/updated, log lines outside a request. `uris`: the
        resources that a client without a session wants to hear of."""
