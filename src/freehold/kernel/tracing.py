"""Spans of what the platform itself does, and trace context on its way in and out.

A request's `root` begins a trail; deeper code says `with tracing.span("name") as span:` and knows
neither who records it nor whether anybody does. Source: W3C Trace Context, level 1.
"""

import contextlib
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from enum import IntEnum
from typing import Any, Protocol

import msgspec

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE_CHARACTERS_MAX = 512


class Kind(IntEnum):
    """As OTLP numbers them."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class Status(IntEnum):
    UNSET = 0
    OK = 1
    ERROR = 2


class Context(msgspec.Struct, frozen=True):
    """What travels between processes: 32 and 16 lower-case hexadecimal digits."""

    trace_id: str
    span_id: str
    sampled: bool = True
    state: str = ""

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def parse(traceparent: str, tracestate: str = "") -> Context | None:
    """None for what is not valid: a new trace begins then, as the specification says."""
    found = _TRACEPARENT.fullmatch(traceparent.strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest) or not int(trace_id, 16):
        return None
    if not int(span_id, 16):
        return None
    state = tracestate if len(tracestate) <= _STATE_CHARACTERS_MAX else ""
    return Context(trace_id, span_id, bool(int(flags, 16) & 1), state)


class Recorder(Protocol):
    def record(self, span: "Span") -> None:
        """Takes a span that has ended. Never waits and never raises."""


class Trail:
    """What all spans of a request share. A trail without a tenant at the end is not recorded:
    nobody was let in. `content`: texts of the request may be kept in its spans as well, since the
    agent that it is of, or that makes it, has them captured."""

    __slots__ = (
        "agent_id",
        "agent_version",
        "content",
        "endpoint",
        "recorder",
        "session_id",
        "tenant",
        "user",
    )

    def __init__(self, recorder: Recorder | None) -> None:
        self.recorder = recorder
        self.tenant = ""
        self.agent_id = ""
        self.agent_version = ""
        self.endpoint = ""
        self.session_id = ""
        self.user = ""
        self.content = False


class Span:
    """Under way until `end`. `attributes` may be added to until then."""

    __slots__ = (
        "_began", "attributes", "context", "ended_ns", "kind", "message", "name", "parent_id",
        "started_ns", "status", "trail",
    )  # fmt: skip

    def __init__(
        self,
        trail: Trail,
        name: str,
        *,
        kind: Kind,
        parent: Context | None,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        self.trail, self.name, self.kind = trail, name, kind
        self.attributes: dict[str, Any] = attributes if attributes is not None else {}
        self.parent_id = parent.span_id if parent is not None else ""
        self.context = Context(
            trace_id=parent.trace_id if parent is not None else secrets.token_hex(16),
            span_id=secrets.token_hex(8),
            sampled=parent.sampled if parent is not None else True,
            state=parent.state if parent is not None else "",
        )
        self.status, self.message = Status.UNSET, ""
        self.ended_ns = 0
        self.started_ns = time.time_ns()
        self._began = time.perf_counter_ns()

    def child(
        self, name: str, *, kind: Kind = Kind.INTERNAL, attributes: dict[str, Any] | None = None
    ) -> "Span":
        """Begun now. Whoever makes it ends it."""
        return Span(self.trail, name, kind=kind, parent=self.context, attributes=attributes)

    def fail(self, message: str) -> None:
        """`message` is shown to whoever may see the trace: no secret, no payload."""
        self.status, self.message = Status.ERROR, message

    def end(self) -> None:
        """Once; a second time changes nothing."""
        if self.ended_ns:
            return
        self.ended_ns = self.started_ns + time.perf_counter_ns() - self._began
        recorder = self.trail.recorder
        if recorder is not None and self.context.sampled:
            recorder.record(self)


_UNRECORDED = Trail(None)
_current: ContextVar[Span | None] = ContextVar("freehold.span", default=None)


def current() -> Span | None:
    """The span that the task is in; None where nothing is traced."""
    return _current.get()


@contextlib.contextmanager
def within(span: Span, *, ends: bool = True) -> Iterator[Span]:
    """What the body begins are its children. It fails as the body does, and ends with it, unless
    it goes on after that (`ends` False)."""
    token = _current.set(span)
    try:
        yield span
    except BaseException as error:
        if span.status is Status.UNSET:
            span.fail(type(error).__name__)
        raise
    finally:
        with contextlib.suppress(ValueError):  # a generator that another task closes
            _current.reset(token)
        if ends:
            span.end()


@contextlib.contextmanager
def background(
    recorder: Recorder | None, name: str, *, tenant: str, attributes: dict[str, Any] | None = None
) -> Iterator[Span]:
    """The root of a trace of its own: work that no request waits for, done for that tenant."""
    trail = Trail(recorder)
    trail.tenant = tenant
    root = Span(trail, name, kind=Kind.INTERNAL, parent=None, attributes=attributes)
    with within(root):
        yield root


@contextlib.contextmanager
def span(
    name: str, *, kind: Kind = Kind.INTERNAL, attributes: dict[str, Any] | None = None
) -> Iterator[Span]:
    """A child of the current span; one that nobody records where nothing is traced."""
    parent = _current.get()
    if parent is None:
        yield Span(_UNRECORDED, name, kind=kind, parent=None, attributes=attributes)
        return
    with within(parent.child(name, kind=kind, attributes=attributes)) as child:
        yield child


def describe(name: str = "", attributes: Mapping[str, Any] | None = None) -> Span | None:
    """Of the operation that the task is in: said by who carries it out, and knows what it is."""
    span = _current.get()
    if span is not None:
        span.name = name or span.name
        span.attributes.update(attributes or {})
    return span


def captures() -> bool:
    """Whether texts may be put into the spans of this task."""
    span = _current.get()
    return span is not None and span.trail.content


def headers() -> dict[str, str]:
    """W3C trace context for a request that goes out now; empty where nothing is traced."""
    current = _current.get()
    if current is None:
        return {}
    carried = {"traceparent": current.context.traceparent}
    if current.context.state:
        carried["tracestate"] = current.context.state
    return carried
