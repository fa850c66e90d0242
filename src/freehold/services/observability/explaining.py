"""The chain that led to a tool call: what was asked, what was remembered, what the model said, what
policies decided. Each step says how sure it is, and what could not be told is said as well.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from freehold.ports.spans import SpanRecord
from freehold.ports.telemetry import LogRecord
from freehold.services.observability import conventions as c
from freehold.services.observability import mapper
from freehold.services.observability.matching import (
    answered,
    asked_for,
    found_again,
    is_agent,
    is_call,
    is_governance,
    is_tool,
    last_request,
    may_ask,
    may_remember,
    reasoning_of,
    same_tool,
    sent,
    texts_of,
)
from freehold.services.observability.messages import Message
from freehold.services.observability.model import (
    MemoryRead,
    Normalised,
    PolicyVerdict,
    ToolUse,
)
from freehold.services.observability.views import SpanView, at, span_view

StepKind = Literal[
    "request", "memory", "tool_result", "model_call", "policy", "credential", "explained"
]
Sure = Literal["id", "arguments", "content", "tree", "time"]
_EARLIER_MAX = 50
_CALLS_LOOKED_AT_MAX = 200


class ExplainedStep(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """`sure`: by the tool call's id; by name and equal arguments; by content found again; by the
    tree of spans; or only by time, the nearest before. `messages` of a request and of a model call
    (what it was sent), `said` and `reasoning` of the model's answer."""

    kind: StepKind
    sure: Sure
    why: str
    span_id: str
    name: str
    origin: str
    started_at: datetime
    duration_ms: float
    model: str = ""
    messages: list[Message] = []
    reasoning: list[str] = []
    said: list[Message] = []
    memory: MemoryRead | None = None
    policy: PolicyVerdict | None = None
    credential: str = ""
    tool: ToolUse | None = None


class SpanExplanation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`steps` in the order of time, after the request; the last is what is explained. `missing`:
    what could not be told, and why."""

    span: SpanView
    steps: list[ExplainedStep]
    missing: list[str]


class Explaining:
    """One trace, read for one explanation. Nothing is read that came after the span ended."""

    def __init__(
        self, spans: Sequence[SpanRecord], logs: Mapping[str, Sequence[LogRecord]]
    ) -> None:
        self._spans = sorted(spans, key=lambda span: span.started_ns)
        self._by_id = {span.span_id: span for span in self._spans}
        self._logs = logs
        self._read: dict[str, Normalised] = {}
        self.missing: list[str] = []

    def explain(self, target: SpanRecord) -> SpanExplanation:
        """Of a step within a tool call (a decision, a credential), the call it belongs to."""
        subject = self._subject(target)
        read = self._normalised(subject)
        steps: list[ExplainedStep] = []
        call = None
        if mapper.operation_of(subject.attributes) in c.MODEL_OPERATIONS:
            call = subject
        elif read.tool is not None:
            asked = self._model_call(subject, read.tool)
            if asked is not None:
                call, sure, why = asked
                steps.append(self._call_step(call, sure, why))
            else:
                self.missing.append("No model call comes before it in this trace.")
            if read.tool.arguments is None:
                self.missing.append("What the tool was called with was not captured.")
        steps += self._request(subject, call)
        steps += self._memory(subject, call)
        steps += self._earlier(subject, call)
        steps += self._governed(subject, read)
        # What was asked stands in a later span than it was said.
        steps.sort(key=lambda step: (step.kind != "request", step.started_at))
        steps.append(self._step(subject, "explained", "id", "this is what is explained"))
        self._lost_parents(subject)
        return SpanExplanation(
            span=span_view(target, logs=self._logs.get(target.span_id, ())),
            steps=steps,
            missing=self.missing,
        )

    # -- who asked for it

    def _model_call(
        self, subject: SpanRecord, tool: ToolUse
    ) -> tuple[SpanRecord, Sure, str] | None:
        call_id = tool.call_id or self._outer_call_id(subject, tool.name)
        known = tool.arguments is not None
        by_arguments = by_name = by_time = None
        for span in self._calls_before(subject):
            if by_time is None and is_call(span):
                by_time = span
            for part in asked_for(self._normalised(span)):
                if call_id and part.id == call_id:
                    return self._richest(span, call_id), "id", f"it asked for tool call {call_id}"
                if not same_tool(part.name, tool.name):
                    continue
                by_name = by_name or span
                if known and by_arguments is None and part.arguments == tool.arguments:
                    by_arguments = span
        if by_arguments is not None:
            return by_arguments, "arguments", "the nearest that asked for it with these arguments"
        if by_name is not None:
            return (
                by_name,
                "time",
                "the nearest that asked for this tool, with other arguments"
                if (known)
                else "the nearest that asked for this tool",
            )
        if by_time is None:
            return None
        return by_time, "time", "the nearest model call before it"

    def _calls_before(self, subject: SpanRecord) -> Iterator[SpanRecord]:
        """Newest first."""
        looked_at = 0
        for span in reversed(self._spans):
            if span.started_ns > subject.started_ns or span.span_id == subject.span_id:
                continue
            if may_ask(span):
                yield span
                looked_at += 1
                if looked_at == _CALLS_LOOKED_AT_MAX:
                    return

    def _richest(self, found: SpanRecord, call_id: str) -> SpanRecord:
        """Of the spans that tell of the same call (an agent's, its framework's, the platform's) a
        model call before what encloses it, and of these one with reasoning."""

        def rank(span: SpanRecord) -> tuple[bool, bool, int]:
            said = reasoning_of(self._normalised(span))
            return is_call(span), bool(said), span.started_ns

        same = [
            span
            for span in (found, *self._calls_before(found))
            if any(part.id == call_id for part in asked_for(self._normalised(span)))
        ]
        return max(same, key=rank)

    def _outer_call_id(self, subject: SpanRecord, name: str) -> str:
        """The agent's own span of the call has the id that a gateway is not told."""
        for span in self._ancestors(subject):
            tool = self._normalised(span).tool
            if tool is not None and tool.call_id and same_tool(tool.name, name):
                return tool.call_id
        return ""

    def _call_step(self, call: SpanRecord, sure: Sure, why: str) -> ExplainedStep:
        read = self._normalised(call)
        content = read.content
        if not read.captured:
            self.missing.append(
                "What the model was sent and said was not captured: content capture is off, or "
                "the instrumentation leaves it out."
            )
        elif not reasoning_of(read):
            self.missing.append("The model's answer holds no reasoning.")
        return self._step(
            call,
            "model_call",
            sure,
            why,
            model=read.model,
            messages=content.input if content is not None else [],
            said=content.output if content is not None else [],
            reasoning=reasoning_of(read),
        )

    # -- what came before it

    def _request(self, subject: SpanRecord, call: SpanRecord | None) -> list[ExplainedStep]:
        for span in () if call is None else (call,):
            content = self._normalised(span).content
            asked = last_request(content.input if content is not None else [])
            if asked is not None:
                why = "the last thing that a person said in what the model was sent"
                return [self._step(span, "request", "content", why, messages=[asked])]
        for span in self._ancestors(subject):
            content = self._normalised(span).content
            if content is None or not is_agent(span):
                continue
            asked = last_request(content.input)
            if asked is None and content.input_value is not None:
                asked = Message(role="user", parts=texts_of(content.input_value))
            if asked is not None:
                why = "what the agent around it was asked"
                return [self._step(span, "request", "tree", why, messages=[asked])]
        self.missing.append("The request was not captured.")
        return []

    def _memory(self, subject: SpanRecord, call: SpanRecord | None) -> list[ExplainedStep]:
        before = subject.started_ns if call is None else call.ended_ns
        found = []
        told = "" if call is None else sent(self._normalised(call))
        unread = False
        for span in self._spans:
            if span.started_ns >= before or span.span_id == subject.span_id:
                continue
            if not may_remember(span):
                continue
            read = self._normalised(span)
            if read.memory is None or not (read.memory.record_ids or read.memory.records):
                continue
            unread = unread or not read.memory.records
            again = found_again(read.memory, told)
            sure: Sure = "content" if again else "time"
            why = (
                "its text is in what the model was sent" if again
                else "retrieved before it in the same trace"
            )  # fmt: skip
            found.append(self._step(span, "memory", sure, why, memory=read.memory))
        if unread:
            self.missing.append("The texts of retrieved memory were not captured; their ids were.")
        return found

    def _earlier(self, subject: SpanRecord, call: SpanRecord | None) -> list[ExplainedStep]:
        results = set() if call is None else answered(self._normalised(call))
        before = subject.started_ns if call is None else call.started_ns
        found = []
        for span in reversed(self._spans):
            if span.ended_ns > before or not is_tool(span) or span.span_id == subject.span_id:
                continue
            if any(is_tool(outer) for outer in self._ancestors(span)):
                continue  # the gateway's side of a call that the agent tells of
            tool = self._normalised(span).tool
            known = tool is not None and tool.call_id in results
            why = (
                "its result is in what the model was sent" if known
                else "it ended before in the same trace"
            )  # fmt: skip
            found.append(self._step(span, "tool_result", "id" if known else "time", why, tool=tool))
            if len(found) == _EARLIER_MAX:
                self.missing.append(f"Tool calls before the last {_EARLIER_MAX} are left out.")
                break
        return found

    def _governed(self, subject: SpanRecord, read: Normalised) -> list[ExplainedStep]:
        """Decisions and credentials: of the call itself, or of what it did."""
        if read.tool is None:
            return []
        inside = [(span, self._normalised(span)) for span in self._descendants(subject)]
        of_it = [
            (subject, read),
            *inside,
            *((s, self._normalised(s)) for s in self._outer(subject)),
        ]
        found = []
        for span, each in of_it:
            why = "of this very call" if span is subject else "within this call"
            if each.policy is not None:
                found.append(self._step(span, "policy", "tree", why, policy=each.policy))
            if each.credential:
                found.append(
                    self._step(span, "credential", "tree", why, credential=each.credential)
                )
        governed = any("freehold.gateway.id" in span.attributes for span, _ in of_it)
        if governed and not any(step.kind == "policy" for step in found):
            self.missing.append("No policy decided on it: its gateway has no engine.")
        return found

    def _outer(self, subject: SpanRecord) -> Iterable[SpanRecord]:
        """Of a gateway's span its other steps hang beside it, below the same call."""
        parent = self._by_id.get(subject.parent_id)
        if parent is None or not is_tool(parent):
            return ()
        return [
            span for span in self._spans
            if span.parent_id == parent.span_id and span is not subject and is_governance(span)
        ]  # fmt: skip

    # -- the tree

    def _subject(self, target: SpanRecord) -> SpanRecord:
        if not is_governance(target):
            return target
        return next((span for span in self._ancestors(target) if is_tool(span)), target)

    def _ancestors(self, span: SpanRecord) -> Iterator[SpanRecord]:
        seen = {span.span_id}
        parent = self._by_id.get(span.parent_id)
        while parent is not None and parent.span_id not in seen:
            seen.add(parent.span_id)
            yield parent
            parent = self._by_id.get(parent.parent_id)

    def _descendants(self, subject: SpanRecord) -> Iterator[SpanRecord]:
        """Not those of another agent, or of another tool, that this one calls."""
        inside = {subject.span_id}
        called = self._normalised(subject).tool
        for span in self._spans:  # by start: a child comes after its parent, clocks permitting
            if span.parent_id not in inside or span.span_id in inside or is_agent(span):
                continue
            if is_tool(span):
                tool = self._normalised(span).tool
                if tool is None or called is None or not same_tool(tool.name, called.name):
                    continue
            inside.add(span.span_id)
            yield span

    def _lost_parents(self, subject: SpanRecord) -> None:
        top = [subject, *self._ancestors(subject)][-1]
        if top.parent_id and top.parent_id not in self._by_id:
            self.missing.append(
                f"Its parent {top.parent_id} never came: what was above is unknown."
            )

    def _normalised(self, span: SpanRecord) -> Normalised:
        read = self._read.get(span.span_id)
        if read is None:
            read = mapper.normalised(span, self._logs.get(span.span_id, ()))
            self._read[span.span_id] = read
        return read

    def _step(
        self, span: SpanRecord, kind: StepKind, sure: Sure, why: str, **more: Any
    ) -> ExplainedStep:
        return ExplainedStep(
            kind=kind,
            sure=sure,
            why=why,
            span_id=span.span_id,
            name=span.name,
            origin=span.origin,
            started_at=at(span.started_ns),
            duration_ms=round(max(span.ended_ns - span.started_ns, 0) / 1e6, 3),
            **more,
        )
