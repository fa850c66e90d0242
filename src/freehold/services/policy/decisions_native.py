"""The log of decisions in our own API, what is shown of it, and trying changed policies on it."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from freehold.kernel.arns import agentcore_arn
from freehold.kernel.clock import now
from freehold.kernel.errors import NotFound, ValidationFailed
from freehold.kernel.operation import Operation, Parameter, Params
from freehold.kernel.request import Request
from freehold.ports.secrets import SealBroken
from freehold.services.policy.decision_store import DecisionLog, Filter, Kept
from freehold.services.policy.model import ENGINE, EngineRow
from freehold.services.policy.ports import Engines
from freehold.services.policy.redaction import DecisionView, Redaction, check
from freehold.services.policy.replaying import LOST_KEY
from freehold.services.policy.trying import TryGiven, Trying, TryLine


class InputsShown(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """As the engine's decision view lets them be seen; `note` says why there is less."""

    input: Any
    claims: Any
    context: Any
    errors: list[str]
    note: str | None = None


class DecisionLine(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """`allowed` is what the ACTIVE policies said; with `mode` LOG_ONLY the call went on anyway.
    `shadowAllowed`: what they would have said together with the policies that only log."""

    id: str
    at: datetime
    request_id: str
    gateway_id: str
    gateway_arn: str
    engine_id: str
    engine_version: str
    schema_version: str
    mode: str
    tool: str
    target: str
    principal: str
    principal_type: str
    principal_kind: str
    user: str | None
    allowed: bool
    policies: Sequence[str]
    errors: int
    shadow_allowed: bool | None
    shadow_policies: Sequence[str]
    microseconds: int
    inputs: InputsShown | None = None


class DecisionPage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Newest first."""

    decisions: list[DecisionLine]
    next_token: str | None = None


_DECISION = Parameter(name="decisionId", meaning="The decision", where="path")
_ENGINE = Parameter(name="engineId", meaning="The policy engine", where="path")
_FILTERS = (
    Parameter(name="since", meaning="From then on: ISO 8601, or a span such as 24h or 7d"),
    Parameter(name="until", meaning="Before then, likewise"),
    Parameter(name="gatewayId", meaning="Only at this gateway"),
    Parameter(name="engineId", meaning="Only of this policy engine"),
    Parameter(name="tool", meaning="Only on this tool, as clients name it"),
    Parameter(name="principal", meaning="Only for this principal, as its decisions show it"),
    Parameter(name="user", meaning="Only on behalf of this user"),
    Parameter(name="outcome", meaning="What the policies said", choices=("allowed", "denied")),
    Parameter(name="policyId", meaning="Only where this policy decided, or would have"),
    Parameter(
        name="mode", meaning="How the gateway used its engine", choices=("ENFORCE", "LOG_ONLY")
    ),
    Parameter(name="requestId", meaning="Only of the call with this request id"),
    Parameter(
        name="wouldDiffer", kind="boolean", default=False,
        meaning="Only where the policies that only log would have changed the outcome",
    ),
    Parameter(
        name="inputs", kind="boolean", default=False,
        meaning="With what was decided on, as far as the engine's decision view shows it",
    ),
)  # fmt: skip


def operations(
    decisions: DecisionLog, trying: Trying, engines: Engines, *, region: str
) -> list[Operation]:
    own = _Own(decisions, trying, engines, region)
    engine = "/policy-engines/{engineId}"
    return [
        Operation(
            name="ListPolicyDecisions", method="GET", path="/policy-decisions", act=own.page,
            summary="What policies decided on tool calls, newest first", answer=DecisionPage,
            parameters=(
                *_FILTERS,
                Parameter(
                    name="limit", meaning="Decisions a page", kind="integer", default=100,
                    minimum=1, maximum=1000,
                ),
                Parameter(name="nextToken", meaning="Where the previous page ended"),
            ),
        ),
        Operation(
            name="GetPolicyDecision", method="GET", path="/policy-decisions/{decisionId}",
            act=own.get, summary="One decision, with what it was made of", answer=DecisionLine,
            parameters=(_DECISION,),
        ),
        Operation(
            name="GetDecisionView", method="GET", path=f"{engine}/decision-view", act=own.view,
            summary="How much is shown of the inputs of an engine's decisions",
            answer=DecisionView, parameters=(_ENGINE,),
        ),
        Operation(
            name="PutDecisionView", method="PUT", path=f"{engine}/decision-view",
            act=own.put_view, body=DecisionView, answer=DecisionView, parameters=(_ENGINE,),
            summary="Set how much is shown of the inputs of an engine's decisions",
        ),
        Operation(
            name="TryPolicies", method="POST", path=f"{engine}/try", act=own.try_, streams=True,
            summary="Decide recorded calls again under changed policies: which would have gone "
            "the other way", body=TryGiven, answer=TryLine, parameters=(_ENGINE,),
        ),
    ]  # fmt: skip


class _Own:
    def __init__(
        self, decisions: DecisionLog, trying: Trying, engines: Engines, region: str
    ) -> None:
        self._decisions, self._trying, self._engines = decisions, trying, engines
        self._region = region

    async def page(self, request: Request, params: Params, _: object) -> DecisionPage:
        inputs = params["inputs"]
        page = await self._decisions.page(
            request.tenant, _filter(params), limit=params["limit"], token=params["nextToken"],
            inputs=inputs,
        )  # fmt: skip
        views: Mapping[str, DecisionView] = {}
        if inputs:
            engine_ids = sorted({kept.engine_id for kept in page.items})
            views = await self._decisions.views(request.tenant, engine_ids)
        return DecisionPage(
            decisions=[
                self._line(kept, views.get(kept.engine_id, DecisionView()) if inputs else None)
                for kept in page.items
            ],
            next_token=page.next_token,
        )

    async def get(self, request: Request, params: Params, _: object) -> DecisionLine:
        kept = await self._decisions.get(request.tenant, params["decisionId"])
        return self._line(kept, await self._decisions.view(request.tenant, kept.engine_id))

    def _line(self, kept: Kept, view: DecisionView | None) -> DecisionLine:
        inputs = None if view is None else _shown(self._decisions, kept, Redaction(view))
        members = {name: getattr(kept, name) for name in _SHARED}
        return DecisionLine(id=str(kept.id), inputs=inputs, **members)

    async def view(self, request: Request, params: Params, _: object) -> DecisionView:
        engine = await self._engine(request, params)
        return await self._decisions.view(request.tenant, engine.id)

    async def put_view(self, request: Request, params: Params, body: DecisionView) -> DecisionView:
        check(body)
        engine = await self._engine(request, params)
        await self._decisions.put_view(request.tenant, engine.id, body, by=request.caller.principal)
        return body

    async def try_(self, request: Request, params: Params, body: TryGiven) -> AsyncIterator[bytes]:
        engine = await self._engine(request, params)
        since = _time("since", body.since)
        assert since is not None, "it has a default"
        return await self._trying.lines(
            engine, body, since=since, until=_time("until", body.until) or now()
        )

    async def _engine(self, request: Request, params: Params) -> EngineRow:
        id = params["engineId"]
        arn = agentcore_arn(self._region, request.tenant, f"{ENGINE.name}/{id}")
        engine = await self._engines.load(request.tenant, arn)
        if engine is None:
            raise NotFound(f"{ENGINE.noun} {id!r} does not exist")
        return engine


_SHARED = tuple(name for name in DecisionLine.__struct_fields__ if name not in ("id", "inputs"))


def _shown(decisions: DecisionLog, kept: Kept, redaction: Redaction) -> InputsShown:
    try:
        inputs = decisions.open(kept)
    except SealBroken:
        return InputsShown(input=None, claims=None, context=None, errors=[], note=LOST_KEY)
    note = f"{inputs.omitted_bytes} bytes were too many to keep" if inputs.omitted_bytes else None
    return InputsShown(
        input=redaction.shown("input", inputs.arguments),
        claims=redaction.shown("claims", inputs.claims),
        context=redaction.shown("context", inputs.context),
        errors=redaction.errors(inputs.errors),
        note=note,
    )


def _filter(params: Params) -> Filter:
    outcome = params["outcome"]
    return Filter(
        since=_time("since", params["since"]),
        until=_time("until", params["until"]),
        gateway_id=params["gatewayId"],
        engine_id=params["engineId"],
        tool=params["tool"],
        principal=params["principal"],
        user=params["user"],
        allowed=None if outcome is None else outcome == "allowed",
        policy=params["policyId"],
        mode=params["mode"],
        request_id=params["requestId"],
        would_differ=params["wouldDiffer"],
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
    return at if at.tzinfo else at.replace(tzinfo=UTC)
