"""From an HTTP request to an operation's input, by member name."""

import asyncio
import functools
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from freehold.edges.aws.document import decode
from freehold.edges.aws.model import Member, Operation
from freehold.edges.aws.readers import body_reader_of, reader_of, text_reader_of
from freehold.edges.aws.validate import Problems
from freehold.kernel.arns import Arn, agentcore_arn, memory_arn
from freehold.kernel.body import Body
from freehold.kernel.errors import ValidationFailed

# A longer document is parsed in a thread: the event loop serves others meanwhile.
INLINE_BYTES_MAX = 256 * 1024


class Headers(dict[str, str]):
    """Lower-case names. A repeated header's values are joined, and its name is in `repeated`."""

    __slots__ = ("repeated",)

    def __init__(self) -> None:
        super().__init__()
        self.repeated: set[str] = set()


class InputParser:
    """Of one operation. `takes_body`: the payload member is handed on as a Body, unread."""

    def __init__(self, operation: Operation) -> None:
        self._shape = operation.input
        by_location: dict[str | None, list[Member]] = {}
        for member in self._shape.members.values():
            by_location.setdefault(member.location, []).append(member)
        self._labels = by_location.pop("uri", [])
        self._query = {member.wire_name: member for member in by_location.pop("querystring", [])}
        headers = by_location.pop("header", [])
        self._headers = {member.wire_name.lower(): member for member in headers}
        in_body = by_location.pop(None, [])
        if by_location:
            raise TypeError(f"{operation.id} has members in {sorted(map(str, by_location))}")
        self._payload = self._shape.payload
        self._reads_document = not self.takes_body and bool(in_body or self._payload)
        self._read_body = body_reader_of(self._shape)
        self._required = self._shape.required
        self._elsewhere = {
            name.casefold(): member
            for member in self._shape.members.values()
            if member.location is not None
            for name in (member.name, member.wire_name)
        }
        self.arn_members = _arn_members(self._shape.members.values())
        self.memory = any(member.name == _MEMORY for member in self._labels)

    @property
    def takes_body(self) -> bool:
        return self._payload is not None and self._payload.shape.kind == "blob"

    async def parse(
        self, labels: Mapping[str, str], query: bytes, headers: Headers, body: Body
    ) -> dict[str, Any]:
        """Raises ValidationFailed with all that is wrong."""
        problems = Problems()
        parsed: dict[str, Any] = {}
        for member in self._labels:
            self._read_text(member, labels[member.wire_name], parsed, problems)
        if self._query and query:
            self._read_query(query, parsed, problems)
        for wire_name, member in self._headers.items():
            text = headers.get(wire_name)
            if text is None:
                continue
            if wire_name in headers.repeated:
                problems.add((None, member.name), "Member must stand in one header only")
            self._read_text(member, text, parsed, problems)
        if self._reads_document:
            raw = await body.read()
            if len(raw) > INLINE_BYTES_MAX:
                await asyncio.to_thread(self._read_document, raw, parsed, problems)
            elif raw:
                self._read_document(raw, parsed, problems)
        if self.takes_body:
            assert self._payload is not None
            parsed[self._payload.name] = body
        for name in self._required:
            if name not in parsed:
                problems.add((None, name), "Member must not be null")
        if problems.found:
            raise problems.failure()
        return parsed

    def _read_document(self, raw: bytes, parsed: dict[str, Any], problems: Problems) -> None:
        value = decode(raw)
        if value is None:
            return
        if self._payload is not None:
            path = (None, self._payload.name)
            parsed[self._payload.name] = reader_of(self._payload.shape)(value, path, problems)
            return
        if type(value) is not dict:
            raise ValidationFailed("The request body must be a JSON object.", reason="CannotParse")
        for key, item in value.items():
            member = self._elsewhere.get(key.casefold())
            if member is not None and item != parsed.get(member.name):
                problems.add((None, member.name), f"Member must not differ in the body's {key!r}")
        parsed.update(self._read_body(value, None, problems))

    def _read_query(self, query: bytes, parsed: dict[str, Any], problems: Problems) -> None:
        for pair in query.split(b"&"):
            name, _, value = pair.partition(b"=")
            member = self._query.get(_query_text(name))
            if member is None:
                continue
            if member.shape.kind == "list":
                parsed.setdefault(member.name, []).append(_query_text(value))
            elif member.name in parsed:
                problems.add((None, member.name), "Member must stand in the query once only")
            else:
                self._read_text(member, _query_text(value), parsed, problems)
        for member in self._query.values():
            if member.shape.kind == "list" and member.name in parsed:
                path, read = (None, member.name), reader_of(member.shape)
                parsed[member.name] = read(parsed[member.name], path, problems)

    def _read_text(
        self, member: Member, text: str | None, parsed: dict[str, Any], problems: Problems
    ) -> None:
        if text is None:
            return
        path = (None, member.name)
        if "\0" in text:
            problems.add(path, "Member must not hold the character U+0000")
        parsed[member.name] = text_reader_of(member)(text, path, problems)


@functools.cache
def input_parser(operation: Operation) -> InputParser:
    return InputParser(operation)


def _query_text(raw: bytes) -> str:
    try:
        return unquote_to_bytes(raw.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        raise ValidationFailed("The query is not valid UTF-8.", reason="CannotParse") from None


def _arn_members(members: Any) -> tuple[str, ...]:
    """The members that may name what a request acts on: those of the path first."""
    texts = [member for member in members if member.shape.kind == "string"]
    in_path = [member.name for member in texts if member.location == "uri"]
    named = [member.name for member in texts if member.name.endswith("Arn")]
    return tuple(dict.fromkeys(in_path + named))


def resource_arn(
    parser: InputParser, params: Mapping[str, Any], *, tenant: str, region: str
) -> str | None:
    """The ARN of ours that a request names, one of another tenant before any other.

    Roles and keys, which other services own, are not what a request acts on. Of a memory's requests
    nothing but the memory is: an actor's id may look like anybody's ARN.
    """
    if parser.memory:
        return memory_arn(params[_MEMORY], tenant, region)
    first = None
    for name in parser.arn_members:
        value = params.get(name)
        arn = Arn.parse(value) if value is not None else None
        if arn is None or arn.service not in _OUR_SERVICES:
            continue
        if arn.tenant != tenant and arn.tenant.isdigit():
            return str(arn)
        first = first or str(arn)
    account = params.get("accountId")
    bare = params.get(_RUNTIME)
    if account is not None and account != tenant and parser.arn_members:
        # A bare id, whose tenant stands beside it.
        return agentcore_arn(region, account, f"runtime/{params[parser.arn_members[0]]}")
    if first is None and bare is not None and Arn.parse(bare) is None:
        # Named in full, so that its resource policy is asked whichever way it is named.
        return agentcore_arn(region, tenant, f"runtime/{bare}")
    return first


_RUNTIME = "agentRuntimeArn"
_MEMORY = "memoryId"
_OUR_SERVICES = frozenset({"bedrock-agentcore", "agent-registry"})
