"""What a session did, out of its spans: turns, and the calls that each of them made. Pure.

Only the platform's own spans are steps: what an agent tells of itself happened inside its process,
where nothing can be answered from a record.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

import msgspec

from freehold.ports.spans import Facts, SpanRecord
from freehold.services.forks.model import StepKind

INVOKE_AGENT, EXECUTE_TOOL = "invoke_agent", "execute_tool"
_MODELS, _GATEWAY = "models:", "gateway:"
_WEBSOCKET = "WithWebSocketStream"
_MEMORY = ("search_memory", "create_memory", "update_memory", "delete_memory")
_ERROR = 2

Key = tuple[str, str]
"""A trace's id, and a span's."""


def key_of(span: SpanRecord) -> Key:
    return span.trace_id, span.span_id


def text_of(span: SpanRecord, name: str) -> str:
    value = span.attributes.get(name)
    return value if isinstance(value, str) else ""


def operation_of(span: SpanRecord) -> str:
    """As the GenAI conventions name it; "" for what they have no name for."""
    return text_of(span, "gen_ai.operation.name")


def failed(span: SpanRecord) -> bool:
    code = span.attributes.get("http.response.status_code")
    return span.status == _ERROR or (isinstance(code, int) and code >= 400)


def is_turn(span: SpanRecord) -> bool:
    return span.origin == "platform" and operation_of(span) == INVOKE_AGENT


def by_websocket(turn: SpanRecord) -> bool:
    return text_of(turn, "freehold.operation").endswith(_WEBSOCKET)


def lane_of(span: SpanRecord) -> str:
    """Of a call of a model or of a gateway's tool; "" of everything else."""
    if span.origin != "platform":
        return ""
    operation = text_of(span, "freehold.operation")
    if operation.startswith(_MODELS) and operation_of(span):
        return lane_of_model(operation.removeprefix(_MODELS))
    if operation.startswith(_GATEWAY) and span.attributes.get("freehold.metered") is True:
        return lane_of_model(operation)
    if span.attributes.get("mcp.method.name") == "tools/call":
        return lane_of_tool(text_of(span, "freehold.gateway.id"), text_of(span, "gen_ai.tool.name"))
    return ""


def lane_of_model(operation: str) -> str:
    """`operation` as `ports.replay.Replays` has it."""
    return plain(f"model {operation}")


def lane_of_tool(gateway_id: str, name: str) -> str:
    return plain(f"tool {gateway_id} {name}")


def plain(text: str) -> str:
    """As a database, and so a recorded span, can have it."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def kind_of(span: SpanRecord) -> StepKind | None:
    if is_turn(span):
        return "turn"
    lane = lane_of(span)
    if not lane:
        return None
    return "model" if lane.startswith("model ") else "tool"


def name_of(span: SpanRecord) -> str:
    """For people: the tool, the model, the agent."""
    match kind_of(span):
        case "tool":
            return text_of(span, "gen_ai.tool.name")
        case "model":
            return text_of(span, "gen_ai.request.model") or operation_of(span)
        case "turn":
            return text_of(span, "gen_ai.agent.name") or span.agent_id
        case _:
            return span.facts.tool or span.name


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """What else a turn did, and does again when it is run again: calls of memory and of other
    agents, what went through a gateway unread, and tools in the agent's own process."""

    memory: list[SpanRecord] = []
    agents: list[SpanRecord] = []
    passages: list[SpanRecord] = []
    inner: list[SpanRecord] = []


class RecordedTurn(msgspec.Struct, frozen=True, kw_only=True):
    """`number` from 1; `calls` of models and tools by their start. `is_open`: it is not over, so
    that its span is made of what there is."""

    number: int
    span: SpanRecord
    calls: list[SpanRecord] = []
    beside: Beside = Beside()
    is_open: bool = False


class Record:
    """The session of `agent_id`, of whole traces' `spans`. `open_turn` is the number of one that is
    under way, 0 where none is known to be: of that the calls are there before the turn itself."""

    def __init__(
        self,
        spans: Iterable[SpanRecord],
        *,
        agent_id: str,
        session_id: str,
        open_turn: int = 0,
    ) -> None:
        self._by_key = {key_of(span): span for span in spans}
        self._open_turn = open_turn
        self._agent_id, self._session_id = agent_id, session_id
        self.turns = self._turns()

    def __iter__(self) -> Iterator[RecordedTurn]:
        return iter(self.turns)

    @cached_property
    def calls(self) -> list[tuple[RecordedTurn, int, SpanRecord]]:
        """(turn, position in it, span), over all turns."""
        return [
            (turn, position, call)
            for turn in self.turns
            for position, call in enumerate(turn.calls, 1)
        ]

    def find(self, key: Key) -> tuple[RecordedTurn, int, SpanRecord] | None:
        """A step: its turn, and its position among the turn's calls; 0 for the turn itself."""
        for turn in self.turns:
            if key_of(turn.span) == key:
                return turn, 0, turn.span
        return next((found for found in self.calls if key_of(found[2]) == key), None)

    def above(self, span: SpanRecord) -> Iterator[SpanRecord]:
        """Its parents, so far as they came."""
        seen = {key_of(span)}
        while span.parent_id:
            key = (span.trace_id, span.parent_id)
            parent = self._by_key.get(key)
            if parent is None or key in seen:
                return
            seen.add(key)
            yield parent
            span = parent

    def is_own(self, span: SpanRecord) -> bool:
        return span.session_id == self._session_id and span.agent_id == self._agent_id

    def turn_of(self, span: SpanRecord) -> RecordedTurn | None:
        """The nearest above it; where an agent hid that, the one that was under way."""
        turns = {key_of(turn.span): turn for turn in self.turns}
        return self._turn_of(span, turns)

    def _turn_of(self, span: SpanRecord, turns: Mapping[Key, RecordedTurn]) -> RecordedTurn | None:
        for parent in self.above(span):
            if (turn := turns.get(key_of(parent))) is not None:
                return turn
        before = [turn for turn in turns.values() if turn.span.started_ns <= span.started_ns]
        return before[-1] if before else None

    def _turns(self) -> list[RecordedTurn]:
        own = sorted(
            (span for span in self._by_key.values() if self.is_own(span)),
            key=lambda span: (span.started_ns, span.span_id),
        )
        found = [
            RecordedTurn(number=number, span=span, calls=[], beside=_beside())
            for number, span in enumerate((each for each in own if is_turn(each)), 1)
        ]
        if self._open_turn > len(found) and (under_way := _open(self._open_turn, own, found)):
            found.append(under_way)
        turns = {key_of(turn.span): turn for turn in found}
        with_tool = self._around_tools(own)
        for span in own:
            if is_turn(span) or (turn := self._turn_of(span, turns)) is None:
                continue
            if lane_of(span):
                turn.calls.append(span)
            elif span.origin == "platform" and operation_of(span) in _MEMORY:
                turn.beside.memory.append(span)
            elif _is_inner_tool(span) and key_of(span) not in with_tool:
                turn.beside.inner.append(span)
        self._others(turns)
        return found

    def _around_tools(self, own: Sequence[SpanRecord]) -> set[Key]:
        """What is above a gateway's tool call: a framework's own account of the same."""
        return {
            key_of(parent) for span in own if kind_of(span) == "tool" for parent in self.above(span)
        }

    def _others(self, turns: Mapping[Key, RecordedTurn]) -> None:
        with_call = {
            (span.trace_id, span.parent_id) for span in self._by_key.values() if lane_of(span)
        }
        for span in self._by_key.values():
            if span.origin != "platform":
                continue
            if is_turn(span) and not self.is_own(span):
                above = next((each for each in self.above(span) if is_turn(each)), None)
                if above is not None and (turn := turns.get(key_of(above))) is not None:
                    turn.beside.agents.append(span)
            elif (
                self.is_own(span)
                and span.name.startswith("gateway ")
                and key_of(span) not in with_call
                and (turn := self._turn_of(span, turns)) is not None
            ):
                turn.beside.passages.append(span)


def _open(
    number: int, own: Sequence[SpanRecord], ended: Sequence[RecordedTurn]
) -> RecordedTurn | None:
    """Of what began since the last one ended, in traces that no turn is told of yet."""
    told = {turn.span.trace_id for turn in ended}
    since = max((turn.span.ended_ns for turn in ended), default=0)
    loose = [span for span in own if span.trace_id not in told and span.started_ns > since]
    if not loose:
        return None
    span = msgspec.structs.replace(
        loose[0], span_id="", parent_id="", name="", attributes={}, facts=Facts(), status=0,
        ended_ns=max(each.ended_ns for each in loose),
    )  # fmt: skip
    return RecordedTurn(number=number, span=span, calls=[], beside=_beside(), is_open=True)


def _is_inner_tool(span: SpanRecord) -> bool:
    return span.origin == "agent" and span.facts.operation == EXECUTE_TOOL


def _beside() -> Beside:
    return Beside(memory=[], agents=[], passages=[], inner=[])
