"""Token counts, read beside a response as its bytes pass. Nothing is changed or held back."""

import base64
import binascii
import struct
from typing import Any, Protocol

import msgspec

from freehold.ports.models import Usage

_WHOLE_BYTES_MAX = 1 << 20
_TAIL_BYTES = 64 << 10
_LINE_BYTES_MAX = 1 << 20
_EVENT_BYTES_MAX = 1 << 20
_MODEL_LENGTH_MAX = 256
_PRELUDE_BYTES = 12
_CHECKSUM_BYTES = 4


class UsageReader(Protocol):
    def feed(self, chunk: bytes) -> None: ...

    def usage(self) -> Usage: ...

    def model(self) -> str:
        """Which model answered, where it says so; asked after `usage`."""


def usage_reader(content_type: str, headers: dict[str, str]) -> UsageReader:
    """For a response of this type. An encoded body (gzip) is passed on unread."""
    kind = content_type.partition(";")[0].strip().lower()
    if headers.get("content-encoding", "identity") != "identity":
        return _Unread()
    if kind == "text/event-stream":
        return SseUsage()
    if kind == "application/vnd.amazon.eventstream":
        return EventStreamUsage()
    if kind == "application/json":
        return JsonUsage(headers)
    return _Unread()


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Counts(msgspec.Struct):
    """The names of all wires but Gemini's. OpenAI's inputs hold the cached ones, others' not."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    inputTokens: int | None = None
    outputTokens: int | None = None
    cacheReadInputTokens: int | None = None
    cacheWriteInputTokens: int | None = None


class _GeminiCounts(msgspec.Struct):
    """The prompt's count holds the cached; what tools and thoughts took is apart."""

    promptTokenCount: int | None = None
    toolUsePromptTokenCount: int | None = None
    candidatesTokenCount: int | None = None
    thoughtsTokenCount: int | None = None
    cachedContentTokenCount: int | None = None


class _Metrics(msgspec.Struct):
    inputTokenCount: int | None = None
    outputTokenCount: int | None = None
    cacheReadInputTokenCount: int | None = None
    cacheWriteInputTokenCount: int | None = None


class _Holder(msgspec.Struct):
    usage: _Counts | None = None
    model: Any = None


class _Document(msgspec.Struct):
    """A whole answer, or an event of one: Anthropic's start nests it, so do OpenAI's responses."""

    usage: _Counts | None = None
    message: _Holder | None = None
    response: _Holder | None = None
    model: Any = None
    modelVersion: Any = None
    metrics: _Metrics | None = msgspec.field(default=None, name="amazon-bedrock-invocationMetrics")
    usageMetadata: _GeminiCounts | None = None


class _Chunk(msgspec.Struct):
    bytes: str = ""


class _Tally:
    """The latest count of each kind wins: streams report running totals."""

    def __init__(self) -> None:
        self._input: int | None = None
        self._output: int | None = None
        self._read: int | None = None
        self._write: int | None = None
        self._cache_apart = False
        self.model = ""

    def add(self, raw: bytes | bytearray) -> None:
        try:
            document = msgspec.json.decode(raw, type=_Document)
        except msgspec.MsgspecError:
            return
        for holder in (document, document.message, document.response):
            if holder is None:
                continue
            self._named(holder.model)
            if holder.usage is not None:
                self._add(holder.usage)
        self._named(document.modelVersion)
        if (metrics := document.metrics) is not None:
            self.add_counts(metrics.inputTokenCount, metrics.outputTokenCount)
        if (counts := document.usageMetadata) is not None:
            self.add_counts(
                _sum(counts.promptTokenCount, counts.toolUsePromptTokenCount),
                _sum(counts.candidatesTokenCount, counts.thoughtsTokenCount),
            )
            self._read = _latest(self._read, counts.cachedContentTokenCount)

    def _named(self, model: object) -> None:
        if isinstance(model, str):
            self.model = self.model or model[:_MODEL_LENGTH_MAX]

    def add_counts(self, input_tokens: int | None, output_tokens: int | None) -> None:
        self._input = _latest(self._input, input_tokens)
        self._output = _latest(self._output, output_tokens)

    def _add(self, counts: _Counts) -> None:
        self.add_counts(
            _latest(counts.prompt_tokens, counts.input_tokens, counts.inputTokens),
            _latest(counts.completion_tokens, counts.output_tokens, counts.outputTokens),
        )
        for details in (counts.prompt_tokens_details, counts.input_tokens_details):
            if details is not None:
                self._read = _latest(self._read, details.cached_tokens)
        read = _latest(counts.cache_read_input_tokens, counts.cacheReadInputTokens)
        write = _latest(counts.cache_creation_input_tokens, counts.cacheWriteInputTokens)
        if read is not None or write is not None:
            self._cache_apart = True
            self._read = _latest(self._read, read)
            self._write = _latest(self._write, write)

    def usage(self) -> Usage:
        total = self._input
        if total is not None and self._cache_apart:
            total += (self._read or 0) + (self._write or 0)
        return Usage(
            input_tokens=total,
            output_tokens=self._output,
            cache_read_tokens=self._read,
            cache_write_tokens=self._write,
        )


class _Unread:
    def feed(self, chunk: bytes) -> None:
        pass

    def usage(self) -> Usage:
        return Usage()

    def model(self) -> str:
        return ""


class JsonUsage:
    """A JSON document: whole to 1 MiB, past that (embeddings) its last 64 KiB."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._tally = _Tally()
        self._held = bytearray()
        self._cut = False
        self._tally.add_counts(
            _count(headers.get("x-amzn-bedrock-input-token-count")),
            _count(headers.get("x-amzn-bedrock-output-token-count")),
        )

    def feed(self, chunk: bytes) -> None:
        self._held += chunk
        if len(self._held) > _WHOLE_BYTES_MAX:
            self._cut = True
        if self._cut and len(self._held) > 2 * _TAIL_BYTES:
            del self._held[:-_TAIL_BYTES]

    def usage(self) -> Usage:
        if self._cut:
            # The member is read by itself; a quoted one inside a string has escaped quotes.
            start = self._held.rfind(b'"usage":')
            end = self._held.rfind(b"}", 0, self._held.rfind(b"}"))
            if start >= 0:
                self._tally.add(b"{" + self._held[start : end + 1] + b"}")
        else:
            self._tally.add(self._held)
        return self._tally.usage()

    def model(self) -> str:
        return self._tally.model


class SseUsage:
    """Server-sent events: only `data:` lines that speak of usage are parsed."""

    def __init__(self) -> None:
        self._tally = _Tally()
        self._line = bytearray()
        self._skipping = False

    def feed(self, chunk: bytes) -> None:
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            if not self._skipping:
                self._read(self._line + part if self._line else part)
            self._line.clear()
            self._skipping = False
        if not self._skipping:
            self._line += rest
            if len(self._line) > _LINE_BYTES_MAX:
                self._line.clear()
                self._skipping = True

    def _read(self, line: bytes | bytearray) -> None:
        if line.startswith(b"data:") and (b'"usage"' in line or b'"usageMetadata"' in line):
            self._tally.add(line[5:].strip())

    def usage(self) -> Usage:
        return self._tally.usage()

    def model(self) -> str:
        return self._tally.model


class EventStreamUsage:
    """AWS's binary event stream. Checksums are the client's to check."""

    def __init__(self) -> None:
        self._tally = _Tally()
        self._held = bytearray()
        self._skip_bytes = 0
        self._broken = False

    def feed(self, chunk: bytes) -> None:
        if self._broken:
            return
        self._held += chunk
        while self._take():
            pass

    def _take(self) -> bool:
        """One step through what is held; False when it needs more bytes."""
        if self._skip_bytes:
            gone = min(self._skip_bytes, len(self._held))
            del self._held[:gone]
            self._skip_bytes -= gone
            return self._skip_bytes == 0
        if len(self._held) < _PRELUDE_BYTES:
            return False
        total, headers = struct.unpack_from("!II", self._held)
        if total < _PRELUDE_BYTES + headers + _CHECKSUM_BYTES:
            self._broken = True
            return False
        if total > _EVENT_BYTES_MAX:
            self._skip_bytes = total
            return True
        if len(self._held) < total:
            return False
        self._read(bytes(self._held[_PRELUDE_BYTES + headers : total - _CHECKSUM_BYTES]))
        del self._held[:total]
        return True

    def _read(self, payload: bytes) -> None:
        if b'"bytes"' in payload:
            try:
                payload = base64.b64decode(msgspec.json.decode(payload, type=_Chunk).bytes)
            except (msgspec.MsgspecError, binascii.Error):
                return
        if b'"usage"' in payload or b"invocationMetrics" in payload:
            self._tally.add(payload)

    def usage(self) -> Usage:
        return self._tally.usage()

    def model(self) -> str:
        return self._tally.model


def _latest(*counts: int | None) -> int | None:
    return next((count for count in reversed(counts) if count is not None), None)


def _sum(*counts: int | None) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
