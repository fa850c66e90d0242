"""Gateways, targets, rules and rate limits: their kinds, and what follows from their documents."""

from datetime import datetime
from typing import Literal, cast

import msgspec

from freehold.kernel.options import PREFIX, Options, Reader, one_of, whole_number
from freehold.ports.resources import Resource, ResourceKind
from freehold.ports.targets import Definition, Json, Kind

GATEWAY = ResourceKind(name="gateway", noun="gateway", arn_resource="gateway/{id}")
TARGET = ResourceKind(
    name="gateway-target",
    noun="gateway target",
    arn_resource="gateway/{parent}/target/{id}",
    parent_kind=GATEWAY.name,
    busy=frozenset(
        {
            "CREATING", "UPDATING", "DELETING", "SYNCHRONIZING", "CREATE_PENDING_AUTH",
            "UPDATE_PENDING_AUTH", "SYNCHRONIZE_PENDING_AUTH",
        }
    ),
)  # fmt: skip
RULE = ResourceKind(
    name="gateway-rule",
    noun="gateway rule",
    arn_resource="gateway/{parent}/rule/{id}",
    parent_kind=GATEWAY.name,
)
RATE_LIMIT = ResourceKind(
    name="gateway-rate-limit",
    noun="gateway rate limit",
    arn_resource="gateway/{parent}/rate-limit/{id}",
    parent_kind=GATEWAY.name,
)

SEPARATOR = "___"
"""Between a target's name and its tool's, as AgentCore writes it."""
SEARCH_TOOL = "x_amz_bedrock_agentcore_search"
TARGETS_MAX = 100
TOOLS_PER_TARGET_MAX = 1000
INLINE_SCHEMA_BYTES_MAX = 1 << 20
PAYLOAD_BYTES_MAX = 6 << 20
TOOL_NAME_MAX = 256
SHORT_NAME_MAX = 64
SECONDS_DEFAULT = 30.0
SECONDS_MAX = 300.0

# Settings of ours, as tags on the gateway or the target (design decision 3).
TAG_TOOL_NAMES = "freehold:tool-names"
"""On a gateway: "prefixed" (the default), "short" (at most 64 characters) or "plain"."""
TAG_TIMEOUT = "freehold:timeout-seconds"
"""On a target; `freehold:timeout-seconds:{tool}` for one tool of it."""
TAG_NEW_TOOLS = "freehold:new-tools"
"""On a target: "trust" (the default) or "approve" for tools that appear after its creation."""
TAG_REFRESH = "freehold:refresh-seconds"
"""On a target: how often its definitions are fetched again; 0 never. Unsaid: each hour for an MCP
server, never for what has a document."""
REFRESH_SECONDS_DEFAULT = 3600
TAG_LIMIT_FAILURE = "freehold:limit-failure"
"""On a gateway: "deny" (the default) or "allow" while the limits' store does not answer."""
TAG_SECONDS_OPEN = "freehold:breaker-seconds"
TAG_TOOL_ACCESS = "freehold:tool-access"
"""On a gateway: "allow" (the default) or "deny" for who is named by none of its action groups."""

MCP_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
"""What a gateway's `supportedVersions` may name."""
TARGET_WAITING = frozenset({"CREATING", "UPDATING", "SYNCHRONIZING"})
TARGET_PENDING_AUTH = frozenset(
    {"CREATE_PENDING_AUTH", "UPDATE_PENDING_AUTH", "SYNCHRONIZE_PENDING_AUTH"}
)
_NEVER_SERVED = frozenset({"CREATING", "CREATE_PENDING_AUTH", "FAILED", "DELETING"})

_NAMINGS = ("prefixed", "short", "plain")
REFRESH_SECONDS_MIN, REFRESH_SECONDS_MAX = 30, 30 * 86400


def _refresh_seconds(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else -1
    if number != 0 and not REFRESH_SECONDS_MIN <= number <= REFRESH_SECONDS_MAX:
        raise ValueError(
            f"a whole number from {REFRESH_SECONDS_MIN} to {REFRESH_SECONDS_MAX}, or 0 for never"
        )
    return number


def _named(*tags: tuple[str, Reader]) -> dict[str, Reader]:
    return {tag.removeprefix(PREFIX): reader for tag, reader in tags}


GATEWAY_OPTIONS = Options(
    "a gateway",
    _named(
        (TAG_TOOL_NAMES, one_of(*_NAMINGS)),
        (TAG_LIMIT_FAILURE, one_of("allow", "deny")),
        (TAG_TOOL_ACCESS, one_of("allow", "deny")),
    ),
)
TARGET_OPTIONS = Options(
    "a gateway target",
    _named(
        (TAG_TIMEOUT, whole_number(1, int(SECONDS_MAX))),
        (TAG_TIMEOUT + ":", whole_number(1, int(SECONDS_MAX))),
        (TAG_NEW_TOOLS, one_of("approve", "trust")),
        (TAG_REFRESH, _refresh_seconds),
        (TAG_SECONDS_OPEN, whole_number(1, 3600)),
    ),
)


def changed_gateway(payload: str) -> str | None:
    """Of a notification of the resources' channel, "{tenant}/{kind}/...": which gateway changed;
    "" where any may have, None where none did."""
    if not payload:
        return ""
    _, kind, *path = payload.split("/")
    return path[0] if kind in _KINDS else None


_KINDS = frozenset(kind.name for kind in (GATEWAY, TARGET, RULE, RATE_LIMIT))

State = Literal["in force", "changed", "new", "rejected", "removed"]


class Pinned(msgspec.Struct, frozen=True, kw_only=True):
    """A definition of a target's as it was approved, and as it was last seen where that differs.

    `document`, `plan` and `hash` are those in force; None where none ever was. `pending_*` is what
    was seen since and waits for somebody to approve it, or was rejected. `present`: the target
    offered it when it was last asked. `first_at` settles who keeps a name that two want.
    """

    kind: Kind
    name: str
    position: int
    document: Json | None = None
    plan: Json | None = None
    hash: str | None = None
    approved_by: str | None = None
    approved_at: datetime | None = None
    present: bool = True
    first_at: datetime | None = None
    pending_document: Json | None = None
    pending_plan: Json | None = None
    pending_hash: str | None = None
    pending_why: str | None = None
    pending_at: datetime | None = None
    rejected_by: str | None = None

    @property
    def state(self) -> State:
        if not self.present:
            return "removed"
        if self.pending_hash is None:
            return "in force"
        if self.rejected_by is not None:
            return "rejected"
        return "changed" if self.hash is not None else "new"

    @property
    def definition(self) -> Definition | None:
        """What may be listed and called; None while it is quarantined, or gone."""
        if self.state != "in force" or self.document is None:
            return None
        return Definition(
            kind=self.kind, name=self.name, document=self.document, plan=self.plan or {}
        )


class ActionGroup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who, and which tools: see `groups`."""

    name: str
    principals: tuple[str, ...]
    tools: tuple[str, ...]


class TargetRow(msgspec.Struct, frozen=True, kw_only=True):
    """A target as the data plane needs it. `kind` is "mcp.openApiSchema" and the like, `server`
    what its last description said. Its configuration has no inline documents: they are for
    descriptions alone."""

    resource: Resource
    kind: str
    server: Json
    pinned: tuple[Pinned, ...]
    refresh_failure: str | None = None

    @property
    def id(self) -> str:
        return self.resource.id

    @property
    def name(self) -> str:
        return self.resource.name

    @property
    def configuration(self) -> Json:
        """The member of the union that `kind` names."""
        first, second = self.kind.split(".")
        member: Json = self.resource.document["targetConfiguration"][first][second]
        return member

    @property
    def credentials(self) -> Json:
        """A member of credentialProviderConfigurations; {} where nothing is sent along."""
        given: list[Json] = self.resource.document.get("credentialProviderConfigurations") or [{}]
        return given[0]

    @property
    def dynamic(self) -> bool:
        return self.kind == "mcp.mcpServer" and self.configuration.get("listingMode") == "DYNAMIC"

    @property
    def serves(self) -> bool:
        """What it offered when it was last READY goes on while it is changed or synchronized."""
        return self.resource.status not in _NEVER_SERVED

    @property
    def definitions(self) -> tuple[Definition, ...]:
        """In force. Of a dynamic target: as they were first seen, which is no list."""
        return tuple(d for pinned in self.pinned if (d := pinned.definition) is not None)

    @property
    def quarantined(self) -> frozenset[tuple[Kind, str]]:
        """(kind, the target's own name) of what is not to be listed or called."""
        states = ("changed", "new", "rejected")
        return frozenset((p.kind, p.name) for p in self.pinned if p.state in states)


class GatewayRow(msgspec.Struct, frozen=True, kw_only=True):
    """All that a worker keeps of a gateway. Targets by their age, rules by their priority."""

    tenant: str
    resource: Resource
    targets: tuple[TargetRow, ...] = ()
    rules: tuple[Resource, ...] = ()
    rate_limits: tuple[Resource, ...] = ()
    groups: tuple[ActionGroup, ...] = ()

    @property
    def naming(self) -> Literal["prefixed", "short", "plain"]:
        naming = self.resource.tags.get(TAG_TOOL_NAMES, "prefixed")
        return cast(Literal["prefixed", "short", "plain"], naming)

    @property
    def tool_access(self) -> Literal["allow", "deny"]:
        """For who is named by no action group. What cannot be read denies."""
        return "allow" if self.resource.tags.get(TAG_TOOL_ACCESS, "allow") == "allow" else "deny"
