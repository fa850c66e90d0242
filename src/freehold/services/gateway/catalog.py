"""A gateway as its data path knows it: in a worker's memory, until something of it changes."""

import copy
import functools
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from freehold.ports.enforcement import GovernedGateway, GovernedTool
from freehold.ports.mcp import Door
from freehold.ports.targets import Definition, Json, Kind, Place
from freehold.services.gateway import groups, param_headers
from freehold.services.gateway.arguments import Check, checker
from freehold.services.gateway.invisible import skeleton
from freehold.services.gateway.limits import LimitRules
from freehold.services.gateway.model import SEARCH_TOOL, ActionGroup
from freehold.services.gateway.naming import Naming, exposed, short
from freehold.services.gateway.rules import Rules

_TEMPLATE_PARTS_MAX = 15
_ENGINES_MAX = 16
URI_LENGTH_MAX = 4096

_SEARCH_DEFINITION: Json = {
    "name": SEARCH_TOOL,
    "title": "Find tools",
    "description": "Finds the tools of this gateway that fit a task, said in plain words.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "query": {"type": "string", "minLength": 1, "description": "What is to be done"}
        },
        "required": ["query"],
    },
    "annotations": {"readOnlyHint": True, "openWorldHint": False},
}


_PASSAGE: Json = {
    "type": "object",
    "properties": {
        "method": {"type": "string"},
        "path": {"type": "string"},
        "model": {"type": "string"},
    },
    "required": ["method", "path"],
}
_MCP_REQUEST: Json = {
    "type": "object",
    "properties": {
        "method": {"type": "string"},
        "uri": {"type": "string"},
        "name": {"type": "string"},
    },
    "required": ["method"],
}


class Behind(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A target. `why` says what is wrong with one that is not READY. `credential` is its
    credentialProviderConfiguration; `seconds` the time that a call of it may take, by its tool's
    name where that has its own; `headers` and `query` what of a client's request goes along, and
    `answer_headers` what of an answer comes back."""

    place: Place
    status: str
    why: str = ""
    credential: Json = {}
    dynamic: bool = False
    priority: int = 1000
    headers: frozenset[str] = frozenset()
    query: frozenset[str] = frozenset()
    answer_headers: frozenset[str] = frozenset()
    seconds: float = 30.0
    tool_seconds: Mapping[str, float] = {}
    breaker_seconds: float = 30.0

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def speaks_mcp(self) -> bool:
        return self.place.kind == "mcp.mcpServer"

    @functools.cached_property
    def as_tool(self) -> GovernedTool | None:
        """What policies see of what is asked of it and is no tool: `{target}:invoke` of an agent,
        an API or a model, `{target}:request` of an MCP server (resources, prompts, tasks)."""
        if self.speaks_mcp:
            name, schema = f"{self.name}:request", _MCP_REQUEST
        elif self.place.kind.startswith(("http.", "inference.")):
            name, schema = f"{self.name}:invoke", _PASSAGE
        else:
            return None
        return GovernedTool(name=name, target=self.name, input_schema=schema)


class Offer(msgspec.Struct, kw_only=True, eq=False, dict=True):
    """One tool, resource, template or prompt. `name` is what clients say; `listed` the JSON that
    they are shown. `quarantined` says why nobody may use it until it is approved."""

    name: str
    behind: Behind
    definition: Definition
    listed: msgspec.Raw
    quarantined: str = ""
    _check: Check | None = None
    _declared: param_headers.Declarations | None = None

    def header_mismatch(self, arguments: Json, headers: Mapping[str, str]) -> str | None:
        """Of arguments that its schema wants in headers too."""
        if self._declared is None:
            schema = self.definition.document.get("inputSchema") or {}
            self._declared = param_headers.declared(schema)
        if not self._declared:
            return None
        return param_headers.mismatch(self._declared, arguments, headers)

    def problem_with(self, arguments: Json) -> str | None:
        """Raises ValueError where the tool's own schema is of no use."""
        if self._check is None:
            self._check = checker(self.definition.document.get("inputSchema") or {})
        return self._check(arguments)

    @functools.cached_property
    def governed(self) -> GovernedTool:
        return GovernedTool(
            name=self.name,
            target=self.behind.name,
            input_schema=self.definition.document.get("inputSchema") or {},
        )

    @property
    def seconds(self) -> float:
        own = self.behind.tool_seconds
        return own.get(self.definition.name, self.behind.seconds)


def offer(behind: Behind, definition: Definition, naming: Naming, quarantined: str = "") -> Offer:
    name = definition.name
    document = definition.document
    if definition.kind in ("tool", "prompt"):
        name = exposed(behind.name, definition.name, naming)
        document = {**document, "name": name}
    return Offer(
        name=name,
        behind=behind,
        definition=definition,
        listed=msgspec.Raw(msgspec.json.encode(document)),
        quarantined=quarantined,
    )


def search_listed() -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(_SEARCH_DEFINITION))


class Catalog:
    """Everything of one gateway. `rows` are (target's id, definition, why it is in quarantine)."""

    def __init__(
        self,
        door: Door,
        targets: Sequence[Behind],
        rows: Iterable[tuple[str, Definition, str]],
        *,
        naming: Naming = "prefixed",
        searches: bool = False,
        pages: bool = True,
        interceptors: tuple[Json, ...] = (),
        role_arn: str = "",
        limits: LimitRules | None = None,
        action_groups: Sequence[ActionGroup] = (),
        rules: Rules | None = None,
        tool_access: Literal["allow", "deny"] = "allow",
        policies: Json | None = None,
    ) -> None:
        self.door, self.naming, self.searches, self.pages = door, naming, searches, pages
        self.interceptors, self.role_arn = interceptors, role_arn
        self.limits = limits or LimitRules()
        self.access = groups.compiled(action_groups, tool_access)
        self.rules = rules or Rules()
        self._policies = policies or {}
        self._by_engine: dict[str, Catalog] = {}
        self.targets = {behind.name: behind for behind in targets}
        self.ready = [behind for behind in targets if behind.status == "READY"]
        self.dynamic = [behind for behind in self.ready if behind.dynamic]
        by_id = {behind.place.target_id: behind for behind in targets}
        self._offers: dict[Kind, dict[str, Offer]] = {}
        self._short: dict[str, Offer] = {}
        for target_id, definition, quarantined in rows:
            behind = by_id.get(target_id)
            # What waits for its next synchronisation keeps what it had; what never was has nothing.
            if behind is not None and not behind.dynamic:
                self._add(offer(behind, definition, naming, quarantined))
        self.templates = [
            (template_pattern(each.definition.name), each)
            for each in self.offers("resource_template")
        ]

    def _add(self, new: Offer) -> None:
        of_kind = self._offers.setdefault(new.definition.kind, {})
        there = of_kind.get(new.name)
        if there is not None and there.behind.priority <= new.behind.priority:
            return
        of_kind[new.name] = new
        if new.definition.kind == "tool" and short(new.name) != new.name:
            self._short[short(new.name)] = new

    @functools.cached_property
    def governed(self) -> GovernedGateway:
        """As policies see it."""
        tools = {each.name: each.governed for each in self.offers("tool")}
        for behind in self.targets.values():
            if (beside := behind.as_tool) is not None:
                tools.setdefault(beside.name, beside)
        return GovernedGateway(
            tenant=self.door.tenant,
            id=self.door.gateway_id,
            arn=self.door.arn,
            name=self.door.name,
            authorizer=self.door.authorizer,
            engine_arn=self._policies.get("arn", ""),
            mode=self._policies.get("mode", "LOG_ONLY"),
            tools=tuple(tools.values()),
        )

    def decided_by(self, engine_arn: str) -> "Catalog":
        """The same with that engine in ENFORCE in place of its own. The same object while this one
        lives: what was compiled for it is kept by it."""
        found = self._by_engine.pop(engine_arn, None)
        if found is None:
            found = copy.copy(self)
            found.governed = msgspec.structs.replace(
                self.governed, engine_arn=engine_arn, mode="ENFORCE"
            )
            found._by_engine = {}
        self._by_engine[engine_arn] = found  # the last one asked for is the last to go
        if len(self._by_engine) > _ENGINES_MAX:
            del self._by_engine[next(iter(self._by_engine))]
        return found

    @functools.cached_property
    def version(self) -> str:
        """Of its tools: the same while clients are shown the same."""
        digest = hashlib.blake2b(digest_size=16)
        for each in self.offers("tool"):
            digest.update(each.listed)
        return digest.hexdigest()

    def offers(self, kind: Kind) -> list[Offer]:
        return list(self._offers.get(kind, {}).values())

    def find(self, kind: Kind, name: str) -> Offer | None:
        found = self._offers.get(kind, {}).get(name)
        return found if found is not None or kind != "tool" else self._short.get(name)

    @functools.cached_property
    def names_taken(self) -> dict[Kind, frozenset[str]]:
        """As readers take them, those in quarantine too: nobody else gets such a name meanwhile."""
        tools = {skeleton(SEARCH_TOOL), *map(skeleton, self._offers.get("tool", ()))}
        prompts = map(skeleton, self._offers.get("prompt", ()))
        return {"tool": frozenset(tools), "prompt": frozenset(prompts)}

    @property
    def mcp_servers(self) -> list[Behind]:
        return [behind for behind in self.ready if behind.speaks_mcp]

    @property
    def alone(self) -> Behind | None:
        """The target that speaks MCP, where it is the only target: it may be relayed whole."""
        return self.mcp_servers[0] if len(self.ready) == 1 and self.mcp_servers else None

    def unavailable(self) -> list[Json]:
        return [
            {"target": behind.name, "status": behind.status, "why": behind.why}
            for behind in self.targets.values()
            if behind.place.kind.startswith("mcp.") and behind.status != "READY"
        ]


def template_pattern(template: str) -> re.Pattern[str]:
    """What a URI of an RFC 6570 template looks like: an expression stands for anything without a
    slash, one with `+`, `#`, `/` or `*` for anything."""
    parts = re.split(r"\{([^{}]*)\}", template)
    if len(parts) > _TEMPLATE_PARTS_MAX:
        return re.compile(r"(?!)")  # matching could take its time
    pattern = ""
    for index, part in enumerate(parts):
        if index % 2 == 0:
            pattern += re.escape(part)
        elif part.startswith(("+", "#", "/", "?", "&")) or part.endswith("*"):
            pattern += ".*"
        else:
            pattern += "[^/]*"
    return re.compile(pattern)
