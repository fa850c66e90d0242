"""The audit in our own API."""

import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import msgspec

from freehold.kernel.caller import CallerKind
from freehold.kernel.clock import now
from freehold.kernel.errors import AccessDenied, ValidationFailed
from freehold.kernel.operation import Operation, Parameter, Params
from freehold.kernel.request import Request
from freehold.ports.audit import PLATFORM_TENANT, AuditEvent
from freehold.services.audit.model import Filter, Link, Verdict
from freehold.services.audit.service import AuditTrail

OUTCOMES = ("allowed", "denied", "failed", "unknown")
_SERVICES = (
    "bedrock-agentcore", "bedrock-agentcore-control", "agent-registry", "freehold", "s3", "models",
    "doorway",
)  # fmt: skip


class AuditLine(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`phase`: intent (before an act), outcome, use (of a credential) or decision. `outcome` is
    `unknown` where the process ended in the middle of the call."""

    at: datetime
    call_id: str
    phase: str
    outcome: str
    status: int
    operation: str
    principal: str
    kind: str
    user: str | None
    resource: str | None
    source: str | None
    detail: dict[str, str]


class AuditPage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Newest first."""

    lines: list[AuditLine]
    next_token: str | None = None


class LinkedLine(msgspec.Struct, frozen=True):
    """A place in the chain: hash = SHA-256(previous, as bytes, then the text of `entry` as it
    stands in this line)."""

    sequence: int
    previous: str
    hash: str
    entry: AuditEvent


class VerifyProgress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line while the work goes on; the last one has the verdict."""

    checked: int
    verdict: Verdict | None = None


_FILTERS = (
    Parameter(name="since", meaning="From then on: ISO 8601, or a span such as 24h or 7d"),
    Parameter(name="until", meaning="Before then, likewise"),
    Parameter(name="principal", meaning="Only of this caller, as its lines show it"),
    Parameter(name="user", meaning="Only on behalf of this user"),
    Parameter(
        name="operation", meaning="Only of this operation: `InvokeAgentRuntime`, or "
        "`bedrock-agentcore:InvokeAgentRuntime`",
    ),
    Parameter(name="resource", meaning="Only on this resource: its ARN, or the path asked for"),
    Parameter(name="outcome", meaning="Only with this outcome", choices=OUTCOMES),
    Parameter(name="callId", meaning="Only of the call with this request id"),
)  # fmt: skip
_INTENTS = Parameter(
    name="intents", meaning="The lines before an act as well", kind="boolean", default=False
)
_PLATFORM = Parameter(
    name="platform", kind="boolean", default=False,
    meaning="The platform's own lines instead: callers whom nobody could authenticate. For the "
    "first account alone",
)  # fmt: skip


def operations(trail: AuditTrail, *, operator: str) -> list[Operation]:
    """`operator` is the account that may read the platform's own lines."""
    own = _Own(trail, operator)
    return [
        Operation(
            name="ListAudit", method="GET", path="/audit", act=own.list_lines,
            summary="What was done and decided, newest first", answer=AuditPage,
            parameters=(
                *_FILTERS, _INTENTS, _PLATFORM,
                Parameter(
                    name="limit", meaning="Lines a page", kind="integer", default=100, minimum=1,
                    maximum=1000,
                ),
                Parameter(name="nextToken", meaning="Where the previous page ended"),
            ),
        ),
        Operation(
            name="FollowAudit", method="GET", path="/audit/follow", act=own.follow, streams=True,
            follows=True,
            summary="What is done and decided from now on, as JSON lines", answer=AuditLine,
            parameters=(*_FILTERS, _INTENTS, _PLATFORM),
        ),
        Operation(
            name="ExportAudit", method="GET", path="/audit/export", act=own.export, streams=True,
            summary="The chain as JSON lines, oldest first", answer=LinkedLine,
            parameters=(*_FILTERS, _PLATFORM),
        ),
        Operation(
            name="VerifyAudit", method="GET", path="/audit/verify", act=own.verify, streams=True,
            summary="Whether the chain holds: nothing changed, removed, moved or inserted",
            answer=VerifyProgress,
            parameters=(
                Parameter(
                    name="after", meaning="Only what follows this place", kind="integer",
                    default=0, minimum=0,
                ),
                Parameter(
                    name="head", meaning="`sequence:hash` as noted earlier: must still hold"
                ),
                _PLATFORM,
            ),
        ),
    ]  # fmt: skip


class _Own:
    def __init__(self, trail: AuditTrail, operator: str) -> None:
        self._trail = trail
        self._operator = operator

    def _tenant(self, request: Request, params: Params) -> str:
        if not params["platform"]:
            return request.tenant
        if request.tenant != self._operator and request.caller.kind is not CallerKind.ADMIN:
            raise AccessDenied("the platform's own audit is for its first account")
        return PLATFORM_TENANT

    async def list_lines(self, request: Request, params: Params, _: Any) -> AuditPage:
        page = await self._trail.page(
            self._tenant(request, params), _filter(params),
            limit=params["limit"], token=params["nextToken"],
        )  # fmt: skip
        return AuditPage(
            lines=[_view(entry.text) for entry in page.items], next_token=page.next_token
        )

    async def follow(self, request: Request, params: Params, _: Any) -> AsyncIterator[bytes]:
        return self._follow(self._tenant(request, params), _filter(params))

    async def _follow(self, tenant: str, what: Filter) -> AsyncIterator[bytes]:
        async for link in self._trail.follow(tenant, what):
            assert link.text is not None
            yield msgspec.json.encode(_view(link.text)) + b"\n"

    async def export(self, request: Request, params: Params, _: Any) -> AsyncIterator[bytes]:
        what = _filter({**params, "intents": True})
        return self._export(self._tenant(request, params), what)

    async def _export(self, tenant: str, what: Filter) -> AsyncIterator[bytes]:
        lines: list[bytes] = []
        async for link, previous in self._trail.export(tenant, what):
            lines.append(_exported(link, previous))
            if len(lines) == 200:
                yield b"".join(lines)
                lines.clear()
        if lines:
            yield b"".join(lines)

    async def verify(self, request: Request, params: Params, _: Any) -> AsyncIterator[bytes]:
        tenant, head = self._tenant(request, params), _head(params["head"])
        return self._verify(tenant, params["after"], head)

    async def _verify(
        self, tenant: str, after: int, head: tuple[int, bytes] | None
    ) -> AsyncIterator[bytes]:
        async for step in self._trail.verify(tenant, after=after, expected=head):
            if isinstance(step, int):
                line = VerifyProgress(checked=step)
            else:
                line = VerifyProgress(checked=step.checked, verdict=step)
            yield msgspec.json.encode(line) + b"\n"


_event = msgspec.json.Decoder(AuditEvent).decode


def _view(text: str) -> AuditLine:
    event = _event(text)
    return AuditLine(**{name: getattr(event, name) for name in AuditLine.__struct_fields__})


def _exported(link: Link, previous: bytes) -> bytes:
    """The entry's own text, byte for byte: it is what the hash is of."""
    return (
        f'{{"sequence":{link.sequence},"previous":"{previous.hex()}","hash":"{link.hash.hex()}",'
        f'"entry":{link.text}}}\n'
    ).encode()


def _filter(params: Params) -> Filter:
    operation = params["operation"]
    operations: tuple[str, ...] = () if operation is None else (operation,)
    if operation is not None and ":" not in operation:
        operations = tuple(f"{service}:{operation}" for service in _SERVICES)
    return Filter(
        since=_time("since", params["since"]),
        until=_time("until", params["until"]),
        principal=params["principal"],
        user=params["user"],
        operations=operations,
        resource=params["resource"],
        outcome=params["outcome"],
        call_id=params["callId"],
        intents=params["intents"],
    )


_SPAN = re.compile(r"(\d{1,5})([mhd])")


def _time(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    if span := _SPAN.fullmatch(text):
        unit = {"m": "minutes", "h": "hours", "d": "days"}[span[2]]
        return now() - timedelta(**{unit: int(span[1])})
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValidationFailed(
            f"{name}={text}: expected ISO 8601, or a span such as 90m, 24h or 7d"
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=now().tzinfo)


def _head(text: str | None) -> tuple[int, bytes] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,18}):([0-9a-f]{64})", text)
    if found is None:
        raise ValidationFailed("head: expected `sequence:hash`, as a verification shows it")
    return int(found[1]), bytes.fromhex(found[2])
