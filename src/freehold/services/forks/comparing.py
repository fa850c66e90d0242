"""A fork beside the session that it was forked from, turn by turn and step by step."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from difflib import SequenceMatcher
from typing import Any

from freehold.ports.replay import REPLAY
from freehold.ports.spans import SpanRecord
from freehold.services.forks.model import UNDER_WAY, Fork
from freehold.services.forks.reading import Sessions
from freehold.services.forks.record import (
    Record,
    RecordedTurn,
    failed,
    kind_of,
    lane_of,
    name_of,
    operation_of,
)
from freehold.services.forks.verdicts import Step, first_difference, is_same, said_of
from freehold.services.forks.views import (
    ForkBothTotals,
    ForkComparedTurn,
    ForkComparison,
    ForkRow,
    ForkSides,
    ForkTotals,
    StepView,
    Verdict,
    fork_view,
)

_TEXT_CHARACTERS_MAX = 64 << 10
_CHARACTERS_MAX = 16 << 20
_SOURCES = ("recorded", "given", "live")


class Comparing:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def compare(self, fork: Fork) -> ForkComparison:
        """Of one under way: so far as it is. Raises CannotFork where a side is too long."""
        recorded = await self._sessions.read(
            fork.tenant, fork.agent_id, fork.recorded_session_id,
            around_ns=int(fork.recorded_at.timestamp() * 1e9),
        )  # fmt: skip
        forked = await self._sessions.read(
            fork.tenant, fork.agent_id, fork.id, around_ns=int(fork.created_at.timestamp() * 1e9),
            open_turn=fork.turn if fork.status == "RUNNING" else 0,
        )  # fmt: skip
        return compared(fork, recorded, forked)


def compared(fork: Fork, recorded: Record, forked: Record) -> ForkComparison:
    """Pure."""
    numbers = [turn.number for turn in fork.turns]
    left = _turns(recorded, {row.number: row.recorded_trace_id for row in fork.turns})
    right = _turns(forked, {row.number: row.trace_id for row in fork.turns})
    right |= {turn.number: turn for turn in forked if turn.is_open}
    begun = [turn.number for turn in fork.turns if turn.trace_id]
    texts = _Texts()
    turns = [_turn(number, left.get(number), right.get(number), texts) for number in numbers]
    lost = any(number not in left for number in numbers) or (
        fork.status not in UNDER_WAY and any(number not in right for number in begun)
    )
    shown = [number for number in numbers if number in right]
    return ForkComparison(
        fork=fork_view(fork),
        turns=turns,
        totals=ForkBothTotals(
            recorded=_totals(left[n] for n in shown if n in left),
            fork=_totals(right[n] for n in shown),
        ),
        first_difference=first_difference(turns, under_way=fork.status in UNDER_WAY),
        truncated=lost or texts.cut,
    )


def _turns(record: Record, traces: Mapping[int, str]) -> dict[int, RecordedTurn]:
    """By their numbers in the fork, whose traces are `traces`."""
    by_trace: dict[str, list[RecordedTurn]] = {}
    for turn in record:
        by_trace.setdefault(turn.span.trace_id, []).append(turn)
    return {
        number: turns.pop(0)
        for number, trace_id in sorted(traces.items())
        if (turns := by_trace.get(trace_id))
    }


# -- one turn


def _turn(
    number: int, left: RecordedTurn | None, right: RecordedTurn | None, texts: "_Texts"
) -> ForkComparedTurn:
    rows = [
        _row(one, other, texts) for one, other in _paired(list(_steps(left)), list(_steps(right)))
    ]
    first = rows[0] if rows and rows[0].kind == "turn" else None
    one, other = (first.recorded, first.fork) if first is not None else (None, None)
    return ForkComparedTurn(
        number=number,
        payload=ForkSides(recorded=one.asked if one else "", fork=other.asked if other else ""),
        answer=ForkSides(
            recorded=one.answered if one else "", fork=other.answered if other else ""
        ),
        rows=rows,
    )


def _steps(turn: RecordedTurn | None) -> Iterator[Step]:
    """The turn itself, then by start what it did."""
    if turn is None:
        return
    if not turn.is_open:
        yield Step("turn", name_of(turn.span), "turn", turn.span)
    found: list[Step] = []
    for call in turn.calls:
        kind = kind_of(call)
        name = name_of(call) if kind == "tool" else operation_of(call)
        found.append(Step("tool" if kind == "tool" else "model", name, lane_of(call), call))
    for span in turn.beside.memory:
        operation = operation_of(span)
        found.append(Step("memory", operation, operation, span))
    for span in turn.beside.inner:
        found.append(Step("inner", name_of(span), name_of(span), span))
    yield from sorted(found, key=lambda step: step.span.started_ns)


def _paired(left: list[Step], right: list[Step]) -> Iterator[tuple[Step | None, Step | None]]:
    """Those of the same kind and name, in the order of both."""
    one, other = ([(step.kind, step.key) for step in side] for side in (left, right))
    for tag, a, b, c, d in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if tag == "equal":
            yield from zip(left[a:b], right[c:d], strict=True)
            continue
        for step in left[a:b]:
            yield step, None
        for step in right[c:d]:
            yield None, step


def _row(left: Step | None, right: Step | None, texts: "_Texts") -> ForkRow:
    step = left or right
    assert step is not None, "a row has a side"
    verdict: Verdict
    if left is None or right is None:
        verdict = "only_fork" if left is None else "only_recorded"
    else:
        verdict = "same" if is_same(left, right) else "differs"
    return ForkRow(
        kind=step.kind, name=step.name, source=_source(right), verdict=verdict,
        recorded=None if left is None else _view(left, texts),
        fork=None if right is None else _view(right, texts),
    )  # fmt: skip


def _source(step: Step | None) -> Any:
    if step is None or step.kind == "turn":
        return ""
    told = step.span.attributes.get(REPLAY)
    return told if told in _SOURCES else "live"


def _view(step: Step, texts: "_Texts") -> StepView:
    span, (asked, answered) = step.span, said_of(step)
    return StepView(
        span_id=span.span_id,
        trace_id=span.trace_id,
        started_at=datetime.fromtimestamp(span.started_ns / 1e9, UTC),
        duration_ms=_took_ms(span),
        status="error" if failed(span) else "ok",
        model=span.facts.model if step.kind == "model" else "",
        asked=texts.shown(asked),
        answered=texts.shown(answered),
        input_tokens=span.facts.input_tokens,
        output_tokens=span.facts.output_tokens,
        cost=span.facts.cost,
    )


# -- sums


def _totals(turns: Iterable[RecordedTurn]) -> ForkTotals:
    duration, kinds, cost = 0.0, {"model": 0, "tool": 0}, list[float]()
    tokens = [0, 0]
    for turn in turns:
        duration += _took_ms(turn.span)
        for call in turn.calls:
            kind = kind_of(call)
            assert kind in kinds, "calls are of models and tools"
            kinds[kind] += 1
            tokens[0] += call.facts.input_tokens
            tokens[1] += call.facts.output_tokens
            if call.facts.cost is not None:
                cost.append(call.facts.cost)
    return ForkTotals(
        duration_ms=round(duration, 3), model_calls=kinds["model"], tool_calls=kinds["tool"],
        input_tokens=tokens[0], output_tokens=tokens[1],
        cost=round(sum(cost), 9) if cost else None,
    )  # fmt: skip


def _took_ms(span: SpanRecord) -> float:
    return round(max(span.ended_ns - span.started_ns, 0) / 1e6, 3)


class _Texts:
    """Shortens what is long, and what comes when there is much already. `cut`: it did."""

    def __init__(self) -> None:
        self._left = _CHARACTERS_MAX
        self.cut = False

    def shown(self, text: str) -> str:
        length_max = min(_TEXT_CHARACTERS_MAX, self._left)
        if len(text) > length_max:
            self.cut, text = True, text[:length_max]
        self._left -= len(text)
        return text
