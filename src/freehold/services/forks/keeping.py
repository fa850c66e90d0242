"""What is kept of a record for a fork, or why it cannot be forked there. Pure.

Every refusal says what to do about it: who asked sees a list of spans, and one that is none.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from freehold.kernel.errors import Conflict
from freehold.ports.spans import SpanRecord
from freehold.services.forks.content import (
    REQUEST,
    RESPONSE,
    arguments_digest,
    request_digest,
    said,
    tool_result,
)
from freehold.services.forks.model import (
    CAPTURE_TAG,
    RECORD_BYTES_MAX,
    CallRow,
    ForkStep,
    Place,
    StepKind,
    TurnRow,
    Until,
)
from freehold.services.forks.record import (
    EXECUTE_TOOL,
    Record,
    RecordedTurn,
    by_websocket,
    failed,
    is_turn,
    key_of,
    kind_of,
    lane_of,
    name_of,
    operation_of,
    text_of,
)

_CAPTURE = (
    f"Tag the agent runtime with {CAPTURE_TAG}: on, invoke the agent again, and fork that session"
)
_NAMES_SHOWN_MAX = 5


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    step: ForkStep
    turns: list[TurnRow]
    calls: list[CallRow]
    notes: list[str]


class CannotFork(Conflict):
    """With the reason, and what to do."""


def step_of(record: Record, span: SpanRecord) -> ForkStep:
    """Raises CannotFork for a span that is no step."""
    found = record.find(key_of(span))
    if found is None:
        raise CannotFork(_no_step(record, span))
    turn, position, _ = found
    kind = kind_of(span)
    if _is_embedding(span):
        raise CannotFork(
            "embeddings are computed again in every fork, and nothing of them can be changed. Take "
            "the turn, or a call that came after them"
        )
    assert kind is not None, "steps are found among turns and calls"
    return ForkStep(kind=kind, name=name_of(span), turn=turn.number, position=position)


def kept(record: Record, step: ForkStep, until: Until) -> Kept:
    """Raises CannotFork where something that the fork needs was not recorded, or not whole."""
    turns = [
        _kept_turn(turn)
        for turn in record
        if turn.number <= step.turn or until == "session"
    ]  # fmt: skip
    calls: list[CallRow] = []
    skipped: list[str] = []
    for turn, position, call in record.calls:
        place = _place(record, step, turn, position, call)
        if place is None:
            continue
        row = _kept_call(turn, position, call, place)
        if row is not None:
            calls.append(row)
        elif _is_embedding(call):
            skipped.append("embeddings")
        else:
            skipped.append(name_of(call))
    size = sum(len(turn.payload) for turn in turns) + sum(len(c.answer or b"") for c in calls)
    if size > RECORD_BYTES_MAX:
        raise CannotFork(
            f"what was recorded before the step has {size >> 20} MiB, and a fork keeps at most "
            f"{RECORD_BYTES_MAX >> 20}. Take an earlier step"
        )
    return Kept(step=step, turns=turns, calls=calls, notes=list(_notes(record, step, skipped)))


def calls_before(record: Record, step: ForkStep) -> int:
    return sum(
        _place(record, step, turn, position, call) == "before"
        for turn, position, call in record.calls
    )


def recorded_at(span: SpanRecord) -> datetime:
    return datetime.fromtimestamp(span.started_ns / 1e9, UTC)


# -- turns and calls


def _kept_turn(turn: RecordedTurn) -> TurnRow:
    span, which = turn.span, f"turn {turn.number} of the session"
    if by_websocket(span):
        raise CannotFork(
            f"{which} came over a WebSocket, of which no payload is kept. Fork a session that was "
            "called by InvokeAgentRuntime"
        )
    payload = said(span, REQUEST)
    if payload is None and said(span, RESPONSE) is None:
        raise CannotFork(f"{which} was recorded without its payload. {_CAPTURE}")
    if payload is not None and payload.cut:
        raise CannotFork(
            f"the payload of {which} is longer than what is kept of one (256 KiB), and so is not "
            "known whole. Fork a session with shorter payloads"
        )
    return TurnRow(
        number=turn.number,
        recorded_trace_id=span.trace_id,
        recorded_failed=failed(span),
        payload=b"" if payload is None else payload.body,
        content_type="application/json" if payload is None else payload.content_type,
    )


def _place(
    record: Record, step: ForkStep, turn: RecordedTurn, position: int, call: SpanRecord
) -> Place | None:
    """None: a call that needs no row, since all is live by then."""
    if turn.number != step.turn:
        return "before" if turn.number < step.turn else None
    if step.kind == "turn":
        return None
    if position == step.position:
        return "step"
    return "before" if position < step.position else "after"


def _kept_call(turn: RecordedTurn, position: int, call: SpanRecord, place: Place) -> CallRow | None:
    """None for one that is left out: what failed was asked again by the agent, or not needed."""
    is_tool = kind_of(call) == "tool"
    row = CallRow(
        turn=turn.number,
        position=position,
        lane=lane_of(call),
        place=place,
        digest=arguments_digest(call) if is_tool else request_digest(call),
    )
    if place != "before":
        return row
    which = f"call {position} of turn {turn.number} ({name_of(call)})"
    if is_tool:
        result = tool_result(call)
        if result is None:
            raise CannotFork(_not_whole(which, _was_kept(call, "gen_ai.tool.call.")))
        return msgspec.structs.replace(row, answer=msgspec.json.encode(result))
    if failed(call) or (_is_embedding(call) and said(call, RESPONSE) is None):
        return None
    answer = said(call, RESPONSE)
    if answer is None or answer.cut:
        raise CannotFork(_not_whole(which, _was_kept(call, "freehold.exchange.re")))
    return msgspec.structs.replace(row, answer=answer.body, content_type=answer.content_type)


def _is_embedding(call: SpanRecord) -> bool:
    return operation_of(call) == "embeddings"


def _was_kept(span: SpanRecord, beginning: str) -> bool:
    return any(name.startswith(beginning) for name in span.attributes)


def _not_whole(which: str, was_kept: bool) -> str:
    if not was_kept:
        return f"{which} was recorded without its content. {_CAPTURE}"
    return (
        f"the answer of {which} is longer than what is kept of one (256 KiB), so that it cannot be "
        "given again. Take a step before it"
    )


# -- what is said of a fork beforehand


def _notes(record: Record, step: ForkStep, skipped: Sequence[str]) -> Iterator[str]:
    turns = [turn for turn in record if turn.number <= step.turn]
    inner = [span for turn in turns for span in turn.beside.inner]
    memory = [span for turn in turns for span in turn.beside.memory]
    agents = [span for turn in turns for span in turn.beside.agents]
    passages = [span for turn in turns for span in turn.beside.passages]
    left_out = [name for name in skipped if name != "embeddings"]
    if inner:
        yield f"Tools in the agent's own process run again: {_listed(inner)}."
    if memory:
        yield "Memory is not answered from the record: what the agent reads and writes is live."
    if agents:
        yield f"Other agents are called again: {_listed(agents)}."
    if passages:
        yield "What went through gateways to HTTP targets is sent again."
    if "embeddings" in skipped:
        yield "Embeddings are computed again: they are not kept."
    if left_out:
        yield (
            f"{len(left_out)} calls of models that failed are left out of the record: where the "
            "agent asked again, the later answer is given at once."
        )


def _listed(spans: Sequence[SpanRecord]) -> str:
    names = list(dict.fromkeys(name_of(span) for span in spans))
    more = f" and {len(names) - _NAMES_SHOWN_MAX} more" if len(names) > _NAMES_SHOWN_MAX else ""
    return ", ".join(names[:_NAMES_SHOWN_MAX]) + more


# -- spans that are no steps


def _no_step(record: Record, span: SpanRecord) -> str:
    turn = record.turn_of(span)
    if turn is None:
        return (
            "there is no recorded invocation of the session that this span is a part of: it is not "
            "over yet, or too old, or the session was not called by InvokeAgentRuntime. Wait for "
            "its end, or take a span of another session"
        )
    instead = next((each for each in record.above(span) if kind_of(each) is not None), turn.span)
    if not record.is_own(span) and is_turn(span):
        return "it is the call of another agent. Open that agent's session, and fork it there"
    if span.origin != "agent":
        return f"{span.name} is a part of another step. {_take(instead)}"
    if span.facts.operation == EXECUTE_TOOL:
        before = [call for call in turn.calls if call.started_ns <= span.started_ns]
        model = next((call for call in reversed(before) if kind_of(call) == "model"), turn.span)
        return (
            f"{name_of(span)} ran in the agent's own process, where it cannot be answered from a "
            f"record: it runs again in every fork. {_take(model)}, which asked for it"
        )
    own = next((call for call in turn.calls if _is_of(record, call, span)), instead)
    return f"{span.name} is what the agent tells of itself. {_take(own)}"


def _is_of(record: Record, call: SpanRecord, span: SpanRecord) -> bool:
    return any(key_of(each) == key_of(span) for each in record.above(call))


def _take(span: SpanRecord) -> str:
    kind: StepKind | None = kind_of(span)
    what = {"turn": "the turn", "model": "the model call", "tool": "the tool call"}[kind or "turn"]
    told = text_of(span, "gen_ai.request.model") or name_of(span)
    return f"Take {what} {span.span_id} ({told})"
