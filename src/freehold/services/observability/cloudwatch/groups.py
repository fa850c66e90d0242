"""Log groups: `aws/spans` holds all spans of a tenant, and each endpoint of a runtime has one with
its log records and with what its spans tell of what was said."""

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from freehold.kernel.arns import Arn
from freehold.ports.spans import SpanRecord, SpanStore, Wanted
from freehold.ports.telemetry import LogRecord, LogStore, LogsWanted
from freehold.services.observability.cloudwatch.documents import (
    log_document,
    said_document,
    span_document,
)
from freehold.services.observability.cloudwatch.failures import InvalidParameter, NoSuchLog
from freehold.services.observability.cloudwatch.ports import Endpoint, Endpoints
from freehold.services.observability.cloudwatch.query import session_like
from freehold.services.observability.cloudwatch.rows import Entry

SPANS = "aws/spans"
SPANS_STREAM = "default"
RUNTIMES = "/aws/bedrock-agentcore/runtimes/"
RUNTIME_STREAM = "otel-rt-logs"
_PAGE = 500
_NAME = re.compile(r"[.\-_/#A-Za-z0-9]{1,512}")
_ENDPOINT = re.compile(r"(.+)-([a-zA-Z][a-zA-Z0-9_]{0,47})")
_DEFAULT = "DEFAULT"
_TRACE_ID = re.compile(r"[0-9a-f]{32}")


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be read, the end left out. What is set narrows it: others may come all the same.
    `mention` stands in the message."""

    since_ns: int
    until_ns: int
    session_id: str = ""
    trace_id: str = ""
    mention: str = ""


class Group(Protocol):
    name: str
    stream: str

    def read(self, tenant: str, stretch: Stretch) -> AsyncIterator[list[Entry]]:
        """In no order to count on."""


class SpansGroup:
    name = SPANS
    stream = SPANS_STREAM

    def __init__(self, spans: SpanStore) -> None:
        self._spans = spans

    async def read(self, tenant: str, stretch: Stretch) -> AsyncIterator[list[Entry]]:
        async for spans in read_spans(self._spans, tenant, stretch):
            yield [self._entry(span) for span in spans]

    def _entry(self, span: SpanRecord) -> Entry:
        return Entry(
            at_ns=span.started_ns, log=f"{span.tenant}:{SPANS}", stream=SPANS_STREAM,
            id=f"{span.trace_id}/{span.span_id}", document=span_document(span),
        )  # fmt: skip


class RuntimeGroup:
    stream = RUNTIME_STREAM

    def __init__(self, spans: SpanStore, logs: LogStore, endpoint: tuple[str, str]) -> None:
        self._spans, self._logs = spans, logs
        self._runtime_id, self._endpoint = endpoint
        self.name = f"{RUNTIMES}{self._runtime_id}-{self._endpoint}"

    async def read(self, tenant: str, stretch: Stretch) -> AsyncIterator[list[Entry]]:
        told: set[tuple[str, str]] = set()
        async for records in self._records(tenant, stretch):
            told.update((r.trace_id, r.span_id) for r in records if isinstance(r.body, dict))
            yield [self._of_record(r, place) for place, r in enumerate(records) if self._is_of(r)]
        async for spans in read_spans(self._spans, tenant, stretch, agent_id=self._runtime_id):
            own = (s for s in spans if self._is_of(s) and (s.trace_id, s.span_id) not in told)
            yield list(self._said(own))

    async def exists(self, tenant: str, until_ns: int) -> bool:
        """Whether something of late was written to it: an endpoint that went leaves its logs."""
        wanted = LogsWanted(since_ns=0, until_ns=until_ns, agent_id=self._runtime_id)
        records = await self._logs.logs(tenant, wanted, limit=_PAGE)
        if any(map(self._is_of, records.items)):
            return True
        seen = Wanted(since_ns=0, until_ns=until_ns, agent_id=self._runtime_id)
        return any(map(self._is_of, (await self._spans.spans(tenant, seen, limit=_PAGE)).items))

    def _is_of(self, record: LogRecord | SpanRecord) -> bool:
        return (record.endpoint or _DEFAULT) == self._endpoint

    async def _records(self, tenant: str, stretch: Stretch) -> AsyncIterator[list[LogRecord]]:
        wanted = LogsWanted(
            since_ns=stretch.since_ns, until_ns=stretch.until_ns, agent_id=self._runtime_id,
            session_id=stretch.session_id, trace_id=stretch.trace_id,
        )  # fmt: skip
        token: str | None = None
        while True:
            page = await self._logs.logs(tenant, wanted, limit=_PAGE, token=token)
            yield page.items
            token = page.next_token
            if token is None:
                return

    def _of_record(self, record: LogRecord, place: int) -> Entry:
        return self._entry(
            record.tenant, record.at_ns, f"log/{record.at_ns}/{place}", log_document(record)
        )

    def _said(self, spans: Iterable[SpanRecord]) -> Iterable[Entry]:
        for span in spans:
            document = said_document(span)
            if document is not None:
                id = f"said/{span.trace_id}/{span.span_id}"
                yield self._entry(span.tenant, span.ended_ns, id, document)

    def _entry(self, tenant: str, at_ns: int, id: str, document: dict[str, object]) -> Entry:
        return Entry(
            at_ns=at_ns, log=f"{tenant}:{self.name}", stream=RUNTIME_STREAM, id=id,
            document=document,
        )  # fmt: skip


async def read_spans(
    store: SpanStore, tenant: str, stretch: Stretch, *, agent_id: str = ""
) -> AsyncIterator[list[SpanRecord]]:
    """Each once. A mention of what looks like an id is looked for by the store's indexes, in ids of
    sessions and traces and in texts; it is not found in a span's resource then."""
    if _TRACE_ID.fullmatch(stretch.trace_id or stretch.mention):
        spans = await store.trace(tenant, stretch.trace_id or stretch.mention)
        yield [s for s in spans if _within(s, stretch) and agent_id in ("", s.agent_id)]
        if stretch.trace_id:
            return
    base = Wanted(
        since_ns=stretch.since_ns, until_ns=stretch.until_ns,
        agent_id=agent_id, session_id=stretch.session_id,
    )  # fmt: skip
    if stretch.session_id or not session_like(stretch.mention):
        async for spans in _pages(store, tenant, base):
            yield spans
        return
    seen: set[tuple[str, str]] = set()
    for wanted in (
        msgspec.structs.replace(base, session_id=stretch.mention),
        msgspec.structs.replace(base, text=stretch.mention),
    ):
        async for spans in _pages(store, tenant, wanted):
            yield [s for s in spans if (s.trace_id, s.span_id) not in seen]
            seen.update((s.trace_id, s.span_id) for s in spans)


async def _pages(store: SpanStore, tenant: str, wanted: Wanted) -> AsyncIterator[list[SpanRecord]]:
    token: str | None = None
    while True:
        page = await store.spans(tenant, wanted, limit=_PAGE, token=token)
        yield page.items
        token = page.next_token
        if token is None:
            return


def _within(span: SpanRecord, stretch: Stretch) -> bool:
    return stretch.since_ns <= span.started_ns < stretch.until_ns


class Listed(NamedTuple):
    name: str
    created_ms: int


class LogGroups:
    """A tenant's, by name or by ARN."""

    def __init__(self, spans: SpanStore, logs: LogStore, endpoints: Endpoints) -> None:
        self._spans, self._logs, self._endpoints = spans, logs, endpoints

    async def group(self, tenant: str, named: str, *, now_ns: int) -> Group:
        """Raises NoSuchLog, for another tenant's too."""
        name = _own_name(tenant, named)
        if name == SPANS:
            return SpansGroup(self._spans)
        matched = _ENDPOINT.fullmatch(name.removeprefix(RUNTIMES))
        if name.startswith(RUNTIMES) and matched is not None:
            wanted = (matched[1], matched[2])
            group = RuntimeGroup(self._spans, self._logs, wanted)
            known = await self._endpoints(tenant)
            if any((each.runtime_id, each.name) == wanted for each in known):
                return group
            if await group.exists(tenant, now_ns):
                return group
        raise NoSuchLog("The specified log group does not exist.")

    async def all(self, tenant: str) -> Sequence[Listed]:
        """By name."""
        runtimes = [_listed(each) for each in await self._endpoints(tenant)]
        return sorted([Listed(SPANS, 0), *runtimes])


def _listed(endpoint: Endpoint) -> Listed:
    return Listed(f"{RUNTIMES}{endpoint.runtime_id}-{endpoint.name}", endpoint.created_ms)


def _own_name(tenant: str, named: str) -> str:
    arn = Arn.parse(named)
    name = named
    if arn is not None:
        name = arn.resource.removeprefix("log-group:").removesuffix(":*")
        if arn.service != "logs" or arn.tenant != tenant:
            raise NoSuchLog("The specified log group does not exist.")
    if not _NAME.fullmatch(name):
        raise InvalidParameter("Log group names have letters, digits, and . - _ / #")
    return name
