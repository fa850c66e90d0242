"""What the new spans of a batch add to traces, to their parts and to the rollups."""

from collections.abc import Iterable, Set
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from freehold.adapters.spans import histogram
from freehold.adapters.spans.copying import Storable, within
from freehold.adapters.spans.records import TEXT_CHARACTERS_MAX, TOKENS_MAX, Labels, cost_of
from freehold.kernel.tracing import Status
from freehold.ports.spans import SpanRecord

ROOT, MODEL, TOOL = 1, 2, 4
MODEL_CALLS = frozenset({"chat", "generate_content", "text_completion", "embeddings"})
TOOL_CALLS = frozenset({"execute_tool"})
_LISTED_MAX = 50
"""Of models and of tools, of one trace and batch."""
_MINUTE_NS = 60 * 10**9
_GROUPS_MAX = 2_000
"""Rows of rollups from one batch: names that a client makes up for each call share one more."""
OTHERS = "(others)"


class Part(msgspec.Struct):
    """Of one trace, session and agent; a whole trace when parts were put together. The fields are
    columns of trace_parts and traces."""

    tenant: str
    trace_id: str
    session_id: str
    agent_id: str
    agent_version: str
    user_name: str
    started_ns: int
    ended_ns: int
    name: str
    complete: bool = False
    spans: int = 0
    errors: int = 0
    metered_calls: int = 0
    told_calls: int = 0
    platform_tools: int = 0
    told_tools: int = 0
    metered_input: int = 0
    metered_output: int = 0
    told_input: int = 0
    told_output: int = 0
    whole_input: int = 0
    whole_output: int = 0
    metered_cost: float | None = None
    told_cost: float | None = None
    whole_cost: float | None = None
    models: set[str] = set()
    tools: set[str] = set()


class Group(NamedTuple):
    """What a row of a rollup is of, beside its time."""

    tenant: str
    family: int
    agent_id: str
    agent_version: str
    operation: str
    model: str
    tool: str
    failed: bool
    told: bool


class Rollup(msgspec.Struct):
    count: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    slots: dict[int, int] = {}


Rollups = dict[tuple[Group, int], Rollup]
"""By group and time in seconds."""


class Sums:
    """`calls` are the model calls of the batch. One that another one's span is around is the same
    call, told by the framework and by the client that it uses."""

    def __init__(self, calls: Set[tuple[str, str]] = frozenset()) -> None:
        self._calls = calls
        self.parts: dict[tuple[str, str, str, str], Part] = {}
        self.minutes: Rollups = {}
        self._labels = Labels()
        self._names = Storable(TEXT_CHARACTERS_MAX)

    def add(self, span: SpanRecord) -> None:
        label, facts = self._labels, span.facts
        started = within(span.started_ns)
        ended = max(started, within(span.ended_ns))
        operation, model, tool = label[facts.operation], label[facts.model], label[facts.tool]
        family = (
            (0 if span.parent_id and not _enters(span) else ROOT)
            | (MODEL if operation in MODEL_CALLS and not self._repeats(span) else 0)
            | (TOOL if operation in TOOL_CALLS else 0)
        )
        failed = span.status == Status.ERROR
        part = self._part(span, family, started, ended)
        _add_names(part, model, tool)
        told = bool(
            (family & MODEL and not facts.metered) or (family & TOOL and span.origin != "platform")
        )
        group = Group(
            label[span.tenant], family, label[span.agent_id], label[span.agent_version],
            operation, model, tool, failed, told,
        )  # fmt: skip
        at = started // _MINUTE_NS * 60
        rollup = self.minutes.get((group, at))
        if rollup is None:
            if len(self.minutes) >= _GROUPS_MAX:
                group = group._replace(operation="", model=OTHERS, tool=OTHERS)
            rollup = self.minutes.setdefault((group, at), Rollup())
        rollup.count += 1
        if family & MODEL:
            rollup.input_tokens += within(facts.input_tokens, TOKENS_MAX)
            rollup.output_tokens += within(facts.output_tokens, TOKENS_MAX)
            rollup.cost = plus(rollup.cost, cost_of(facts))
        slot = histogram.slot(ended - started)
        rollup.slots[slot] = rollup.slots.get(slot, 0) + 1

    def _repeats(self, span: SpanRecord) -> bool:
        return not span.facts.metered and (span.trace_id, span.parent_id) in self._calls

    def _part(self, span: SpanRecord, family: int, started: int, ended: int) -> Part:
        """With this span in it."""
        label = self._labels
        place = (
            label[span.tenant], span.trace_id, label[span.session_id], label[span.agent_id],
        )  # fmt: skip
        part = self.parts.get(place)
        if part is None:
            part = self.parts[place] = Part(
                *place, label[span.agent_version], label[span.user], started, ended,
                self._names[span.name],
            )  # fmt: skip
        part.spans += 1
        part.errors += span.status == Status.ERROR
        part.ended_ns = max(part.ended_ns, ended)
        if family & ROOT or (started < part.started_ns and not part.complete):
            part.name = self._names[span.name]
            part.complete = part.complete or bool(family & ROOT)
        part.started_ns = min(part.started_ns, started)
        part.agent_version = part.agent_version or label[span.agent_version]
        part.user_name = part.user_name or label[span.user]
        _add_calls(part, span, family)
        return part

    def traces(self) -> list[Part]:
        whole: dict[tuple[str, str], Part] = {}
        # The root's part first, then by time: who the trace is of is the first that says so.
        for part in sorted(self.parts.values(), key=lambda p: (not p.complete, p.started_ns)):
            trace = whole.get((part.tenant, part.trace_id))
            if trace is None:
                whole[part.tenant, part.trace_id] = msgspec.structs.replace(
                    part, models=set(part.models), tools=set(part.tools)
                )
            else:
                _join(trace, part)
        return list(whole.values())

    def parts_of_someone(self) -> list[Part]:
        """Those that a filter may ask for."""
        return [p for p in self.parts.values() if p.session_id or p.agent_id or p.user_name]


def coarser(rollups: Rollups, seconds: int) -> Rollups:
    """The same by so many seconds."""
    sums: Rollups = {}
    for (group, at), rollup in rollups.items():
        place = group, at - at % seconds
        into = sums.get(place)
        if into is None:
            sums[place] = msgspec.structs.replace(rollup, slots=dict(rollup.slots))
            continue
        into.count += rollup.count
        into.input_tokens += rollup.input_tokens
        into.output_tokens += rollup.output_tokens
        into.cost = plus(into.cost, rollup.cost)
        for slot, count in rollup.slots.items():
            into.slots[slot] = into.slots.get(slot, 0) + count
    return sums


def summed(spans: Iterable[SpanRecord]) -> Sums:
    spans = list(spans)
    sums = Sums({(s.trace_id, s.span_id) for s in spans if s.facts.operation in MODEL_CALLS})
    for span in spans:
        sums.add(span)
    return sums


def _enters(span: SpanRecord) -> bool:
    """The platform's first span of a trace that began elsewhere: here it is the root."""
    return span.origin == "platform" and bool(span.attributes.get("freehold.entry"))


@lru_cache(maxsize=10_000)
def digest(group: Group) -> str:
    """The key of a group's rows within its tenant and family."""
    return blake2b(msgspec.json.encode(group[2:]), digest_size=16).hexdigest()


def plus(one: float | None, other: float | None) -> float | None:
    return one if other is None else other if one is None else one + other


def _more(one: float | None, other: float | None) -> float | None:
    return one if other is None else other if one is None else max(one, other)


def _add_names(part: Part, model: str, tool: str) -> None:
    if model and len(part.models) < _LISTED_MAX:
        part.models.add(model)
    if tool and len(part.tools) < _LISTED_MAX:
        part.tools.add(tool)


def _add_calls(part: Part, span: SpanRecord, family: int) -> None:
    facts = span.facts
    if family & TOOL:
        if span.origin == "platform":
            part.platform_tools += 1
        else:
            part.told_tools += 1
    told_tokens = facts.input_tokens or facts.output_tokens
    if not family & MODEL and not told_tokens and facts.cost is None:
        return
    input_tokens = within(facts.input_tokens, TOKENS_MAX)
    output_tokens = within(facts.output_tokens, TOKENS_MAX)
    cost = cost_of(facts)
    if not family & MODEL:
        # An agent's span repeats what its model calls took.
        part.whole_input = max(part.whole_input, input_tokens)
        part.whole_output = max(part.whole_output, output_tokens)
        part.whole_cost = _more(part.whole_cost, cost)
    elif facts.metered:
        part.metered_calls += 1
        part.metered_input += input_tokens
        part.metered_output += output_tokens
        part.metered_cost = plus(part.metered_cost, cost)
    else:
        part.told_calls += 1
        part.told_input += input_tokens
        part.told_output += output_tokens
        part.told_cost = plus(part.told_cost, cost)


def _join(trace: Part, part: Part) -> None:
    if not trace.complete and part.started_ns < trace.started_ns:
        trace.name = part.name
    for who in ("session_id", "agent_id", "agent_version", "user_name"):
        if not getattr(trace, who):
            setattr(trace, who, getattr(part, who))
    trace.complete = trace.complete or part.complete
    trace.started_ns = min(trace.started_ns, part.started_ns)
    trace.ended_ns = max(trace.ended_ns, part.ended_ns)
    for total in (
        "spans", "errors", "metered_calls", "told_calls", "platform_tools", "told_tools",
        "metered_input", "metered_output", "told_input", "told_output",
    ):  # fmt: skip
        setattr(trace, total, getattr(trace, total) + getattr(part, total))
    trace.whole_input = max(trace.whole_input, part.whole_input)
    trace.whole_output = max(trace.whole_output, part.whole_output)
    trace.metered_cost = plus(trace.metered_cost, part.metered_cost)
    trace.told_cost = plus(trace.told_cost, part.told_cost)
    trace.whole_cost = _more(trace.whole_cost, part.whole_cost)
    trace.models |= part.models
    trace.tools |= part.tools
