"""What one operation's calls need of its model: small, JSON, and kept with the tool."""

from typing import Any

import msgspec


class Slot(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a value goes. `kind` is that of a simple shape ("string", "blob", "timestamp",
    "number", "float", "boolean", "document"), or empty where `shape` names an aggregate of the
    plan's. `wire` is its name there; `format` that of a timestamp."""

    kind: str = ""
    shape: str = ""
    wire: str = ""
    format: str = ""
    flat: bool = False
    attribute: bool = False
    namespace: str = ""
    prefix: str = ""


class Aggregate(msgspec.Struct, frozen=True, omit_defaults=True):
    """A structure, union, list ("member") or map ("key", "value"). For JSON only those members
    are here whose wire form is not what the tool's caller writes."""

    kind: str
    members: dict[str, Slot] = {}
    namespace: str = ""
    prefix: str = ""


class Bound(msgspec.Struct, frozen=True, omit_defaults=True):
    """A member in a header, the query or the path. `many`: it is a list. `encoded`: text that goes
    as base64, because the model gives it a media type."""

    name: str
    kind: str
    format: str = ""
    many: bool = False
    encoded: bool = False
    greedy: bool = False


class Side(msgspec.Struct, frozen=True, omit_defaults=True):
    """The input's way or the output's. `body` is the aggregate of what no other binding takes,
    `root` its element's name in XML (of a query's answer: the wrapper's). `payload` is the member
    that is the whole body."""

    headers: dict[str, Bound] = {}
    prefixes: dict[str, str] = {}
    payload: str = ""
    payload_slot: Slot | None = None
    payload_type: str = ""
    body: str = ""
    root: str = ""
    namespace: str = ""
    prefix: str = ""
    shapes: dict[str, Aggregate] = {}


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """`path` alternates text and the names of `labels`, `host` text and members. `target` is
    X-Amz-Target, or the version of a query's service; `query_mode` that the errors of a service may
    have the names of its queries' time. `tokens` are filled in where they are absent. `safe`: a
    second time does no more than once. `status` is the member that the answer's status becomes.
    `unwrapped`: the answer's root is the one member itself. `statuses`: the errors that a status
    alone tells apart."""

    protocol: str
    operation: str
    method: str = "POST"
    path: tuple[str, ...] = ("/",)
    labels: dict[str, Bound] = {}
    query: tuple[tuple[str, str], ...] = ()
    queries: dict[str, Bound] = {}
    params: str = ""
    host: tuple[str, ...] = ()
    target: str = ""
    query_mode: bool = False
    tokens: tuple[str, ...] = ()
    has_body: bool = False
    checksum: str = ""
    checksum_member: str = ""
    safe: bool = False
    status: str = ""
    unwrapped: bool = False
    statuses: dict[str, str] = {}
    input: Side = Side()
    output: Side = Side()


def stored(plan: Plan) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(plan)
    return {name: value for name, value in document.items() if value != {}}


def read(document: dict[str, Any]) -> Plan:
    return msgspec.convert(document, Plan)
