"""What stands behind a gateway: APIs, functions, MCP servers, described as tools and called."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import msgspec

Json = dict[str, Any]
Kind = Literal["tool", "resource", "resource_template", "prompt"]


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a target offers, as the target itself names it.

    `name` is a tool's or prompt's name, a resource's URI, a template's URI template. `document` is
    MCP's own object (Tool, Resource, ResourceTemplate, Prompt) as JSON, every member kept. `plan`
    is what the kind of target needs for a call, JSON too: how an OpenAPI operation's request is
    put together. It is stored, and no client sees it.
    """

    kind: Kind = "tool"
    name: str
    document: Json
    plan: Json = {}


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What could not be taken over, for the author of the document. `where` is a JSON pointer or
    "GET /pets"; `why` one sentence that says what to do. `skipped`: it is not a tool; else it is
    one, with the restriction that `why` names."""

    where: str
    why: str
    skipped: bool = True


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """`server` is what the target says of itself, to be stored: for an MCP server its eras,
    versions, capabilities, instructions."""

    definitions: tuple[Definition, ...] = ()
    problems: tuple[Problem, ...] = ()
    server: Json = {}


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A target as its gateway knows it. `configuration` is the member of AgentCore's
    TargetConfiguration union that it was created with ({"endpoint": ...} of `mcp.mcpServer`),
    documents on S3 resolved into `inlinePayload`. `server` is what `describe` last said."""

    tenant: str
    gateway_id: str
    gateway_arn: str
    target_id: str
    name: str
    kind: str
    """"mcp.openApiSchema", "mcp.smithyModel", "mcp.lambda", "mcp.mcpServer", "mcp.connector"."""
    configuration: Json
    server: Json = {}
    role_arn: str = ""
    """The gateway's own role: which of AWS's keys it may sign with, where the operator gave any."""


RequestSigner = Callable[[str, str, Mapping[str, str], bytes], Mapping[str, str]]
"""(method, url, headers, body) to the headers to send: SigV4 signs the whole request."""


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """What goes out with one request. `owner` names whose it is ("gateway", or a user), without a
    secret: what is kept for a target (an MCP session, a list) is kept for one owner."""

    owner: str = "gateway"
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    signer: RequestSigner | None = None

    def __repr__(self) -> str:
        return f"Credential({self.owner})"


class CannotAsk(Exception):
    """The client of this call takes no questions, or not this one."""


class Talk(Protocol):
    """Back to the client that a call came from, while the call is under way."""

    async def notify(self, method: str, params: Json) -> None:
        """Progress, log lines. Dropped where the client cannot take them."""

    async def ask(self, method: str, params: Json) -> Json:
        """`elicitation/create`, `sampling/createMessage`, `roots/list` of the era with sessions:
        the client's result. Raises CannotAsk."""


class Silent:
    """A `Talk` with nobody at the other end."""

    async def notify(self, method: str, params: Json) -> None:
        pass

    async def ask(self, method: str, params: Json) -> Json:
        raise CannotAsk("nobody is there to be asked")


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """One request to a target, governed already.

    `headers` are the client's that the target may see, and the trace's. `session` is the client's
    MCP session with the gateway ("" in the stateless era), `era` the one that the client speaks,
    `client` the capabilities that it declared, `meta` the request's `_meta`. `seconds_max` is for
    all of it.
    """

    request_id: str
    message_id: str | int | None = None
    owner: str
    """Who calls, so that nothing kept is shared between two: tenant and principal."""
    credential: Credential = Credential()
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    session: str = ""
    era: Literal["legacy", "modern"] = "modern"
    client: Json = {}
    meta: Json = {}
    rest: Json = {}
    """What else the params of a `tools/call` had, for targets that speak MCP: `inputResponses` and
    `requestState` of the modern era, `task` of the legacy one; for `listen` its
    `resourceSubscriptions`."""
    talk: Talk = Silent()
    seconds_max: float = 30.0


class TargetFailed(Exception):
    """The target could not be reached, or did not answer as it should.

    The message is for whoever called (a model): what happened, and what may help; no secret.
    `status` is the target's HTTP status, where there was one. `retriable`: nothing was done by it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        timed_out: bool = False,
        retriable: bool = False,
        unauthorized: bool = False,
    ) -> None:
        super().__init__(message)
        self.message, self.status = message, status
        self.timed_out, self.retriable, self.unauthorized = timed_out, retriable, unauthorized


class RpcRefused(Exception):
    """A JSON-RPC error, on its way through as it is."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


class TargetClient(Protocol):
    """One kind of target; keeps connections, and no state that a restart would lose."""

    async def describe(self, place: Place, errand: Errand) -> Described:
        """Raises TargetFailed; ValidationFailed for a document that is none."""

    async def call(
        self, place: Place, definition: Definition, arguments: Json, errand: Errand
    ) -> Json:
        """MCP's CallToolResult. What the target itself refuses is a result with `isError`; Raises
        TargetFailed where there is none, RpcRefused where an MCP server answers an error."""


class McpServerClient(TargetClient, Protocol):
    """Targets that speak MCP themselves take every method."""

    async def request(self, place: Place, method: str, params: Json, errand: Errand) -> Json:
        """The result of `resources/read`, `prompts/get`, `completion/complete`, `tasks/get`, ...
        Raises TargetFailed, RpcRefused."""
