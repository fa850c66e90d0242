"""Memories, their strategies, events, records and turns.

Source of the names: the API model of AgentCore, and its developer guide on Memory.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from freehold.kernel.options import PREFIX, Options, one_of
from freehold.ports.resources import ResourceKind
from freehold.services.memory.said import said_in

MEMORY = ResourceKind(
    name="memory",
    noun="memory",
    arn_resource="memory/{id}",
    busy=frozenset({"CREATING", "UPDATING"}),
)

STRATEGIES_MAX = 6
MESSAGE_BYTES_MAX = 100 << 10
EVENT_BYTES_MAX = 10 << 20
PAYLOAD_ITEMS_MAX = 100
TOP_K_MAX = 100
QUERY_CHARACTERS_MAX = 10_000

TURNS_STRATEGY = "turns"
"""The strategy id of raw turns, which no strategy of a memory can have."""
TURNS_NAMESPACE = "/turns/actors/{actorId}/sessions/{sessionId}/"
TAG_TURNS = "freehold:turns"
"""On a memory: "on" or "off" (the default): what is said stays searchable as it was said."""
MEMORY_OPTIONS = Options("a memory", {TAG_TURNS.removeprefix(PREFIX): one_of("off", "on")})

MAIN = "main"
"""The branch of what names none."""
RECALLED = "freehold:recalled"
"""The key of an event's metadata that names records, by their ids with blanks between them, that
the event merely repeats."""

Role = Literal["USER", "ASSISTANT", "TOOL", "OTHER"]


class Strategy(msgspec.Struct, frozen=True, kw_only=True):
    """One of a memory's. `namespaces` are templates, such as
    "/strategies/{memoryStrategyId}/actors/{actorId}/". `configuration` is the API's own, of
    overrides, reflection and self-managed ones, as GetMemory shows it (StrategyConfiguration; see
    strategies.py for how to read it); `schema` its memoryRecordSchema, `expiry_days` of its
    records. `status`: CREATING, ACTIVE, DELETING, FAILED."""

    id: str
    name: str
    type: str
    namespaces: tuple[str, ...]
    status: str = "ACTIVE"
    description: str = ""
    configuration: Mapping[str, Any] = {}
    schema: Mapping[str, Any] = {}
    expiry_days: int | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """As the data plane knows it. `turns`: raw turns are searchable. `namespace_keys` are the
    variables that its templates may have of an event's (`namespaceVariables`), each with the API's
    validation rules; `indexed_keys` the metadata that filters may name, with their types."""

    tenant: str
    id: str
    arn: str
    name: str
    status: str
    expiry_days: int
    strategies: tuple[Strategy, ...] = ()
    turns: bool = False
    namespace_keys: Mapping[str, Mapping[str, Any]] = {}
    indexed_keys: Mapping[str, str] = {}


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One conversational item of an event. `index` is its place in the event's payload; `text` is
    what was said, without the document that a framework put around it."""

    index: int
    role: Role
    text: str


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """`id` sorts by when the event was (`eventTimestamp`): 15 digits of milliseconds, "#", 8 hex
    digits. `payload` is the API's list, with blobs as they came. `extract`: False for
    extractionMode SKIP. `variables` fill in namespace templates. `recalled` are ids of records that
    this event merely repeats: what an agent was reminded of is not learned again."""

    tenant: str
    memory_id: str
    actor_id: str
    session_id: str
    id: str
    at: datetime
    payload: Sequence[Mapping[str, Any]]
    branch: str = "main"
    root_event_id: str = ""
    metadata: Mapping[str, str] = {}
    extract: bool = True
    variables: Mapping[str, str] = {}
    recalled: tuple[str, ...] = ()
    created_at: datetime | None = None

    @property
    def messages(self) -> list[Message]:
        found = []
        for index, item in enumerate(self.payload):
            said = item.get("conversational")
            if said is not None:
                text, answered = said_in((said.get("content") or {}).get("text") or "")
                role: Role = "TOOL" if answered else said.get("role", "OTHER")
                found.append(Message(index=index, role=role, text=text))
        return found


class Source(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Where a record comes from: one message of an event."""

    event_id: str
    index: int = 0
    actor_id: str = ""
    session_id: str = ""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """`metadata` values are str, list[str], float or datetime. `at` is when it was so, as far as is
    known. A superseded one is kept: `valid_until` says since when it is not true, `superseded_by`
    what took its place; it is found only by who asks for history. `sources` is empty for records
    that were put there."""

    tenant: str
    memory_id: str
    id: str
    namespaces: tuple[str, ...]
    strategy_id: str
    text: str
    at: datetime
    created_at: datetime
    updated_at: datetime | None = None
    metadata: Mapping[str, Any] = {}
    expires_at: datetime | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    superseded_by: str = ""
    sources: tuple[Source, ...] = ()


def namespace_of(template: str, **values: str) -> str:
    """A template filled in: {memoryStrategyId} (also known as {strategyId}), {actorId}, {sessionId}
    and an event's variables. Raises KeyError for one that has no value."""
    filled = template
    start = filled.find("{")
    while start >= 0:
        end = filled.index("}", start)
        value = values[filled[start + 1 : end]]
        filled = filled[:start] + value + filled[end + 1 :]
        start = filled.find("{", start + len(value))
    return filled
